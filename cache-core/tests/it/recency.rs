//! Naive policies, plainly right: a vector in eviction order. They insist on the laws of `Policy` that are the
//! engine's to keep: it inserts only untracked slots, hits and removes only tracked ones, and calls the method that
//! belongs to `Policy::HIT`.

use std::sync::atomic::{AtomicU64, Ordering};

use tenfold_cache_core::{Hit, Newcomer, Policy, Slot};

/// Evicts the entry that was used longest ago.
#[derive(Clone, Debug, Default)]
pub(crate) struct VecLru(Vec<Slot>);

/// Evicts the entry that came first.
#[derive(Clone, Debug, Default)]
pub(crate) struct VecFifo(Vec<Slot>);

/// Evicts the entry with the fewest hits, of several the one that came first. Hits are counted under shared access.
#[derive(Debug, Default)]
pub(crate) struct VecCounts(Vec<(Slot, AtomicU64)>);

fn position(order: &[Slot], slot: Slot) -> usize {
    order.iter().position(|&tracked| tracked == slot).unwrap_or_else(|| panic!("L1: {slot:?} is not tracked"))
}

fn check_distinct(mut slots: Vec<Slot>) {
    slots.sort_unstable();
    assert!(slots.windows(2).all(|pair| pair[0] != pair[1]), "L1: a slot is tracked twice");
}

impl Policy for VecLru {
    const HIT: Hit = Hit::Exclusive;

    fn insert(&mut self, slot: Slot, _: Newcomer) {
        assert!(!self.0.contains(&slot), "L1: {slot:?} is tracked already");
        self.0.push(slot);
    }

    fn hit(&mut self, slot: Slot) {
        self.remove(slot);
        self.0.push(slot);
    }

    fn hit_shared(&self, slot: Slot) {
        panic!("{slot:?}: shared hits are for policies that ask for them");
    }

    fn remove(&mut self, slot: Slot) {
        let at = position(&self.0, slot);
        self.0.remove(at);
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

    fn check_invariants(&self) {
        check_distinct(self.order());
    }
}

impl Policy for VecFifo {
    const HIT: Hit = Hit::Ignored;

    fn insert(&mut self, slot: Slot, _: Newcomer) {
        assert!(!self.0.contains(&slot), "L1: {slot:?} is tracked already");
        self.0.push(slot);
    }

    fn hit(&mut self, slot: Slot) {
        panic!("{slot:?}: hits mean nothing here");
    }

    fn hit_shared(&self, slot: Slot) {
        panic!("{slot:?}: hits mean nothing here");
    }

    fn remove(&mut self, slot: Slot) {
        let at = position(&self.0, slot);
        self.0.remove(at);
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

    fn check_invariants(&self) {
        check_distinct(self.order());
    }
}

impl Clone for VecCounts {
    fn clone(&self) -> Self {
        let entries = self.0.iter();
        Self(entries.map(|(slot, hits)| (*slot, AtomicU64::new(hits.load(Ordering::Relaxed)))).collect())
    }
}

impl Policy for VecCounts {
    const HIT: Hit = Hit::Shared;

    fn insert(&mut self, slot: Slot, _: Newcomer) {
        assert!(self.0.iter().all(|&(tracked, _)| tracked != slot), "L1: {slot:?} is tracked already");
        self.0.push((slot, AtomicU64::new(0)));
    }

    fn hit(&mut self, slot: Slot) {
        panic!("{slot:?}: this policy asks for shared hits");
    }

    fn hit_shared(&self, slot: Slot) {
        let found = self.0.iter().find(|&&(tracked, _)| tracked == slot);
        let (_, hits) = found.unwrap_or_else(|| panic!("L1: {slot:?} is not tracked"));
        hits.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&mut self, slot: Slot) {
        let at = self.0.iter().position(|&(tracked, _)| tracked == slot);
        self.0.remove(at.unwrap_or_else(|| panic!("L1: {slot:?} is not tracked")));
    }

    fn victim(&mut self) -> Option<Slot> {
        self.0.iter().min_by_key(|(_, hits)| hits.load(Ordering::Relaxed)).map(|&(slot, _)| slot)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn order(&self) -> Vec<Slot> {
        let mut entries: Vec<_> = self.0.iter().map(|(slot, hits)| (hits.load(Ordering::Relaxed), *slot)).collect();
        // Stable, so that the older goes first among equals.
        entries.sort_by_key(|&(hits, _)| hits);
        entries.into_iter().map(|(_, slot)| slot).collect()
    }

    fn check_invariants(&self) {
        check_distinct(self.order());
    }
}

#[test]
fn they_keep_the_laws_of_policies() {
    use tenfold_cache_core::testing::{check_policy, for_each_seed};
    for_each_seed(|seed| {
        check_policy(VecLru::default, seed);
        check_policy(VecFifo::default, seed);
        check_policy(VecCounts::default, seed);
    });
}
