//! PostgreSQL servers in a temporary directory, by the script that readers use.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tenfold_replication::driver::postgres::{LocalServer, PgConfig, PgDriver, PgError};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Checkout, Mode, Node, NodeId};

use super::Failure;
use super::engine::Engine;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/pg-cluster");

const SCHEMA: &str =
    "create table entry(id bigint generated always as identity primary key, key bigint, number bigint);
    create index entry_of_key on entry(key, id)";

/// Whoever is next in a list draws its number only when the one before is committed: else a later number could be seen
/// first. The script gives node 0 a port that ends in 0, and so on.
const APPEND: &str =
    "insert into entry(key, number) select $1::bigint, $2::bigint from pg_advisory_xact_lock($1::bigint)
    returning current_setting('port')::bigint % 10";

pub(crate) struct Servers {
    driver: PgDriver,
    nodes: Vec<Node>,
    place: TempDir,
    /// Held by a script that runs.
    scripts: Arc<Mutex<()>>,
}

impl Engine for Servers {
    type Driver = PgDriver;

    const NAME: &'static str = "postgres";
    const HAS_OWN_PLACES: bool = false;

    async fn start(mode: Mode) -> Result<Self, Failure> {
        let of_mode = match mode {
            Mode::Asynchronous => None,
            Mode::SemiSynchronous { timeout } => Some(("--semi", timeout.as_millis().to_string())),
            Mode::Quorum { replicas } => Some(("--quorum", replicas.to_string())),
        };
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755))?;
        // Also if what follows fails, the servers end with it.
        let mut servers =
            Self { driver: PgDriver::new(PgConfig::default()), nodes: Vec::new(), place, scripts: Arc::default() };
        let mut words = vec!["up"];
        words.extend(of_mode.iter().flat_map(|(word, value)| [*word, value.as_str()]));
        let addresses = servers.script(&words).await?;
        servers.nodes = addresses.lines().zip(0..).map(|(address, id)| Node::new(NodeId(id), address)).collect();
        servers.driver = PgDriver::new(PgConfig::default()).with_server(servers.local_server()?);
        servers.driver.connect(&servers.nodes[0], Access::Write).await?.connection.batch(SCHEMA).await?;
        Ok(servers)
    }

    fn driver(&self) -> PgDriver {
        self.driver.clone()
    }

    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    async fn append(mut c: Checkout<PgDriver>, key: u64, number: u64) -> Result<NodeId, PgError> {
        let rows = c.query(APPEND, &[&(key as i64), &(number as i64)]).await?;
        let node: i64 = rows.first().map_or(0, |row| row.get(0));
        Ok(NodeId(node as u16))
    }

    async fn list(mut c: Checkout<PgDriver>, key: u64) -> Result<Vec<u64>, PgError> {
        let rows = c.query("select number from entry where key = $1 order by id", &[&(key as i64)]).await?;
        Ok(rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect())
    }

    /// Who sends the log stands still: what was not sent dies with the primary.
    async fn cut_off_replicas(&mut self) -> Result<(), Failure> {
        let mut primary = self.driver.connect(&self.nodes[0], Access::Read).await?.connection;
        for row in primary.query("select pid from pg_stat_replication", &[]).await? {
            let sender: i32 = row.get(0);
            let status = Command::new("kill").args(["-STOP", &sender.to_string()]).status()?;
            if !status.success() {
                return Err(format!("process {sender} cannot be stopped").into());
            }
        }
        Ok(())
    }

    async fn kill(&mut self, node: usize) -> Result<(), Failure> {
        self.script(&["kill", &node.to_string()]).await.map(drop)
    }

    /// A supervisor may stop it again, to rewind it, before it has come up: whether it comes back is seen elsewhere.
    async fn restart(&mut self, node: usize) -> Result<(), Failure> {
        let _ = self.script(&["start", &node.to_string()]).await;
        Ok(())
    }
}

impl Servers {
    /// On a thread where waiting is no harm.
    async fn script(&self, words: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(SCRIPT);
        command.args(words).arg("--dir").arg(self.dir());
        let scripts = Arc::clone(&self.scripts);
        let run = move || {
            let _running = scripts.lock().unwrap_or_else(PoisonError::into_inner);
            command.output()
        };
        let output = tokio::task::spawn_blocking(run).await??;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn dir(&self) -> PathBuf {
        self.place.path().join("cluster")
    }

    /// Who rewinds a former primary.
    fn local_server(&self) -> Result<LocalServer, Failure> {
        let data = |node: &Node| self.dir().join(node.id().to_string()).join("data");
        let local =
            self.nodes.iter().fold(LocalServer::new(programs()), |local, node| local.node(node.id(), data(node)));
        // The server refuses root.
        let is_root = std::fs::metadata("/proc/self")?.uid() == 0;
        let as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"];
        Ok(if is_root { local.prefix(as_postgres) } else { local })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // One that is starting servers, if this was interrupted.
        let _running = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = Command::new(SCRIPT).args(["down", "--dir"]).arg(self.dir()).output();
    }
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
