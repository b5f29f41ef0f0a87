//! The handle: reads, writes and transactions on the right node.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant as Deadline;

use crate::checkout::Checkout;
use crate::clock::Clock;
use crate::config::Config;
use crate::driver::{Access, Driver};
use crate::error::Error;
use crate::gate::{Gate, HeldWrites};
use crate::hedge::Hedger;
use crate::intent::ReadOptions;
use crate::monitor::Monitor;
use crate::pool::Pool;
use crate::rng::Rng;
use crate::route::{Need, Route, Tried, route};
use crate::session::Session;
use crate::signal::Signal;
use crate::stats::{Counters, NodeStats, Stats, count};
use crate::topology::{Observed, Topology};
use crate::{Epoch, Floor, Mode, ShardId};

mod builder;
mod read;
mod run;
mod supervise;
mod watch_nodes;
mod write;

pub use builder::Builder;

/// One shard's nodes, and how to read from and write to them. Cheap to clone; clones are the same cluster.
///
/// Somebody must run [`Cluster::drive`], which watches the nodes: without it, nothing is known of them but what
/// [`Cluster::observe`] has asked.
pub struct Cluster<D: Driver> {
    pub(crate) shared: Arc<Shared<D>>,
}

pub(crate) struct Shared<D: Driver> {
    pub(crate) driver: Arc<D>,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shard: ShardId,
    pub(crate) mode: Mode,
    seed: AtomicU64,
    pub(crate) pools: Vec<Pools<D>>,
    master: Mutex<Topology>,
    topology: ArcSwap<Topology>,
    /// Another snapshot, and another epoch.
    changed: Signal,
    epoch_changed: Signal,
    /// Asks for a look at the nodes before it is due.
    pub(crate) refresh: Notify,
    pub(crate) counters: Counters,
    hedger: Option<Hedger>,
    pub(crate) gate: Arc<Gate>,
    waiting_writes: AtomicU32,
    pub(crate) monitor: Mutex<Monitor>,
    /// Why nodes did not answer last.
    silences: Mutex<Vec<Option<String>>>,
    /// Tells it from other coordinators.
    coordinator: u64,
    /// Of its last ballot.
    epoch_used: Mutex<Epoch>,
}

/// The connections to one node.
pub(crate) struct Pools<D: Driver> {
    pub(crate) read: Arc<Pool<D>>,
    pub(crate) write: Arc<Pool<D>>,
}

impl<D: Driver> Cluster<D> {
    /// A cluster on this driver, to be given nodes.
    pub fn builder(driver: D) -> Builder<D> {
        Builder::new(driver)
    }

