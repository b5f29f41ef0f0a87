//! One shard: the index table, the entries, the policy's order and the times, kept consistent.
//!
//! Everything here runs under the shard's lock (or on one thread), so nothing here calls the host's code except
//! `Hash` and `Eq` of keys and `Clone` of values. What leaves goes into [`Removals`].

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

use crate::clock::saturating_nanos;
use crate::expire::Times;
use crate::negative::Negative;
use crate::pending::PendingTable;
use crate::policy::{Hit, Policy};
use crate::removal::{RemovalCause, Removals, Voided};
use crate::rng::Rng;
use crate::rules::{Incoming, Rules};
use crate::slab::Slab;
use crate::stats::Counters;
use crate::{Slot, StatsSnapshot};

/// Expired entries collected at most by one write, so that no write pays for a mass expiry alone.
const COLLECTED_PER_WRITE: usize = 16;

/// # Invariants
/// - **C1** The index names exactly the occupied slots, each under the hash of its key.
/// - **C2** The policy tracks exactly the occupied slots that are not pinned.
/// - **C3** `weight` is the sum of the entries' weights; over all shards it is the budget's `used` (B1).
/// - **C4** A key that is resident and fresh is neither pending as a lease nor remembered as absent.
pub(crate) struct Shard<K, V, P> {
    index: HashTable<u32>,
    slab: Slab<K, V>,
    policy: P,
    /// By slot; empty if all entries weigh 1.
    weights: Vec<u64>,
    times: Option<Times>,
    weight: u64,
    pub(crate) pending: PendingTable<K, V>,
    pub(crate) absent: Negative<K>,
    pub(crate) counters: Counters,
    next_lease: u64,
}

/// How an insertion ended.
pub(crate) enum Placed<K, V> {
    /// In, under a key that was not there.
    Inserted,
    /// In, in the place of this value; the duplicate key comes back for the listener.
    Replaced(K, V),
    /// Not in. Nothing more can be evicted here; other shards may have room to give.
    NoRoom(Incoming<K, V>),
    /// Not in: the policy prefers what is there.
    Rejected(Incoming<K, V>),
}

/// Whether room was made.
enum Room {
    Made,
    None,
    Rejected,
}

impl<K: Hash + Eq, V, P: Policy> Shard<K, V, P> {
    pub(crate) fn new<S>(policy: P, rules: &Rules<K, V, S>, number: u64) -> Self {
        let mut shard = Self {
            index: HashTable::new(),
            slab: Slab::new(),
            policy,
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
        self.times = Some(Times::new(rules.lifetimes, now, rng));
    }

    // ---- look-ups ----

    #[inline]
    pub(crate) fn find<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        K: Borrow<Q>,
    {
        let slab = &self.slab;
        let found = self
            .index
            .find(hash, |&index| slab.key(Slot::from_stored(index)).borrow() == key);
        found.map(|&index| Slot::from_stored(index))
    }

    /// The entry, if it may be served at `now`.
    #[inline]
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

    /// A look-up that counts, with exclusive access.
    #[inline(always)]
    pub(crate) fn hit<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q, now: u64) -> Option<Slot>
    where
        K: Borrow<Q>,
    {
        let Some(slot) = self.find_fresh(hash, key, now) else {
            self.counters.miss();
            self.policy.miss(hash);
            return None;
        };
        self.counters.hit();
        if let Some(times) = &mut self.times {
            times.touched(slot, now);
        }
        // A pinned entry is not in the order.
        if !self.slab.is_pinned(slot) {
            match P::HIT {
                Hit::Exclusive => self.policy.hit(slot),
                Hit::Shared => self.policy.hit_shared(slot),
                Hit::Ignored => {}
            }
        }
        Some(slot)
    }

    /// A look-up that counts, with shared access.
    #[inline]
    pub(crate) fn hit_shared<Q: Eq + ?Sized>(&self, hash: u64, key: &Q, now: u64) -> Option<Slot>
    where
        K: Borrow<Q>,
    {
        let Some(slot) = self.find_fresh(hash, key, now) else {
            self.counters.miss_shared();
            return None;
        };
        self.counters.hit_shared();
        if matches!(P::HIT, Hit::Shared) && !self.slab.is_pinned(slot) {
            self.policy.hit_shared(slot);
        }
        Some(slot)
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
        self.slab
            .slots_from(start)
            .filter(move |&slot| times.is_none_or(|times| times.is_fresh(slot, now)))
    }

