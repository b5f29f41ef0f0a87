//! What a cluster may be told: all of it data, each with a default.

use std::time::Duration;

use thiserror::Error;

use crate::route::{Rules, WhenBehind};
use crate::vitals::EjectConfig;

/// How a cluster reads, writes and watches its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Config {
    /// How often each node is asked for its state. Default 50 ms, at least 1 ms. What is known of a replica is at most
    /// so old, and a round trip; shorter costs each node more questions.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub observe_interval: Duration,
    /// How long an answer is awaited. Default 500 ms. Shorter: a busy node looks dead; longer: a hung one looks alive.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub observe_timeout: Duration,
    /// How long opening a connection may take. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub connect_timeout: Duration,
    /// How long a read may take in all, repetitions included. Default 2 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub read_timeout: Duration,
    /// How long a write may take in all, with the wait for a primary during a failover. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub write_timeout: Duration,
    /// How long a read waits for a replica to reach what its session has written. Default 10 ms. Longer: fewer reads go
    /// to the primary, and those that do have waited longer.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max_wait: Duration,
    /// What becomes of a read for which no replica is fresh enough in time. Default: the primary serves it.
    pub when_behind: WhenBehind,
    /// How old the state of a read may be, if the read does not say. Default: any age.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration::option"))]
    pub max_staleness: Option<Duration>,
    /// What a node of another zone costs, added to its latency. Default 1 ms: used when those of the own zone are slower
    /// by more.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub zone_cost: Duration,
    /// How often a read is tried. Default 3, at least 1. Each try is on another node while there is one.
    pub read_tries: u32,
    /// How often a write is tried that surely had no effect. Default 5, at least 1.
    pub write_tries: u32,
    /// Writes that may wait for a primary at once. Default 1024. More are refused at once.
    pub max_waiting_writes: usize,
    /// Reads that are sent a second time when they are late; `None` switches that off.
    pub hedge: Option<HedgeConfig>,
    /// When slow, failing and hung nodes are left out.
    pub eject: EjectConfig,
    /// Connections to each node.
    pub pool: PoolConfig,
}

/// When a read that is late is sent to a second replica as well; the first answer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct HedgeConfig {
    /// Of a hundred reads, how many may be sent twice. Default 5. The wait before that adapts: reads as late as the
    /// latest so many in a hundred.
    pub percent: u32,
    /// The shortest wait. Default 1 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub min_delay: Duration,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { percent: 5, min_delay: Duration::from_millis(1) }
    }
}

/// Connections to one node: one pool for reads, and one for writes to the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct PoolConfig {
    /// At most so many, idle and in use. Default 16, at least 1.
    pub max_connections: u32,
    /// So many are kept open beforehand. Default 1.
    pub min_idle: u32,
    /// So many may wait for one. Default 256; more are refused at once.
    pub max_waiting: u32,
    /// How long they wait. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub timeout: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { max_connections: 16, min_idle: 1, max_waiting: 256, timeout: Duration::from_secs(1) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            observe_interval: Duration::from_millis(50),
            observe_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(10),
            max_wait: Duration::from_millis(10),
            when_behind: WhenBehind::default(),
            max_staleness: None,
            zone_cost: Duration::from_millis(1),
            read_tries: 3,
            write_tries: 5,
            max_waiting_writes: 1024,
            hedge: Some(HedgeConfig::default()),
            eject: EjectConfig::default(),
            pool: PoolConfig::default(),
        }
    }
}

impl Config {
    /// The part that decides where a read goes.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules { zone_cost: self.zone_cost, max_wait: self.max_wait, when_behind: self.when_behind }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let zeros = [
            ("observe_interval", self.observe_interval.is_zero()),
            ("observe_timeout", self.observe_timeout.is_zero()),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("read_timeout", self.read_timeout.is_zero()),
            ("write_timeout", self.write_timeout.is_zero()),
            ("read_tries", self.read_tries == 0),
            ("write_tries", self.write_tries == 0),
            ("pool.max_connections", self.pool.max_connections == 0),
        ];
        if let Some((field, _)) = zeros.iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero(field));
        }
        if self.pool.min_idle > self.pool.max_connections {
            return Err(ConfigError::MoreIdleThanAllowed);
        }
        if self.hedge.as_ref().is_some_and(|hedge| hedge.percent > 100) {
            return Err(ConfigError::Percent);
        }
        Ok(())
    }
}

/// A configuration that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No nodes.
    #[error("a cluster needs a node")]
    NoNodes,
    /// More nodes than [`MAX_NODES`].
    #[error("a cluster has at most {MAX_NODES} nodes")]
    TooManyNodes,
    /// Two nodes of one name.
    #[error("two nodes are called {0}")]
    SameNode(crate::NodeId),
    /// A field that must not be 0.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// `min_idle` is above `max_connections`.
    #[error("more idle connections are asked for than connections allowed")]
    MoreIdleThanAllowed,
    /// A quorum that no write could ever have.
    #[error("{replicas} replicas cannot confirm a write where there are {nodes} nodes with the primary")]
    Quorum {
        /// How many are to confirm.
        replicas: u16,
        /// How many nodes there are.
        nodes: usize,
    },
    /// Above a hundred.
    #[error("a share is at most 100 percent")]
    Percent,
}

/// The most nodes of one shard.
pub const MAX_NODES: usize = 64;
