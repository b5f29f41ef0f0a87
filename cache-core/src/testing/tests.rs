//! The kit must pass a sound policy and refuse unsound ones: each law has a policy that breaks it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Recency order, with at most one fault.
#[derive(Clone, Default)]
struct Plain {
    order: Vec<Slot>,
    asked: usize,
    fault: Fault,
    shared: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    Miscounts,
    ForgetsRemoval,
    NamesNobody,
    MindChanges,
    VictimReorders,
    OrderMisleads,
    KeepsOneOnClear,
    HitDoesNothing,
    ReplaceDoesNothing,
    SharesWithClones,
}

impl Plain {
    fn with(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }
}

impl Policy for Plain {
    const HIT: Hit = Hit::Exclusive;

    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.order.push(slot);
    }

    fn hit(&mut self, slot: Slot) {
        if self.fault == Fault::SharesWithClones {
            self.shared.fetch_add(1, Ordering::Relaxed);
        }
        if self.fault != Fault::HitDoesNothing {
            self.order.retain(|&other| other != slot);
            self.order.push(slot);
        }
    }

    fn replace(&mut self, slot: Slot) {
        if self.fault != Fault::ReplaceDoesNothing {
            self.hit(slot);
        }
    }

    fn remove(&mut self, slot: Slot) {
        if self.fault != Fault::ForgetsRemoval {
            self.order.retain(|&other| other != slot);
        }
    }

    fn victim(&mut self) -> Option<Slot> {
        self.asked += 1;
        match self.fault {
            Fault::NamesNobody if self.order.len() == 1 => None,
            Fault::MindChanges if self.asked % 2 == 1 => self.order.last().copied(),
            Fault::VictimReorders => {
                if let Some((_, rest)) = self.order.split_first_mut() {
                    rest.reverse();
                }
                self.order.first().copied()
            }
            Fault::SharesWithClones => self.order().first().copied(),
            _ => self.order.first().copied(),
        }
    }

    fn len(&self) -> usize {
        self.order.len() + usize::from(self.fault == Fault::Miscounts && self.order.len() > 3)
    }

    fn clear(&mut self) {
        self.order.truncate(usize::from(self.fault == Fault::KeepsOneOnClear));
    }

    fn order(&self) -> Vec<Slot> {
        let mut order = self.order.clone();
        if self.fault == Fault::OrderMisleads && order.len() > 2 {
            order[1..].reverse();
        }
        if self.fault == Fault::SharesWithClones && self.shared.load(Ordering::Relaxed) % 2 == 1 {
            order.reverse();
        }
        order
    }

    fn check_invariants(&self) {}
}

impl Oracle for Vec<Slot> {
    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.push(slot);
    }
    fn hit(&mut self, slot: Slot) {
        self.retain(|&other| other != slot);
        self.push(slot);
    }
    fn remove(&mut self, slot: Slot) {
        self.retain(|&other| other != slot);
    }
    fn clear(&mut self) {
        Vec::clear(self);
    }
    fn order(&self) -> Vec<Slot> {
        self.clone()
    }
}

/// The message with which `check` panics, if it does.
fn complaint(check: impl Fn()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(check)).err()?;
    Some(payload.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn passes_a_sound_policy() {
    for_each_seed(|seed| {
        check_policy(Plain::default, seed);
        check_against_oracle(Plain::default(), Vec::new(), seed);
    });
}

#[test]
fn names_the_broken_law() {
    for (fault, law) in [
        (Fault::Miscounts, "L2"),
        (Fault::ForgetsRemoval, "L2"),
        (Fault::NamesNobody, "L3"),
        (Fault::VictimReorders, "L4"),
        (Fault::OrderMisleads, "L5"),
        (Fault::KeepsOneOnClear, "L2"),
        (Fault::SharesWithClones, "L9"),
    ] {
        let complaint = complaint(|| check_policy(|| Plain::with(fault), 1)).expect("the kit must refuse this policy");
        assert!(complaint.contains(law), "{law} is broken, not: {complaint}");
    }
    // Caught as a victim that is not the first in order, or as a second answer that differs.
    assert!(complaint(|| check_policy(|| Plain::with(Fault::MindChanges), 1)).is_some());
}

#[test]
fn notices_policies_that_differ_after_the_same_calls() {
    let made = std::cell::Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        Plain::with(if made.get() == 1 { Fault::None } else { Fault::HitDoesNothing })
    };
    let complaint = complaint(|| check_policy(make, 1)).expect("the kit must refuse this policy");
    assert!(complaint.contains("L6"), "{complaint}");
}

/// Goes by weight alone.
#[derive(Clone, Default)]
struct Lightest(Vec<(u64, Slot)>);

impl Lightest {
    fn put(&mut self, slot: Slot, weight: u64) {
        self.take(slot);
        self.0.push((weight, slot));
        self.0.sort_unstable();
    }

    fn take(&mut self, slot: Slot) {
        self.0.retain(|&(_, other)| other != slot);
    }
}

impl Policy for Lightest {
    const HIT: Hit = Hit::Ignored;

    fn insert(&mut self, slot: Slot, newcomer: Newcomer) {
        self.put(slot, newcomer.weight);
    }
    fn reweigh(&mut self, slot: Slot, weight: u64) {
        self.put(slot, weight);
    }
    fn remove(&mut self, slot: Slot) {
        self.take(slot);
    }
    fn victim(&mut self) -> Option<Slot> {
        self.0.first().map(|&(_, slot)| slot)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn clear(&mut self) {
        self.0.clear();
    }
    fn order(&self) -> Vec<Slot> {
        self.0.iter().map(|&(_, slot)| slot).collect()
    }
}

/// The same order, found anew each time it is asked for.
#[derive(Default)]
struct Weights(Vec<(Slot, u64)>);

impl Oracle for Weights {
    fn insert(&mut self, slot: Slot, newcomer: Newcomer) {
        self.0.push((slot, newcomer.weight));
    }
    fn hit(&mut self, _: Slot) {}
    fn reweigh(&mut self, slot: Slot, weight: u64) {
        Oracle::remove(self, slot);
        self.0.push((slot, weight));
    }
    fn remove(&mut self, slot: Slot) {
        self.0.retain(|&(other, _)| other != slot);
    }
    fn clear(&mut self) {
        self.0.clear();
    }
    fn order(&self) -> Vec<Slot> {
        let mut slots = self.0.clone();
        slots.sort_by_key(|&(slot, weight)| (weight, slot));
        slots.into_iter().map(|(slot, _)| slot).collect()
    }
}

#[test]
fn an_oracle_knows_what_entries_weigh() {
    for_each_seed(|seed| check_against_oracle(Lightest::default(), Weights::default(), seed));
}

#[test]
fn tells_a_policy_from_its_oracle() {
    for fault in [Fault::HitDoesNothing, Fault::ReplaceDoesNothing] {
        let complaint = complaint(|| check_against_oracle(Plain::with(fault), Vec::new(), 1));
        assert!(complaint.is_some_and(|text| text.contains("against the oracle's")));
    }
}
