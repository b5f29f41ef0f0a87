//! What the tables know of a backend: who it is and how much it takes.

use crate::BackendId;
use crate::rng::{mix, scale};

/// The step between the members of one stream of hashes, as in SplitMix64: two to the 64th by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One backend, as the tables see it. They are built from a list of seats and answer with an index into that list.
///
/// Hash tables place a seat by its id alone, so the order of the list does not matter. Ids should differ; seats of the
/// same id compete for the same places, and one of them may get none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Who it is.
    pub id: BackendId,
    /// How much it takes beside the others. 0 counts as 1: a backend that takes nothing has no seat.
    pub weight: u32,
}

/// A list without a seat: nobody could own a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no seat")]
#[non_exhaustive]
pub struct NoSeats;

impl Seat {
    /// The weight, at least 1.
    pub(super) fn weight(&self) -> u64 {
        u64::from(self.weight.max(1))
    }

    /// Its place in [`by_lot`].
    pub(super) fn lot(&self) -> u64 {
        self.hash(u64::MAX)
    }

    /// The `number`-th of the seat's own hashes. They depend on its id and nothing else.
    pub(super) fn hash(&self, number: u64) -> u64 {
        hash_of(self.id.get(), number)
    }
}

/// The `number`-th hash of a stream.
#[inline]
pub(super) const fn hash_of(stream: u64, number: u64) -> u64 {
    mix(stream.wrapping_add(GOLDEN.wrapping_mul(number.wrapping_add(1))))
}

/// The hash to look up for a key's first choice (attempt 0) and for its further ones.
#[inline]
pub(super) const fn rehash(key: u64, attempt: u32) -> u64 {
    if attempt == 0 { key } else { hash_of(key, attempt as u64) }
}

/// The place of a uniform hash in a table of `len` places.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "below a usize")]
pub(super) const fn place_of(hash: u64, len: usize) -> usize {
    scale(hash, len as u64) as usize
}

/// All weights together.
pub(super) fn total_weight(seats: &[Seat]) -> u64 {
    seats.iter().map(Seat::weight).sum()
}

/// The seats' indices in an order that looks random and depends on the ids alone: seat `a` is before seat `b` in any list
/// that has both, or after it in all.
pub(super) fn by_lot(seats: &[Seat]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..index(seats.len())).collect();
    order.sort_by_cached_key(|&seat| (seats[seat as usize].lot(), seats[seat as usize].id));
    order
}

/// A seat's index as tables hold it.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a configuration allows fewer backends")
}
