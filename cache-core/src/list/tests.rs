use std::collections::VecDeque;

use super::{Links, List};
use crate::Slot;
use crate::testing::{Rng, for_each_seed, steps};

const SLOTS: u64 = 40;
const LISTS: usize = 3;

/// Several lists over one set of links, each beside a `VecDeque`.
struct Run {
    links: Links<u32>,
    lists: [List; LISTS],
    model: [VecDeque<u32>; LISTS],
}

impl Run {
    /// Which list the slot is in.
    fn home(&self, slot: u32) -> Option<usize> {
        self.model.iter().position(|model| model.contains(&slot))
    }

    fn step(&mut self, rng: &mut Rng) {
        let slot = rng.below(SLOTS) as u32;
        let Some(home) = self.home(slot) else {
            self.link(rng, slot);
            return;
        };
        let (list, model) = (&mut self.lists[home], &mut self.model[home]);
        let at = model.iter().position(|&other| other == slot).unwrap();
        match rng.below(4) {
            0 => {
                list.remove(&mut self.links, Slot::new(slot));
                model.remove(at);
            }
            1 => {
                let popped = list.pop_back(&mut self.links);
                assert_eq!(popped, model.pop_back().map(Slot::new));
            }
            _ => {
                list.move_to_front(&mut self.links, Slot::new(slot));
                model.remove(at);
                model.push_front(slot);
            }
        }
    }

    fn link(&mut self, rng: &mut Rng, slot: u32) {
        let home = rng.below(LISTS as u64) as usize;
        let (list, model) = (&mut self.lists[home], &mut self.model[home]);
        match rng.below(3) {
            0 => {
                list.push_front(&mut self.links, Slot::new(slot));
                model.push_front(slot);
            }
            1 if !model.is_empty() => {
                let at = rng.below(model.len() as u64) as usize;
                list.insert_after(&mut self.links, Slot::new(model[at]), Slot::new(slot));
                model.insert(at + 1, slot);
            }
            _ => {
                list.push_back(&mut self.links, Slot::new(slot));
                model.push_back(slot);
            }
        }
        *self.links.data_mut(Slot::new(slot)) = slot * 10;
    }

    fn check(&self) {
        for (list, model) in self.lists.iter().zip(&self.model) {
            list.check_invariants(&self.links);
            assert_eq!(list.len(), model.len());
            assert_eq!(list.is_empty(), model.is_empty());
            assert_eq!(list.front(), model.front().copied().map(Slot::new));
            assert_eq!(list.back(), model.back().copied().map(Slot::new));
            assert!(list.iter(&self.links).map(Slot::get).eq(model.iter().copied()));
            assert!(list.iter(&self.links).rev().map(Slot::get).eq(model.iter().rev().copied()));
            for (at, &slot) in model.iter().enumerate() {
                assert_eq!(self.links.next(Slot::new(slot)), model.get(at + 1).copied().map(Slot::new));
                let before = at.checked_sub(1).map(|at| Slot::new(model[at]));
                assert_eq!(self.links.prev(Slot::new(slot)), before);
                assert_eq!(*self.links.data(Slot::new(slot)), slot * 10, "data beside slot {slot}");
            }
        }
        for slot in 0..SLOTS as u32 {
            assert_eq!(self.links.is_linked(Slot::new(slot)), self.home(slot).is_some(), "I3: slot {slot}");
        }
    }
}

#[test]
fn keeps_order_as_vec_deques_do() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let mut run = Run { links: Links::default(), lists: Default::default(), model: Default::default() };
        for _ in 0..steps(4_000) {
            run.step(&mut rng);
            run.check();
        }
    });
}

#[test]
fn iterates_from_both_ends_and_meets_in_the_middle() {
    let (mut links, mut list) = (Links::new(), List::new());
    for index in 0..5 {
        list.push_back(&mut links, Slot::new(index));
    }
    let mut iter = list.iter(&links);
    assert_eq!(iter.len(), 5);
    assert_eq!(iter.next(), Some(Slot::new(0)));
    assert_eq!(iter.next_back(), Some(Slot::new(4)));
    assert_eq!(iter.by_ref().map(Slot::get).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(iter.next_back(), None);
}

#[test]
fn costs_eight_bytes_a_slot_and_nothing_more_without_data() {
    assert_eq!(size_of::<super::Link<()>>(), 8);
    assert_eq!(size_of::<super::Link<u32>>(), 12);
}

#[test]
fn clearing_keeps_memory_and_forgets_links() {
    let (mut links, mut list) = (Links::new(), List::new());
    list.push_front(&mut links, Slot::new(9));
    links.clear();
    list = List::new();
    assert!(!links.is_linked(Slot::new(9)));
    list.push_back(&mut links, Slot::new(9));
    list.check_invariants(&links);
    assert_eq!(list.iter(&links).collect::<Vec<_>>(), [Slot::new(9)]);
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "is in a list already")]
fn refuses_a_slot_twice_in_debug_builds() {
    let (mut links, mut list) = (Links::new(), List::new());
    list.push_front(&mut links, Slot::new(0));
    list.push_back(&mut links, Slot::new(0));
}
