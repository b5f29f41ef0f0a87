//! What the cache has done.
//!
//! Each shard counts for itself, on cache lines that its lock has brought along anyway, so counting is always on.

use std::time::Duration;

/// Counters of one cache since it was made, and its present size.
///
/// Taken shard by shard: each shard's figures agree with each other, the sum is not a snapshot of one instant. With the
/// feature `serde` it can be written, for a metrics endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StatsSnapshot {
    /// Look-ups that found a live entry. [`peek`](crate::Cache::peek) and `contains` do not count.
    pub hits: u64,
    /// Look-ups that found none, or only an expired one.
    pub misses: u64,
    /// Misses answered by a remembered absence (negative caching), without a load.
    pub negative_hits: u64,
    /// Look-ups under the lease protocol answered by [`Lookup::Busy`](crate::Lookup::Busy). Counted neither as hits nor
    /// as misses.
    pub lease_waits: u64,
    /// Entries added under a key that was not there.
    pub insertions: u64,
    /// Values that took the place of another.
    pub replacements: u64,
    /// Entries evicted for want of room.
    pub evictions: u64,
    /// Sum of the weights of evicted entries; stays at `u64::MAX` once it is there.
    pub evicted_weight: u64,
    /// Entries that left because their time was over.
    pub expirations: u64,
    /// Entries removed by the caller.
    pub removals: u64,
    /// Entries refused: heavier than the capacity, or all else is pinned, or the policy did not admit them.
    pub rejections: u64,
    /// Loads that brought a value or the knowledge that there is none. A load of many keys counts as one for each.
    pub loads: u64,
    /// Loads that failed or panicked.
    pub load_failures: u64,
    /// Time spent in loads, successful or not, in nanoseconds. Each key of a load of many took the time of the whole.
    pub load_nanos: u64,
    /// Refreshes started ahead of expiry.
    pub refreshes: u64,
    /// Expired values served because the load failed (`stale_if_error`).
    pub stale_hits: u64,
    /// Loaded or filled values that were not stored because their key was written or invalidated meanwhile.
    pub stale_fills: u64,
    /// Entries now in the cache, expired ones that are not collected yet included.
    pub entries: u64,
    /// Sum of their weights.
    pub weight: u64,
}

impl StatsSnapshot {
    /// Hits divided by look-ups, from 0 to 1; 0 without any look-up.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn hit_ratio(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }

    /// Mean time of a load; zero without any.
    #[must_use]
    pub fn mean_load_time(&self) -> Duration {
        let loads = self.loads + self.load_failures;
        Duration::from_nanos(self.load_nanos.checked_div(loads).unwrap_or(0))
    }

    pub(crate) fn add(&mut self, other: &Counters) {
        self.misses += other.misses;
        self.negative_hits += other.negative_hits;
        self.lease_waits += other.lease_waits;
        self.insertions += other.insertions;
        self.replacements += other.replacements;
        self.evictions += other.evictions;
        self.evicted_weight = self.evicted_weight.saturating_add(other.evicted_weight);
        self.expirations += other.expirations;
        self.removals += other.removals;
        self.rejections += other.rejections;
        self.loads += other.loads;
        self.load_failures += other.load_failures;
        self.load_nanos = self.load_nanos.saturating_add(other.load_nanos);
        self.refreshes += other.refreshes;
        self.stale_hits += other.stale_hits;
        self.stale_fills += other.stale_fills;
    }
}

/// One shard's counters, but for the hits, which the shard keeps beside what else a hit touches.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) misses: u64,
    pub(crate) negative_hits: u64,
    pub(crate) lease_waits: u64,
    pub(crate) insertions: u64,
    pub(crate) replacements: u64,
    pub(crate) evictions: u64,
    pub(crate) evicted_weight: u64,
    pub(crate) expirations: u64,
    pub(crate) removals: u64,
    pub(crate) rejections: u64,
    pub(crate) loads: u64,
    pub(crate) load_failures: u64,
    pub(crate) load_nanos: u64,
    pub(crate) refreshes: u64,
    pub(crate) stale_hits: u64,
    pub(crate) stale_fills: u64,
}
