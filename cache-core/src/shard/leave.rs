//! Entries on their way out.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use super::Shard;
use crate::Slot;
use crate::expire::Times;
use crate::pending::PendingTable;
use crate::policy::Policy;
use crate::removal::{RemovalCause, Removals, Voided};
use crate::rules::Rules;

/// Entries that one write moves at most in the timer wheel, so that no write pays alone for the many that come due, or
/// that were read since they would have.
pub(super) const MOVES_PER_WRITE: usize = 64;

impl<K: Hash + Eq, V, P: Policy> Shard<K, V, P> {
    /// Ends what is pending for a key and forgets its absence.
    #[inline]
    pub(crate) fn void<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Voided<K, V>
    where
        K: Borrow<Q>,
    {
        Voided { pending: self.pending.void(hash, key), absent: self.absent.remove(hash, key) }
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

    /// Takes an entry out of every structure; its weight stays reserved. If the key's `Hash` panics, nothing has changed.
    pub(super) fn take<S: BuildHasher>(&mut self, slot: Slot, rules: &Rules<K, V, S>) -> (K, V) {
        let hash = self.hash_of(slot, rules);
        if let Ok(found) = self.index.find_entry(hash, |&index| index == slot.get()) {
            found.remove();
        }
        if !self.is_pinned(slot) {
            self.order.policy().remove(slot);
        }
        if let Some(times) = &mut self.times {
            times.forget(slot);
        }
        self.weight -= self.weight_of(slot);
        self.slab.remove(slot)
    }

    /// The hash of an entry's key. An entry that the wheel has given out as expired goes back there if the host's `Hash`
    /// panics.
    #[inline]
    fn hash_of<S: BuildHasher>(&mut self, slot: Slot, rules: &Rules<K, V, S>) -> u64 {
        let back = self.times.as_deref_mut().map(|times| BackInTheWheel { times, slot });
        let hash = rules.hash(self.slab.key(slot));
        std::mem::forget(back);
        hash
    }

    /// Takes an entry out and gives its weight back.
    pub(crate) fn detach<S: BuildHasher>(&mut self, slot: Slot, rules: &Rules<K, V, S>) -> (K, V) {
        let weight = self.weight_of(slot);
        let entry = self.take(slot, rules);
        rules.budget.release(weight);
        entry
    }

    /// The entry that would be evicted next.
    pub(crate) fn victim(&mut self) -> Option<Slot> {
        self.order.policy().victim()
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

    /// Collects up to `limit` expired entries, moving up to `moves` more in the wheel; true if that was all.
    pub(crate) fn collect<S: BuildHasher>(
        &mut self,
        now: u64,
        (limit, mut moves): (usize, usize),
        rules: &Rules<K, V, S>,
        out: &mut Removals<K, V>,
    ) -> bool {
        let now = self.overtaken(now);
        for _ in 0..limit {
            let Some(slot) = self.pop_expired(now, &mut moves) else {
                return moves > 0 || self.times.is_none();
            };
            let weight = self.evict(slot, RemovalCause::Expired, rules, out);
            rules.budget.release(weight);
        }
        false
    }

    /// See [`Times::overtaken`](crate::expire::Times::overtaken).
    pub(crate) fn overtaken(&self, now: u64) -> u64 {
        self.times.as_ref().map_or(now, |times| times.overtaken(now))
    }

    #[inline]
    pub(super) fn pop_expired(&mut self, now: u64, moves: &mut usize) -> Option<Slot> {
        self.times.as_mut()?.pop_expired(now, moves)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.times.as_ref()?.next_deadline()
    }

    /// Removes an entry and returns its weight, still reserved.
    pub(super) fn evict<S: BuildHasher>(
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
        let now = self.overtaken(now);
        let expired = self.pop_expired(now, &mut { MOVES_PER_WRITE });
        let cause = match expired {
            Some(_) => RemovalCause::Expired,
            None => RemovalCause::Size,
        };
        let Some(slot) = expired.or_else(|| self.order.policy().victim()) else {
            return false;
        };
        let weight = self.evict(slot, cause, rules, out);
        rules.budget.release(weight);
        true
    }
}

struct BackInTheWheel<'a> {
    times: &'a mut Times,
    slot: Slot,
}

impl Drop for BackInTheWheel<'_> {
    fn drop(&mut self) {
        self.times.schedule(self.slot);
    }
}
