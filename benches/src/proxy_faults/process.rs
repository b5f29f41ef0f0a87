//! Processes that cannot be forgotten: whatever ends the measuring process, they end too.
//!
//! Nobody can clean up after a `kill -9`, so the measuring process is not the one that does. Each child is started by a keeper, this
//! binary in another role, in a process group of its own. The keeper waits for its own stdin to end, which the kernel sees
//! to however the measuring process ends (return, panic, Ctrl-C, `kill -9`), and then ends the child's whole group, with force
//! if need be. Should the keeper itself be killed, the kernel kills the child.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getppid};

/// The first argument that makes this binary a keeper: `keep COMMAND ARGUMENT...`.
pub const KEEP: &str = "keep";

/// The first argument that makes this binary become another that ends with its parent: `become PARENT COMMAND ARGUMENT...`.
pub const BECOME: &str = "become";

/// How long a child may take to end by itself when it is told to.
const PATIENCE: Duration = Duration::from_millis(300);

/// A child under a keeper. Dropping it ends both, and waits until they have ended.
#[derive(Debug)]
pub struct Process {
    keeper: Child,
    pid: Pid,
}

impl Process {
    /// Starts a command. What it says on stderr is passed on if `is_loud`.
    ///
    /// # Errors
    ///
    /// What starting the keeper gave, or that the keeper could not start the command.
    pub fn start<S: AsRef<OsStr>>(command: &OsStr, arguments: &[S], is_loud: bool) -> io::Result<Self> {
        let mut keeper = Command::new(std::env::current_exe()?)
            .arg(KEEP)
            .arg(command)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if is_loud { Stdio::inherit() } else { Stdio::null() })
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(pid) => Ok(Self { keeper, pid: Pid::from_raw(pid) }),
            Err(_) => {
                keeper.wait()?;
                Err(io::Error::other(format!("{} cannot be started", command.display())))
            }
        }
    }

    /// The id of the child, which is that of its group as well.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the child alone, if it is still there.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // A keeper that has ended has reaped its child, whose id may be somebody else's by now.
        if self.keeper.try_wait()?.is_none() {
            kill(self.pid, signal).or_else(gone).map_err(Into::into)
        } else {
            Ok(())
        }
    }

    /// Whether the child still runs.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn is_alive(&mut self) -> io::Result<bool> {
        Ok(self.keeper.try_wait()?.is_none())
    }

    /// Kills the child and waits until it is gone.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn kill(mut self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.keeper.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The keeper reads the end of its stdin and kills the group. Nothing more can be done about a failure here.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn gone(error: Errno) -> Result<(), Errno> {
    if error == Errno::ESRCH { Ok(()) } else { Err(error) }
}

/// The keeper: starts the command, prints its id, and ends with it or ends it.
///
/// # Errors
///
/// That the command could not be started, or what waiting for it gave.
pub fn keep(command: &OsStr, arguments: &[OsString]) -> io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(BECOME)
        .arg(std::process::id().to_string())
        .arg(command)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()?;
    let group = Pid::from_raw(child.id().cast_signed());
    writeln!(io::stdout(), "{group}")?;
    thread::spawn(move || {
        // However this ends, nobody is left who wants the child.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        // Asked first, a child with children of its own can wait for them.
        let _ = killpg(group, Signal::SIGTERM);
        thread::sleep(PATIENCE);
        let _ = killpg(group, Signal::SIGKILL);
    });
    child.wait()?;
    // What the child itself started is in its group.
    killpg(group, Signal::SIGKILL).or_else(gone)?;
    Ok(())
}

/// Becomes the command, as a process that is killed when its parent is gone. Returns only if it cannot.
pub fn become_command(parent: &OsStr, command: &OsStr, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    // It may have gone before the kernel was asked.
    if parent.to_str() != Some(getppid().to_string().as_str()) {
        return io::Error::other("the parent is gone");
    }
    Command::new(command).args(arguments).exec()
}

/// A folder that is gone when its handle is, or, if its process was killed, when another process makes one.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder among the temporary ones.
    ///
    /// # Errors
    ///
    /// What creating it gave.
    pub fn new(name: &str) -> io::Result<Self> {
        let prefix = format!("tenfold-{name}-");
        let path = std::env::temp_dir().join(format!("{prefix}{}", std::process::id()));
        for entry in std::fs::read_dir(std::env::temp_dir())?.flatten() {
            let file = entry.file_name();
            let owner = file.to_str().and_then(|file| file.strip_prefix(&prefix)?.parse::<i32>().ok());
            // Left behind by one that is gone, or by one of this process's id.
            if owner.is_some_and(|owner| kill(Pid::from_raw(owner), None).is_err()) || entry.path() == path {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        std::fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind, it is a few small files among the temporary ones.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
