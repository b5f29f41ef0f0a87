//! The part of a cache's set-up that is data.

use std::time::Duration;

/// How a cache behaves, as data: may stand in a configuration file (`serde` feature).
///
/// In a file, durations are written like `"5m"`, `"1h 30m"` or `"250ms"` (whole numbers of `ns`, `us`, `ms`, `s`, `m`,
/// `h` and `d`), or as a number of seconds; fields left out have their defaults, and unknown ones are refused:
///
/// ```toml
/// capacity = 100_000
/// time_to_live = "5m"
/// time_to_live_jitter_percent = 10
/// refresh_after = "4m"
/// ```
///
/// What is code (weigher, listener, clock, hasher, policy) goes to the [`Builder`](crate::Builder), which also
/// checks these values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Config {
    /// The largest sum of weights: entries, unless a weigher is given. Default 10,000. Zero is allowed and makes a
    /// cache that stores nothing but still collapses concurrent loads: a way to switch caching off.
    pub capacity: u64,
    /// Shards of the table, rounded up to a power of two. `None`, the default: 16 for each hardware thread, but
    /// no more than one for each 512 units of capacity, and no more than 8 with a weigher: then set it so that each
    /// shard holds 64 entries or more. More shards: less waiting, a coarser eviction order (each
    /// shard evicts its own oldest). At most 65,536.
    pub shards: Option<usize>,
    /// How long a value may be served after it was written. `None`, the default: for ever.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration::option"))]
    pub time_to_live: Option<Duration>,
    /// Shortens each time to live by a random share from 0 to this many per cent, so that entries written together
    /// do not expire together. Default 0, at most 100.
    pub time_to_live_jitter_percent: u8,
    /// How long a value may be served after it was last read or written. `None`, the default: for ever. With it,
    /// every hit asks the clock and notes the time.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration::option"))]
    pub time_to_idle: Option<Duration>,
    /// How long after it was written a value is due to be reloaded by the next hit, in the background
    /// ([`ReadThrough`](crate::ReadThrough)). Must be shorter than `time_to_live`; an entry that lives shorter than that, by
    /// jitter or by a time of its own, comes due sooner in the same proportion. `None`, the default: never.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration::option"))]
    pub refresh_after: Option<Duration>,
    /// Refreshes that may run at once; hits that come due beyond go on serving the old value. Default 64.
    pub max_refreshes: usize,
    /// How long after its expiry a value is kept to be served if a load fails. It takes room meanwhile. `None`, the
    /// default: not kept.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration::option"))]
    pub stale_if_error: Option<Duration>,
    /// How long "there is no such thing" is remembered when a loader says so (one that may, as with
    /// [`get_or_load_optional`](crate::Cache::get_or_load_optional)), or a reader with a lease does. A write or removal of
    /// the key forgets it. `None`, the default: not remembered.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration::option"))]
    pub negative_time_to_live: Option<Duration>,
    /// How many absent keys are remembered at most, the oldest forgotten first. They take none of `capacity`, so a
    /// flood of made-up keys cannot evict what is there. Each shard remembers its part, rounded up. Default 1,024.
    pub negative_capacity: usize,
    /// How long a lease holds before the next reader may have another. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub lease_timeout: Duration,
    /// Leases outstanding at most; beyond, look-ups answer [`Lookup::Busy`](crate::Lookup::Busy). Each shard
    /// grants its part, rounded up. Default 65,536.
    pub max_leases: usize,
    /// How long a thread waits for another's load before it gives up with
    /// [`LoadError::TimedOut`](crate::LoadError::TimedOut). Default 30 s. Tasks wait until their future is dropped.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub load_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            shards: None,
            time_to_live: None,
            time_to_live_jitter_percent: 0,
            time_to_idle: None,
            refresh_after: None,
            max_refreshes: 64,
            stale_if_error: None,
            negative_time_to_live: None,
            negative_capacity: 1_024,
            lease_timeout: Duration::from_secs(10),
            max_leases: 65_536,
            load_timeout: Duration::from_secs(30),
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A duration that must be positive is zero; the name is the field's.
    #[error("`{0}` is zero")]
    ZeroDuration(&'static str),
    /// A limit that must be positive is zero; the name is the field's.
    #[error("`{0}` is zero")]
    ZeroLimit(&'static str),
    /// The jitter is more than the whole time to live.
    #[error("a jitter of {0} per cent is more than 100")]
    JitterTooLarge(u8),
    /// Values would expire before they come due for a refresh.
    #[error("`refresh_after` ({refresh_after:?}) is not shorter than `time_to_live` ({time_to_live:?})")]
    RefreshAfterExpiry {
        /// The refresh time given.
        refresh_after: Duration,
        /// The time to live given.
        time_to_live: Duration,
    },
    /// More shards than 65,536.
    #[error("{0} shards are more than 65,536")]
    TooManyShards(usize),
}

pub(crate) const MAX_SHARDS: usize = 1 << 16;

/// Shards of a cache with a weigher, unless it is told otherwise.
const WEIGHTED_SHARDS: usize = 8;

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let durations = [
            ("time_to_live", self.time_to_live),
            ("time_to_idle", self.time_to_idle),
            ("refresh_after", self.refresh_after),
            ("stale_if_error", self.stale_if_error),
            ("negative_time_to_live", self.negative_time_to_live),
            ("lease_timeout", Some(self.lease_timeout)),
            ("load_timeout", Some(self.load_timeout)),
        ];
        for (name, duration) in durations {
            if duration == Some(Duration::ZERO) {
                return Err(ConfigError::ZeroDuration(name));
            }
        }
        let limits = [
            ("shards", self.shards.unwrap_or(1)),
            ("max_refreshes", self.max_refreshes),
            ("negative_capacity", self.negative_capacity),
            ("max_leases", self.max_leases),
        ];
        for (name, limit) in limits {
            if limit == 0 {
                return Err(ConfigError::ZeroLimit(name));
            }
        }
        if self.time_to_live_jitter_percent > 100 {
            return Err(ConfigError::JitterTooLarge(self.time_to_live_jitter_percent));
        }
        if let Some(shards) = self.shards.filter(|&shards| shards > MAX_SHARDS) {
            return Err(ConfigError::TooManyShards(shards));
        }
        self.check_refresh()
    }

    fn check_refresh(&self) -> Result<(), ConfigError> {
        let (Some(refresh_after), Some(time_to_live)) = (self.refresh_after, self.time_to_live) else {
            return Ok(());
        };
        if refresh_after >= time_to_live {
            return Err(ConfigError::RefreshAfterExpiry { refresh_after, time_to_live });
        }
        Ok(())
    }

    /// The number of shards of a concurrent cache, a power of two.
    pub(crate) fn shard_count(&self, parallelism: usize, weighted: bool) -> usize {
        if let Some(shards) = self.shards {
            return shards.next_power_of_two();
        }
        let wanted = parallelism.saturating_mul(16).next_power_of_two();
        // A weight says nothing about how many entries there will be, and a shard of a few knows no order.
        let wanted = if weighted { wanted.min(WEIGHTED_SHARDS) } else { wanted };
        let affordable = usize::try_from(self.capacity / 512).unwrap_or(usize::MAX);
        let affordable = 1 << affordable.max(1).ilog2();
        wanted.min(affordable).clamp(1, MAX_SHARDS)
    }
}
