//! A policy for one set of backends: built off the hot path, read by every pick, never changed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::random::{Alias, Draw};
use super::slots::Owners;
use super::smooth::Smooth;
use super::{
    CappedRendezvous, Maglev, NoSeats, Policy, Rendezvous, RingHash, Seat, least_request, p2c, peak_ewma, prequal,
};
use crate::BackendId;
use crate::cursor::Cursor;
use crate::endpoint::Slot;
use crate::request::Key;

/// One backend that a table may choose, and how much it takes.
//
// A cache line each: what a pick reads of it lies in one, and its index is shifted rather than multiplied.
#[repr(align(64))]
pub(crate) struct Place<T> {
    pub(crate) slot: crate::sync::Arc<Slot<T>>,
    /// At least 1.
    pub(crate) weight: u32,
    /// Copies of what most callers ask for: the places lie side by side, endpoints all over the memory.
    pub(crate) id: BackendId,
    pub(crate) address: SocketAddr,
}

impl<T> Place<T> {
    pub(crate) fn new(slot: crate::sync::Arc<Slot<T>>, weight: u32) -> Self {
        let (id, address) = (slot.endpoint().id(), slot.endpoint().address());
        Self { slot, weight, id, address }
    }
}

/// What a policy becomes for some places. Clones share the big parts.
#[derive(Clone, Debug)]
pub(crate) enum Table {
    RoundRobin,
    /// Round robin, too, while backends are ramped up.
    Smooth(Arc<Smooth>),
    Random(Arc<Alias>),
    P2c(Draw),
    PeakEwma {
        draw: Draw,
        /// The largest weight.
        full: u32,
    },
    Prequal {
        /// The largest weight: that of places that are not ramped up.
        full: u32,
    },
    LeastRequest(Draw),
    Ring(Arc<RingHash>),
    /// Maglev and capped rendezvous, which differ in how they are built alone.
    Flat(Owners),
    Rendezvous(Arc<Rendezvous>),
}

impl Table {
    /// The table of these seats, in their order.
    pub(crate) fn build(policy: &Policy, seats: &[Seat]) -> Self {
        // Without a seat nothing is chosen.
        Self::of_seats(policy, seats).unwrap_or(Self::RoundRobin)
    }

    fn of_seats(policy: &Policy, seats: &[Seat]) -> Result<Self, NoSeats> {
        let first = seats.first().ok_or(NoSeats)?;
        let are_equal = seats.iter().all(|seat| seat.weight == first.weight);
        let weights = || seats.iter().map(|seat| seat.weight);
        let full = weights().max().unwrap_or(first.weight);
        Ok(match policy {
            Policy::RoundRobin | Policy::WeightedRoundRobin if are_equal => Self::RoundRobin,
            Policy::RoundRobin | Policy::WeightedRoundRobin => Self::Smooth(Arc::new(Smooth::build(seats))),
            Policy::Random => Self::Random(Arc::new(Alias::build(weights()))),
            Policy::P2c => Self::P2c(Draw::build(weights())),
            Policy::PeakEwma => Self::PeakEwma { draw: Draw::build(weights()), full },
            Policy::Prequal => Self::Prequal { full },
            Policy::LeastRequest => Self::LeastRequest(Draw::build(weights())),
            Policy::RingHash(config) => {
                let points = config.slots.unwrap_or(RingHash::DEFAULT_POINTS);
                Self::Ring(Arc::new(RingHash::build(seats, points)?))
            }
            Policy::Maglev(config) => {
                Self::Flat(Maglev::build(seats, config.slots.unwrap_or(Maglev::DEFAULT_SLOTS))?.into_owners())
            }
            Policy::CappedRendezvous(config) => {
                let slots = config.slots.unwrap_or(CappedRendezvous::DEFAULT_SLOTS);
                let cap = config.cap_percent.unwrap_or(CappedRendezvous::DEFAULT_CAP_PERCENT);
                Self::Flat(CappedRendezvous::build(seats, slots, cap)?.into_owners())
            }
            Policy::Rendezvous(_) => Self::Rendezvous(Arc::new(Rendezvous::build(seats)?)),
        })
    }

    /// The place of the backend for a request that starts `now`. `attempt` counts the choices that were refused before
    /// for this one.
    ///
    /// There is at least one place.
    #[inline]
    pub(crate) fn choose<T>(
        &self,
        places: &[Place<T>],
        cursor: &mut Cursor,
        // Not in a tuple: that would be copied as a whole, right after its parts were written.
        key: Option<Key>,
        attempt: u32,
        now: Instant,
    ) -> usize {
        // Those that are cheaper than a call.
        match (self, key) {
            (Self::RoundRobin, _) => cursor.next(places.len()),
            (Self::Smooth(round), _) => round.seat(cursor.next(round.len())) as usize,
            (Self::Flat(owners), Some(key)) => owners.find(key, attempt) as usize,
            (Self::P2c(draw), _) if draw.is_even() => p2c::choose_of_equals(places, cursor),
            _ => self.choose_other(places, cursor, key, attempt, now),
        }
    }

    fn choose_other<T>(
        &self,
        places: &[Place<T>],
        cursor: &mut Cursor,
        key: Option<Key>,
        attempt: u32,
        now: Instant,
    ) -> usize {
        let time = || places[0].slot.endpoint().pool().time(now);
        let mut key = || key.unwrap_or_else(|| Key::from_hash(cursor.bits()));
        match self {
            Self::RoundRobin => cursor.next(places.len()),
            Self::Smooth(round) => round.seat(cursor.next(round.len())) as usize,
            Self::Random(alias) => alias.choose(cursor),
            Self::P2c(draw) => p2c::choose(places, draw, cursor),
            Self::PeakEwma { draw, full } => peak_ewma::choose(places, (draw, *full), cursor, time()),
            Self::Prequal { full } => prequal::choose(places, *full, cursor, time()),
            Self::LeastRequest(draw) => least_request::choose(places, draw, cursor),
            Self::Ring(ring) => ring.find(key(), attempt) as usize,
            Self::Flat(owners) => owners.find(key(), attempt) as usize,
            Self::Rendezvous(all) => all.find(key(), attempt) as usize,
        }
    }
}
