//! What the engine tells a policy: weights and misses, whatever a hit needs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tenfold_cache_core::testing::{Rng, for_each_seed, steps};
use tenfold_cache_core::{Builder, Hit, Newcomer, Policy, Slot, unsync};

/// Evicts the lowest slot, and writes down what it is told.
#[derive(Clone, Default)]
struct Diary<const HIT: u8>(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    /// By slot.
    weights: BTreeMap<Slot, u64>,
    misses: u64,
}

impl<const HIT: u8> Policy for Diary<HIT> {
    const HIT: Hit = [Hit::Exclusive, Hit::Shared, Hit::Ignored][HIT as usize];

    fn insert(&mut self, slot: Slot, newcomer: Newcomer) {
        let before = self.0.lock().unwrap().weights.insert(slot, newcomer.weight);
        assert_eq!(before, None, "L1: {slot:?} is tracked already");
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        let before = self.0.lock().unwrap().weights.insert(slot, weight);
        assert!(before.is_some_and(|before| before != weight), "{slot:?}: {before:?}, now {weight}");
    }

    fn remove(&mut self, slot: Slot) {
        assert!(self.0.lock().unwrap().weights.remove(&slot).is_some(), "L1: {slot:?} is not tracked");
    }

    fn victim(&mut self) -> Option<Slot> {
        self.0.lock().unwrap().weights.keys().next().copied()
    }

    fn miss(&mut self, _hash: u64) {
        self.0.lock().unwrap().misses += 1;
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().weights.len()
    }

    fn clear(&mut self) {
        self.0.lock().unwrap().weights.clear();
    }

    fn order(&self) -> Vec<Slot> {
        self.0.lock().unwrap().weights.keys().copied().collect()
    }
}

#[test]
fn a_policy_knows_the_weights_of_what_it_tracks() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let diary = Diary::<0>::default();
        let notes = Arc::clone(&diary.0);
        let builder = Builder::<u64, u64, _>::default().weigher(|_: &u64, &value: &u64| value);
        let mut cache: unsync::Cache<u64, u64, _> = builder.capacity(100).policy(diary).build_unsync().unwrap();
        for _ in 0..steps(2_000) {
            let (key, value) = (rng.below(20), 1 + rng.below(30));
            match rng.below(8) {
                0 => drop(cache.remove(&key)),
                1 => drop(cache.pin(&key)),
                2 | 3 => drop(cache.unpin(&key)),
                4 => drop(cache.update(&key, |old| *old = value)),
                _ => drop(cache.insert(key, value)),
            }
            let pinned: u64 = cache.weight() - cache.iter_by_eviction().map(|(_, value)| value).sum::<u64>();
            let told: u64 = notes.lock().unwrap().weights.values().sum();
            assert_eq!(told + pinned, cache.weight());
            cache.check_invariants();
        }
    });
}

#[test]
fn a_policy_hears_of_every_miss() {
    fn check<const HIT: u8>() {
        let diary = Diary::<HIT>::default();
        let notes = Arc::clone(&diary.0);
        let cache = Builder::<u64, u64, _>::default().capacity(10).shards(1).policy(diary).build().unwrap();
        assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
        cache.insert(1, 1);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
        assert_eq!((notes.lock().unwrap().misses, cache.stats().misses), (3, 3));
    }
    check::<0>();
    check::<1>();
    check::<2>();
}

/// Evicts what came first, and counts how often it is cloned while it tracks something, and told of a replacement.
#[derive(Default)]
struct Counted {
    order: Vec<Slot>,
    clones: Arc<AtomicUsize>,
    replaced: Arc<AtomicUsize>,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.fetch_add(usize::from(!self.order.is_empty()), Ordering::Relaxed);
        let (clones, replaced) = (Arc::clone(&self.clones), Arc::clone(&self.replaced));
        Self { order: self.order.clone(), clones, replaced }
    }
}

impl Policy for Counted {
    const HIT: Hit = Hit::Exclusive;

    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.order.push(slot);
    }

    fn replace(&mut self, _: Slot) {
        self.replaced.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&mut self, slot: Slot) {
        self.order.retain(|&other| other != slot);
    }

    fn victim(&mut self) -> Option<Slot> {
        self.order.first().copied()
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn clear(&mut self) {
        self.order.clear();
    }

    fn order(&self) -> Vec<Slot> {
        self.order.clone()
    }
}

#[test]
fn no_policy_is_cloned_under_a_lock_to_tell_its_order() {
    let policy = Counted::default();
    let clones = Arc::clone(&policy.clones);
    let cache = Builder::<u64, u64, _>::default().shards(1).policy(policy).build().unwrap();
    (1..=3).for_each(|key| _ = cache.insert(key, key));
    cache.get(&1);
    assert_eq!(cache.eviction_order(), [[1, 2, 3]]);
    cache.get(&1);
    assert_eq!(cache.snapshot().entries.len(), 3);
    assert_eq!(clones.load(Ordering::Relaxed), 0);
    cache.check_invariants();
}

/// A replacement for which room is made in another shard is tried again, but the policy is told once.
#[test]
fn a_policy_hears_once_of_each_replacement() {
    let policy = Counted::default();
    let replaced = Arc::clone(&policy.replaced);
    let builder = Builder::<u64, u64, _>::default().capacity(64).shards(8).weigher(|_: &u64, &value: &u64| value);
    let cache = builder.policy(policy).build().unwrap();
    (0..64).for_each(|key| _ = cache.insert(key, 1));
    assert_eq!(cache.insert(63, 64), Some(1));
    assert_eq!((cache.len(), replaced.load(Ordering::Relaxed)), (1, 1));
    cache.check_invariants();
}
