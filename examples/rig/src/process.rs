//! A child process that cannot be forgotten: it is killed and reaped when its handle goes.

use std::io;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::machine::{has_ended, started_by};

/// How long those may take to end that were killed with the child, and how often that is looked at.
const STRAYS_GONE_WITHIN: Duration = Duration::from_secs(1);
const STRAY_POLL: Duration = Duration::from_millis(1);

/// A child in a process group of its own, or what is left of it.
///
/// The id is used only while the child is not reaped, so it cannot name a stranger.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    status: Option<ExitStatus>,
    /// Those that it had started when it was killed, which may have left its group: a database server does so with the
    /// processes that it starts for its clients.
    strays: Vec<u32>,
}

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self { child, status: None, strays: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// The exit status if the process has ended; reaps it.
    pub(crate) fn try_status(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// The process and all that it has started, if it lives.
    pub(crate) fn family(&mut self) -> Vec<u32> {
        match self.try_status() {
            Ok(None) => std::iter::once(self.pid()).chain(started_by(self.pid())).collect(),
            _ => Vec::new(),
        }
    }

    /// Sends `signal` to the whole group, and a kill to all that it has started besides; does nothing if the process has
    /// ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.try_status()?.is_some() {
            return Ok(());
        }
        if signal == Signal::SIGKILL {
            self.strays = started_by(self.pid());
        }
        let sent = match killpg(Pid::from_raw(self.child.id().cast_signed()), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(e.into()),
        };
        for pid in &self.strays {
            // One that has ended meanwhile needs no kill.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        sent
    }

    /// Kills the group and all that it has started, and reaps the child; a stopped child dies too. Blocks for the moment the
    /// kernel needs.
    pub(crate) fn kill(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        let status = match self.status {
            Some(status) => status,
            None => self.child.wait()?,
        };
        self.status = Some(status);
        let mut left = STRAYS_GONE_WITHIN;
        while !left.is_zero() && !self.strays.iter().all(|pid| has_ended(*pid)) {
            std::thread::sleep(STRAY_POLL);
            left = left.saturating_sub(STRAY_POLL);
        }
        self.strays.clear();
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing more can be done about a failure here, and the kernel's death signal stands behind it.
        let _ = self.kill();
    }
}
