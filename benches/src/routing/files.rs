//! A primary and two replicas of SQLite, served by this process.

use std::time::Duration;

use tenfold_replication::driver::sqlite::{SqliteDriver, SqliteError};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Checkout, Mode, Node, NodeId};
use tokio::task::JoinHandle;

use super::Trouble;
use super::reads::{KEYS, Store};
use crate::cli::remark;
use crate::proxy_faults::process::Folder;

/// Directories that are gone when this is.
#[derive(Debug)]
pub struct Files {
    driver: SqliteDriver,
    nodes: Vec<Node>,
    serving: Vec<JoinHandle<()>>,
    _folder: Folder,
}

impl Files {
    /// Makes them, and serves them by tasks of the runtime.
    ///
    /// # Errors
    ///
    /// What the files say no with.
    pub async fn start() -> Result<Self, Trouble> {
        let folder = Folder::new("routing")?;
        let place = |id: u16| folder.path().join(format!("n{id}")).to_string_lossy().into_owned();
        let nodes: Vec<_> = (0..3).map(|id| Node::new(NodeId(id), place(id))).collect();
        let driver = SqliteDriver::default();
        driver.create(&nodes, Mode::Asynchronous).await?;
        let serving = nodes.iter().map(|node| serve(&driver, node)).collect();
        let mut primary = driver.connect(&nodes[0], Access::Write).await?.connection;
        primary.migrate("create table register(key integer primary key, value integer not null)").await?;
        for key in 0..KEYS {
            primary.execute("insert into register values (?1, 0)", [key as i64]).await?;
        }
        Ok(Self { driver, nodes, serving, _folder: folder })
    }
}

impl Store for Files {
    type Driver = SqliteDriver;

    const ENGINE: &'static str = "sqlite";

    fn driver(&self) -> SqliteDriver {
        self.driver.clone()
    }

    fn nodes(&self) -> Vec<Node> {
        self.nodes.clone()
    }

    async fn delay_replay(&self, lag: Duration) -> Result<(), Trouble> {
        for replica in &self.nodes[1..] {
            self.driver.set_replay_delay(replica, lag).await?;
        }
        Ok(())
    }

    async fn write(mut c: Checkout<SqliteDriver>, key: u64, value: u64) -> Result<(), SqliteError> {
        let sql = "update register set value = ?2 where key = ?1";
        c.execute(sql, (key as i64, value as i64)).await.map(drop)
    }

    async fn read(mut c: Checkout<SqliteDriver>, key: u64) -> Result<Option<u64>, SqliteError> {
        let sql = "select value from register where key = ?1";
        let rows = c.query(sql, [key as i64], |row| row.get::<_, i64>(0)).await?;
        Ok(rows.first().map(|value| *value as u64))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps a node up.
fn serve(driver: &SqliteDriver, node: &Node) -> JoinHandle<()> {
    let (driver, node) = (driver.clone(), node.clone());
    tokio::spawn(async move {
        loop {
            let Err(error) = driver.serve(&node).await;
            remark(format_args!("{node:?}: {error}"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}
