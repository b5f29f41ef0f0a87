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

/// Evicts what came first, and counts how often it is cloned while it tracks something.
#[derive(Default)]
struct Cloned(Vec<Slot>, Arc<AtomicUsize>);

impl Clone for Cloned {
    fn clone(&self) -> Self {
        self.1.fetch_add(usize::from(!self.0.is_empty()), Ordering::Relaxed);
        Self(self.0.clone(), Arc::clone(&self.1))
    }
}

impl Policy for Cloned {
    const HIT: Hit = Hit::Exclusive;

    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.0.push(slot);
    }

    fn remove(&mut self, slot: Slot) {
        self.0.retain(|&other| other != slot);
    }

    fn victim(&mut self) -> Option<Slot> {
        self.0.first().copied()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn order(&self) -> Vec<Slot> {
        self.0.clone()
    }
}

#[test]
fn no_policy_is_cloned_under_a_lock_to_tell_its_order() {
    let policy = Cloned::default();
    let clones = Arc::clone(&policy.1);
    let cache = Builder::<u64, u64, _>::default().shards(1).policy(policy).build().unwrap();
    (1..=3).for_each(|key| _ = cache.insert(key, key));
    cache.get(&1);
    assert_eq!(cache.eviction_order(), [[1, 2, 3]]);
    cache.get(&1);
    assert_eq!(cache.snapshot().entries.len(), 3);
    assert_eq!(clones.load(Ordering::Relaxed), 0);
    cache.check_invariants();
}
