//! Nodes in a temporary directory, each kept up by a task that stands for its process.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tenfold_replication::driver::sqlite::{SqliteConfig, SqliteConnection, SqliteDriver, SqliteError};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Lsn, Mode, Node, NodeId};
use tokio::task::JoinHandle;

use super::suite::Fixture;

pub(crate) struct Files {
    _dir: TempDir,
    driver: SqliteDriver,
    pub(crate) nodes: Vec<Node>,
    serving: Mutex<HashMap<NodeId, JoinHandle<()>>>,
}

impl Files {
    pub(crate) async fn with(nodes: u16, mode: Mode, config: SqliteConfig, schema: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = |id: u16| dir.path().join(format!("n{id}")).to_str().unwrap().to_owned();
        let nodes: Vec<_> = (0..nodes).map(|id| Node::new(NodeId(id), place(id))).collect();
        let driver = SqliteDriver::new(config);
        driver.create(&nodes, mode).await.unwrap();
        let files = Self { _dir: dir, driver, nodes, serving: Mutex::default() };
        for node in &files.nodes {
            files.serve(node.id());
        }
        let mut primary = files.connect(0, Access::Write).await;
        primary.migrate(schema).await.unwrap();
        files.caught_up().await;
        files
    }

    pub(crate) async fn connect(&self, node: usize, access: Access) -> SqliteConnection {
        self.driver.connect(&self.nodes[node], access).await.unwrap().connection
    }

    /// Until all nodes have what node 0 has.
    pub(crate) async fn caught_up(&self) {
        let last = self.driver.observe(&self.nodes[0]).await.unwrap().received;
        for node in &self.nodes[1..] {
            self.reached(node, last).await;
        }
    }

    pub(crate) async fn reached(&self, node: &Node, lsn: Lsn) {
        for _ in 0..4_000 {
            if self.driver.observe(node).await.is_ok_and(|seen| seen.replayed >= lsn) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{node:?} does not reach {lsn:?}: {:?}", self.driver.observe(node).await);
    }

    pub(crate) fn serve(&self, id: NodeId) {
        let (driver, node) = (self.driver.clone(), self.nodes[usize::from(id.0)].clone());
        let serve = async move {
            // The task before may not have let go of the lock yet, and the node may be down.
            loop {
                let Err(error) = driver.serve(&node).await;
                assert!(matches!(error, SqliteError::Served | SqliteError::Down), "{error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        self.serving.lock().insert(id, tokio::spawn(serve));
    }

    fn stop(&self, id: NodeId) {
        let task = self.serving.lock().remove(&id);
        if let Some(task) = task {
            task.abort();
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id.0)]
    }
}

impl Fixture for Files {
    type Driver = SqliteDriver;

    async fn start(nodes: u16, mode: Mode) -> Self {
        let config = SqliteConfig { confirm_timeout: Duration::from_secs(5), ..SqliteConfig::default() };
        let schema = "create table entry(id integer primary key autoincrement, key integer not null, number integer)";
        Self::with(nodes, mode, config, schema).await
    }

    fn driver(&self) -> SqliteDriver {
        self.driver.clone()
    }

    fn nodes(&self) -> Vec<Node> {
        self.nodes.clone()
    }

    async fn append(c: &mut SqliteConnection, key: i64, number: i64) -> Result<(), SqliteError> {
        c.execute("insert into entry(key, number) values (?1, ?2)", (key, number)).await.map(|_| ())
    }

    async fn list(c: &mut SqliteConnection, key: i64) -> Result<Vec<i64>, SqliteError> {
        c.query("select number from entry where key = ?1 order by id", [key], |row| row.get(0)).await
    }

    async fn crash(&self, node: NodeId) {
        self.stop(node);
        self.driver.take_down(self.node(node)).await.unwrap();
    }

    async fn restart(&self, node: NodeId) {
        self.driver.bring_up(self.node(node));
        self.serve(node);
    }

    async fn replay(&self, node: NodeId, is_running: bool) {
        self.driver.pause_replay(self.node(node), !is_running).await.unwrap();
    }

    async fn receive(&self, node: NodeId, is_running: bool) {
        if is_running {
            self.serve(node)
        } else {
            self.stop(node)
        }
        // What it was about is over by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
