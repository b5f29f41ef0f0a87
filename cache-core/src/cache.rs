//! The concurrent cache: routing to shards, and what must happen outside their locks.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::builder::Builder;
use crate::clock::saturating_nanos;
use crate::insert::{InsertError, Insertion};
use crate::lock::{Lock, LockGuard, wait_for_lock};
use crate::policy::Policy;
use crate::removal::{RemovalCause, Removals};
use crate::rules::{Incoming, Rules, SharedRules};
use crate::shard::{Placed, Shard};
use crate::stats::StatsSnapshot;
use crate::{DefaultHashBuilder, Slot};

/// One shard behind its lock, on cache lines of its own.
///
/// The second field keeps it `Sync` only where keys and values are, which the lock alone would not ask for: a table that is
/// read without a lock would:
///
/// ```compile_fail,E0277
/// use tenfold_cache_core::{Cache, Policy};
///
/// fn is_sync<T: Sync>() {}
/// fn check<P: Policy>() { is_sync::<Cache<u64, std::cell::Cell<u8>, P>>() }
/// ```
///
/// ```
/// use tenfold_cache_core::{Cache, Policy};
///
/// fn is_sync<T: Sync>() {}
/// fn check<P: Policy>() { is_sync::<Cache<u64, u8, P>>() }
/// ```
#[repr(align(128))]
pub(crate) struct Locked<K, V, P>(Lock<Shard<K, V, P>>, PhantomData<(K, V)>);

/// A bounded map that threads and tasks share and that evicts by the policy `P`.
///
/// A handle: clones share one cache. Every operation is linearizable for its key. The sum of the entries' weights
/// never exceeds the capacity, at any instant. What runs under a shard's lock is `Hash`, `Eq` and `Clone` of keys and
/// `Clone` of values, nothing else of the caller's.
pub struct Cache<K, V, P, S = DefaultHashBuilder> {
    shards: Arc<[Locked<K, V, P>]>,
    pub(crate) rules: SharedRules<K, V, S>,
}

impl<K, V, P, S> Clone for Cache<K, V, P, S> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), rules: Arc::clone(&self.rules) }
    }
}

