//! What all shards of one cache share and none of them changes.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use crate::Slot;
use crate::budget::Budget;
use crate::clock::{Timeline, saturating_nanos};
use crate::config::Config;
use crate::expire::{ExpiryFn, Lifetimes, NEVER};
use crate::removal::{Listener, Removals};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::weigh::DynWeigher;

/// The callers' code and the settings, consulted outside the locks, and the account of the capacity.
pub(crate) struct Rules<K, V, S> {
    pub(crate) hasher: S,
    pub(crate) config: Config,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) budget: Budget,
    pub(crate) timeline: Timeline,
    pub(crate) weigher: Option<DynWeigher<K, V>>,
    pub(crate) expiry: Option<ExpiryFn<K, V>>,
    pub(crate) listener: Option<Listener<K, V>>,
    pub(crate) seed: u64,
    /// Entries one shard will probably hold, for the growth of its memory.
    pub(crate) expected_per_shard: usize,
    /// Absent keys that one shard remembers.
    pub(crate) absences_per_shard: usize,
    /// Whether any entry may ever expire, so that the clock must be read on hits.
    pub(crate) timed: AtomicBool,
}

/// An entry on its way in.
pub(crate) struct Incoming<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) weight: u64,
    /// Nanoseconds; `None` for the cache-wide setting.
    pub(crate) time_to_live: Option<u64>,
    pub(crate) now: u64,
    /// The value that it is to replace, if the policy knows: an entry may need more than one try.
    pub(crate) told: Option<(Slot, u32)>,
}

impl<K, V> Incoming<K, V> {
    /// Shortens a time to live of the entry's own.
    pub(crate) fn live_no_longer_than(&mut self, longest: Option<Duration>) {
        if let (Some(own), Some(longest)) = (&mut self.time_to_live, longest) {
            *own = saturating_nanos(longest).min(*own);
        }
    }
}

impl<K, V, S> Rules<K, V, S> {
    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64
    where
        S: BuildHasher,
    {
        self.hasher.hash_one(key)
    }

    /// The time, or 0 if nothing here depends on it.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        // Ordering: a reader that misses the first timed entry's flag began before that entry was there.
        if self.is_timed() { self.timeline.now() } else { 0 }
    }

    /// The time by which absences expire; 0 if none are remembered.
    pub(crate) fn negative_now(&self) -> u64 {
        if self.config.negative_time_to_live.is_some() { self.timeline.now() } else { 0 }
    }

    /// Whether any entry may ever expire.
    pub(crate) fn is_timed(&self) -> bool {
        self.timed.load(Ordering::Relaxed)
    }

    /// From now on the clock counts.
    pub(crate) fn set_timed(&self) {
        self.timed.store(true, Ordering::Relaxed);
    }

    /// Asks the caller's code about a new entry. Outside all locks.
    #[inline]
    pub(crate) fn incoming(&self, hash: u64, key: K, value: V, now: u64) -> Incoming<K, V> {
        let weight = self.weigh(&key, &value);
        let own = self.expiry.as_ref().and_then(|expiry| expiry(&key, &value));
        Incoming { hash, weight, time_to_live: own.map(saturating_nanos), now, key, value, told: None }
    }

    /// The weight that counts: at least 1, so that entries of weight 0 cannot fill the memory.
    #[inline]
    pub(crate) fn weigh(&self, key: &K, value: &V) -> u64 {
        match &self.weigher {
            None => 1,
            Some(weigher) => weigher.weigh(key, value).max(1),
        }
    }

    /// Whether an entry needs a record of its times.
    #[inline]
    pub(crate) fn needs_times(&self, time_to_live: Option<u64>) -> bool {
        self.lifetimes.any() || time_to_live.is_some_and(|nanos| nanos != NEVER)
    }

    #[inline]
    pub(crate) fn deliver(&self, removals: Removals<K, V>) {
        removals.deliver(self.listener.as_ref());
    }

    /// Shows one entry to the listener.
    #[inline]
    pub(crate) fn tell(&self, key: &K, value: &V, cause: crate::RemovalCause) {
        if let Some(listener) = &self.listener {
            listener(key, value, cause);
        }
    }

    pub(crate) fn lease_expiry(&self, now: u64) -> u64 {
        now.saturating_add(saturating_nanos(self.config.lease_timeout))
    }
}

/// Shared by every handle of one cache.
pub(crate) type SharedRules<K, V, S> = Arc<Rules<K, V, S>>;
