//! Nodes that are directories of SQLite files, served by this process.

use std::time::Duration;

use tempfile::TempDir;
use tenfold_replication::driver::sqlite::{SqliteDriver, SqliteError};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Checkout, Mode, Node, NodeId};
use tokio::task::JoinHandle;

use super::Failure;
use super::engine::Engine;

const SCHEMA: &str = "create table entry(id integer primary key autoincrement, key integer not null, number integer);
    create index entry_of_key on entry(key, id);";

pub(crate) struct Files {
    driver: SqliteDriver,
    nodes: Vec<Node>,
    serving: Vec<JoinHandle<()>>,
    are_cut_off: bool,
    _dir: TempDir,
}

impl Engine for Files {
    type Driver = SqliteDriver;

    const NAME: &'static str = "sqlite";
    const HAS_OWN_PLACES: bool = true;

    async fn start(mode: Mode) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let node = |id: u16| Node::new(NodeId(id), dir.path().join(format!("n{id}")).to_string_lossy());
        let nodes: Vec<_> = (0..3).map(node).collect();
        let driver = SqliteDriver::default();
        driver.create(&nodes, mode).await?;
        let serving = nodes.iter().map(|node| serve(&driver, node)).collect();
        driver.connect(&nodes[0], Access::Write).await?.connection.migrate(SCHEMA).await?;
        Ok(Self { driver, nodes, serving, are_cut_off: false, _dir: dir })
    }

    fn driver(&self) -> SqliteDriver {
        self.driver.clone()
    }

    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    async fn append(mut c: Checkout<SqliteDriver>, key: u64, number: u64) -> Result<NodeId, SqliteError> {
        let sql = "insert into entry(key, number) values (?1, ?2)";
        c.execute(sql, (key as i64, number as i64)).await?;
        Ok(c.node_id())
    }

    async fn list(mut c: Checkout<SqliteDriver>, key: u64) -> Result<Vec<u64>, SqliteError> {
        let sql = "select number from entry where key = ?1 order by id";
        let list = c.query(sql, [key as i64], |row| row.get::<_, i64>(0)).await?;
        Ok(list.into_iter().map(|number| number as u64).collect())
    }

    async fn cut_off_replicas(&mut self) -> Result<(), Failure> {
        self.serving[1..].iter().for_each(JoinHandle::abort);
        self.are_cut_off = true;
        Ok(())
    }

    async fn kill(&mut self, node: usize) -> Result<(), Failure> {
        self.serving[node].abort();
        self.driver.take_down(&self.nodes[node]).await?;
        if std::mem::take(&mut self.are_cut_off) {
            let replicas = self.serving.iter_mut().zip(&self.nodes).skip(1);
            replicas.for_each(|(task, node)| *task = serve(&self.driver, node));
        }
        Ok(())
    }

    async fn restart(&mut self, node: usize) -> Result<(), Failure> {
        self.driver.bring_up(&self.nodes[node]);
        self.serving[node] = serve(&self.driver, &self.nodes[node]);
        Ok(())
    }
}

/// Keeps a node up, also when another task does so yet.
fn serve(driver: &SqliteDriver, node: &Node) -> JoinHandle<()> {
    let (driver, node) = (driver.clone(), node.clone());
    tokio::spawn(async move {
        loop {
            let Err(error) = driver.serve(&node).await;
            if !matches!(error, SqliteError::Busy) {
                eprintln!("{node:?}: {error}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}
