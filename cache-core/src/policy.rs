//! What a cache asks of an eviction policy.
//!
//! The engine owns keys, values, weights and deadlines; a policy owns nothing but an order. It sees slots and key
//! hashes, never keys or values, so it is a small structure of numbers that can be checked against a naive oracle
//! and swapped without touching the engine. One policy value serves one shard.
//!
//! A policy says by [`Policy::HIT`] what a hit needs: under [`Hit::Exclusive`] the engine calls [`Policy::hit`], which may
//! change everything; under [`Hit::Shared`] it calls [`Policy::hit_shared`], which may only touch atomics; under
//! [`Hit::Ignored`] it calls nothing. Today a look-up holds its shard's lock in any case, so the three differ in what they
//! cost the policy; in a table that can be read without a lock the last two will need none.

use crate::Slot;

/// What access to the policy a hit needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// A hit changes the order: [`Policy::hit`] is called with exclusive access.
    Exclusive,
    /// A hit leaves a mark that is safe to leave concurrently: [`Policy::hit_shared`] is called.
    Shared,
    /// A hit means nothing to the policy.
    Ignored,
}

/// What a policy learns of an entry that comes. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Newcomer {
    /// Of the key; the same for one key as long as the cache lives.
    pub hash: u64,
    /// In the weigher's units, at least 1; 1 without a weigher.
    pub weight: u64,
}

impl Newcomer {
    /// An entry of weight 1, of a key with this hash: for whoever calls a policy without a cache, as tests do.
    ///
    /// # Examples
    /// ```
    /// use tenfold_cache_core::Newcomer;
    ///
    /// let newcomer = Newcomer::new(7).weighing(3);
    /// assert_eq!((newcomer.hash, newcomer.weight), (7, 3));
    /// ```
    #[must_use]
    pub const fn new(hash: u64) -> Self {
        Self { hash, weight: 1 }
    }

    /// The same with this weight.
    #[must_use]
    pub const fn weighing(self, weight: u64) -> Self {
        Self { weight, ..self }
    }
}

/// An eviction policy: the order in which entries of one shard leave when room is needed.
///
/// # Laws
/// The engine relies on these; the conformance kit (`testing` feature) checks them for any policy.
///
/// - **L1** The policy *tracks* a slot from `insert` to `remove`. The engine inserts only untracked slots, and hits,
///   weighs and removes only tracked ones.
/// - **L2** `len` is the number of tracked slots.
/// - **L3** `victim` returns a tracked slot if any is tracked, else `None`.
/// - **L4** `victim` changes nothing a caller can see: asked twice in a row it names the same slot. (It may do work
///   that it would otherwise do later.)
/// - **L5** Removing victims until `None` is returned visits each tracked slot once.
/// - **L6** The same calls give the same answers: no clock, no unseeded randomness, no addresses.
/// - **L7** `clear` leaves the policy as newly made, apart from memory it may keep and what it has learnt.
/// - **L8** The cost of each call is O(1), amortised, in the number of tracked slots, `clear` excepted.
/// - **L9** A clone shares nothing that matters with what it was cloned from: calls on the one change no answer of the
///   other.
///
/// A policy is cloned from a prototype that tracks nothing, once a shard; and by a cache for one thread that is asked for
/// its order while it is borrowed for reading.
pub trait Policy: Clone + Send + Sync + 'static {
    /// What access a hit needs.
    const HIT: Hit;

    /// Starts to track `slot`, just filled with this entry.
    fn insert(&mut self, slot: Slot, newcomer: Newcomer);

    /// Notes a hit on `slot`, with exclusive access. Called when [`Policy::HIT`] is [`Hit::Exclusive`].
    fn hit(&mut self, slot: Slot) {
        let _ = slot;
    }

    /// Notes a hit on `slot`, possibly beside other calls of this method. Called when [`Policy::HIT`] is
    /// [`Hit::Shared`].
    fn hit_shared(&self, slot: Slot) {
        let _ = slot;
    }

    /// Notes that the value in `slot` was replaced. By default this counts as a hit where hits count.
    fn replace(&mut self, slot: Slot) {
        match Self::HIT {
            Hit::Exclusive => self.hit(slot),
            Hit::Shared => self.hit_shared(slot),
            Hit::Ignored => {}
        }
    }

    /// Notes that the entry in `slot` has another weight than when it came, or was last weighed: its value has changed. The
    /// change itself is told by [`replace`](Self::replace), or by a hit if it was made in place.
    fn reweigh(&mut self, slot: Slot, weight: u64) {
        let _ = (slot, weight);
    }

    /// Stops tracking `slot`: its entry has left, or may not be evicted any more (it was pinned).
    fn remove(&mut self, slot: Slot);

    /// The slot to evict next, if one is tracked. It stays tracked until removed.
    fn victim(&mut self) -> Option<Slot>;

    /// Whether a newcomer deserves the place of `victim`. Asked only when room is needed.
    fn admit(&mut self, newcomer: Newcomer, victim: Slot) -> bool {
        let _ = (newcomer, victim);
        true
    }

    /// Notes a look-up that found nothing, whatever [`Policy::HIT`] is.
    fn miss(&mut self, hash: u64) {
        let _ = hash;
    }

    /// How many slots are tracked.
    fn len(&self) -> usize;

    /// Whether no slot is tracked.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the shard's share of the capacity, in units of weight, before the first insertion and at each resize.
    fn resize(&mut self, capacity: u64) {
        let _ = capacity;
    }

    /// Stops tracking every slot.
    fn clear(&mut self);

    /// The tracked slots in the order in which they would be evicted if nothing else happened, first victim first.
    /// For snapshots and tests; O(n log n) at most.
    fn order(&self) -> Vec<Slot>;

    /// Recounts the policy's own structures from scratch and panics, naming the invariant, if they disagree. Called by
    /// tests only; does nothing by default.
    fn check_invariants(&self) {}
}
