//! What must be done on a server's own machine, and who does it.

use std::collections::HashMap;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use super::PgError;
use crate::{Node, NodeId};

/// A node that is to be rewound.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewind {
    /// Which.
    pub node: Node,
    /// Its new primary, as a connection string of libpq.
    pub source: String,
    /// Set if `pg_rewind` would not see that the logs have parted: the node must be copied anew from here, its new primary as
    /// replicas connect to it.
    pub copy_from: Option<String>,
    /// What its server is to be set to when it starts again, whatever `pg_rewind` has copied from the primary.
    pub settings: Vec<(String, String)>,
}

/// The answer of a [`Server`].
pub type Rewinding<'a> = Pin<Box<dyn Future<Output = Result<(), PgError>> + Send + 'a>>;

/// Rewinds servers: somebody on their machines. [`LocalServer`] does so on this one; an agent may on others.
pub trait Server: Send + Sync + 'static {
    /// Stops the server in order, runs `pg_rewind` or copies it anew, writes the settings, and starts it as a standby. Done
    /// again after a failure, it ends the same.
    ///
    /// The node is fenced, and its promise is among the settings. Nobody else may start the server meanwhile: half rewound
    /// and without its settings, it would be a second primary.
    fn rewind<'a>(&'a self, rewind: &'a Rewind) -> Rewinding<'a>;
}

/// Servers on this machine, whose data this process can reach. A copy is made beside the data, in a directory whose name ends
/// in `.copy`, and takes its place; until it is there, the old data is beside it, with `.old` at its end. Tablespaces outside of
/// the data directory hinder it.
///
/// A server is stopped and started by `pg_ctl`, whoever started it before, `scripts/pg-cluster` for instance, and logs into a
/// file of its own from then on. A service manager that would start it again by itself must leave it alone meanwhile.
///
/// Settings that differ between nodes, a port for instance, must not stand in files of the data directory: `pg_rewind`
/// takes those of the primary, except that `postgresql.auto.conf` stays the node's own.
#[derive(Clone, Debug)]
pub struct LocalServer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    programs: PathBuf,
    prefix: Vec<String>,
    /// One rewind of a node at a time, also if nobody waits for it any more.
    nodes: HashMap<NodeId, Mutex<PathBuf>>,
}

impl LocalServer {
    /// Servers of the PostgreSQL whose programs are in this directory.
    #[must_use]
    pub fn new(programs: impl Into<PathBuf>) -> Self {
        Self { shared: Arc::new(Shared { programs: programs.into(), ..Shared::default() }) }
    }

    /// Adds a node and its data directory. Its server logs into a file beside that, which ends in `.log`.
    ///
    /// # Panics
    /// If it was cloned before.
    #[must_use]
    pub fn node(mut self, node: NodeId, data: impl Into<PathBuf>) -> Self {
        self.parts().nodes.insert(node, Mutex::new(data.into()));
        self
    }

    /// Words before each command: `["runuser", "-u", "postgres", "--"]` for a process of root, which the server refuses.
    ///
    /// # Panics
    /// If it was cloned before.
    #[must_use]
    pub fn prefix<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.parts().prefix = words.into_iter().map(Into::into).collect();
        self
    }

    fn parts(&mut self) -> &mut Shared {
        Arc::get_mut(&mut self.shared).expect("it is not cloned yet")
    }
}

impl Server for LocalServer {
    fn rewind<'a>(&'a self, rewind: &'a Rewind) -> Rewinding<'a> {
        let (shared, rewind) = (Arc::clone(&self.shared), rewind.clone());
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || shared.rewind(&rewind));
            // It fails if the work panics or the runtime ends.
            work.await.unwrap_or(Err(PgError::NoServer))
        })
    }
}

impl Shared {
    fn rewind(&self, rewind: &Rewind) -> Result<(), PgError> {
        let data = self.nodes.get(&rewind.node.id()).ok_or(PgError::NoServer)?.lock();
        let (directory, copy) = (data.to_string_lossy(), beside(&data, ".copy"));
        if let Some(source) = &rewind.copy_from {
            // While it still runs, fenced: if this fails, it is there to be told again.
            self.copy(&copy, source)?;
        }
        if data.join("postmaster.pid").exists() {
            let stop = self.run("pg_ctl", &["-D", &directory, "-m", "fast", "-w", "-s", "stop"]);
            // One that was killed leaves the file; what it left is recovered by the rewind.
            if stop.is_err() && self.run("pg_ctl", &["-D", &directory, "status"]).is_ok() {
                return stop;
            }
        }
        let own = std::fs::read_to_string(data.join("postgresql.auto.conf"))?;
        if rewind.copy_from.is_some() {
            let old = beside(&data, ".old");
            remove(&old)?;
            std::fs::rename(&*data, &old)?;
            std::fs::rename(&copy, &*data)?;
            remove(&old)?;
        } else {
            self.run("pg_rewind", &["-D", &directory, "-R", "--source-server", &rewind.source])?;
        }
        // In place, so that it stays the property of whom it belongs to.
        std::fs::write(data.join("postgresql.auto.conf"), with_settings(&own, &rewind.settings))?;
        let log = format!("{directory}.log");
        self.run("pg_ctl", &["-D", &directory, "-l", &log, "-w", "-s", "start"])
    }

    /// As a standby, what was left of an earlier try taken away.
    fn copy(&self, target: &Path, source: &str) -> Result<(), PgError> {
        remove(target)?;
        let words = ["-D", &target.to_string_lossy(), "-d", source, "-R", "-X", "stream", "-c", "fast"];
        self.run("pg_basebackup", &words)
    }

    fn run(&self, program: &'static str, arguments: &[&str]) -> Result<(), PgError> {
        let path = self.programs.join(program);
        let mut words = self.prefix.iter().map(AsRef::as_ref).chain([path.as_os_str()]);
        // There is the program at least.
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(arguments).current_dir(Path::new("/"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut said = Vec::new();
        // A server that was started keeps no end of it: `pg_ctl` has given it the log.
        if let Some(stderr) = child.stderr.take() {
            stderr.take(1 << 20).read_to_end(&mut said)?;
        }
        if child.wait()?.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ");
        Err(PgError::Program { program, message: last.into() })
    }
}

fn beside(data: &Path, ending: &str) -> PathBuf {
    let mut name = data.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn remove(directory: &Path) -> Result<(), PgError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The file's settings with these in the place of theirs.
fn with_settings(file: &str, settings: &[(String, String)]) -> String {
    let is_replaced =
        |line: &str| settings.iter().any(|(name, _)| line.split(['=', ' ']).next() == Some(name.as_str()));
    let mut text: String = file.lines().filter(|line| !is_replaced(line)).map(|line| format!("{line}\n")).collect();
    for (name, value) in settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    text
}

impl std::fmt::Debug for Rewind {
    /// Without the connection strings, which may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rewind").field("node", &self.node.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_settings_take_the_place_of_those_of_the_file() {
        let file = "# by alter system\nwork_mem = '4MB'\nprimary_conninfo = 'host=old'\nprimary_conninfo_x = 'stays'\n";
        let settings = [("primary_conninfo".to_owned(), "password='it''s'".to_owned())];
        assert_eq!(
            with_settings(file, &settings),
            "# by alter system\nwork_mem = '4MB'\nprimary_conninfo_x = 'stays'\nprimary_conninfo = 'password=''it''''s'''\n"
        );
    }
}
