//! Servers in a temporary directory, by the script that readers use.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tenfold_replication::driver::postgres::{LocalServer, PgConfig, PgConnection, PgDriver, PgError};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Lsn, Mode, Node, NodeId};

use super::suite::Fixture;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/pg-cluster");

const SCHEMA: &str =
    "create table entry(id bigint generated always as identity primary key, key bigint, number bigint)";

/// Whether there is no PostgreSQL here, and that was said to be right.
pub(crate) fn is_left_out() -> bool {
    let is_left_out = std::env::var_os("TENFOLD_WITHOUT_POSTGRES").is_some();
    if is_left_out {
        eprintln!("LEFT OUT: TENFOLD_WITHOUT_POSTGRES is set");
    } else {
        assert!(
            programs().join("initdb").exists(),
            "there is no PostgreSQL server: install the package postgresql, or set TENFOLD_WITHOUT_POSTGRES to leave its \
             tests out"
        );
    }
    is_left_out
}

/// Of the newest version, as the script has it.
fn programs() -> PathBuf {
    if let Some(programs) = std::env::var_os("PG_BIN") {
        return programs.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|version| version.path()).max_by_key(|path| number(path));
    newest.unwrap_or_default().join("bin")
}

pub(crate) struct Servers {
    place: TempDir,
    pub(crate) driver: PgDriver,
    pub(crate) nodes: Vec<Node>,
    /// From whom a node received that was told to receive from nobody.
    detached: Mutex<HashMap<NodeId, String>>,
}

impl Servers {
    pub(crate) async fn with(nodes: u16, mode: Mode, config: PgConfig) -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let replicas = (nodes - 1).to_string();
        let template = concat!(env!("CARGO_TARGET_TMPDIR"), "/postgres");
        let mut words = vec!["up", "--replicas", &replicas, "--template", template];
        let of_mode = match mode {
            Mode::Quorum { replicas } => Some(("--quorum", replicas.to_string())),
            Mode::SemiSynchronous { timeout } => Some(("--semi", timeout.as_millis().to_string())),
            Mode::Asynchronous => None,
        };
        words.extend(of_mode.iter().flat_map(|(word, value)| [*word, value.as_str()]));
        // Also if what follows fails, the servers end with it.
        let mut servers =
            Self { place, driver: PgDriver::new(config.clone()), nodes: Vec::new(), detached: Mutex::default() };
        std::fs::set_permissions(servers.place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let addresses = servers.script(&words);
        servers.nodes = addresses.lines().zip(0..).map(|(address, id)| Node::new(NodeId(id), address)).collect();
        servers.driver = PgDriver::new(config).with_server(servers.local_server());
        let mut primary = servers.connect(0, Access::Write).await;
        primary.batch(SCHEMA).await.unwrap();
        servers.caught_up().await;
        servers
    }

    fn local_server(&self) -> LocalServer {
        let nodes = self.nodes.iter().map(Node::id);
        let local =
            nodes.fold(LocalServer::new(programs()), |local, id| local.node(id, self.node_dir(id).join("data")));
        // The server refuses root.
        let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
        let as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"];
        if is_root { local.prefix(as_postgres) } else { local }
    }

    fn cluster_dir(&self) -> PathBuf {
        self.place.path().join("cluster")
    }

    pub(crate) fn node_dir(&self, id: NodeId) -> PathBuf {
        self.cluster_dir().join(id.to_string())
    }

    pub(crate) fn script(&self, words: &[&str]) -> String {
        let output = Command::new(SCRIPT).args(words).arg("--dir").arg(self.cluster_dir()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn connect(&self, node: usize, access: Access) -> PgConnection {
        self.driver.connect(&self.nodes[node], access).await.unwrap().connection
    }

    /// The first value of the first row, as text.
    pub(crate) async fn ask(&self, node: usize, sql: &str) -> Option<String> {
        let mut connection = self.connect(node, Access::Write).await;
        let rows = connection.query(&format!("select ({sql})::text"), &[]).await.unwrap();
        rows.first().and_then(|row| row.get(0))
    }

    pub(crate) async fn tell(&self, node: usize, sql: &str) {
        self.connect(node, Access::Write).await.batch(sql).await.unwrap();
    }

    pub(crate) async fn list_of(&self, node: usize, key: i64) -> Vec<i64> {
        Self::list(&mut self.connect(node, Access::Read).await, key).await.unwrap()
    }

    /// Until all nodes have what node 0 has.
    pub(crate) async fn caught_up(&self) {
        let last = self.driver.observe(&self.nodes[0]).await.unwrap().received;
        for node in 1..self.nodes.len() {
            self.reached(node, last).await;
        }
    }

    pub(crate) async fn reached(&self, node: usize, lsn: Lsn) {
        let mut replica = self.connect(node, Access::Read).await;
        let reached = self.driver.wait(&mut replica, lsn, Duration::from_secs(60)).await.unwrap();
        assert!(reached >= lsn, "node {node} does not reach {lsn:?}");
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).args(["down", "--dir"]).arg(self.cluster_dir()).output();
    }
}

impl Fixture for Servers {
    type Driver = PgDriver;

    fn is_left_out() -> bool {
        is_left_out()
    }

    async fn start(nodes: u16, mode: Mode) -> Self {
        Self::with(nodes, mode, PgConfig { step_timeout: Duration::from_secs(20), ..PgConfig::default() }).await
    }

    fn driver(&self) -> PgDriver {
        self.driver.clone()
    }

    fn nodes(&self) -> Vec<Node> {
        self.nodes.clone()
    }

    async fn append(c: &mut PgConnection, key: i64, number: i64) -> Result<(), PgError> {
        c.execute("insert into entry(key, number) values ($1, $2)", &[&key, &number]).await.map(|_| ())
    }

    async fn list(c: &mut PgConnection, key: i64) -> Result<Vec<i64>, PgError> {
        let rows = c.query("select number from entry where key = $1 order by id", &[&key]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn crash(&self, node: NodeId) {
        self.script(&["kill", &node.0.to_string()]);
    }

    /// A supervisor may stop it again, to rewind it, before it has come up.
    async fn restart(&self, node: NodeId) {
        let start = ["start", &node.0.to_string(), "--dir"];
        Command::new(SCRIPT).args(start).arg(self.cluster_dir()).output().unwrap();
    }

    async fn replay(&self, node: NodeId, is_running: bool) {
        let call = if is_running { "select pg_wal_replay_resume()" } else { "select pg_wal_replay_pause()" };
        self.tell(usize::from(node.0), call).await;
    }

    /// The settings of a replica say from whom; a receiver that was only stopped would still have what was sent to it.
    async fn receive(&self, node: NodeId, is_running: bool) {
        let index = usize::from(node.0);
        let upstream = if is_running {
            self.detached.lock().remove(&node).unwrap()
        } else {
            let upstream = self.ask(index, "current_setting('primary_conninfo')").await.unwrap();
            self.detached.lock().insert(node, upstream);
            String::new()
        };
        let mut connection = self.connect(index, Access::Write).await;
        connection
            .batch(&format!("alter system set primary_conninfo = '{}'", upstream.replace('\'', "''")))
            .await
            .unwrap();
        connection.batch("select pg_reload_conf()").await.unwrap();
        while !is_running && self.ask(index, "select count(*) from pg_stat_wal_receiver").await.unwrap() != "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