    /// The evictable entries in eviction order, first victim first.
    pub(crate) fn eviction_order(&self) -> Vec<Slot> {
        self.policy.order()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn add_stats(&self, stats: &mut StatsSnapshot) {
        stats.add(&self.counters);
        stats.entries += self.slab.len() as u64;
        stats.weight += self.weight;
    }

    // ---- insertion ----

    /// Stores an entry, evicting what must go first. Voids what is pending for its key.
    #[inline]
    pub(crate) fn place<S: BuildHasher>(
        &mut self,
        incoming: Incoming<K, V>,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Placed<K, V> {
        self.collect(incoming.now, COLLECTED_PER_WRITE, rules, out);
        match self.find(incoming.hash, &incoming.key) {
            None => self.place_new(incoming, rules, out),
            Some(slot) if !self.is_fresh(slot, incoming.now) => {
                let (key, value) = self.detach(slot, rules);
                self.counters.expirations += 1;
                out.push(key, value, RemovalCause::Expired);
                self.place_new(incoming, rules, out)
            }
            Some(slot) => self.place_over(slot, incoming, rules, out),
        }
    }

    pub(crate) fn is_fresh(&self, slot: Slot, now: u64) -> bool {
        let times = self.times.as_ref();
        times.is_none_or(|times| times.is_fresh(slot, now))
    }

    /// Stores an entry whose key is not here.
    fn place_new<S: BuildHasher>(
        &mut self,
        incoming: Incoming<K, V>,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Placed<K, V> {
        match self.make_room(incoming.weight, (incoming.hash, incoming.now), None, rules, out) {
            Room::Made => {}
            Room::Rejected => return Placed::Rejected(incoming),
            Room::None => return Placed::NoRoom(incoming),
        }
        let Incoming {
            hash,
            key,
            value,
            weight,
            time_to_live,
            now,
        } = incoming;
        let slot = self.slab.insert(key, value, rules.expected_per_shard);
        let slab = &self.slab;
        self.index.insert_unique(hash, slot.get(), |&index| {
            rules.hash(slab.key(Slot::from_stored(index)))
        });
        self.set_weight(slot, weight, rules);
        self.set_times(slot, time_to_live, now, rules);
        self.policy.insert(slot, hash);
        self.counters.insertions += 1;
        if !self.pending.is_empty() || !self.absent.is_empty() {
            let key = self.slab.key(slot);
            out.voided.pending = self.pending.void(hash, key);
            out.voided.absent = self.absent.remove(hash, key);
        }
        Placed::Inserted
    }

    /// Stores a new value under a key that is here.
    fn place_over<S: BuildHasher>(
        &mut self,
        slot: Slot,
        incoming: Incoming<K, V>,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Placed<K, V> {
        let old_weight = self.weight_of(slot);
        let pinned = self.is_pinned(slot);
        if !pinned {
            self.policy.replace(slot);
        }
        if incoming.weight > old_weight {
            let more = incoming.weight - old_weight;
            let at = (incoming.hash, incoming.now);
            if !matches!(self.make_room(more, at, Some(slot), rules, out), Room::Made) {
                return Placed::NoRoom(incoming);
            }
        } else {
            rules.budget.release(old_weight - incoming.weight);
        }
        self.weight -= old_weight;
        self.set_weight(slot, incoming.weight, rules);
        self.set_times(slot, incoming.time_to_live, incoming.now, rules);
        let old = self.slab.replace(slot, incoming.value);
        out.voided = self.void(incoming.hash, &incoming.key);
        self.counters.replacements += 1;
        Placed::Replaced(incoming.key, old)
    }

    /// Reserves `need` units: from the account if it has them, else from the victims of this shard. `keep` is not
    /// evicted for it; if its turn comes it becomes a newcomer.
    fn make_room<S: BuildHasher>(
        &mut self,
        need: u64,
        (hash, now): (u64, u64),
        keep: Option<Slot>,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Room {
        let mut in_hand = 0;
        let mut admitted = keep.is_some();
        let mut full = self.slab.is_exhausted() && keep.is_none();
        let mut aside = None;
        let room = loop {
            if in_hand >= need && !full {
                rules.budget.release(in_hand - need);
                break Room::Made;
            }
            if !full && rules.budget.reserve(need - in_hand) {
                break Room::Made;
            }
            let expired = self.times.as_mut().and_then(|t| t.pop_expired(now));
            let (slot, cause) = match expired.or_else(|| self.policy.victim()) {
                None => {
                    rules.budget.release(in_hand);
                    break Room::None;
                }
                Some(slot) if Some(slot) == keep => {
                    // Out of the policy's sight meanwhile, so that it is not its own victim.
                    self.policy.remove(slot);
                    aside = keep;
                    continue;
                }
                Some(slot) if expired.is_some() => (slot, RemovalCause::Expired),
                Some(slot) => (slot, RemovalCause::Size),
            };
            if cause == RemovalCause::Size && !admitted {
                if !self.policy.admit(hash, slot) {
                    rules.budget.release(in_hand);
                    break Room::Rejected;
                }
                admitted = true;
            }
            in_hand += self.evict(slot, cause, rules, out);
            full = false;
            // An overdrawn account (the capacity was lowered) is balanced first.
            let overdrawn = rules.budget.excess().min(in_hand);
            rules.budget.release(overdrawn);
            in_hand -= overdrawn;
        };
        if let Some(slot) = aside {
            self.policy.insert(slot, hash);
        }
        room
    }

    /// Removes an entry and returns its weight, still reserved.
    fn evict<S: BuildHasher>(
        &mut self,
        slot: Slot,
        cause: RemovalCause,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> u64 {
        let weight = self.weight_of(slot);
        let (key, value) = self.take(slot, rules);
        if cause == RemovalCause::Expired {
            self.counters.expirations += 1;
        } else {
            self.counters.evictions += 1;
            self.counters.evicted_weight = self.counters.evicted_weight.saturating_add(weight);
        }
        out.push(key, value, cause);
        weight
    }

    /// Evicts this shard's next victim for the sake of another shard. False if there is none.
    pub(crate) fn evict_one<S: BuildHasher>(
        &mut self,
        now: u64,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> bool {
        let expired = self.times.as_mut().and_then(|t| t.pop_expired(now));
        let cause = match expired {
            Some(_) => RemovalCause::Expired,
            None => RemovalCause::Size,
        };
        let Some(slot) = expired.or_else(|| self.policy.victim()) else {
            return false;
        };
        let weight = self.evict(slot, cause, rules, out);
        rules.budget.release(weight);
        true
    }

    /// Lets an entry that expires as it comes replace what is there, and go.
    pub(crate) fn pass_by<S: BuildHasher>(
        &mut self,
        incoming: Incoming<K, V>,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Option<(K, V)> {
        out.voided = self.void(incoming.hash, &incoming.key);
        let old = match self.find(incoming.hash, &incoming.key) {
            None => None,
            Some(slot) => {
                let cause = self.cause_of_write(slot, incoming.now);
                let (key, value) = self.detach(slot, rules);
                if cause == RemovalCause::Replaced {
                    Some((key, value))
                } else {
                    out.push(key, value, cause);
                    None
                }
            }
        };
        // It came, if it took nobody's place, and went.
        self.counters.insertions += u64::from(old.is_none());
        self.counters.expirations += 1;
        out.push(incoming.key, incoming.value, RemovalCause::Expired);
        old
    }

    /// Notes that an entry was refused: what is there under its key, or on its way, is out of date.
    pub(crate) fn refuse<S: BuildHasher>(
        &mut self,
        hash: u64,
        key: &K,
        now: u64,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) {
        self.counters.rejections += 1;
        out.voided = self.void(hash, key);
        if let Some(slot) = self.find(hash, key) {
            let cause = self.cause_of_write(slot, now);
            let (key, value) = self.detach(slot, rules);
            out.push(key, value, cause);
        }
    }

    /// Why an entry leaves that a write finds there; counts it.
    fn cause_of_write(&mut self, slot: Slot, now: u64) -> RemovalCause {
        if self.is_fresh(slot, now) {
            self.counters.replacements += 1;
            RemovalCause::Replaced
        } else {
            self.counters.expirations += 1;
            RemovalCause::Expired
        }
    }

    // ---- removal ----

    /// Ends what is pending for a key and forgets its absence.
    #[inline]
    pub(crate) fn void<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Voided<K, V>
    where
        K: Borrow<Q>,
    {
        Voided {
            pending: self.pending.void(hash, key),
            absent: self.absent.remove(hash, key),
        }
    }

    /// Whether a load or a lease is outstanding, of whatever key.
    pub(crate) fn is_any_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Removes everything.
    pub(crate) fn clear<S: BuildHasher>(
        &mut self,
        now: u64,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> (PendingTable<K, V>, Vec<K>) {
        let slots: Vec<_> = self.slab.slots_from(0).collect();
        for slot in slots {
            let (key, value, cause) = self.leave(slot, now, rules);
            out.push(key, value, cause);
        }
        (self.pending.clear(), self.absent.clear())
    }

    /// Takes an entry out of every structure; its weight stays reserved.
    fn take<S: BuildHasher>(&mut self, slot: Slot, rules: &Rules<K, V, S>) -> (K, V) {
        let hash = rules.hash(self.slab.key(slot));
        if let Ok(found) = self.index.find_entry(hash, |&index| index == slot.get()) {
            found.remove();
        }
        if !self.is_pinned(slot) {
            self.policy.remove(slot);
        }
        if let Some(times) = &mut self.times {
            times.forget(slot);
        }
        self.weight -= self.weight_of(slot);
        self.slab.remove(slot)
    }

    /// Takes an entry out and gives its weight back.
    pub(crate) fn detach<S: BuildHasher>(&mut self, slot: Slot, rules: &Rules<K, V, S>) -> (K, V) {
        rules.budget.release(self.weight_of(slot));
        self.take(slot, rules)
    }

    /// The entry that would be evicted next.
    pub(crate) fn victim(&mut self) -> Option<Slot> {
        self.policy.victim()
    }

    /// Weighs an entry again whose value was changed in place, starts its times anew and makes room if it grew. The
    /// entry comes back if there is none.
    pub(crate) fn rewritten<Q: Eq + ?Sized, S: BuildHasher>(
        &mut self,
        hash: u64,
        key: &Q,
        now: u64,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(hash, key)?;
        let weight = rules.weigh(self.slab.key(slot), self.slab.value(slot));
        let old_weight = self.weight_of(slot);
        if weight > old_weight {
            let fits = weight <= rules.budget.capacity();
            let more = weight - old_weight;
            if !fits || !matches!(self.make_room(more, (hash, now), Some(slot), rules, out), Room::Made) {
                self.counters.rejections += 1;
                return Some(self.detach(slot, rules));
            }
        }
        rules.budget.release(old_weight.saturating_sub(weight));
        self.weight -= old_weight;
        self.set_weight(slot, weight, rules);
        let own = rules.expiry.as_ref();
        let own = own.and_then(|expiry| expiry(self.slab.key(slot), self.slab.value(slot)));
        self.set_times(slot, own.map(saturating_nanos), now, rules);
        None
    }

    /// Removes a key's entry, fresh or not, and voids what is pending for the key.
    pub(crate) fn remove<Q: Eq + ?Sized, S: BuildHasher>(
        &mut self,
        hash: u64,
        key: &Q,
        now: u64,
        rules: &Rules<K, V, S>,
    ) -> Option<(K, V, RemovalCause)>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(hash, key)?;
        Some(self.leave(slot, now, rules))
    }

    /// Removes an entry for the caller, or because its time is over.
    pub(crate) fn leave<S: BuildHasher>(
        &mut self,
        slot: Slot,
        now: u64,
        rules: &Rules<K, V, S>,
    ) -> (K, V, RemovalCause) {
        let cause = if self.is_fresh(slot, now) {
            self.counters.removals += 1;
            RemovalCause::Explicit
        } else {
            self.counters.expirations += 1;
            RemovalCause::Expired
        };
        let (key, value) = self.detach(slot, rules);
        (key, value, cause)
    }

    /// Collects up to `limit` expired entries; true if that was all.
    pub(crate) fn collect<S: BuildHasher>(
        &mut self,
        now: u64,
        limit: usize,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> bool {
        for _ in 0..limit {
            let Some(slot) = self.times.as_mut().and_then(|t| t.pop_expired(now)) else {
                return true;
            };
            let weight = self.evict(slot, RemovalCause::Expired, rules, out);
            rules.budget.release(weight);
        }
        false
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.times.as_ref()?.next_deadline()
    }

    // ---- pinning, weights, times ----

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
            self.policy.remove(slot);
        } else {
            self.policy.insert(slot, hash);
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
        self.policy.resize(share);
    }

    pub(crate) fn next_lease(&mut self) -> u64 {
        let id = self.next_lease;
        self.next_lease = self.next_lease.wrapping_add(1);
        id
    }

    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub(crate) fn check_invariants<S: BuildHasher>(&self, rules: &Rules<K, V, S>) -> u64 {
        self.slab.check_invariants();
        self.policy.check_invariants();
        let mut weight = 0;
        let mut evictable = 0;
        for slot in self.slab.slots_from(0) {
            let key = self.slab.key(slot);
            assert_eq!(self.find(rules.hash(key), key), Some(slot), "C1: not in the index");
            weight += self.weight_of(slot);
            evictable += usize::from(!self.is_pinned(slot));
        }
        assert_eq!(self.index.len(), self.slab.len(), "C1: the index names vacant slots");
        assert_eq!(self.policy.len(), evictable, "C2: the policy tracks another set");
        assert_eq!(self.weight, weight, "C3: the weights do not add up");
        if let Some(times) = &self.times {
            times.check_invariants(|slot| self.slab.generation(slot).is_some());
        }
        weight
    }
}
