//! The server's process, a child of the one that it stands beside: started, stopped in order, rewound.
//!
//! Whoever kills the parent kills it too: nothing is left of a node that died but its files.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tenfold_replication::driver::postgres::{PgError, Rewind, Rewinding, Server};
use tenfold_rig::{now, sleep};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::stock::{DATA, SUPERUSER};
use super::{PostgreSql, as_owner};

/// Part of the socket's name; no port of the machine.
pub(super) const PORT: u16 = 5432;
/// Beside the server's data: another server's, before it takes their place.
const COPY: &str = "copy";
/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The socket of a server in this folder.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join(socket_name())
}

fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

/// The server in this folder, or the way to it, as a connection string.
pub(super) fn address(folder: &Path) -> String {
    let folder = folder.to_string_lossy().replace('\\', "\\\\").replace('\'', "\\'");
    format!("host='{folder}' port={PORT} user={SUPERUSER} dbname=postgres")
}

/// The server of one node. Clones are the same one.
#[derive(Clone)]
pub(super) struct Postmaster {
    shared: Arc<Shared>,
}

struct Shared {
    server: PostgreSql,
    folder: PathBuf,
    /// Locked by whoever starts or stops it.
    child: Mutex<Option<Child>>,
}

impl Postmaster {
    /// Starts the server of a node's folder; it answers when this returns.
    pub(super) async fn start(server: &PostgreSql, folder: &Path) -> Result<Self, PgError> {
        let shared = Shared { server: server.clone(), folder: folder.to_owned(), child: Mutex::default() };
        let mut child = shared.child.lock().await;
        *child = Some(shared.start().await?);
        drop(child);
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Server for Postmaster {
    fn rewind<'a>(&'a self, rewind: &'a Rewind) -> Rewinding<'a> {
        let (shared, rewind) = (Arc::clone(&self.shared), rewind.clone());
        Box::pin(async move {
            // Whoever asked may give up waiting: a server must not stay half rewound.
            let work = tokio::spawn(async move { shared.rewind(&rewind).await });
            work.await.unwrap_or(Err(PgError::NoServer))
        })
    }
}

impl Shared {
    fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    async fn start(&self) -> Result<Child, PgError> {
        // Of a server that was killed. Who killed it has seen that all of its processes are gone.
        let locks = [self.data().join("postmaster.pid"), self.folder.join(format!("{}.lock", socket_name()))];
        for lock in locks {
            let _ = std::fs::remove_file(lock);
        }
        let log = OpenOptions::new().append(true).create(true).open(self.folder.join("log"))?;
        let mut postgres = self.server.program("postgres");
        postgres.arg("-D").arg(self.data()).arg("-c").arg(format!("port={PORT}"));
        // A setting that differs between nodes: not in a file, which a rewind would copy.
        postgres.arg("-c").arg(format!("unix_socket_directories=\"{}\"", self.folder.display()));
        postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = Command::from(postgres).kill_on_drop(true).spawn()?;
        let deadline = now() + READY_WITHIN;
        while !self.is_ready() {
            if child.try_wait()?.is_some() || now() > deadline {
                return Err(PgError::Program { program: "postgres", message: self.last_words().into() });
            }
            sleep(LOOK_EVERY).await;
        }
        self.disown_memory().await;
        Ok(child)
    }

    /// Says the server in its file of locks.
    fn is_ready(&self) -> bool {
        self.line(8).is_some_and(|status| status == "ready")
    }

    fn line(&self, number: usize) -> Option<String> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        Some(text.lines().nth(number - 1)?.trim().to_owned())
    }

    /// A server has a little piece of the machine's shared memory, by which another would see that this one lives. Removed
    /// while it is in use, it goes with the last process: that of a killed server would stay for ever.
    async fn disown_memory(&self) {
        let Some(line) = self.line(7) else { return };
        let Some(id) = line.split_whitespace().nth(1) else { return };
        let mut ipcrm = as_owner(Path::new("ipcrm"));
        ipcrm.args(["-m", id]);
        // Without, it works as well.
        let _ = Command::from(ipcrm).kill_on_drop(true).output().await;
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }

    async fn rewind(&self, rewind: &Rewind) -> Result<(), PgError> {
        let mut running = self.child.lock().await;
        let (data, copy) = (self.data(), self.folder.join(COPY));
        if let Some(source) = &rewind.copy_from {
            // While it still runs, fenced.
            self.copy(&copy, source).await?;
        }
        if let Some(mut child) = running.take() {
            let mut stop = self.server.program("pg_ctl");
            stop.args(["-m", "fast", "-w", "-s", "-D"]).arg(&data).arg("stop");
            done("pg_ctl", Command::from(stop).kill_on_drop(true).output().await?)?;
            child.wait().await?;
        }
        let file = data.join("postgresql.auto.conf");
        let mut own = std::fs::read_to_string(&file)?;
        if rewind.copy_from.is_some() {
            std::fs::remove_dir_all(&data)?;
            std::fs::rename(&copy, &data)?;
        } else {
            let mut program = self.server.program("pg_rewind");
            program.arg("-R").arg("--source-server").arg(&rewind.source).arg("-D").arg(&data);
            done("pg_rewind", Command::from(program).kill_on_drop(true).output().await?)?;
        }
        // Of two lines with one name the later counts.
        for (name, value) in &rewind.settings {
            own.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        // In place: it stays the property of whoever owns it.
        std::fs::write(&file, own)?;
        *running = Some(self.start().await?);
        Ok(())
    }

    /// As a standby, in place of what an earlier try has left.
    async fn copy(&self, target: &Path, source: &str) -> Result<(), PgError> {
        if target.exists() {
            std::fs::remove_dir_all(target)?;
        }
        let mut program = self.server.program("pg_basebackup");
        program.args(["-R", "-X", "stream", "-c", "fast", "-d"]).arg(source).arg("-D").arg(target);
        done("pg_basebackup", Command::from(program).kill_on_drop(true).output().await?)
    }
}

fn done(program: &'static str, output: Output) -> Result<(), PgError> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().collect();
    Err(PgError::Program { program, message: lines[lines.len().saturating_sub(3)..].join("; ").into() })
}
