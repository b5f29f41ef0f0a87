//! What the flat tables have in common: a prime number of slots, their owners, and each backend's own order over all of them.

use std::sync::Arc;

use super::seat::{Seat, place_of, rehash};
use crate::Key;

/// Slots of a table unless the caller says otherwise: 128 KiB, which fits the second-level caches of servers, and at
/// least a hundred slots for each of 650 backends.
pub(super) const DEFAULT_SLOTS: u32 = 65_537;

/// Not more slots than this (32 MiB), except where there are more backends.
const MAX_SLOTS: u32 = 1 << 24;

/// A table grows until it has so many slots for each backend.
const MIN_SLOTS_EACH: usize = 16;

/// The number of slots of a table for so many backends: at least `wanted`, and prime.
///
/// Too small a table grows fourfold, so that it does so rarely: with the number of slots, all keys move.
pub(super) fn slot_count(wanted: u32, seats: usize) -> u32 {
    let mut slots = wanted.clamp(2, MAX_SLOTS);
    while slots < MAX_SLOTS && (slots as usize) < seats.saturating_mul(MIN_SLOTS_EACH) {
        slots = slots.saturating_mul(4).min(MAX_SLOTS);
    }
    let least = slots.max(super::seat::index(seats));
    (least..).find(|&slots| is_prime(slots)).unwrap_or(least)
}

fn is_prime(number: u32) -> bool {
    let number = u64::from(number);
    number >= 2 && (2..).take_while(|factor| factor * factor <= number).all(|factor| number % factor != 0)
}

/// The owner of each slot, which is all that a look-up reads. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Owners {
    /// Of up to 65,536 seats, which is nearly always: half the memory, and twice as much of it in the caches.
    Few(Arc<[u16]>),
    Many(Arc<[u32]>),
}

impl Owners {
    /// The index of the key's seat, for attempt 0; for further attempts other slots' seats.
    #[inline]
    pub(crate) fn find(&self, key: Key, attempt: u32) -> u32 {
        let hash = rehash(key.hash(), attempt);
        match self {
            Self::Few(owners) => owners[place_of(hash, owners.len())].into(),
            Self::Many(owners) => owners[place_of(hash, owners.len())],
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Few(owners) => size_of_val(&**owners),
            Self::Many(owners) => size_of_val(&**owners),
        }
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::Few(owners) => owners.iter().map(|&owner| owner.into()).collect(),
            Self::Many(owners) => owners.to_vec(),
        }
    }
}

impl From<Vec<u32>> for Owners {
    fn from(owners: Vec<u32>) -> Self {
        let few: Result<Arc<[u16]>, _> = owners.iter().map(|&owner| u16::try_from(owner)).collect();
        few.map_or_else(|_| Self::Many(owners.into()), Self::Few)
    }
}

/// A backend's order over the slots: from an offset on, in steps of a skip. It comes by every slot once, because the
/// number of slots is prime. Both depend on its id alone.
///
/// # Source
/// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preference {
    next: u32,
    skip: u32,
}

impl Preference {
    #[allow(clippy::cast_possible_truncation, reason = "both are below the number of slots")]
    pub(super) fn new(seat: &Seat, slots: u32) -> Self {
        let below = |hash, count: u32| place_of(hash, count as usize) as u32;
        Self { next: below(seat.hash(0), slots), skip: 1 + below(seat.hash(1), slots - 1) }
    }

    /// The most preferred slot that was not returned before.
    #[inline]
    pub(super) fn next(&mut self, slots: u32) -> usize {
        let slot = self.next;
        // No remainder: the sum is below twice the number of slots, which is below 2^31.
        let after = slot + self.skip;
        self.next = if after >= slots { after - slots } else { after };
        slot as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendId;

    #[test]
    fn sizes_are_prime_and_bounded() {
        assert_eq!(slot_count(DEFAULT_SLOTS, 1), 65_537);
        assert_eq!(slot_count(DEFAULT_SLOTS, 4_096), 65_537);
        assert_eq!(slot_count(DEFAULT_SLOTS, 10_000), 262_151);
        assert_eq!((slot_count(0, 1), slot_count(100, 1)), (37, 101));
        assert!(slot_count(u32::MAX, 1) < MAX_SLOTS + 100);
        let primes: Vec<u32> = (0..30).filter(|&number| is_prime(number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
    }

    #[test]
    fn owners_are_the_same_in_words_of_either_size() {
        for last in [u32::from(u16::MAX), u32::from(u16::MAX) + 1] {
            let all: Vec<u32> = (0..1_000).chain([last]).collect();
            let owners = Owners::from(all.clone());
            assert_eq!(owners.to_vec(), all);
            assert_eq!(owners.bytes(), all.len() * if last > u16::MAX.into() { 4 } else { 2 });
            assert_eq!(owners.find(Key::from_hash(u64::MAX), 0), last);
            assert_eq!(owners.find(Key::from_hash(0), 0), 0);
        }
    }

    #[test]
    fn an_order_comes_by_every_slot_once() {
        for (id, slots) in [(1, 2), (2, 3), (3, 101), (4, 1_009)] {
            let mut order = Preference::new(&Seat { id: BackendId::from_u64(id), weight: 1 }, slots);
            let mut seen = vec![0; slots as usize];
            (0..slots).for_each(|_| seen[order.next(slots)] += 1);
            assert!(seen.iter().all(|&count| count == 1), "{slots}");
        }
    }
}
