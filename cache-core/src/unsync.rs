//! The cache for one thread: no locks, references instead of clones.

mod load;

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::builder::Builder;
use crate::clock::saturating_nanos;
use crate::insert::InsertError;
use crate::policy::Policy;
use crate::removal::{RemovalCause, Removals};
use crate::rules::{Incoming, Rules};
use crate::shard::{Placed, Shard};
use crate::stats::StatsSnapshot;
use crate::{Change, DefaultHashBuilder};

/// A bounded map for one thread that evicts by the policy `P`.
///
/// The same engine as the concurrent [`Cache`](crate::Cache) with one shard, so the eviction order is the policy's own
/// to the letter. Look-ups that count as a use take `&mut self`. A load is waited for by nobody else, and nobody can write
/// meanwhile: so there are no leases and no refresh-ahead, and what the configuration says of these, and of `load_timeout`,
/// has no effect.
pub struct Cache<K, V, P, S = DefaultHashBuilder> {
    pub(crate) shard: Shard<K, V, P>,
    pub(crate) rules: Rules<K, V, S>,
}

impl<K: Hash + Eq, V, P: Policy + Default> Cache<K, V, P> {
    /// A cache for `capacity` entries, with default settings. Capacity 0 makes a cache that stores nothing.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self::builder()
            .capacity(capacity)
            .build_unsync()
            .expect("the default configuration is valid for every capacity")
    }

    /// Sets up a cache that needs more than a capacity; finish with [`Builder::build_unsync`].
    #[must_use]
    pub fn builder() -> Builder<K, V, P> {
        Builder::default()
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    pub(crate) fn from_rules(policy: P, rules: Rules<K, V, S>) -> Self {
        let mut shard = Shard::new(policy, &rules, 0);
        shard.resized(rules.budget.capacity());
        Self { shard, rules }
    }

    // ---- look-ups ----

    /// The value of a key, counting as a use of it.
    ///
    /// # Complexity
    /// O(1), if the policy's hit is; no allocation beyond what that does.
    #[inline]
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let hash = self.rules.hash(key);
        let now = self.rules.now();
        let (_, value) = self.shard.hit(hash, key, now)?;
        Some(value)
    }

    /// The value of a key, without counting as a use.
    pub fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let slot = self.shard.find_fresh(self.rules.hash(key), key, self.rules.now())?;
        Some(self.shard.value(slot))
    }

    /// Whether a live entry is there. Counts as no use.
    #[doc(alias = "contains_key")]
    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.peek(key).is_some()
    }

    /// How long the entry may still be served if nobody touches it; `None` if there is no live entry,
    /// `Some(Duration::MAX)` if it has no limit.
    pub fn time_left<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        let now = self.rules.now();
        let slot = self.shard.find_fresh(self.rules.hash(key), key, now)?;
        let left = self.shard.remaining(slot, now);
        Some(left.map_or(Duration::MAX, Duration::from_nanos))
    }

    // ---- insertion ----

    /// Stores a value and returns the live one that it replaces. An entry that cannot be stored is dropped, as if it
    /// had been inserted and at once evicted; [`try_insert`](Self::try_insert) hands it back instead.
    #[doc(alias = "put")]
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let incoming = self.incoming(key, value, None);
        self.insert_or_drop(incoming)
    }

    /// Stores a value with a time to live of its own, which goes before `expiry` and `time_to_live`; `time_to_idle` still
    /// applies. A zero duration stores nothing: the entry expires as it comes.
    pub fn insert_with_ttl(&mut self, key: K, value: V, time_to_live: Duration) -> Option<V> {
        let incoming = self.incoming(key, value, Some(time_to_live));
        self.insert_or_drop(incoming)
    }

    fn insert_or_drop(&mut self, incoming: Incoming<K, V>) -> Option<V> {
        match self.place(incoming) {
            Ok(old) => old,
            Err(refused) => {
                let (key, value) = refused.into_parts();
                self.rules.tell(&key, &value, RemovalCause::Size);
                None
            }
        }
    }

    /// Stores a value and returns the live one that it replaces, or hands key and value back.
    ///
    /// # Errors
    /// [`InsertError`], with key and value. An older value of the key is gone in this case, because it is out of
    /// date.
    pub fn try_insert(&mut self, key: K, value: V) -> Result<Option<V>, InsertError<K, V>> {
        let incoming = self.incoming(key, value, None);
        self.place(incoming)
    }

    pub(crate) fn incoming(&self, key: K, value: V, time_to_live: Option<Duration>) -> Incoming<K, V> {
        if time_to_live.is_some() {
            self.rules.set_timed();
        }
        let hash = self.rules.hash(&key);
        let now = self.rules.now();
        let mut incoming = self.rules.incoming(hash, key, value, now);
        if let Some(own) = time_to_live {
            incoming.time_to_live = Some(saturating_nanos(own));
        }
        incoming
    }

    pub(crate) fn place(&mut self, incoming: Incoming<K, V>) -> Result<Option<V>, InsertError<K, V>> {
        let mut out = Removals::new();
        let result = self.place_or_refuse(incoming, &mut out);
        if let Ok(Some((key, old))) = &result {
            self.rules.tell(key, old, RemovalCause::Replaced);
        }
        self.rules.deliver(out);
        result.map(|replaced| replaced.map(|(_, old)| old))
    }

    fn place_or_refuse(
        &mut self,
        incoming: Incoming<K, V>,
        out: &mut Removals<K, V>,
    ) -> Result<Option<(K, V)>, InsertError<K, V>> {
        let Self { shard, rules } = self;
        if incoming.time_to_live == Some(0) {
            return Ok(shard.pass_by(incoming, rules, out));
        }
        let capacity = rules.budget.capacity();
        if incoming.weight > capacity {
            shard.refuse(incoming.hash, &incoming.key, incoming.now, rules, out);
            return Err(InsertError::TooHeavy {
                key: incoming.key,
                value: incoming.value,
                weight: incoming.weight,
                capacity,
            });
        }
        let (admitted, back) = match shard.place(incoming, rules, out) {
            Placed::Inserted => return Ok(None),
            Placed::Replaced(key, old) => return Ok(Some((key, old))),
            Placed::Rejected(back) => (false, back),
            Placed::NoRoom(back) => (true, back),
        };
        shard.refuse(back.hash, &back.key, back.now, rules, out);
        let Incoming { key, value, .. } = back;
        Err(if admitted { InsertError::NoRoom { key, value } } else { InsertError::NotAdmitted { key, value } })
    }

    /// The value of a key, that of `make` being stored first if there is none. `None` if the new entry was refused.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> Option<&V>
    where
        K: Clone,
    {
        let made: Result<_, Infallible> = self.get_or_try_insert_with(key, || Ok(make()));
        match made {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Like [`get_or_insert_with`](Self::get_or_insert_with) with a maker that may fail; nothing is stored then.
    ///
    /// # Errors
    /// What `make` returned.
    pub fn get_or_try_insert_with<E>(&mut self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<Option<&V>, E>
    where
        K: Clone,
    {
        let hash = self.rules.hash(&key);
        let now = self.rules.now();
        if let Some((slot, _)) = self.shard.hit(hash, &key, now) {
            return Ok(Some(self.shard.value(slot)));
        }
        let value = make()?;
        self.insert(key.clone(), value);
        let found = self.shard.find_fresh(hash, &key, now);
        Ok(found.map(|slot| self.shard.value(slot)))
    }

    /// Starts a conditional update of this key. Nothing happens before one of the [`Entry`]'s methods is called.
    ///
    /// # Examples
    /// ```
    /// # use tenfold_cache_core::{Hit, Newcomer, Policy, Slot, unsync};
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
    /// # let mut words: unsync::Cache<&str, u32, Fifo> = unsync::Cache::new(10);
    /// for word in ["to", "be", "or", "not", "to", "be"] {
    ///     words.entry(word).and_modify(|count| *count += 1).or_insert(1);
    /// }
    /// assert_eq!(words.peek("to"), Some(&2));
    /// ```
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V, P, S> {
        Entry { cache: self, key }
    }

    /// Changes a live value in place and weighs it again; counts as a use and starts its times anew, as
    /// [`insert`](Self::insert) does: one that [`insert_with_ttl`](Self::insert_with_ttl) gave is not kept. Returns what
    /// `change` returned, `None` if there is no live entry. An entry grown heavier than the capacity leaves with
    /// [`RemovalCause::Size`]. If `change` panics, what it has made of the value until then stays, weighed again.
    #[doc(alias = "get_mut")]
    pub fn update<Q: Hash + Eq + ?Sized, T>(&mut self, key: &Q, change: impl FnOnce(&mut V) -> T) -> Option<T>
    where
        K: Borrow<Q>,
    {
        let hash = self.rules.hash(key);
        let now = self.rules.now();
        let (slot, _) = self.shard.hit(hash, key, now)?;
        let value = self.shard.value_mut(slot);
        if self.rules.weigher.is_none() && !self.rules.is_timed() {
            return Some(change(value));
        }
        // Weight and times depend on the value, and a change that panics may have made half of a new one. What panics in
        // here is the host's, and goes on to the host.
        let result = catch_unwind(AssertUnwindSafe(|| change(value)));
        self.rewrite(hash, key, now);
        match result {
            Ok(result) => Some(result),
            Err(panic) => resume_unwind(panic),
        }
    }

    fn rewrite<Q: Hash + Eq + ?Sized>(&mut self, hash: u64, key: &Q, now: u64)
    where
        K: Borrow<Q>,
    {
        let mut out = Removals::new();
        let refused = self.shard.rewritten(hash, key, now, &self.rules, &mut out);
        self.rules.deliver(out);
        if let Some((key, value)) = refused {
            self.rules.tell(&key, &value, RemovalCause::Size);
        }
    }

    /// Stores, removes or keeps, depending on the live value, in one look-up of the caller's. Returns the value that
    /// is there afterwards.
    pub fn compute(&mut self, key: K, decide: impl FnOnce(Option<&V>) -> Change<V>) -> Option<&V>
    where
        K: Clone,
    {
        match decide(self.peek(&key)) {
            Change::Keep => {}
            Change::Remove => {
                self.remove(&key);
            }
            Change::Put(value) => {
                self.insert(key.clone(), value);
            }
            Change::PutWithTtl(value, time_to_live) => {
                self.insert_with_ttl(key.clone(), value, time_to_live);
            }
        }
        self.peek(&key)
    }

    // ---- removal ----

    /// Removes a key's entry and returns its live value.
    #[doc(alias = "pop")]
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hash = self.rules.hash(key);
        drop(self.shard.void(hash, key));
        let (key, value, cause) = self.shard.remove(hash, key, self.rules.now(), &self.rules)?;
        self.rules.tell(&key, &value, cause);
        (cause == RemovalCause::Explicit).then_some(value)
    }

    /// Removes and returns the entry that would be evicted next.
    #[doc(alias = "pop_lru")]
    pub fn pop_victim(&mut self) -> Option<(K, V)> {
        self.collect_expired();
        let now = self.rules.now();
        loop {
            let slot = self.shard.victim()?;
            let (key, value, cause) = self.shard.leave(slot, now, &self.rules);
            self.rules.tell(&key, &value, cause);
            // Expired entries that are kept for failing loads are no answer.
            if cause == RemovalCause::Explicit {
                return Some((key, value));
            }
        }
    }

    /// Removes every entry.
    pub fn clear(&mut self) {
        let mut out = Removals::new();
        drop(self.shard.clear(self.rules.now(), &self.rules, &mut out));
        self.rules.deliver(out);
    }

    /// Keeps only the live entries for which `keep` returns true. Expired ones leave as well.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.collect_expired();
        let slots: Vec<_> = self.shard.fresh_slots(0, self.rules.now()).collect();
        let mut out = Removals::new();
        for slot in slots {
            if !keep(self.shard.key(slot), self.shard.value(slot)) {
                let (key, value) = self.shard.detach(slot, &self.rules);
                self.shard.counters.removals += 1;
                out.push(key, value, RemovalCause::Explicit);
            }
        }
        self.rules.deliver(out);
    }

    // ---- the whole ----

    /// The number of entries, expired ones that are not collected yet included.
    pub fn len(&self) -> usize {
        self.shard.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.shard.len() == 0
    }

    /// The sum of the entries' weights.
    pub fn weight(&self) -> u64 {
        self.rules.budget.used()
    }

    /// The largest sum of weights.
    pub fn capacity(&self) -> u64 {
        self.rules.budget.capacity()
    }

    /// What the cache has done so far.
    pub fn stats(&self) -> StatsSnapshot {
        let mut stats = StatsSnapshot::default();
        self.shard.add_stats(&mut stats);
        stats
    }

    /// Visits the live entries in no particular order, without counting as a use of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let slots = self.shard.fresh_slots(0, self.rules.now());
        slots.map(|slot| (self.shard.key(slot), self.shard.value(slot)))
    }

    /// The live evictable entries in eviction order, first victim first. O(n log n) at most.
    pub fn iter_by_eviction(&self) -> impl Iterator<Item = (&K, &V)> {
        let now = self.rules.now();
        let slots = self.shard.foretold_order().into_iter().filter(move |&slot| self.shard.is_fresh(slot, now));
        slots.map(|slot| (self.shard.key(slot), self.shard.value(slot)))
    }

    /// Changes the capacity. Lowering it evicts at once; pinned entries stay, and as long as they alone exceed the
    /// capacity every insertion is refused.
    #[doc(alias = "set_capacity")]
    pub fn resize(&mut self, capacity: u64) {
        self.rules.budget.set_capacity(capacity);
        self.shard.resized(capacity);
        self.evict_excess();
    }

    fn evict_excess(&mut self) {
        let now = self.rules.now();
        let mut out = Removals::new();
        while self.rules.budget.excess() > 0 && self.shard.evict_one(now, &self.rules, &mut out) {}
        self.rules.deliver(out);
    }

    /// Protects an entry from eviction until it is unpinned, removed or expired. False if there is no live entry.
    pub fn pin<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.set_pinned(key, true)
    }

    /// Ends the protection; the entry enters the eviction order as a newcomer. False if there is no live entry.
    pub fn unpin<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let found = self.set_pinned(key, false);
        self.evict_excess();
        found
    }

    fn set_pinned<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, pinned: bool) -> bool
    where
        K: Borrow<Q>,
    {
        let hash = self.rules.hash(key);
        let Some(slot) = self.shard.find_fresh(hash, key, self.rules.now()) else {
            return false;
        };
        self.shard.set_pinned(slot, hash, pinned);
        true
    }

    /// Collects expired entries now rather than with later writes; returns how many.
    pub fn collect_expired(&mut self) -> usize {
        let before = self.len();
        let mut out = Removals::new();
        self.shard.collect(self.rules.now(), (usize::MAX, usize::MAX), &self.rules, &mut out);
        self.rules.deliver(out);
        before - self.len()
    }

    /// An instant before which no entry needs to be collected; `None` if none will ever expire.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.rules.timeline.instant(self.shard.next_deadline()?)
    }

    /// Checks every structure from scratch.
    ///
    /// # Panics
    /// If an invariant is broken, naming it.
    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub fn check_invariants(&self) {
        let weight = self.shard.check_invariants(&self.rules);
        assert_eq!(weight, self.weight(), "B1: the account differs from the entries");
    }
}

