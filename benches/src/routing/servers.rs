//! A primary and two replicas of PostgreSQL, by the script that readers use.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;
use tenfold_replication::driver::postgres::{LocalServer, PgConfig, PgDriver};
use tenfold_replication::{Node, NodeId};
use tokio_postgres::{Client, NoTls};

use super::Trouble;
use crate::clock::{Stopwatch, uptime};
use crate::proxy_faults::process::Process;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/pg-cluster");

/// Servers that end with this, or with this process, whatever ends that.
#[derive(Debug)]
pub struct Servers {
    dir: PathBuf,
    ports: Vec<u16>,
    up_in: Duration,
    /// Takes them down if nobody else does.
    _warden: Process,
}

impl Servers {
    /// Starts them.
    ///
    /// # Errors
    ///
    /// What the script complains of: that there is no PostgreSQL here, for instance.
    pub fn start(name: &str) -> Result<Self, Trouble> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        // Each has its own, as a warden may be late.
        let dir = place.join(format!("tenfold-routing-{name}-{}-{}", std::process::id(), uptime().as_micros()));
        let script = Path::new(SCRIPT).canonicalize()?;
        // In a session of its own, as the keeper has little patience.
        let down = format!("{} down --dir {} >/dev/null 2>&1", script.display(), dir.display());
        // Twice, as they may be on their way up.
        let until_told =
            format!("trap \"setsid sh -c '{down}; sleep 5; {down}' & exit\" TERM; while :; do sleep 60; done");
        let warden = Process::start(OsStr::new("bash"), &["-c", &until_told], false)?;
        let mut servers = Self { dir, ports: Vec::new(), up_in: Duration::ZERO, _warden: warden };
        let stopwatch = Stopwatch::start();
        let addresses = servers.script(&["up", "--replicas", "2"])?;
        servers.up_in = stopwatch.elapsed();
        let port = |line: &str| line.split(' ').find_map(|word| word.strip_prefix("port=")?.parse().ok());
        servers.ports = addresses.lines().filter_map(port).collect();
        if servers.ports.len() == 3 { Ok(servers) } else { Err("the script named no three servers".into()) }
    }

    /// How long it took until the replicas streamed.
    #[must_use]
    pub fn up_in(&self) -> Duration {
        self.up_in
    }

    /// Where they listen, the primary first.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The nodes, the primary first.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        nodes_at(&self.ports)
    }

    /// A driver that may rewind them.
    #[must_use]
    pub fn driver(&self) -> PgDriver {
        let data = |id: u16| self.dir.join(format!("n{id}")).join("data");
        let local = (0..3).fold(LocalServer::new(programs()), |local, id| local.node(NodeId(id), data(id)));
        // The server refuses root.
        let local = if is_root() { local.prefix(AS_POSTGRES) } else { local };
        PgDriver::new(PgConfig::default()).with_server(local)
    }

    /// Does something to them.
    ///
    /// # Errors
    ///
    /// What the script complains of.
    pub fn script(&self, words: &[&str]) -> Result<String, Trouble> {
        let output = Command::new(SCRIPT).args(words).arg("--dir").arg(&self.dir).output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().into())
        }
    }

    /// The processes that the others of a node are children of.
    ///
    /// # Errors
    ///
    /// That one is not up.
    pub fn postmasters(&self) -> Result<Vec<Pid>, Trouble> {
        let pid = |node: usize| {
            let text = fs::read_to_string(self.dir.join(format!("n{node}")).join("data/postmaster.pid"))?;
            let line = text.lines().next().unwrap_or_default();
            Ok::<_, Trouble>(Pid::from_raw(line.trim().parse()?))
        };
        (0..self.ports.len()).map(pid).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Else the warden does.
        let _ = self.script(&["down"]);
    }
}

/// Words before a command that refuses root.
pub const AS_POSTGRES: [&str; 6] = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"];

/// Whether this process is of root.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of_process| of_process.uid() == 0)
}

/// Nodes at ports of this machine, the primary first.
#[must_use]
pub fn nodes_at(ports: &[u16]) -> Vec<Node> {
    let address = |port: &u16| format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    ports.iter().zip(0..).map(|(port, id)| Node::new(NodeId(id), address(port))).collect()
}

/// Connects without a cluster. Its connection is driven by a task of the runtime.
///
/// # Errors
///
/// What connecting gave.
pub async fn connect(port: u16) -> Result<Client, Trouble> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").dbname("postgres").connect_timeout(Duration::from_secs(5));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Whoever asks through it is told as well.
        let _ = connection.await;
    });
    Ok(client)
}

/// Of the newest version, as the script has it.
fn programs() -> PathBuf {
    if let Some(programs) = std::env::var_os("PG_BIN") {
        return programs.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|version| version.path()).max_by_key(|path| number(path));
    newest.unwrap_or_default().join("bin")
}
