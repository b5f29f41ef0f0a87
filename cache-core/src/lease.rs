//! Leases: cache-aside without stale fills.
//!
//! A reader that misses, reads the database and then fills the cache may be slow: if the value changes and is
//! invalidated in between, the slow fill would put yesterday's value over today's. So a miss hands out a *lease*, any
//! write or invalidation of the key voids it, and a fill under a void lease is refused. Only one reader at a time
//! gets the lease of a key, which also keeps a stampede from the database.
//!
//! Source: R. Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, section 3.2.1.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use crate::cache::Cache;
use crate::insert::Insertion;
use crate::pending::Pending;
use crate::policy::Policy;
use crate::shard::Shard;

/// The right to fill one key, good until the key is written or invalidated, or the lease times out.
///
/// A plain number, so that it may travel to another process and back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(u64);

impl LeaseId {
    /// A lease that came back as a number. One that was never granted fills nothing.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The lease as a number.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({})", self.0)
    }
}

/// What a look-up under the lease protocol found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a granted lease keeps others waiting until it is filled, released or timed out"]
pub enum Lookup<V> {
    /// The value.
    Hit(V),
    /// Nothing: read the source and call `fill` with this lease.
    Granted(LeaseId),
    /// Nothing, and a reader found lately that there is nothing (`negative_time_to_live`).
    Absent,
    /// Nothing, and somebody else is reading the source already: wait a little and look again, or read the source
    /// without filling.
    Busy,
}

/// Why a fill was refused. The value comes back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FillError<V> {
    /// The key was written or invalidated after the lease was granted, or the lease timed out, was used, released or
    /// never granted: the value may be out of date.
    #[error("the lease is void: the key was written or invalidated, or the lease timed out")]
    Void(V),
    /// The entry is heavier than the capacity, all else is pinned, or the policy did not admit it.
    #[error("the cache has no room for the entry")]
    Refused(V),
}

/// Why [`Cache::fill_absent`] was refused: the key was written or invalidated after the lease was granted, or the lease timed
/// out, was used, released or never granted. That there is nothing may be out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is void: the key was written or invalidated, or the lease timed out")]
pub struct LeaseVoid;

