use tenfold_cache_core::testing::{Oracle, check_against_oracle, check_cost, check_policy, for_each_seed};
use tenfold_cache_core::{Newcomer, Slot};

use super::Lru;

/// The engine keeps the first 32 bytes of a policy in the cache line that a look-up has brought along.
#[test]
#[cfg(target_pointer_width = "64")]
fn what_a_hit_writes_comes_first() {
    let first_and_last = 2 * size_of::<u32>();
    assert!(std::mem::offset_of!(Lru, order) + first_and_last <= 32);
}

/// Slots by last use, longest ago first.
#[derive(Default)]
struct Uses(Vec<Slot>);

impl Oracle for Uses {
    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.0.push(slot);
    }

    fn hit(&mut self, slot: Slot) {
        self.remove(slot);
        self.0.push(slot);
    }

    fn remove(&mut self, slot: Slot) {
        self.0.retain(|&other| other != slot);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn order(&self) -> Vec<Slot> {
        self.0.clone()
    }
}

#[test]
fn keeps_the_laws() {
    for_each_seed(|seed| check_policy(Lru::new, seed));
}

#[test]
fn agrees_with_its_oracle() {
    for_each_seed(|seed| check_against_oracle(Lru::new(), Uses::default(), seed));
}

#[test]
fn a_large_instance_takes_no_longer_a_call() {
    check_cost(Lru::new, 1);
}
