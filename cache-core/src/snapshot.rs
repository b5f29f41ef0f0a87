//! Warm restart: what the cache holds, as data.
//!
//! A restarted server that begins with an empty cache sends its whole load to the database at once. A snapshot taken
//! before, written with any serde format (`serde` feature) and restored after, spares it that.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::cache::Cache;
use crate::insert::Insertion;
use crate::policy::Policy;
use crate::shard::Shard;

/// The live entries of a cache, the first to be evicted first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[must_use = "a snapshot that is dropped was for nothing"]
pub struct Snapshot<K, V> {
    /// The entries.
    pub entries: Vec<SnapshotEntry<K, V>>,
}

/// One entry of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SnapshotEntry<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// What is left of its time to live; `None` if that had no end. A duration, since instants mean nothing to another process:
    /// the time between snapshot and restore is the caller's to subtract. A time to idle starts anew.
    pub time_left: Option<Duration>,
}

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Clones the live entries in eviction order, the shards' orders interleaved, pinned ones last. Counts as no use.
    ///
    /// # Complexity
    /// O(n log n) at most; each shard's read lock is held while its entries are cloned.
    pub fn snapshot(&self) -> Snapshot<K, V> {
        let now = self.rules.now();
        let mut ranked = Vec::with_capacity(self.len());
        for number in 0..self.shard_count() {
            let Some(shard) = self.lock_shard(number) else { break };
            let order = shard.eviction_order();
            let count = order.len().max(1) as u64;
            let pinned = shard.fresh_slots(0, now).filter(|&slot| shard.is_pinned(slot));
            let pinned = pinned.map(|slot| (u64::MAX, slot));
            // Shards interleaved by how far an entry is from its shard's end: the best guess at one order of all.
            let order = order.into_iter().zip(0_u64..).map(|(slot, rank)| ((rank << 32) / count, slot));
            for (rank, slot) in order.filter(|&(_, slot)| shard.is_fresh(slot, now)).chain(pinned) {
                let entry = SnapshotEntry {
                    key: shard.key(slot).clone(),
                    value: shard.value(slot).clone(),
                    time_left: shard.time_to_live_left(slot, now).map(Duration::from_nanos),
                };
                ranked.push((rank, entry));
            }
        }
        ranked.sort_by_key(|&(rank, _)| rank);
        let entries = ranked.into_iter().map(|(_, entry)| entry).collect();
        Snapshot { entries }
    }

    /// Inserts the entries of a snapshot, the first to be evicted first, so that the order is about as it was
    /// (exactly with one shard; use counts start anew, and nothing is pinned). Keys that are there already, or on their way, are left alone, being
    /// newer. No entry lives longer than this cache's time to live; one without an end takes it. Returns how many entries
    /// were stored, those included that later ones evicted again.
    pub fn restore(&self, snapshot: Snapshot<K, V>) -> usize {
        let longest = self.rules.config.time_to_live;
        let mut stored = 0;
        for SnapshotEntry { key, value, time_left } in snapshot.entries {
            let time_left = time_left.map(|left| longest.map_or(left, |longest| left.min(longest)));
            let hash = self.hash(&key);
            let own = key.clone();
            let incoming = self.incoming(hash, key, value, time_left);
            let now = incoming.now;
            let is_unknown = |shard: &Shard<K, V, P>| {
                shard.find_fresh(hash, &own, now).is_none() && shard.pending.get(hash, &own).is_none()
            };
            stored += usize::from(matches!(self.place_if(incoming, is_unknown), Insertion::Stored(_)));
        }
        stored
    }
}
