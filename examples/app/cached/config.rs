//! How a cache server is set up, as data that travels to its process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which entry goes when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvictionPolicy {
    /// The least recently used.
    #[default]
    Lru,
    /// The least frequently used, with ageing.
    Lfu,
    /// The oldest.
    Fifo,
}

/// No policy of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policies are lru, lfu and fifo")]
pub struct UnknownPolicy;

impl std::str::FromStr for EvictionPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "lru" => Ok(Self::Lru),
            "lfu" => Ok(Self::Lfu),
            "fifo" => Ok(Self::Fifo),
            _ => Err(UnknownPolicy),
        }
    }
}

/// The set-up of one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Which entry goes first.
    pub policy: EvictionPolicy,
    /// Entries at most.
    pub capacity: u64,
    /// Milliseconds for which a value may be served; `None` for ever.
    pub time_to_live_ms: Option<u64>,
    /// Shortens each time to live by a random share up to this many per cent.
    pub jitter_percent: u8,
    /// Milliseconds after which a hit reloads the value in the background; needs a longer time to live.
    pub refresh_after_ms: Option<u64>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            policy: EvictionPolicy::Lru,
            capacity: 10_000,
            time_to_live_ms: Some(60_000),
            jitter_percent: 10,
            refresh_after_ms: None,
        }
    }
}

impl CacheConfig {
    pub(super) fn time_to_live(&self) -> Option<Duration> {
        self.time_to_live_ms.map(Duration::from_millis)
    }

    pub(super) fn refresh_after(&self) -> Option<Duration> {
        self.refresh_after_ms.map(Duration::from_millis)
    }
}
