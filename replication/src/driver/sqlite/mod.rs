//! Directories of SQLite files as nodes: a primary whose transactions go through a durable log to its replicas.
//!
//! SQLite is embedded: there is no server. A node is a directory with a database, a log of the transactions that made it,
//! and what the node has promised; whoever can reach the directory can use it, from one process or several. Replicas are
//! kept up by [`SqliteDriver::serve`], which the host runs.
//!
//! ```
//! use std::time::Duration;
//! use tenfold_replication::driver::sqlite::SqliteDriver;
//! use tenfold_replication::{Cluster, Mode, Node, NodeId, Session};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let place = |id: u16| dir.path().join(format!("n{id}")).to_string_lossy().into_owned();
//! let nodes: Vec<_> = (0..3).map(|id| Node::new(NodeId(id), place(id))).collect();
//! let driver = SqliteDriver::default();
//! driver.create(&nodes, Mode::Asynchronous).await?;
//! for node in nodes.clone() {
//!     let driver = driver.clone();
//!     tokio::spawn(async move { driver.serve(&node).await });
//! }
//! let cluster = Cluster::builder(driver).nodes(nodes).build()?;
//! tokio::spawn(cluster.clone().drive());
//! cluster.ready(Duration::from_secs(5)).await?;
//!
//! let session = Session::new();
//! let schema = "create table account(name text primary key, cents integer not null) strict";
//! cluster.write(&session, |mut c| async move { c.migrate(schema).await }).await?;
//! cluster
//!     .write(&session, |mut c| async move { c.execute("insert into account values (?1, ?2)", ("ada", 100)).await })
//!     .await?;
//! // From a replica that has it, or the primary.
//! let read = cluster.read(&session, |mut c| async move {
//!     c.query("select cents from account where name = ?1", ["ada"], |row| row.get::<_, i64>(0)).await
//! });
//! assert_eq!(read.await?, [100]);
//! # Ok(())
//! # }
//! ```
//!
//! # What is replicated
//!
//! The rows of all tables of the main database, as transactions left them: triggers, cascades and `random()` need no
//! repetition. The schema, by the statements of [`SqliteConnection::migrate`]. Not: temporary tables, attached
//! databases, pragmas, virtual tables, the hidden row number of tables whose key is something else.
//!
//! Each table needs a primary key without nulls; otherwise its migration, or the transaction, is refused. So is a migration
//! that calls something `tenfold_…`, or needs a function or a collation that SQLite itself has not. Writers have recursive
//! triggers on and must leave that so.
//!
//! # When a node crashes
//!
//! A transaction is synced in the log before it is committed in the database, and the database says in a row of its own
//! how far it is. Opening a node applies what the log has beyond that. A torn end of the log is cut off; any other damage
//! is an error, and so is a log that ends before its database.
//!
//! # When the primary is lost
//!
//! A node that has promised a ballot refuses to write under a lower one, under the same lock under which commits check
//! that: after [`fence`](crate::driver::Driver::fence) has returned, the node acknowledges nothing more, in no process
//! and after no restart. A promoted replica goes on from the end of its log in a new epoch. A former primary rejoins by
//! [`rejoin`](crate::driver::Driver::rejoin): the transactions that it alone had are counted in
//! [`Rejoined::discarded`](crate::driver::Rejoined::discarded) and kept, as [`SqliteDriver::discarded`] reads them, and
//! its database is copied anew.
//!
//! A write is seen by readers of the primary before replicas have confirmed it. What such a reader saw and a failover
//! undoes is told to its session, like any loss.

use std::time::Duration;

mod apply;
mod capture;
mod changes;
mod confirmed;
mod connection;
mod content;
mod control;
mod discarded;
mod driver;
mod error;
mod log;
mod node;
mod record;
mod rejoin;
mod replica;
mod schema;
mod state;
mod writer;

pub use connection::SqliteConnection;
pub use discarded::{Discarded, DiscardedRows};
pub use driver::SqliteDriver;
pub use error::SqliteError;
/// The SQLite library, whose types statements are made of.
pub use rusqlite;

/// How nodes of files behave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct SqliteConfig {
    /// How long a writer waits for the others, and whoever needs the lock of a file for it. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub busy_timeout: Duration,
    /// In a quorum, how long a write waits for replicas before it is reported as unconfirmed. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub confirm_timeout: Duration,
    /// How long copying a database may be kept from the source by its writers. Default 60 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub copy_timeout: Duration,
    /// A replica that has heard nothing of its primary for so long has lost it. Default 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub silence: Duration,
    /// The values that one transaction may change, in bytes. Default 64 MiB, at most 256 MiB. They are held in memory a few times.
    pub max_transaction_bytes: usize,
    /// How much a replica receives and applies at once. Default 1 MiB. Less: more syncs; more: later seen.
    pub batch_bytes: usize,
    /// When a file of the log is full. Default 16 MiB.
    pub segment_bytes: u64,
    /// How much of the log stays for replicas that are behind. Default 256 MiB. A replica that needs more copies the
    /// database.
    pub keep_log_bytes: u64,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            confirm_timeout: Duration::from_secs(10),
            copy_timeout: Duration::from_secs(60),
            silence: Duration::from_millis(100),
            max_transaction_bytes: 64 << 20,
            batch_bytes: 1 << 20,
            segment_bytes: 16 << 20,
            keep_log_bytes: 256 << 20,
        }
    }
}
