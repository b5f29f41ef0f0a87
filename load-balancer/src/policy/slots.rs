//! What the flat tables have in common: a prime number of slots, and each backend's own order over all of them.

use super::seat::{Seat, place_of};

/// Slots of a table unless the caller says otherwise: 256 KiB, which fits the second-level caches of servers, and at
/// least a hundred slots for each of 650 backends.
pub(super) const DEFAULT_SLOTS: u32 = 65_537;

/// Not more slots than this (64 MiB), except where there are more backends.
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
    fn an_order_comes_by_every_slot_once() {
        for (id, slots) in [(1, 2), (2, 3), (3, 101), (4, 1_009)] {
            let mut order = Preference::new(&Seat { id: BackendId::from_u64(id), weight: 1 }, slots);
            let mut seen = vec![0; slots as usize];
            (0..slots).for_each(|_| seen[order.next(slots)] += 1);
            assert!(seen.iter().all(|&count| count == 1), "{slots}");
        }
    }
}
