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
    fn insert(&mut self, slot: Slot, _hash: u64) {
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

#[test]
fn tells_a_policy_from_its_oracle() {
    for fault in [Fault::HitDoesNothing, Fault::ReplaceDoesNothing] {
        let complaint = complaint(|| check_against_oracle(Plain::with(fault), Vec::new(), 1));
        assert!(complaint.is_some_and(|text| text.contains("against the oracle's")));
    }
}