    /// Reads on a replica that has all that the session wrote and saw, or on the primary.
    ///
    /// The closure may be called again, on another node, when one fails or is late.
    ///
    /// # Errors
    /// [`Error`]; a read has no effect.
    ///
    /// # Cancel safety
    /// Dropping it closes the connections that it used.
    ///
    /// # Examples
    #[cfg_attr(feature = "sim", doc = "```")]
    #[cfg_attr(not(feature = "sim"), doc = "```ignore")]
    /// # use tenfold_replication::{Cluster, Session, sim::{Sim, SimDriver}};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (sim, nodes) = Sim::with_nodes(3, 1);
    /// let cluster = Cluster::builder(sim.driver()).nodes(nodes).build()?;
    /// tokio::spawn(cluster.clone().drive());
    /// cluster.ready(std::time::Duration::from_secs(1)).await?;
    ///
    /// let session = Session::new();
    /// cluster.write(&session, |mut c| async move { c.append(7, 1).await }).await?;
    /// let list = cluster.read(&session, |mut c| async move { c.list(7).await }).await?;
    /// assert_eq!(list, [1]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read<T, F, R>(&self, session: &Session, f: F) -> Result<T, Error<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        self.read_with(session, &ReadOptions::new(), f).await
    }

    /// [`Cluster::read`], fresher or on other terms than by default.
    ///
    /// # Errors
    /// [`Error`]; a read has no effect.
    pub async fn read_with<T, F, R>(&self, session: &Session, options: &ReadOptions, f: F) -> Result<T, Error<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        let result = self.shared.read(session, options, &f).await;
        if result.is_err() {
            count(&self.shared.counters.reads_failed);
        }
        #[cfg(feature = "tracing")]
        if let Err(error) = &result {
            tracing::debug!(shard = self.shared.shard.0, %error, "a read failed");
        }
        result
    }

    /// Writes on the primary, each statement by itself, and notes in the session where in the log that was.
    ///
    /// While there is no primary it waits for one. It is repeated only while surely nothing of it has taken effect.
    ///
    /// # Errors
    /// [`Error`]; with [`Error::Ambiguous`] it may have taken effect.
    ///
    /// # Cancel safety
    /// Dropping it leaves open whether the statements took effect.
    pub async fn write<T, F, R>(&self, session: &Session, f: F) -> Result<T, Error<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        self.shared.write(session, run::Unit::Statements, &f).await
    }

    /// Runs one transaction on the primary, pinned to one connection; commits if the closure gives `Ok`.
    ///
    /// The closure is called again when its transaction was rolled back, or lost before its commit was sent. One that
    /// decides against it for a reason of its own calls [`Checkout::set_rollback_only`] and gives that reason as its value:
    /// an error of the driver's would say that the database had refused.
    ///
    /// # Errors
    /// [`Error`]; with [`Error::Ambiguous`] it may have been committed.
    ///
    /// # Cancel safety
    /// Dropping it rolls back, unless the commit is under way.
    ///
    /// # Examples
    #[cfg_attr(feature = "sim", doc = "```")]
    #[cfg_attr(not(feature = "sim"), doc = "```ignore")]
    /// # use tenfold_replication::{Cluster, Session, sim::{Sim, SimDriver}};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (sim, nodes) = Sim::with_nodes(3, 1);
    /// # let cluster = Cluster::builder(sim.driver()).nodes(nodes).build()?;
    /// # tokio::spawn(cluster.clone().drive());
    /// # cluster.ready(std::time::Duration::from_secs(1)).await?;
    /// #[derive(Debug, PartialEq)]
    /// struct SoldOut;
    ///
    /// let session = Session::new();
    /// let sell = |seat: u64| {
    ///     cluster.transaction(&session, move |mut c| async move {
    ///         c.append(1, seat).await?;
    ///         if c.list(1).await?.len() > 2 {
    ///             c.set_rollback_only();
    ///             return Ok(Err(SoldOut));
    ///         }
    ///         Ok(Ok(seat))
    ///     })
    /// };
    /// assert_eq!([sell(7).await?, sell(8).await?, sell(9).await?], [Ok(7), Ok(8), Err(SoldOut)]);
    /// assert_eq!(cluster.read(&session, |mut c| async move { c.list(1).await }).await?, [7, 8]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transaction<T, F, R>(&self, session: &Session, f: F) -> Result<T, Error<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        self.shared.write(session, run::Unit::Transaction(Access::Write), &f).await
    }

    /// Lets no new write begin, and waits for those under way: what a planned change of the primary begins with, in each
    /// process that writes.
    ///
    /// # Errors
    /// [`Error::Timeout`], if writes are under way for longer, or somebody else holds them back already.
    ///
    /// # Cancel safety
    /// Dropping it lets writes go on.
    pub async fn hold_writes(&self, timeout: Duration) -> Result<HeldWrites, Error<D::Error>> {
        let held = self.shared.gate.close().ok_or(Error::Timeout)?;
        match tokio::time::timeout(timeout, self.shared.gate.emptied()).await {
            Ok(()) => Ok(held),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// When the primary acknowledges a write.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.mode
    }

    /// What is known of the nodes now.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        self.shared.topology.load_full()
    }

    /// Where a read would go now; nothing is sent.
    pub fn route(&self, session: &Session, options: &ReadOptions) -> Result<Route, Error<D::Error>> {
        let topology = self.shared.topology.load();
        let floor = self.shared.settle(session, &topology)?;
        Ok(self.shared.route(&topology, self.shared.need(floor, options), Tried::default(), self.shared.now()))
    }

    /// Counters, and how each node is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let topology = self.shared.topology.load();
        let now = self.shared.now();
        let mut stats = self.shared.counters.snapshot();
        stats.epoch = topology.epoch();
        let silences = self.shared.silences.lock().clone();
        let nodes = topology.members.iter().zip(&self.shared.pools).zip(silences);
        stats.nodes = nodes
            .map(|((member, pools), last_error)| NodeStats {
                node: member.node.id(),
                role: member.role(),
                is_reachable: member.is_reachable(),
                last_error,
                is_kept: member.is_kept(),
                is_ejected: member.vitals.is_ejected(now),
                ejections: member.vitals.ejections(),
                replayed: member.replayed(),
                staleness: member.staleness(now),
                latency: Duration::from_micros(member.vitals.latency_us()),
                in_flight: member.vitals.in_flight(),
                connections_in_use: pools.read.in_use() + pools.write.in_use(),
                connections_idle: pools.read.idle_count() + pools.write.idle_count(),
                connections_opened: pools.read.opened() + pools.write.opened(),
            })
            .collect();
        stats
    }
}

