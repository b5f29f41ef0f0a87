//! One shard: the index table, the entries, the policy's order and the times, kept consistent.
//!
//! Everything here runs under the shard's lock (or on one thread), so nothing here calls the host's code except
//! `Hash`, `Eq` and `Clone` of keys and `Clone` of values. What leaves goes into [`Removals`].

mod leave;
mod place;

use std::borrow::Borrow;
#[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
use std::hash::BuildHasher;
use std::hash::Hash;

use hashbrown::HashTable;

use crate::expire::Times;
use crate::negative::Negative;
use crate::order::Order;
use crate::pending::{Pending, PendingTable};
use crate::policy::{Newcomer, Policy};
use crate::rng::Rng;
use crate::rules::Rules;
use crate::slab::Slab;
use crate::stats::Counters;
use crate::{Slot, StatsSnapshot};

pub(crate) use place::Placed;

/// # Invariants
/// - **C1** The index names exactly the occupied slots, each under the hash of its key.
/// - **C2** The policy tracks exactly the occupied slots that are not pinned.
/// - **C3** `weight` is the sum of the entries' weights; over all shards it is the budget's `used` (B1).
/// - **C4** A key that is resident and fresh is neither pending as a lease nor remembered as absent.
///
/// The fields stand in this order so that all that a hit writes here lies in one cache line with the lock, if it lies in the
/// first 32 bytes of the policy (an LRU has 40, of which a hit writes none beyond), and the next line, which hits only
/// read, stays with every core that has it.
#[repr(C)]
pub(crate) struct Shard<K, V, P> {
    /// Look-ups that found a live entry; the other counters are `counters`.
    hits: u64,
    order: Order<P>,
    index: HashTable<u32>,
    slab: Slab<K, V>,
    /// By slot; empty if all entries weigh 1.
    weights: Vec<u64>,
    /// Apart, so that a shard in which nothing expires stays small.
    times: Option<Box<Times>>,
    weight: u64,
    pub(crate) pending: PendingTable<K, V>,
    pub(crate) absent: Negative<K>,
    pub(crate) counters: Counters,
    next_lease: u64,
}

#[cfg(all(target_pointer_width = "64", not(all(test, shuttle))))]
const _: () = assert!(
    size_of::<crate::lock::Raw>() + std::mem::offset_of!(Shard<u64, u64, [u64; 4]>, index) == 64,
    "32 bytes of the policy lie in the first line"
);

impl<K: Hash + Eq, V, P: Policy> Shard<K, V, P> {
    pub(crate) fn new<S>(policy: P, rules: &Rules<K, V, S>, number: u64) -> Self {
        let mut shard = Self {
            hits: 0,
            order: Order::new(policy),
            index: HashTable::new(),
            slab: Slab::new(),
            weights: Vec::new(),
            times: None,
            weight: 0,
            pending: PendingTable::new(),
            absent: Negative::new(rules.absences_per_shard),
            counters: Counters::default(),
            // At random, so that a lease of another cache (of before a restart, say) is not taken for one of this.
            next_lease: Rng::new(rules.seed ^ !number).next_u64(),
        };
        if rules.lifetimes.any() {
            shard.start_times(rules, number, 0);
        }
        shard
    }

    fn start_times<S>(&mut self, rules: &Rules<K, V, S>, number: u64, now: u64) {
        let rng = Rng::new(rules.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.times = Some(Box::new(Times::new(rules.lifetimes, now, rng)));
    }

    #[inline(always)]
    pub(crate) fn find<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        K: Borrow<Q>,
    {
        let slab = &self.slab;
        let found = self.index.find(hash, |&index| slab.key(Slot::from_stored(index)).borrow() == key);
        found.map(|&index| Slot::from_stored(index))
    }

    /// The entry, if it may be served at `now`.
    #[inline(always)]
    pub(crate) fn find_fresh<Q: Eq + ?Sized>(&self, hash: u64, key: &Q, now: u64) -> Option<Slot>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(hash, key)?;
        match &self.times {
            Some(times) if !times.is_fresh(slot, now) => None,
            _ => Some(slot),
        }
    }

