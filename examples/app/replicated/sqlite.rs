//! A node of SQLite: a folder, and the crate's driver.
//!
//! The bytes of the log go from one node to the other through files that both processes reach, and only while the replica
//! holds a connection to the primary's process: what a dead primary had not handed over is lost with it, as it would be
//! with its machine.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenfold_replication::driver::sqlite::{SqliteConnection, SqliteDriver, SqliteError, rusqlite};
use tenfold_replication::driver::{Class, Driver};
use tenfold_replication::{Lsn, Node, NodeId};
use tenfold_rig::RoleResult;
use tokio::sync::watch;

use super::link::{Link, keep_up};
use super::server::NodeConfig;
use super::store::{Refused, Store};
use super::wire::Peer;
use crate::database::{Batch, DatabaseError, Rows};
use crate::sqlite::run_all;

/// A new replica copies its primary before it serves anybody.
const COPIED_WITHIN: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The folder of one node, opened, and where the others' are.
pub(super) struct Folder {
    driver: SqliteDriver,
    node: Node,
    folders: Vec<PathBuf>,
    link: watch::Sender<Link>,
}

impl Folder {
    /// Opens the node and keeps it up with its primary; a new replica has its copy when this returns.
    pub(super) async fn open(config: &NodeConfig) -> RoleResult<Self> {
        let folder = config.folders.get(usize::from(config.id)).ok_or("a node needs a folder")?;
        let upstream = config.primary.map(|address| Peer { id: 0, address });
        let (link, links) = watch::channel(Link { upstream, cut_from: None });
        let (driver, node) = (SqliteDriver::default(), Node::new(NodeId(config.id), folder.to_string_lossy()));
        tokio::spawn(keep_up(driver.clone(), node.clone(), links));
        let opened = async {
            loop {
                match driver.observe(&node).await {
                    Err(SqliteError::Incomplete) => tenfold_rig::sleep(LOOK_EVERY).await,
                    observed => return observed.map(drop),
                }
            }
        };
        tokio::time::timeout(COPIED_WITHIN, opened).await.map_err(|_| "the primary was not copied in time")??;
        Ok(Self { driver, node, folders: config.folders.clone(), link })
    }
}

impl Store for Folder {
    type Driver = SqliteDriver;

    /// More than the modelled slots ever let through.
    const READERS: usize = 512;
    /// SQLite has one writer at a time.
    const WRITERS: usize = 1;

    fn driver(&self) -> &SqliteDriver {
        &self.driver
    }

    fn node(&self) -> &Node {
        &self.node
    }

    fn peer(&self, peer: Peer) -> Result<Node, SqliteError> {
        let folder = self.folders.get(usize::from(peer.id)).ok_or(SqliteError::NoPrimaryThere)?;
        Ok(Node::new(NodeId(peer.id), folder.to_string_lossy()))
    }

    fn follows(&self, upstream: Option<Peer>) {
        let told = |link: &mut Link| std::mem::replace(&mut link.upstream, upstream) != upstream;
        // One that follows already goes on as it is.
        self.link.send_if_modified(told);
    }

    async fn run(&self, connection: &mut SqliteConnection, batch: Batch) -> Result<Vec<Rows>, Refused> {
        // What the product refuses is more than the driver's errors can say: it goes around them.
        let refusal = Arc::new(Mutex::new(None));
        let said = Arc::clone(&refusal);
        let statements = move |db: &rusqlite::Connection| {
            run_all(db, &batch, Duration::ZERO).map_err(|error| {
                *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                SqliteError::from(rusqlite::Error::InvalidQuery)
            })
        };
        let result = connection.run(statements).await;
        let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.map_err(|error| match refusal {
            Some(DatabaseError::Unavailable) => Refused::by(&self.driver, &SqliteError::Busy),
            Some(DatabaseError::Storage) => Refused { class: Class::Gone, error: DatabaseError::Storage },
            Some(error) => Refused { class: Class::Statement, error },
            None => Refused::by(&self.driver, &error),
        })
    }

    async fn content_hash(&self) -> Result<([u8; 32], Lsn), SqliteError> {
        self.driver.content_hash(&self.node).await
    }

    async fn set_replay_delay(&self, delay: Duration) -> Result<(), SqliteError> {
        self.driver.set_replay_delay(&self.node, delay).await
    }

    fn cut_off_from(&self, node: u16) {
        self.link.send_modify(|link| link.cut_from = Some(node));
    }
}
