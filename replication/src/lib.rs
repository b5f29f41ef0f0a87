//! Reads that are fresh enough, writes that survive: a primary and its replicas as one database.
//!
//! # Three nouns
//!
//! A [`Cluster`] is a primary and the replicas of its log, over a [`Driver`](driver::Driver) that knows one kind of
//! database. A [`Session`] is what one user has written and seen; it travels between processes as a
//! [token](Tokens) that fits a cookie. Reads and writes are said to be such, never guessed from their text:
//! [`Cluster::read`], [`Cluster::write`], [`Cluster::transaction`].
//!
#![cfg_attr(feature = "sim", doc = "```")]
#![cfg_attr(not(feature = "sim"), doc = "```ignore")]
//! use std::time::Duration;
//! use tenfold_replication::{Cluster, Session, Tokens, sim::Sim};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A primary and two replicas in memory; a driver of a real database looks the same from here.
//! let (sim, nodes) = Sim::with_nodes(3, 1);
//! let cluster = Cluster::builder(sim.driver()).nodes(nodes).build()?;
//! tokio::spawn(cluster.clone().drive());
//! cluster.ready(Duration::from_secs(1)).await?;
//!
//! let session = Session::new();
//! cluster.write(&session, |mut c| async move { c.append(1, 42).await }).await?;
//! let cookie = Tokens::keyed(&[7; 32]).print(&session);
//!
//! // The next request, perhaps in another process: whichever replica serves it has the write.
//! let session = Tokens::keyed(&[7; 32]).parse(&cookie)?;
//! let list = cluster.read(&session, |mut c| async move { c.list(1).await }).await?;
//! assert_eq!(list, [42]);
//! assert_eq!(cluster.stats().reads_by_replica, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - **Read-your-writes and monotonic reads** for each session, over nodes and processes, whatever the lag. Not one
//!   order of all writes for all sessions: two sessions may see two independent writes in different order.
//! - **A staleness bound** is kept: a read that may be a second old sees all that was committed a second ago, measured by
//!   the reader's clock alone.
//! - **No write is repeated** unless it surely had no effect; [`Error::Ambiguous`] says when that is not known.
//! - **A lost write is told** to the session that wrote or saw it, once, as [`Error::Lost`]; what a failover can lose is
//!   said by the [`Mode`].
//! - **Waits are bounded**, and so are pools and queues; what is refused had no effect.
//!
//! # Failover
//!
//! [`Cluster::supervise`] names a new primary when the old one is lost, and makes it a replica when it returns;
//! [`Cluster::switchover`] changes it on purpose, while writes wait. Any number of processes may supervise: ballots
//! settle who leads. What a node has promised keeps an old primary from ever acknowledging a write again.
//!
//! # Time and tasks
//!
//! The crate starts no task and no thread: the host runs [`Cluster::drive`] and [`Cluster::supervise`]. What decides ([`route()`]) is told the time;
//! [`Clock`] and seed can be given. Without the feature `tokio` the parts that decide are there, and what waits is not.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What only the parts that wait make use of.
#![cfg_attr(not(feature = "tokio"), allow(dead_code))]

#[cfg(feature = "tokio")]
mod checkout;
mod clock;
#[cfg(feature = "tokio")]
mod cluster;
mod config;
pub mod driver;
#[cfg(feature = "serde")]
mod duration;
mod error;
mod failover;
#[cfg(feature = "tokio")]
mod gate;
#[cfg(feature = "tokio")]
mod hedge;
mod intent;
mod mode;
mod monitor;
mod node;
#[cfg(feature = "tokio")]
mod pool;
mod position;
mod rng;
mod route;
mod session;
pub mod shard;
#[cfg(feature = "tokio")]
mod signal;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "tokio")]
mod stats;
#[cfg(feature = "tokio")]
mod tasks;
mod token;
mod topology;
mod vitals;

#[cfg(feature = "tokio")]
pub use checkout::Checkout;
pub use clock::Clock;
#[cfg(feature = "tokio")]
pub use clock::TokioClock;
#[cfg(feature = "tokio")]
pub use cluster::{Builder, Cluster};
pub use config::{Config, ConfigError, HedgeConfig, MAX_NODES, PoolConfig};
pub use error::Error;
pub use failover::{FailoverConfig, FailoverError, Promoted};
#[cfg(feature = "tokio")]
pub use gate::HeldWrites;
pub use intent::ReadOptions;
pub use mode::Mode;
pub use monitor::{DetectConfig, Monitor, ObserverId, Report, Verdict, Witness};
pub use node::{Node, NodeId, Role};
pub use position::{ClusterId, Epoch, History, HistoryError, Lsn, Position, ShardId, Standing, Switch};
pub use rng::Rng;
pub use route::{Need, Refusal, Route, Rules, Tried, WhenBehind, route};
pub use session::{Floor, ForeignCluster, Lost, MAX_MARKS, Session};
#[cfg(feature = "tokio")]
pub use stats::{NodeStats, Stats};
pub use token::{MAX_TOKEN_CHARS, TokenError, Tokens};
pub use topology::{Member, Observed, Topology};
pub use vitals::EjectConfig;