    /// A look-up that counts.
    #[inline(always)]
    pub(crate) fn hit<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q, now: u64) -> Option<(Slot, &V)>
    where
        K: Borrow<Q>,
    {
        let found = self.find_fresh(hash, key, now);
        if let (Some(slot), Some(times)) = (found, &mut self.times) {
            times.touched(slot, now);
        }
        self.counted(hash, found)
    }

    /// A look-up that counts, at a time when no entry had a limit to its life.
    #[inline(always)]
    pub(crate) fn hit_for_ever<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<(Slot, &V)>
    where
        K: Borrow<Q>,
    {
        let found = self.find(hash, key);
        self.counted(hash, found)
    }

    #[inline(always)]
    fn counted(&mut self, hash: u64, found: Option<Slot>) -> Option<(Slot, &V)> {
        let Some(slot) = found else {
            self.counters.misses += 1;
            self.order.policy().miss(hash);
            return None;
        };
        self.hits += 1;
        let (value, pinned) = self.slab.resident(slot);
        // A pinned entry is not in the order.
        if !pinned {
            self.order.hit(slot);
        }
        Some((slot, value))
    }

    /// Whether somebody else is bringing the key's value.
    pub(crate) fn is_awaited(&self, hash: u64, key: &K, now: u64) -> bool {
        match self.pending.get(hash, key) {
            Some(Pending::Load(flight)) => !flight.is_finished(),
            Some(&Pending::Lease { expires_at, .. }) => now < expires_at,
            None => false,
        }
    }

    /// An expired value that may still stand in for a failed load.
    pub(crate) fn stale<Q: Eq + ?Sized>(&self, hash: u64, key: &Q, now: u64) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(hash, key)?;
        let times = self.times.as_ref()?;
        (!times.is_fresh(slot, now) && times.is_kept(slot, now)).then(|| self.slab.value(slot))
    }

    #[inline]
    pub(crate) fn key(&self, slot: Slot) -> &K {
        self.slab.key(slot)
    }

    #[inline]
    pub(crate) fn value(&self, slot: Slot) -> &V {
        self.slab.value(slot)
    }

    pub(crate) fn value_mut(&mut self, slot: Slot) -> &mut V {
        self.slab.value_mut(slot)
    }

    pub(crate) fn generation(&self, slot: Slot) -> Option<u32> {
        self.slab.generation(slot)
    }

    /// Identifies the live value of a key: it changes with every write.
    pub(crate) fn version(&self, hash: u64, key: &K, now: u64) -> Option<(Slot, u32)> {
        let slot = self.find_fresh(hash, key, now)?;
        Some((slot, self.generation(slot)?))
    }

    /// Nanoseconds the entry may still be served; `None` for ever.
    pub(crate) fn remaining(&self, slot: Slot, now: u64) -> Option<u64> {
        self.times.as_ref()?.remaining(slot, now)
    }

    /// Nanoseconds left of the time to live; `None` for ever.
    pub(crate) fn time_to_live_left(&self, slot: Slot, now: u64) -> Option<u64> {
        self.times.as_ref()?.time_to_live_left(slot, now)
    }

    pub(crate) fn is_refresh_due(&self, slot: Slot, now: u64) -> bool {
        let times = self.times.as_ref();
        times.is_some_and(|times| times.is_refresh_due(slot, now))
    }

    pub(crate) fn postpone_refresh(&mut self, slot: Slot, now: u64) {
        if let Some(times) = &mut self.times {
            times.postpone_refresh(slot, now);
        }
    }

    /// Occupied slots from index `start` on whose entries may be served at `now`.
    pub(crate) fn fresh_slots(&self, start: usize, now: u64) -> impl Iterator<Item = Slot> + '_ {
        let times = self.times.as_ref();
        self.slab.slots_from(start).filter(move |&slot| times.is_none_or(|times| times.is_fresh(slot, now)))
    }

    /// The evictable entries in eviction order, first victim first.
    pub(crate) fn eviction_order(&mut self) -> Vec<Slot> {
        self.order.slots()
    }

    /// The same for those who may change nothing; copies the policy if a hit is due.
    pub(crate) fn foretold_order(&self) -> Vec<Slot> {
        self.order.foretold()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn add_stats(&self, stats: &mut StatsSnapshot) {
        stats.add(&self.counters);
        stats.hits += self.hits;
        stats.entries += self.slab.len() as u64;
        stats.weight += self.weight;
    }

    pub(crate) fn is_pinned(&self, slot: Slot) -> bool {
        self.slab.is_pinned(slot)
    }

    /// Takes an entry out of the policy's sight, or brings it back as a newcomer.
    pub(crate) fn set_pinned(&mut self, slot: Slot, hash: u64, pinned: bool) {
        if self.is_pinned(slot) == pinned {
            return;
        }
        self.slab.set_pinned(slot, pinned);
        if pinned {
            self.order.policy().remove(slot);
        } else {
            let weight = self.weight_of(slot);
            self.order.policy().insert(slot, Newcomer { hash, weight });
        }
    }

    /// The weight of the key's entry, 0 if it has none.
    pub(crate) fn weight_under(&self, hash: u64, key: &K) -> u64 {
        self.find(hash, key).map_or(0, |slot| self.weight_of(slot))
    }

    #[inline]
    fn weight_of(&self, slot: Slot) -> u64 {
        self.weights.get(slot.index()).copied().unwrap_or(1)
    }

    #[inline]
    fn set_weight<S>(&mut self, slot: Slot, weight: u64, rules: &Rules<K, V, S>) {
        self.weight += weight;
        if rules.weigher.is_none() {
            return;
        }
        if self.weights.len() <= slot.index() {
            self.weights.resize(slot.index() + 1, 1);
        }
        self.weights[slot.index()] = weight;
    }

    /// Weighs an entry again whose value has changed.
    fn change_weight<S>(&mut self, slot: Slot, weight: u64, rules: &Rules<K, V, S>) {
        let old_weight = self.weight_of(slot);
        if weight == old_weight {
            return;
        }
        self.weight -= old_weight;
        self.set_weight(slot, weight, rules);
        if !self.is_pinned(slot) {
            self.order.policy().reweigh(slot, weight);
        }
    }

    #[inline]
    fn set_times<S>(&mut self, slot: Slot, ttl: Option<u64>, now: u64, rules: &Rules<K, V, S>) {
        if self.times.is_none() {
            if !rules.needs_times(ttl) {
                return;
            }
            self.start_times(rules, u64::from(slot.get()), now);
        }
        if let Some(times) = &mut self.times {
            times.written(slot, now, ttl);
        }
    }

    pub(crate) fn resized(&mut self, share: u64) {
        self.order.policy().resize(share);
    }

    pub(crate) fn next_lease(&mut self) -> u64 {
        let id = self.next_lease;
        self.next_lease = self.next_lease.wrapping_add(1);
        id
    }

    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub(crate) fn check_invariants<S: BuildHasher>(&self, rules: &Rules<K, V, S>) -> u64 {
        self.slab.check_invariants();
        let mut weight = 0;
        let mut evictable = 0;
        for slot in self.slab.slots_from(0) {
            let key = self.slab.key(slot);
            let hash = rules.hash(key);
            assert_eq!(self.find(hash, key), Some(slot), "C1: not in the index");
            if self.is_fresh(slot, rules.now()) {
                assert!(!matches!(self.pending.get(hash, key), Some(Pending::Lease { .. })), "C4: leased");
                assert!(!self.absent.remembers(hash, key), "C4: remembered as absent");
            }
            weight += self.weight_of(slot);
            evictable += usize::from(!self.is_pinned(slot));
        }
        assert_eq!(self.index.len(), self.slab.len(), "C1: the index names vacant slots");
        self.order.check_invariants(evictable);
        assert_eq!(self.weight, weight, "C3: the weights do not add up");
        if let Some(times) = &self.times {
            times.check_invariants(|slot| self.slab.generation(slot).is_some());
        }
        weight
    }
}