impl<K, V, P, S> fmt::Debug for Cache<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &self.rules.budget.capacity())
            .field("weight", &self.rules.budget.used())
            .finish_non_exhaustive()
    }
}

/// One key of a cache, to be updated depending on what is there; made by [`Cache::entry`].
#[must_use = "nothing happens before one of its methods is called"]
pub struct Entry<'a, K, V, P, S = DefaultHashBuilder> {
    cache: &'a mut Cache<K, V, P, S>,
    key: K,
}

impl<'a, K: Hash + Eq + Clone, V, P: Policy, S: BuildHasher> Entry<'a, K, V, P, S> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The value, `value` being stored first if there is none. Counts as a use. `None` if the new entry was refused.
    pub fn or_insert(self, value: V) -> Option<&'a V> {
        self.or_insert_with(|| value)
    }

    /// The value, that of `make` being stored first if there is none. Counts as a use. `None` if the new entry was
    /// refused.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> Option<&'a V> {
        self.cache.get_or_insert_with(self.key, make)
    }

    /// Changes the value in place if there is one, as [`Cache::update`] does.
    pub fn and_modify(self, change: impl FnOnce(&mut V)) -> Self {
        self.cache.update(&self.key, change);
        self
    }

    /// Stores, removes or keeps, depending on the live value, as [`Cache::compute`] does.
    pub fn and_compute(self, decide: impl FnOnce(Option<&V>) -> Change<V>) -> Option<&'a V> {
        self.cache.compute(self.key, decide)
    }
}

impl<K: fmt::Debug, V, P, S> fmt::Debug for Entry<'_, K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).finish_non_exhaustive()
    }
}