impl<K: Hash + Eq, V, P: Policy + Default> Cache<K, V, P> {
    /// A cache for `capacity` entries, with default settings. Capacity 0 makes a cache that stores nothing.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self::builder().capacity(capacity).build().expect("the default configuration is valid for every capacity")
    }

    /// Sets up a cache that needs more than a capacity.
    #[must_use]
    pub fn builder() -> Builder<K, V, P> {
        Builder::default()
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    pub(crate) fn from_rules(policy: &P, rules: Rules<K, V, S>, shards: usize) -> Self {
        let share = rules.budget.capacity() / shards as u64;
        let shards = (0..shards).map(|number| {
            let mut shard = Shard::new(policy.clone(), &rules, number as u64);
            shard.resized(share);
            Locked(Lock::new(shard), PhantomData)
        });
        Self { shards: shards.collect(), rules: Arc::new(rules) }
    }

    // ---- routing ----

    /// The number of the shard that this hash belongs to. The table inside a shard uses the lowest and the highest
    /// bits, so the choice of the shard uses others.
    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    fn shard_number(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.shards.len() - 1)
    }

    #[inline]
    pub(crate) fn lock(&self, hash: u64) -> LockGuard<'_, Shard<K, V, P>> {
        self.shards[self.shard_number(hash)].0.lock()
    }

    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.rules.hash(key)
    }

    // ---- look-ups ----

    /// The value of a key, counting as a use of it.
    ///
    /// The value is cloned under the shard's lock: keep anything big in an `Arc`.
    ///
    /// # Complexity
    /// O(1), if the policy's hit is; no allocation beyond what that and `V::clone` do.
    #[inline]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        self.get_hashed(self.hash(key), key)
    }

    #[inline]
    pub(crate) fn get_hashed<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        if self.rules.is_timed() {
            return self.get_timed(hash, key);
        }
        // A path that may call a function begins with saving registers, and the lock waits for each such store.
        match self.shards[self.shard_number(hash)].0.try_lock() {
            Some(shard) => hit_for_ever(shard, hash, key),
            None => self.get_contended(hash, key),
        }
    }

    #[inline(never)]
    fn get_timed<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        let now = self.rules.now();
        let mut shard = self.lock(hash);
        let (_, value) = shard.hit(hash, key, now)?;
        Some(value.clone())
    }

    #[cold]
    #[inline(never)]
    fn get_contended<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        hit_for_ever(wait_for_lock(&self.shards[self.shard_number(hash)].0), hash, key)
    }

    /// The value of a key, without counting as a use: neither the eviction order, nor the time to idle, nor the
    /// statistics notice.
    pub fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        let hash = self.hash(key);
        let now = self.rules.now();
        let shard = self.lock(hash);
        let slot = shard.find_fresh(hash, key, now)?;
        Some(shard.value(slot).clone())
    }

    /// Whether a live entry is there. Counts as no use.
    #[doc(alias = "contains_key")]
    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let hash = self.hash(key);
        let now = self.rules.now();
        self.lock(hash).find_fresh(hash, key, now).is_some()
    }

    /// How long the entry may still be served if nobody touches it; `None` if there is no live entry,
    /// `Some(Duration::MAX)` if it has no limit.
    #[doc(alias = "ttl")]
    pub fn time_left<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        let hash = self.hash(key);
        let now = self.rules.now();
        let shard = self.lock(hash);
        let slot = shard.find_fresh(hash, key, now)?;
        let left = shard.remaining(slot, now);
        Some(left.map_or(Duration::MAX, Duration::from_nanos))
    }

    // ---- insertion ----

    /// Stores a value and returns the live one that it replaces.
    ///
    /// An entry that cannot be stored (heavier than the whole capacity, or all the rest is pinned) is treated as
    /// inserted and at once evicted: the listener sees it with [`RemovalCause::Size`], `rejections` counts it, and an
    /// older value of the key is gone, because it is out of date. [`try_insert`](Self::try_insert) hands such an
    /// entry back instead.
    ///
    /// # Complexity
    /// O(1) amortised, plus one eviction for each entry that must go.
    #[doc(alias = "put")]
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        self.insert_or_drop(key, value, None)
    }

    /// Stores a value with a time to live of its own, which goes before `expiry` and `time_to_live`; `time_to_idle` still
    /// applies. A zero duration stores nothing: the entry expires as it comes.
    pub fn insert_with_ttl(&self, key: K, value: V, time_to_live: Duration) -> Option<V> {
        self.insert_or_drop(key, value, Some(time_to_live))
    }

    fn insert_or_drop(&self, key: K, value: V, time_to_live: Option<Duration>) -> Option<V> {
        match self.store(key, value, time_to_live) {
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
    /// date; other entries stay unless they were evicted while room was sought.
    pub fn try_insert(&self, key: K, value: V) -> Result<Option<V>, InsertError<K, V>> {
        self.store(key, value, None)
    }

    /// Stores a value, with a time to live of its own if one is given.
    pub(crate) fn store(
        &self,
        key: K,
        value: V,
        time_to_live: Option<Duration>,
    ) -> Result<Option<V>, InsertError<K, V>> {
        let hash = self.hash(&key);
        let incoming = self.incoming(hash, key, value, time_to_live);
        match self.place_if(incoming, |_| true) {
            Insertion::Stored(old) => Ok(old.map(|(_, value)| value)),
            Insertion::Refused(error) => Err(error),
            Insertion::Void(..) => unreachable!("the condition always holds"),
        }
    }

    pub(crate) fn incoming(&self, hash: u64, key: K, value: V, time_to_live: Option<Duration>) -> Incoming<K, V> {
        if time_to_live.is_some() {
            self.rules.set_timed();
        }
        let now = self.rules.now();
        let mut incoming = self.rules.incoming(hash, key, value, now);
        if let Some(own) = time_to_live {
            incoming.time_to_live = Some(saturating_nanos(own));
        }
        incoming
    }

    /// Stores an entry if `condition` holds of its shard at the moment of storing. Storing it, or failing to, voids
    /// what is pending for the key.
    pub(crate) fn place_if(
        &self,
        incoming: Incoming<K, V>,
        condition: impl FnMut(&Shard<K, V, P>) -> bool,
    ) -> Insertion<K, V> {
        let mut out = Removals::new();
        let outcome = self.place_or_refuse(incoming, condition, &mut out);
        if let Insertion::Stored(Some((key, old))) = &outcome {
            self.rules.tell(key, old, RemovalCause::Replaced);
        }
        self.rules.deliver(out);
        outcome
    }

    fn place_or_refuse(
        &self,
        mut incoming: Incoming<K, V>,
        mut condition: impl FnMut(&Shard<K, V, P>) -> bool,
        out: &mut Removals<K, V>,
    ) -> Insertion<K, V> {
        let hash = incoming.hash;
        let mut in_vain = false;
        for _ in 0..MAX_ROUNDS {
            let mut shard = self.lock(hash);
            if !condition(&shard) {
                return Insertion::Void(incoming.key, incoming.value);
            }
            if incoming.time_to_live == Some(0) {
                let old = shard.pass_by(incoming, &self.rules, out);
                return Insertion::Stored(old);
            }
            let capacity = self.rules.budget.capacity();
            if incoming.weight > capacity {
                shard.refuse(hash, &incoming.key, incoming.now, &self.rules, out);
                return Insertion::Refused(InsertError::TooHeavy {
                    key: incoming.key,
                    value: incoming.value,
                    weight: incoming.weight,
                    capacity,
                });
            }
            match shard.place(incoming, &self.rules, out) {
                Placed::Inserted => return Insertion::Stored(None),
                Placed::Replaced(key, old) => return Insertion::Stored(Some((key, old))),
                Placed::Rejected(Incoming { key, value, now, .. }) => {
                    shard.refuse(hash, &key, now, &self.rules, out);
                    return Insertion::Refused(InsertError::NotAdmitted { key, value });
                }
                Placed::NoRoom(back) => incoming = back,
            }
            // What an older value of the key weighs need not be found again.
            let missing = incoming.weight - shard.weight_under(hash, &incoming.key).min(incoming.weight);
            drop(shard);
            // Once more after nothing was found elsewhere: it may have come to the entry's own shard.
            let found = self.make_room_elsewhere(missing, &incoming, out);
            if !found && std::mem::replace(&mut in_vain, true) {
                break;
            }
        }
        let mut shard = self.lock(hash);
        if !condition(&shard) {
            return Insertion::Void(incoming.key, incoming.value);
        }
        let Incoming { key, value, now, .. } = incoming;
        shard.refuse(hash, &key, now, &self.rules, out);
        Insertion::Refused(InsertError::NoRoom { key, value })
    }

    /// Evicts from the shards other than the entry's own, one lock at a time, until the account has room for
    /// `missing` units. False if it has not in the end.
    fn make_room_elsewhere(&self, missing: u64, incoming: &Incoming<K, V>, out: &mut Removals<K, V>) -> bool {
        let budget = &self.rules.budget;
        let has_room = || budget.used().checked_add(missing).is_some_and(|sum| sum <= budget.capacity());
        let home = self.shard_number(incoming.hash);
        for step in 1..self.shards.len() {
            if has_room() {
                return true;
            }
            let number = (home + step) % self.shards.len();
            let mut shard = self.shards[number].0.lock();
            while !has_room() && shard.evict_one(incoming.now, &self.rules, out) {}
        }
        has_room()
    }

    // ---- removal ----

    /// Removes a key's entry and returns its live value. Whatever is being loaded or leased for the key at this
    /// moment will not be stored: after a write to the source, `remove` leaves nothing stale behind.
    #[doc(alias = "invalidate")]
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, value, cause) = self.remove_entry_inner(key)?;
        self.rules.tell(&key, &value, cause);
        (cause == RemovalCause::Explicit).then_some(value)
    }

    fn remove_entry_inner<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(K, V, RemovalCause)>
    where
        K: Borrow<Q>,
    {
        let hash = self.hash(key);
        let now = self.rules.now();
        let mut shard = self.lock(hash);
        let voided = shard.void(hash, key);
        let removed = shard.remove(hash, key, now, &self.rules);
        drop(shard);
        drop(voided);
        removed
    }

    /// Runs `write` (an update of the source) between two removals of the key, so that no reader can leave the old
    /// value behind: invalidate-on-write. Returns what `write` returned; the second removal happens even if it
    /// panics.
    ///
    /// For a write that is a future: [`remove`](Self::remove) the key, await the write and remove the key again, in a task
    /// that goes on to the end if its caller is cancelled (a spawned one, say).
    pub fn write_around<Q: Hash + Eq + ?Sized, T>(&self, key: &Q, write: impl FnOnce() -> T) -> T
    where
        K: Borrow<Q>,
    {
        self.remove(key);
        let _after = OnDrop(|| drop(self.remove(key)));
        write()
    }

    /// Writes a value to the source and then to the cache: write-through. If `write` fails or panics, the cache forgets
    /// the key, since nobody knows what the source holds now.
    ///
    /// Concurrent writers of one key may reach the source in one order and the cache in another; where that can
    /// happen, use [`write_around`](Self::write_around).
    ///
    /// # Errors
    /// What `write` returned.
    pub fn write_through<E>(&self, key: K, value: V, write: impl FnOnce(&K, &V) -> Result<(), E>) -> Result<(), E> {
        let forget = OnDrop(|| drop(self.remove(&key)));
        write(&key, &value)?;
        std::mem::forget(forget);
        self.insert(key, value);
        Ok(())
    }

    /// Removes every entry, and voids all that is pending. Shard by shard: entries inserted meanwhile may stay.
    #[doc(alias = "invalidate_all")]
    pub fn clear(&self) {
        let now = self.rules.now();
        for shard in self.shards.iter() {
            let mut out = Removals::new();
            let voided = shard.0.lock().clear(now, &self.rules, &mut out);
            drop(voided);
            self.rules.deliver(out);
        }
    }

    /// Keeps only the entries for which `keep` returns true.
    ///
    /// `keep` runs outside locks, on clones, and may call the cache. An entry written while it ran is left alone. What is
    /// being loaded or leased when this is called is not stored, since `keep` might have refused it.
    ///
    /// # Complexity
    /// O(n); a shard's lock is held for 64 entries at a time.
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool)
    where
        K: Clone,
        V: Clone,
    {
        // What is being loaded may be what `keep` would refuse.
        for shard in self.shards.iter() {
            let voided = shard.0.lock().pending.clear();
            drop(voided);
        }
        for batch in self.batches() {
            let doomed: Vec<_> = batch
                .entries
                .into_iter()
                .filter(|entry| !keep(&entry.key, &entry.value))
                .map(|entry| (entry.slot, entry.generation))
                .collect();
            self.remove_unchanged(batch.shard, &doomed);
        }
    }

    /// Removes those of the entries that have not been written since they were seen, and voids what is on its way to
    /// take their places.
    fn remove_unchanged(&self, number: usize, entries: &[(Slot, u32)]) {
        let mut out = Removals::new();
        let mut voided = Vec::new();
        let mut shard = self.shards[number].0.lock();
        for &(slot, generation) in entries {
            if shard.generation(slot) == Some(generation) {
                let (key, value) = shard.detach(slot, &self.rules);
                shard.counters.removals += 1;
                if shard.is_any_pending() {
                    voided.push(shard.void(self.hash(&key), &key));
                }
                out.push(key, value, RemovalCause::Explicit);
            }
        }
        drop(shard);
        drop(voided);
        self.rules.deliver(out);
    }

    // ---- the whole ----

    /// The number of entries, expired ones that are not collected yet included: a write collects some of its own shard,
    /// [`collect_expired`](Self::collect_expired) all.
    ///
    /// # Complexity
    /// O(shards), each locked in turn: the sum need not have been right at any one instant.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.0.lock().len() == 0)
    }

    /// The sum of the entries' weights, reservations of insertions in progress included. Never above the capacity,
    /// unless that was lowered below the weight of pinned entries.
    pub fn weight(&self) -> u64 {
        self.rules.budget.used()
    }

    /// The largest sum of weights.
    pub fn capacity(&self) -> u64 {
        self.rules.budget.capacity()
    }

    /// The number of shards.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// What the cache has done so far.
    ///
    /// # Complexity
    /// O(shards), each locked in turn.
    pub fn stats(&self) -> StatsSnapshot {
        let mut stats = StatsSnapshot::default();
        for shard in self.shards.iter() {
            shard.0.lock().add_stats(&mut stats);
        }
        stats
    }

    /// Changes the capacity. Lowering it evicts at once, evenly over the shards; pinned entries stay, and as long as
    /// they alone exceed the capacity every insertion is refused.
    ///
    /// # Complexity
    /// O(shards and evicted entries), a few under one hold of a shard's lock.
    #[doc(alias = "set_capacity")]
    pub fn resize(&self, capacity: u64) {
        self.rules.budget.set_capacity(capacity);
        let share = capacity / self.shards.len() as u64;
        for shard in self.shards.iter() {
            shard.0.lock().resized(share);
        }
        self.evict_excess();
    }

    /// Evicts until the account is no longer overdrawn, a few entries a shard in turn.
    fn evict_excess(&self) {
        let now = self.rules.now();
        let mut idle_shards = 0;
        for number in (0..self.shards.len()).cycle() {
            if self.rules.budget.excess() == 0 || idle_shards == self.shards.len() {
                return;
            }
            let mut out = Removals::new();
            let mut shard = self.shards[number].0.lock();
            let mut evicted = 0;
            while evicted < EVICTED_PER_TURN
                && self.rules.budget.excess() > 0
                && shard.evict_one(now, &self.rules, &mut out)
            {
                evicted += 1;
            }
            drop(shard);
            idle_shards = if evicted == 0 { idle_shards + 1 } else { 0 };
            self.rules.deliver(out);
        }
    }

    /// Protects an entry from eviction until it is unpinned or leaves in another way (removed, replaced by nothing,
    /// expired). False if there is no live entry. A pinned entry counts fully towards the capacity, and replacing its
    /// value leaves it pinned.
    pub fn pin<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.set_pinned(key, true)
    }

    /// Ends the protection; the entry enters the eviction order as a newcomer. False if there is no live entry.
    pub fn unpin<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let found = self.set_pinned(key, false);
        if self.rules.budget.excess() > 0 {
            self.evict_excess();
        }
        found
    }

    fn set_pinned<Q: Hash + Eq + ?Sized>(&self, key: &Q, pinned: bool) -> bool
    where
        K: Borrow<Q>,
    {
        let hash = self.hash(key);
        let now = self.rules.now();
        let mut shard = self.lock(hash);
        let Some(slot) = shard.find_fresh(hash, key, now) else {
            return false;
        };
        shard.set_pinned(slot, hash, pinned);
        true
    }

    /// Collects expired entries now rather than with later writes; returns how many.
    ///
    /// Never needed for correctness: expired entries are not served, and each write collects a few. Worth calling
    /// where values should be dropped although nobody writes (tables keep their size for what comes next), for instance at
    /// [`next_expiry`](Self::next_expiry).
    pub fn collect_expired(&self) -> usize {
        let now = self.rules.now();
        let mut collected = 0;
        for shard in self.shards.iter() {
            loop {
                let mut out = Removals::new();
                let mut locked = shard.0.lock();
                let before = locked.len();
                let done = locked.collect(now, (COLLECTED_PER_LOCK, MOVED_PER_LOCK), &self.rules, &mut out);
                collected += before - locked.len();
                drop(locked);
                self.rules.deliver(out);
                if done {
                    break;
                }
            }
        }
        collected
    }

    /// An instant before which no entry needs to be collected; `None` if none will ever expire.
    pub fn next_expiry(&self) -> Option<Instant> {
        let deadlines = self.shards.iter();
        let next = deadlines.filter_map(|shard| shard.0.lock().next_deadline()).min()?;
        self.rules.timeline.instant(next)
    }

    /// The keys that eviction would take, in that order, shard after shard: each shard evicts its own first.
    pub fn eviction_order(&self) -> Vec<Vec<K>>
    where
        K: Clone,
    {
        let order = |shard: &Locked<K, V, P>| {
            let mut shard = shard.0.lock();
            let slots = shard.eviction_order();
            slots.into_iter().map(|slot| shard.key(slot).clone()).collect()
        };
        self.shards.iter().map(order).collect()
    }

    pub(crate) fn lock_shard(&self, number: usize) -> Option<LockGuard<'_, Shard<K, V, P>>> {
        self.shards.get(number).map(|shard| shard.0.lock())
    }

    /// Checks every structure from scratch.
    ///
    /// # Panics
    /// If an invariant is broken, naming it. Only meaningful while nobody else uses the cache.
    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub fn check_invariants(&self) {
        let shards = self.shards.iter();
        let weight: u64 = shards.map(|s| s.0.lock().check_invariants(&self.rules)).sum();
        assert_eq!(weight, self.weight(), "B1: the account differs from the entries");
    }
}

/// The value of a key in a cache where nothing expires.
#[inline(always)]
fn hit_for_ever<K, V, P, Q>(mut shard: LockGuard<'_, Shard<K, V, P>>, hash: u64, key: &Q) -> Option<V>
where
    K: Hash + Eq + Borrow<Q>,
    V: Clone,
    P: Policy,
    Q: Eq + ?Sized,
{
    let (_, value) = shard.hit_for_ever(hash, key)?;
    Some(value.clone())
}

/// Does something at the end of a scope, however that is left.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// How often an insertion that finds its own shard empty seeks room elsewhere before it is refused. Only a race with
/// other insertions makes a second round necessary.
const MAX_ROUNDS: usize = 64;

/// Entries that a lowered capacity takes from one shard before the next shard's turn.
const EVICTED_PER_TURN: usize = 16;

/// Expired entries collected under one hold of a lock.
const COLLECTED_PER_LOCK: usize = 64;

/// Entries moved in the timer wheel under one hold of a lock.
const MOVED_PER_LOCK: usize = 1_024;

impl<K, V, P, S> fmt::Debug for Cache<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &self.rules.budget.capacity())
            .field("weight", &self.rules.budget.used())
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}