impl<D: Driver> Shared<D> {
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// A generator of its own for each call: the same calls in the same order draw the same numbers.
    pub(crate) fn rng(&self) -> Rng {
        Rng::new(self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// What is left for a node to hold of the session, or what is lost of it.
    pub(crate) fn settle(&self, session: &Session, topology: &Topology) -> Result<Floor, Error<D::Error>> {
        if let (Some(mine), Some(cluster)) = (session.cluster(), topology.cluster()) {
            if mine != cluster {
                return Err(crate::ForeignCluster { session: mine, cluster }.into());
            }
        }
        let Some(history) = topology.history() else { return Ok(session.floor(self.shard)) };
        session.settle(self.shard, history).map_err(|lost| {
            let counter = if lost.own_write { &self.counters.losses_written } else { &self.counters.losses_seen };
            count(counter);
            #[cfg(feature = "tracing")]
            tracing::warn!(shard = self.shard.0, own_write = lost.own_write, loss = %lost, "a session is told of a loss");
            Error::Lost(lost)
        })
    }

    pub(crate) fn need(&self, floor: Floor, options: &ReadOptions) -> Need {
        let max_staleness = options.max_staleness.or(self.config.max_staleness);
        Need { floor, max_staleness, primary: options.primary, may_wait: true }
    }

    pub(crate) fn route(&self, topology: &Topology, need: Need, tried: Tried, now: Instant) -> Route {
        let route = route(topology, &need, &self.config.rules(), tried, now, &mut self.rng());
        #[cfg(feature = "tracing")]
        tracing::trace!(shard = self.shard.0, ?route, floor = ?need.floor, max_staleness = ?need.max_staleness, "routed");
        route
    }

    /// Changes what is known, for all who look from now on.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Topology) -> T) -> T {
        let mut master = self.master.lock();
        let before = (master.version(), master.epoch());
        let result = change(&mut master);
        let epoch = master.epoch();
        if master.version() == before.0 {
            return result;
        }
        if let Some(epoch) = epoch.filter(|_| epoch != before.1) {
            self.pools.iter().for_each(|pools| {
                pools.read.enter(epoch);
                pools.write.enter(epoch);
            });
            count(&self.counters.promotions);
            self.monitor.lock().reset();
        }
        self.topology.store(Arc::new(master.clone()));
        drop(master);
        self.changed.raise();
        // Last: who is cut off by it looks at the topology next.
        if epoch != before.1 {
            self.epoch_changed.raise();
            #[cfg(feature = "tracing")]
            tracing::info!(shard = self.shard.0, epoch = ?epoch, before = ?before.1, "another epoch");
        }
        result
    }

    pub(crate) fn note(&self, observed: Observed) {
        // As often as it is seen, which is often until somebody mends it.
        #[cfg(feature = "tracing")]
        if !matches!(observed, Observed::Fine | Observed::NewEpoch | Observed::Late) {
            tracing::debug!(shard = self.shard.0, ?observed, "a node that is not as it should be");
        }
        match observed {
            Observed::Fine | Observed::NewEpoch | Observed::Late => {}
            Observed::Foreign => count(&self.counters.foreign_nodes),
            Observed::StalePrimary => count(&self.counters.stale_primaries),
            Observed::SecondPrimary => count(&self.counters.second_primaries),
        }
    }

    /// Until something is known that was not known to this snapshot, or the time is over.
    pub(crate) async fn changed(&self, since: &Topology, deadline: Deadline) -> bool {
        let changed = self.changed.until(|| self.topology.load().version() > since.version());
        tokio::time::timeout_at(deadline, changed).await.is_ok()
    }

    /// Until the primary is one of a later epoch than this.
    pub(crate) async fn epoch_left(&self, epoch: Epoch) {
        self.epoch_changed.until(|| self.topology.load().epoch() > Some(epoch)).await;
    }
}

impl<D: Driver> Clone for Cluster<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Driver> fmt::Debug for Cluster<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("topology", &self.topology()).finish_non_exhaustive()
    }
}
