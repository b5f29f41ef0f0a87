//! The order in which backends of different weights take their turns at a table.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::seat::{Seat, by_lot};

/// Rounds in the order of time. Seats of equal weight go through them together, one turn each a round; round `k` of
/// those of weight `w` is at the time `pace(k) / w`.
///
/// When a round is depends on nothing but its number and the weight, never on the other seats.
///
/// # Complexity
/// O(log c) a round, with `c` different weights: nothing at all where all weights are equal.
pub(super) struct Rounds<P> {
    classes: Vec<Class>,
    /// For each class: the time of its next round, its weight (which decides between equal times), its index.
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pace: P,
}

/// The seats of one weight.
pub(super) struct Class {
    weight: u64,
    /// How many rounds it has had.
    pub(super) round: u32,
    /// In the order of [`by_lot`]. Whoever takes no more turns may be removed.
    pub(super) members: Vec<u32>,
}

impl<P: Fn(u32) -> f64> Rounds<P> {
    /// `pace` gives times from 0 on that increase with the round.
    pub(super) fn new(seats: &[Seat], pace: P) -> Self {
        let mut order = by_lot(seats);
        order.sort_by_key(|&seat| seats[seat as usize].weight());
        let mut classes: Vec<Class> = Vec::new();
        for seat in order {
            let weight = seats[seat as usize].weight();
            match classes.last_mut() {
                Some(class) if class.weight == weight => class.members.push(seat),
                _ => classes.push(Class { weight, round: 0, members: vec![seat] }),
            }
        }
        let mut rounds = Self { classes, due: BinaryHeap::new(), pace };
        (0..rounds.classes.len()).for_each(|class| rounds.schedule(class));
        rounds
    }

    /// Gives the class whose round is next to `turns`; a class without members has no more rounds. `false` if there is
    /// no class left.
    pub(super) fn play(&mut self, turns: impl FnOnce(&mut Class)) -> bool {
        let Some(Reverse((_, _, at))) = self.due.pop() else { return false };
        turns(&mut self.classes[at]);
        self.classes[at].round += 1;
        if !self.classes[at].members.is_empty() {
            self.schedule(at);
        }
        true
    }

    fn schedule(&mut self, at: usize) {
        let class = &self.classes[at];
        let time = (self.pace)(class.round) / class.weight as f64;
        // Of numbers that are not negative, the bits are in the same order.
        self.due.push(Reverse((time.to_bits(), class.weight, at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendId;

    #[test]
    fn turns_come_in_the_order_of_time() {
        let seats: Vec<Seat> =
            [(1, 1), (2, 3), (3, 1)].map(|(id, weight)| Seat { id: BackendId::from_u64(id), weight }).to_vec();
        let mut rounds = Rounds::new(&seats, |round| f64::from(round) + 0.5);
        let mut turns = Vec::new();
        let ones: Vec<u32> = by_lot(&seats).into_iter().filter(|&seat| seat != 1).collect();
        while turns.len() < 10 && rounds.play(|class| turns.extend_from_slice(&class.members)) {}
        // Weight 3 at 1/6, 3/6, 5/6, ...; weight 1 at 1/2, 3/2, and before the other where both are at once.
        assert_eq!(turns, [1, ones[0], ones[1], 1, 1, 1, ones[0], ones[1], 1, 1]);
    }

    #[test]
    fn a_class_that_is_empty_plays_no_more() {
        let mut rounds = Rounds::new(&[Seat { id: BackendId::from_u64(1), weight: 1 }], f64::from);
        assert!(rounds.play(|class| class.members.clear()));
        assert!(!rounds.play(|_| ()));
    }
}
