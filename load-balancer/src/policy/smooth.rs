//! Smooth weighted round robin: a round in which every backend has its share of turns, spread as evenly as can be.
//!
//! The usual loop (add each weight to its backend's credit, take the largest credit) costs O(n) a pick and needs a lock.
//! But its answers only depend on the turn, so the whole round is written down once and a pick is a look into it.
//!
//! # How it works
//! Of a round of `len` turns a backend has `count`. Its k-th turn belongs into the window from `floor(k * len / count)`
//! to `ceil((k + 1) * len / count)`: neither earlier nor later than an ideal, infinitely fine mixture would have it.
//! Turns are given to the open window that closes first. That this meets every window is a theorem: the windows' loads
//! add up to one turn a turn, and for jobs of equal length earliest deadline first finds a schedule wherever one is.
//!
//! ```text
//! weights a 3, b 1:  len 4   a: [0 1] [1 2] [2 3]   b: [0 1 2 3]     round: a a a b -> each a in its window
//! weights a 2, b 2:  len 2   after division by the greatest common divisor: plain round robin
//! ```
//!
//! # Source
//! Baruah, Cohen, Plaxton, Varvel, "Proportionate progress: a notion of fairness in resource allocation", Algorithmica
//! 1996 (windows, and the bound); Tijdeman, "The chairman assignment problem", Discrete Mathematics 1980 (the bound for
//! one server). The common loop is nginx's; its prefixes may be off by more than one turn.

use super::apportion::apportion;
use super::seat::{Seat, index};

#[cfg(test)]
mod tests;

/// The longest round, unless there are more than a quarter as many backends. Turns are 4 bytes each.
pub(crate) const MAX_TURNS: usize = 65_536;

/// At least so many turns for each backend on average where the round is cut to [`MAX_TURNS`].
const MIN_TURNS_EACH: usize = 4;

const NIL: u32 = u32::MAX;

const WORD: usize = u64::BITS as usize;

/// A round, to be repeated: the seat of each turn.
///
/// # Fairness
/// A round is as long as the sum of the weights over their greatest common divisor, and its shares are exact. Longer
/// rounds than [`MAX_TURNS`] are cut to it; then counts are rounded to whole turns, at least one.
///
/// - In any prefix of the round, each seat's turns differ from its share of them by less than 1.
/// - So in any stretch of consecutive turns, also across the end of the round, they differ by less than 2: a seat with
///   at most half of the turns has at most three of them in a row.
/// - Seats of equal weight alone take turns in their order.
///
/// # Complexity
/// Building: O(n log n + len), with a factor of at most `len / 4096` from the search for the next deadline; 4 bytes a turn.
#[derive(Clone, Debug)]
pub(crate) struct Smooth {
    turns: Box<[u32]>,
}

impl Smooth {
    /// The round of these seats, of which there is at least one.
    pub(crate) fn build(seats: &[Seat]) -> Self {
        Self { turns: round_of(&counts(seats)).into() }
    }

    /// How many turns a round has, at least 1.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.turns.len()
    }

    /// The seat whose turn it is. `turn` is below [`len`](Self::len).
    #[inline]
    pub(crate) fn seat(&self, turn: usize) -> u32 {
        self.turns[turn]
    }
}

/// How many turns of a round each seat has.
fn counts(seats: &[Seat]) -> Vec<u32> {
    let max_turns = MAX_TURNS.max(seats.len().saturating_mul(MIN_TURNS_EACH)) as u64;
    let mut weights: Vec<u64> = seats.iter().map(Seat::weight).collect();
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    weights.iter_mut().for_each(|weight| *weight /= divisor);
    if weights.iter().sum::<u64>() > max_turns {
        let counts = apportion(&weights, max_turns);
        let divisor = counts.iter().map(|&count| u64::from(count)).fold(0, greatest_common_divisor).max(1);
        weights = counts.into_iter().map(|count| u64::from(count) / divisor).collect();
    }
    weights.into_iter().map(|weight| u32::try_from(weight).expect("at most as many as a round has turns")).collect()
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The round in which seat `i` has `counts[i]` turns, at least 1.
fn round_of(counts: &[u32]) -> Vec<u32> {
    let len: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let window = |seat: u32, k: u64| {
        let count = u64::from(counts[seat as usize]);
        (k * len / count, ((k + 1) * len).div_ceil(count))
    };
    // Windows by the turn at which they open, and those that are open by the turn before which they close. Of equal
    // ones the last to come is first, so the seats begin in their order.
    let (mut opening, mut closing) = (Agenda::new(len, counts.len()), Agenda::new(len, counts.len()));
    (0..index(counts.len())).rev().for_each(|seat| closing.push(seat, window(seat, 0).1));

    let mut taken = vec![0_u64; counts.len()];
    let mut round = Vec::with_capacity(counts.len());
    for turn in 0..len {
        while let Some(seat) = opening.pop(turn) {
            closing.push(seat, window(seat, taken[seat as usize]).1);
        }
        let Some(seat) = closing.earliest().and_then(|deadline| closing.pop(deadline)) else { break };
        round.push(seat);
        taken[seat as usize] += 1;
        if taken[seat as usize] < u64::from(counts[seat as usize]) {
            opening.push(seat, window(seat, taken[seat as usize]).0.max(turn + 1));
        }
    }
    debug_assert_eq!(round.len() as u64, len, "at each turn some window is open");
    round
}

/// Seats by turn: a linked list for each turn, through the seats, each of which is in one at most; and which turns have any.
///
/// Turns are small numbers, so this does in a few steps what a heap does in many.
struct Agenda {
    first: Vec<u32>,
    next: Vec<u32>,
    /// A bit for each turn that has seats, and one for each word of those that is not zero.
    turns: Vec<u64>,
    words: Vec<u64>,
}

#[allow(clippy::cast_possible_truncation, reason = "turns are indices: a round fits the memory")]
impl Agenda {
    /// Without seats, for turns up to `last`.
    fn new(last: u64, seats: usize) -> Self {
        let turns = last as usize + 1;
        let words = turns.div_ceil(WORD);
        Self {
            first: vec![NIL; turns],
            next: vec![NIL; seats],
            turns: vec![0; words],
            words: vec![0; words.div_ceil(WORD)],
        }
    }

    fn push(&mut self, seat: u32, turn: u64) {
        let turn = turn as usize;
        self.next[seat as usize] = std::mem::replace(&mut self.first[turn], seat);
        self.turns[turn / WORD] |= 1 << (turn % WORD);
        self.words[turn / WORD / WORD] |= 1 << (turn / WORD % WORD);
    }

    fn pop(&mut self, turn: u64) -> Option<u32> {
        let turn = turn as usize;
        let seat = self.first[turn];
        if seat == NIL {
            return None;
        }
        self.first[turn] = self.next[seat as usize];
        if self.first[turn] == NIL {
            self.turns[turn / WORD] &= !(1 << (turn % WORD));
            if self.turns[turn / WORD] == 0 {
                self.words[turn / WORD / WORD] &= !(1 << (turn / WORD % WORD));
            }
        }
        Some(seat)
    }

    /// The first turn that has seats.
    fn earliest(&self) -> Option<u64> {
        let (at, word) = self.words.iter().enumerate().find(|(_, word)| **word != 0)?;
        let at = at * WORD + word.trailing_zeros() as usize;
        Some((at * WORD) as u64 + u64::from(self.turns[at].trailing_zeros()))
    }
}
