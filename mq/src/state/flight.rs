//! What is known of messages that were delivered and are not settled.

use std::collections::BTreeMap;

/// In the place of no flight.
const NONE: u64 = u64::MAX;
/// Places of the smallest ring, and how much larger than its content it may be.
const SMALLEST: usize = 512;
const SLACK: usize = 16;

/// Where a delivered message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// With a consumer, until `until`.
    Leased,
    /// Given back, not to be delivered before `until`.
    Delayed,
    /// Given back, waiting to be delivered again.
    Ready,
}

/// A message that was delivered at least once and is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) sequence: u64,
    pub(super) until: u64,
    /// Deliveries so far. It never goes back while the message lives: it is the fencing token of receipts.
    pub(super) delivery: u32,
    /// Deliveries that count against the redelivery limit.
    pub(super) attempt: u16,
    pub(super) phase: Phase,
    /// It was requeued after it was dead: its time to live no longer counts.
    pub(super) timeless: bool,
}

impl Flight {
    const NONE: Self = Self::ready(NONE, 0, 0);

    /// A message that was delivered so often and waits to be delivered again.
    pub(super) const fn ready(sequence: u64, delivery: u32, attempt: u16) -> Self {
        Self { sequence, until: 0, delivery, attempt, phase: Phase::Ready, timeless: false }
    }
}

/// Flights by message.
///
/// Deliveries are mostly of messages near each other, and acks follow in about that order. So a flight lies in a
/// ring at its number modulo the ring's length, which needs neither hashing nor probing; where two meet, the one
/// that was there moves to an ordered map. The ring grows with what is in flight, so few meet.
///
/// # Invariants
/// - **F1** A flight is in the ring or in the map, not in both; in the ring only at its own place.
/// - **F2** `in_ring` counts the flights of the ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights {
    ring: Vec<Flight>,
    in_ring: usize,
    aside: BTreeMap<u64, Flight>,
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.in_ring + self.aside.len()
    }

    #[inline]
    fn place(&self, sequence: u64) -> usize {
        // An empty ring has no place; `get` then finds nothing.
        sequence as usize & self.ring.len().wrapping_sub(1)
    }

    #[inline]
    pub(super) fn get(&self, sequence: u64) -> Option<&Flight> {
        match self.ring.get(self.place(sequence)) {
            Some(flight) if flight.sequence == sequence => Some(flight),
            _ => self.aside.get(&sequence),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Flight> {
        let place = self.place(sequence);
        match self.ring.get_mut(place) {
            Some(flight) if flight.sequence == sequence => Some(flight),
            _ if self.aside.is_empty() => None,
            _ => self.aside.get_mut(&sequence),
        }
    }

    /// Takes in a flight of a message that has none.
    #[inline]
    pub(super) fn insert(&mut self, flight: Flight) {
        debug_assert!(self.get(flight.sequence).is_none(), "F1: {} is in flight already", flight.sequence);
        if (self.len() + 1) * 2 > self.ring.len() {
            self.resize((self.ring.len() * 2).max(SMALLEST));
        }
        self.place_in(flight);
    }

    /// Takes in flights of `count` messages from this one's on, of which none has one.
    #[inline]
    pub(super) fn insert_run(&mut self, first: Flight, count: usize) {
        while (self.len() + count) * 2 > self.ring.len() {
            self.resize((self.ring.len() * 2).max(SMALLEST));
        }
        for sequence in first.sequence..first.sequence + count as u64 {
            debug_assert!(self.get(sequence).is_none(), "F1: {sequence} is in flight already");
            self.place_in(Flight { sequence, ..first });
        }
    }

    #[inline]
    fn place_in(&mut self, flight: Flight) {
        let place = self.place(flight.sequence);
        let there = std::mem::replace(&mut self.ring[place], flight);
        if there.sequence == NONE {
            self.in_ring += 1;
        } else {
            self.aside.insert(there.sequence, there);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Flight> {
        let place = self.place(sequence);
        match self.ring.get_mut(place) {
            Some(flight) if flight.sequence == sequence => {
                self.in_ring -= 1;
                let flight = std::mem::replace(flight, Flight::NONE);
                self.shrink_if_empty();
                Some(flight)
            }
            _ if self.aside.is_empty() => None,
            _ => self.aside.remove(&sequence),
        }
    }

    /// Takes out the flight of a message if this is the delivery that is out.
    #[inline]
    pub(super) fn remove_leased(&mut self, sequence: u64, delivery: u32) -> Option<Flight> {
        let place = self.place(sequence);
        let is_out = |flight: &Flight| flight.phase == Phase::Leased && flight.delivery == delivery;
        match self.ring.get_mut(place) {
            Some(flight) if flight.sequence == sequence => {
                if !is_out(flight) {
                    return None;
                }
                self.in_ring -= 1;
                Some(std::mem::replace(flight, Flight::NONE))
            }
            _ if self.aside.get(&sequence).is_some_and(is_out) => self.aside.remove(&sequence),
            _ => None,
        }
    }

    /// Gives memory back if little of it is used.
    #[inline]
    pub(super) fn shrink_if_empty(&mut self) {
        if self.len() * SLACK < self.ring.len() && self.ring.len() > SMALLEST {
            self.resize(self.ring.len() / 4);
        }
    }

    fn resize(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.ring, vec![Flight::NONE; len.max(SMALLEST)]);
        self.in_ring = 0;
        let aside = std::mem::take(&mut self.aside);
        for flight in aside.into_values().chain(old.into_iter().filter(|flight| flight.sequence != NONE)) {
            self.place_in(flight);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All flights, by message.
    pub(super) fn sorted(&self) -> Vec<Flight> {
        let ring = self.ring.iter().filter(|flight| flight.sequence != NONE);
        let mut all: Vec<Flight> = ring.chain(self.aside.values()).copied().collect();
        all.sort_unstable_by_key(|flight| flight.sequence);
        all
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // A node of the map is at worst half full.
        (self.ring.capacity() + 2 * self.aside.len()) * size_of::<Flight>()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_invariants(&self) {
        let in_ring = self.ring.iter().filter(|flight| flight.sequence != NONE).count();
        assert_eq!(in_ring, self.in_ring, "F2");
        for (place, flight) in self.ring.iter().enumerate().filter(|(_, flight)| flight.sequence != NONE) {
            assert_eq!(self.place(flight.sequence), place, "F1: {flight:?}");
            assert!(!self.aside.contains_key(&flight.sequence), "F1: {flight:?} is there twice");
        }
    }
}
