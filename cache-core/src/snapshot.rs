//! Warm restart: what the cache holds, as data.
//!
//! A restarted server that begins with an empty cache sends its whole load to the database at once. A snapshot taken
//! before, written with any serde format (`serde` feature) and restored after, spares it that.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::Slot;
use crate::cache::Cache;
use crate::insert::Insertion;
use crate::policy::Policy;
use crate::shard::Shard;
use crate::unsync;

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
    /// What is left of its time to live; `None` if that had no end. A duration, since instants mean nothing to another
    /// process: the time between snapshot and restore is the caller's to subtract. A time to idle starts anew.
    pub time_left: Option<Duration>,
}

impl<K, V> SnapshotEntry<K, V> {
    fn of<P: Policy>(shard: &Shard<K, V, P>, slot: Slot, now: u64) -> Self
    where
        K: Hash + Eq + Clone,
        V: Clone,
    {
        Self {
            key: shard.key(slot).clone(),
            value: shard.value(slot).clone(),
            time_left: shard.time_to_live_left(slot, now).map(Duration::from_nanos),
        }
    }

    /// Whether nothing is left of the time to live.
    fn is_over(&self) -> bool {
        self.time_left == Some(Duration::ZERO)
    }

    /// The time to live that the entry brings along to where entries live no longer than `longest`. One that would live that
    /// long is as one just written: it brings none, and jitter spreads its end.
    fn time_left(&self, longest: Option<Duration>) -> Option<Duration> {
        self.time_left.filter(|left| longest.is_none_or(|longest| *left < longest))
    }
}

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> unsync::Cache<K, V, P, S> {
    /// Clones the live entries in eviction order, pinned ones last. Counts as no use.
    ///
    /// # Complexity
    /// O(n log n) at most.
    pub fn snapshot(&self) -> Snapshot<K, V> {
        let now = self.rules.now();
        let shard = &self.shard;
        let order = shard.foretold_order().into_iter().filter(|&slot| shard.is_fresh(slot, now));
        let pinned = shard.fresh_slots(0, now).filter(|&slot| shard.is_pinned(slot));
        Snapshot { entries: order.chain(pinned).map(|slot| SnapshotEntry::of(shard, slot, now)).collect() }
    }

    /// Inserts the entries of a snapshot, the first to be evicted first, so that the order is as it was; use counts start
    /// anew, and nothing is pinned. Returns how many entries were stored, those included that later ones evicted again.
    ///
    /// Keys that are there already, or are remembered to be absent, are left alone, being newer, and so is what stands
    /// under the key of an entry whose time has run out. No entry lives longer than this cache's time to live; one without
    /// an end takes it.
    pub fn restore(&mut self, snapshot: Snapshot<K, V>) -> usize {
        let longest = self.rules.config.time_to_live;
        let mut stored = 0;
        for entry in snapshot.entries {
            let time_left = entry.time_left(longest);
            if !entry.is_over() && !self.contains(&entry.key) && !self.remembers_absence(&entry.key) {
                let mut incoming = self.incoming(entry.key, entry.value, time_left);
                incoming.live_no_longer_than(longest);
                stored += usize::from(self.place(incoming).is_ok());
            }
        }
        stored
    }
}

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Clones the live entries in eviction order, the shards' orders interleaved, pinned ones last. Counts as no use.
    ///
    /// # Complexity
    /// O(n log n) at most; each shard's lock is held while its entries are cloned.
    pub fn snapshot(&self) -> Snapshot<K, V> {
        let mut ranked = Vec::with_capacity(self.len());
        for number in 0..self.shard_count() {
            let now = self.rules.now();
            let Some(mut shard) = self.lock_shard(number) else { break };
            let now = shard.overtaken(now);
            let order = shard.eviction_order();
            let count = order.len().max(1) as u64;
            let pinned = shard.fresh_slots(0, now).filter(|&slot| shard.is_pinned(slot));
            let pinned = pinned.map(|slot| (u64::MAX, slot));
            // Shards interleaved by how far an entry is from its shard's end: the best guess at one order of all.
            let order = order.into_iter().zip(0_u64..).map(|(slot, rank)| ((rank << 32) / count, slot));
            for (rank, slot) in order.filter(|&(_, slot)| shard.is_fresh(slot, now)).chain(pinned) {
                ranked.push((rank, SnapshotEntry::of(&shard, slot, now)));
            }
        }
        ranked.sort_by_key(|&(rank, _)| rank);
        let entries = ranked.into_iter().map(|(_, entry)| entry).collect();
        Snapshot { entries }
    }

    /// Inserts the entries of a snapshot, the first to be evicted first, so that the order is about as it was (exactly with
    /// one shard); use counts start anew, and nothing is pinned. Returns how many entries were stored, those included that
    /// later ones evicted again.
    ///
    /// Keys that are there already, on their way, or remembered to be absent are left alone, being newer, and so is what
    /// stands under the key of an entry whose time has run out. No entry lives longer than this cache's time to live; one
    /// without an end takes it.
    pub fn restore(&self, snapshot: Snapshot<K, V>) -> usize {
        let longest = self.rules.config.time_to_live;
        let mut stored = 0;
        for entry in snapshot.entries {
            if entry.is_over() {
                continue;
            }
            let time_left = entry.time_left(longest);
            let SnapshotEntry { key, value, .. } = entry;
            let hash = self.hash(&key);
            let own = key.clone();
            let mut incoming = self.incoming(hash, key, value, time_left);
            incoming.live_no_longer_than(longest);
            let now = incoming.now;
            let negative_now = self.rules.negative_now();
            let is_unknown = |shard: &Shard<K, V, P>| {
                shard.find_fresh(hash, &own, now).is_none()
                    && shard.pending.get(hash, &own).is_none()
                    && !shard.absent.contains(hash, &own, negative_now)
            };
            stored += usize::from(matches!(self.place_if(incoming, is_unknown), Insertion::Stored(_)));
        }
        stored
    }
}
