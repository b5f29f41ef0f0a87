//! Entries on their way in, and the room that is made for them.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use super::Shard;
use super::leave::MOVES_PER_WRITE;
use crate::Slot;
use crate::budget::Reservation;
use crate::clock::saturating_nanos;
use crate::policy::{Newcomer, Policy};
use crate::removal::{RemovalCause, Removals};
use crate::rules::{Incoming, Rules};

/// Expired entries collected at most by one write, so that no write pays for a mass expiry alone.
const COLLECTED_PER_WRITE: usize = 16;

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
enum Room<'a> {
    Made(Reservation<'a>),
    None,
    Rejected,
}

impl<K: Hash + Eq, V, P: Policy> Shard<K, V, P> {
    /// Stores an entry, evicting what must go first. Voids what is pending for its key.
    #[inline]
    pub(crate) fn place<S: BuildHasher>(
        &mut self,
        mut incoming: Incoming<K, V>,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Placed<K, V> {
        incoming.now = self.overtaken(incoming.now);
        self.collect(incoming.now, (COLLECTED_PER_WRITE, MOVES_PER_WRITE), rules, out);
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
        let newcomer = Newcomer { hash: incoming.hash, weight: incoming.weight };
        let room = match self.make_room(incoming.weight, (newcomer, incoming.now), None, rules, out) {
            Room::Made(room) => room,
            Room::Rejected => return Placed::Rejected(incoming),
            Room::None => return Placed::NoRoom(incoming),
        };
        self.reserve_in_index(rules);
        let Incoming { hash, key, value, weight, time_to_live, now, told: _ } = incoming;
        let slot = self.slab.insert(key, value, rules.expected_per_shard);
        let slab = &self.slab;
        self.index.insert_unique(hash, slot.get(), |&index| rules.hash(slab.key(Slot::from_stored(index))));
        room.settle();
        self.set_weight(slot, weight, rules);
        self.set_times(slot, time_to_live, now, rules);
        self.order.policy().insert(slot, newcomer);
        self.counters.insertions += 1;
        if !self.pending.is_empty() || !self.absent.is_empty() {
            let key = self.slab.key(slot);
            out.voided.pending = self.pending.void(hash, key);
            out.voided.absent = self.absent.remove(hash, key);
        }
        Placed::Inserted
    }

    /// Sees to it that the index takes one more without hashing a key. If a key's `Hash` panics, nothing has changed.
    #[inline]
    fn reserve_in_index<S: BuildHasher>(&mut self, rules: &Rules<K, V, S>) {
        if self.index.len() == self.index.capacity() {
            self.grow_index(rules);
        }
    }

    #[cold]
    fn grow_index<S: BuildHasher>(&mut self, rules: &Rules<K, V, S>) {
        // By slot, and before the table is touched: one that is interrupted in putting itself in order loses entries.
        let mut hashes = Vec::new();
        for slot in self.slab.slots_from(0) {
            hashes.resize(slot.index(), 0);
            hashes.push(rules.hash(self.slab.key(slot)));
        }
        self.index.reserve(1, |&index| hashes[index as usize]);
    }

    /// Stores a new value under a key that is here.
    fn place_over<S: BuildHasher>(
        &mut self,
        slot: Slot,
        mut incoming: Incoming<K, V>,
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Placed<K, V> {
        let old_weight = self.weight_of(slot);
        let replaced = self.generation(slot).map(|generation| (slot, generation));
        if !self.is_pinned(slot) && incoming.told != replaced {
            self.order.policy().replace(slot);
            incoming.told = replaced;
        }
        if incoming.weight > old_weight {
            let more = incoming.weight - old_weight;
            let at = (Newcomer { hash: incoming.hash, weight: old_weight }, incoming.now);
            let Room::Made(room) = self.make_room(more, at, Some(slot), rules, out) else {
                return Placed::NoRoom(incoming);
            };
            room.settle();
        } else {
            rules.budget.release(old_weight - incoming.weight);
        }
        self.change_weight(slot, incoming.weight, rules);
        self.set_times(slot, incoming.time_to_live, incoming.now, rules);
        let old = self.slab.replace(slot, incoming.value);
        out.voided = self.void(incoming.hash, &incoming.key);
        self.counters.replacements += 1;
        Placed::Replaced(incoming.key, old)
    }

    /// Reserves `need` units: from the account if it has them, else from the victims of this shard. `keep` is not
    /// evicted for it; if its turn comes it becomes a newcomer.
    fn make_room<'a, S: BuildHasher>(
        &mut self,
        need: u64,
        (newcomer, now): (Newcomer, u64),
        keep: Option<Slot>,
        rules: &'a Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> Room<'a> {
        let mut room = Reservation::none(&rules.budget);
        let mut admitted = keep.is_some();
        let mut full = self.slab.is_exhausted() && keep.is_none();
        let mut moves = MOVES_PER_WRITE;
        let mut making = Making { shard: self, aside: None, newcomer };
        loop {
            if !full && room.fill_up(need) {
                return Room::Made(room);
            }
            let shard = &mut *making.shard;
            let expired = shard.pop_expired(now, &mut moves);
            let (slot, cause) = match expired.or_else(|| shard.order.policy().victim()) {
                None => return Room::None,
                Some(slot) if Some(slot) == keep => {
                    // Out of the policy's sight meanwhile, so that it is not its own victim.
                    shard.order.policy().remove(slot);
                    making.aside = keep;
                    continue;
                }
                Some(slot) if expired.is_some() => (slot, RemovalCause::Expired),
                Some(slot) => (slot, RemovalCause::Size),
            };
            if cause == RemovalCause::Size && !admitted {
                if !shard.order.policy().admit(newcomer, slot) {
                    return Room::Rejected;
                }
                admitted = true;
            }
            room.add(shard.evict(slot, cause, rules, out));
            full = false;
            // An overdrawn account (the capacity was lowered) is balanced first.
            room.give_back(rules.budget.excess());
        }
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
        let now = self.overtaken(now);
        let weight = rules.weigh(self.slab.key(slot), self.slab.value(slot));
        let old_weight = self.weight_of(slot);
        if weight > old_weight {
            let fits = weight <= rules.budget.capacity();
            let more = weight - old_weight;
            let at = (Newcomer { hash, weight: old_weight }, now);
            let room = if fits { self.make_room(more, at, Some(slot), rules, out) } else { Room::None };
            let Room::Made(room) = room else {
                self.counters.rejections += 1;
                return Some(self.detach(slot, rules));
            };
            room.settle();
        }
        rules.budget.release(old_weight.saturating_sub(weight));
        self.change_weight(slot, weight, rules);
        let own = rules.expiry.as_ref();
        let own = own.and_then(|expiry| expiry(self.slab.key(slot), self.slab.value(slot)));
        self.set_times(slot, own.map(saturating_nanos), now, rules);
        None
    }
}

/// Room being made for an entry that is here. However that ends, the entry is in the policy's sight afterwards.
struct Making<'a, K, V, P: Policy> {
    shard: &'a mut Shard<K, V, P>,
    /// The entry, if its turn came to be evicted.
    aside: Option<Slot>,
    newcomer: Newcomer,
}

impl<K, V, P: Policy> Drop for Making<'_, K, V, P> {
    fn drop(&mut self) {
        if let Some(slot) = self.aside {
            self.shard.order.policy().insert(slot, self.newcomer);
        }
    }
}