impl<V> FillError<V> {
    /// The value that was not stored.
    pub fn into_value(self) -> V {
        match self {
            Self::Void(value) | Self::Refused(value) => value,
        }
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Looks a key up for the cache-aside protocol: the value, or a lease to fill it, or word that another reader
    /// has the lease. Counts as [`get`](Self::get) does, except that `Busy` counts as a wait and not as a miss.
    ///
    /// A read-through load of the same key counts as another reader. The other way round a load does not wait for a
    /// lease: it voids it.
    ///
    /// # Examples
    /// See the crate's documentation.
    pub fn lease(&self, key: &K) -> Lookup<V>
    where
        K: Clone,
        V: Clone,
    {
        let hash = self.hash(key);
        let now = self.rules.now();
        // Leases time out on a cache without expiry as well.
        let lease_now = self.rules.timeline.now();
        let mut shard = self.lock(hash);
        if shard.find_fresh(hash, key, now).is_none() && shard.is_awaited(hash, key, lease_now) {
            shard.counters.lease_waits += 1;
            return Lookup::Busy;
        }
        if let Some((_, value)) = shard.hit(hash, key, now) {
            return Lookup::Hit(value.clone());
        }
        if shard.absent.contains(hash, key, lease_now) {
            shard.counters.negative_hits += 1;
            return Lookup::Absent;
        }
        let void = shard.pending.void(hash, key);
        let id = LeaseId(shard.next_lease());
        let span = (lease_now, self.rules.lease_expiry(lease_now));
        let max_leases = self.rules.config.max_leases.div_ceil(self.shard_count());
        let mut dropped = Vec::new();
        let granted = shard.pending.grant(hash, key.clone(), id, span, max_leases, &mut dropped);
        drop(shard);
        drop((void, dropped));
        if granted { Lookup::Granted(id) } else { Lookup::Busy }
    }

    /// Stores what a reader has read from the source under the lease it was granted.
    ///
    /// # Errors
    /// [`FillError::Void`] if the key was written or invalidated since, or the lease is not the current one;
    /// [`FillError::Refused`] if there is no room. The value comes back either way, and is good to be returned to
    /// whoever asked: it was the source's when it was read.
    pub fn fill(&self, key: K, lease: LeaseId, value: V) -> Result<(), FillError<V>>
    where
        K: Clone,
    {
        let hash = self.hash(&key);
        let now = self.rules.now();
        let lease_now = self.rules.timeline.now();
        let holder = key.clone();
        let incoming = self.rules.incoming(hash, key, value, now);
        let is_current = |shard: &Shard<K, V, P>| is_current(shard, hash, &holder, (lease, lease_now));
        match self.place_if(incoming, is_current) {
            Insertion::Stored(_) => Ok(()),
            Insertion::Refused(refused) => Err(FillError::Refused(refused.into_parts().1)),
            Insertion::Void(_, value) => {
                self.lock(hash).counters.stale_fills += 1;
                Err(FillError::Void(value))
            }
        }
    }

    /// Notes, under the lease it was granted, that a reader found nothing in the source. For `negative_time_to_live` look-ups
    /// under the protocol then answer [`Lookup::Absent`] and read-through loads nothing; without that setting the lease is
    /// given back and nothing is remembered. Either way an expired value that `stale_if_error` keeps is gone.
    ///
    /// # Errors
    /// [`LeaseVoid`] where [`fill`](Self::fill) says [`FillError::Void`]. What is not stored needs no room.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tenfold_cache_core::{Cache, Hit, Lookup, Newcomer, Policy, Slot};
    /// # use tenfold_cache_core::list::{Links, List};
    /// # #[derive(Clone, Default)]
    /// # struct Fifo(List, Links);
    /// # impl Policy for Fifo {
    /// #     const HIT: Hit = Hit::Ignored;
    /// #     fn insert(&mut self, slot: Slot, _: Newcomer) { self.0.push_back(&mut self.1, slot) }
    /// #     fn remove(&mut self, slot: Slot) { self.0.remove(&mut self.1, slot) }
    /// #     fn victim(&mut self) -> Option<Slot> { self.0.front() }
    /// #     fn len(&self) -> usize { self.0.len() }
    /// #     fn clear(&mut self) { *self = Self::default() }
    /// #     fn order(&self) -> Vec<Slot> { self.0.iter(&self.1).collect() }
    /// # }
    /// # let builder = Cache::<u64, String, Fifo>::builder();
    /// let cache = builder.negative_time_to_live(Duration::from_secs(10)).build()?;
    /// if let Lookup::Granted(lease) = cache.lease(&7) {
    ///     // The database has no row 7.
    ///     cache.fill_absent(7, lease)?;
    /// }
    /// assert_eq!(cache.lease(&7), Lookup::Absent);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fill_absent(&self, key: K, lease: LeaseId) -> Result<(), LeaseVoid>
    where
        K: Clone,
    {
        let hash = self.hash(&key);
        let now = self.rules.now();
        let lease_now = self.rules.timeline.now();
        let mut shard = self.lock(hash);
        if !is_current(&shard, hash, &key, (lease, lease_now)) {
            shard.counters.stale_fills += 1;
            return Err(LeaseVoid);
        }
        let voided = shard.pending.void(hash, &key);
        let old = shard.remove(hash, &key, now, &self.rules);
        let forgotten = self.note_absence(&mut shard, hash, &key, lease_now);
        drop(shard);
        drop((voided, forgotten));
        if let Some((key, value, cause)) = old {
            self.rules.tell(&key, &value, cause);
        }
        Ok(())
    }

    /// Gives a lease back unused, so that the next reader need not wait for its timeout. True if it was current.
    pub fn release(&self, key: &K, lease: LeaseId) -> bool {
        let hash = self.hash(key);
        let mut shard = self.lock(hash);
        match shard.pending.get(hash, key) {
            Some(&Pending::Lease { id, .. }) if id == lease => {}
            _ => return false,
        }
        let voided = shard.pending.void(hash, key);
        drop(shard);
        drop(voided);
        true
    }
}

/// Whether a lease is the one that the key has, and its time is not over.
fn is_current<K: Hash + Eq, V, P: Policy>(
    shard: &Shard<K, V, P>,
    hash: u64,
    key: &K,
    (lease, now): (LeaseId, u64),
) -> bool {
    match shard.pending.get(hash, key) {
        Some(&Pending::Lease { id, expires_at }) => id == lease && now < expires_at,
        _ => false,
    }
}
