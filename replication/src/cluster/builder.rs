use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Cluster, Pools, Shared};
use crate::clock::{Clock, TokioClock};
use crate::config::{Config, ConfigError, MAX_NODES};
use crate::driver::{Access, Driver};
use crate::gate::Gate;
use crate::hedge::Hedger;
use crate::monitor::{DetectConfig, Monitor};
use crate::pool::Pool;
use crate::rng::seed_from_os;
use crate::signal::Signal;
use crate::stats::Counters;
use crate::topology::Topology;
use crate::{Mode, Node, ShardId};

/// Makes a [`Cluster`].
#[must_use]
pub struct Builder<D: Driver> {
    driver: D,
    nodes: Vec<Node>,
    zone: Option<String>,
    shard: ShardId,
    mode: Mode,
    config: Config,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
    coordinator: Option<u64>,
}

impl<D: Driver> Builder<D> {
    pub(super) fn new(driver: D) -> Self {
        Self {
            driver,
            nodes: Vec::new(),
            zone: None,
            shard: ShardId::default(),
            mode: Mode::default(),
            config: Config::default(),
            clock: Arc::new(TokioClock),
            seed: None,
            coordinator: None,
        }
    }

    /// Adds a node.
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Adds nodes.
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = Node>) -> Self {
        self.nodes.extend(nodes);
        self
    }

    /// Where this process stands: its reads go to nodes of the same zone first. Default: nowhere, all are as near.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Which shard these nodes are. Default 0.
    pub fn shard(mut self, shard: ShardId) -> Self {
        self.shard = shard;
        self
    }

    /// When the primary acknowledges a write. Default asynchronous. It is what a promoted node is told, and has to be what the
    /// nodes are set up for: nobody compares the two, and a failover makes this one true.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// All that is data.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where the time comes from. Default: tokio's.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes the choices of nodes repeatable. Default: a seed of the operating system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What tells this process from others that may lead a failover: no two may have the same lowest 16 bits. Default: a
    /// random number.
    pub fn coordinator(mut self, id: u64) -> Self {
        self.coordinator = Some(id);
        self
    }

    /// The cluster. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConfigError`], if the configuration makes no sense.
    pub fn build(self) -> Result<Cluster<D>, ConfigError> {
        self.config.check()?;
        check_nodes(&self.nodes)?;
        check_mode(self.mode, self.nodes.len())?;
        let driver = Arc::new(self.driver);
        let pool = |node: &Node, access| {
            let (driver, pool) = (Arc::clone(&driver), self.config.pool.clone());
            Arc::new(Pool::new(driver, node.clone(), access, pool, self.config.connect_timeout))
        };
        let pools = |node: &Node| Pools { read: pool(node, Access::Read), write: pool(node, Access::Write) };
        let topology = Topology::new(&self.nodes, self.zone.as_deref());
        let shared = Shared {
            pools: self.nodes.iter().map(pools).collect(),
            hedger: self.config.hedge.as_ref().map(Hedger::new),
            driver,
            config: self.config,
            clock: self.clock,
            shard: self.shard,
            mode: self.mode,
            seed: AtomicU64::new(self.seed.unwrap_or_else(seed_from_os)),
            topology: ArcSwap::from_pointee(topology.clone()),
            master: Mutex::new(topology),
            changed: Signal::default(),
            epoch_changed: Signal::default(),
            refresh: Notify::new(),
            counters: Counters::default(),
            gate: Arc::new(Gate::default()),
            waiting_writes: AtomicU32::new(0),
            monitor: Mutex::new(Monitor::new(DetectConfig::default())),
            silences: Mutex::new(vec![None; self.nodes.len()]),
            coordinator: self.coordinator.unwrap_or_else(seed_from_os),
            epoch_used: Mutex::default(),
        };
        Ok(Cluster { shared: Arc::new(shared) })
    }
}

fn check_nodes(nodes: &[Node]) -> Result<(), ConfigError> {
    if nodes.is_empty() {
        return Err(ConfigError::NoNodes);
    }
    if nodes.len() > MAX_NODES {
        return Err(ConfigError::TooManyNodes);
    }
    for (index, node) in nodes.iter().enumerate() {
        if nodes[..index].iter().any(|other| other.id() == node.id()) {
            return Err(ConfigError::SameNode(node.id()));
        }
    }
    Ok(())
}

fn check_mode(mode: Mode, nodes: usize) -> Result<(), ConfigError> {
    match mode {
        Mode::Quorum { replicas } if usize::from(replicas.get()) >= nodes => {
            Err(ConfigError::Quorum { replicas: replicas.get(), nodes })
        }
        _ => Ok(()),
    }
}

impl<D: Driver> std::fmt::Debug for Builder<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("nodes", &self.nodes).field("config", &self.config).finish_non_exhaustive()
    }
}
