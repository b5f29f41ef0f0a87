//! How a backend is chosen among those that take requests.
//!
//! A policy is data ([`Policy`]); a [`Table`] is what it becomes for one set of backends, built off the hot path and
//! never changed. Choosing reads the table, the picker's own [`Cursor`] and, where the policy looks at load, the counts
//! of the backends it compares.

#[allow(dead_code, reason = "for weighted round robin alone")]
mod apportion;
mod claims;
#[cfg(test)]
mod hash_tests;
mod least_request;
mod logarithm;
mod maglev;
mod p2c;
mod random;
mod rounds;
mod seat;
mod slots;
#[allow(dead_code, reason = "for weighted round robin alone")]
mod smooth;

pub use claims::CappedRendezvous;
pub use maglev::Maglev;
pub use seat::Seat;

use std::net::SocketAddr;

use crate::BackendId;
use crate::cursor::Cursor;
use crate::endpoint::Slot;
use crate::request::Key;
use crate::sync::Arc;

/// How a backend is chosen.
///
/// "Weights" says whether a backend's weight counts; slow start scales it.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Policy {
    /// One after the other; weights do not count. Equal numbers of requests, to within the number of pickers.
    #[default]
    RoundRobin,
    /// A random one, in proportion to the weights.
    Random,
    /// Two at random, and of these the one with fewer requests in flight for its weight.
    ///
    /// # Source
    /// Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001.
    P2c,
    /// The one with the fewest requests in flight for its weight, of all; looks at every backend.
    LeastRequest,
}

impl Policy {
    /// Whether a backend that is ejected keeps its place, so that only its requests go elsewhere meanwhile.
    pub(crate) fn keeps_its_table(&self) -> bool {
        false
    }

    /// Whether a backend's load is bounded by the mean.
    pub(crate) fn bounds_load(&self) -> bool {
        false
    }
}

/// One backend that a table may choose, and how much it takes.
pub(crate) struct Place<T> {
    pub(crate) slot: Arc<Slot<T>>,
    /// At least 1.
    pub(crate) weight: u32,
    /// Copies of what most callers ask for: the places lie side by side, endpoints all over the memory.
    pub(crate) id: BackendId,
    pub(crate) address: SocketAddr,
}

impl<T> Place<T> {
    pub(crate) fn new(slot: Arc<Slot<T>>, weight: u32) -> Self {
        let (id, address) = (slot.endpoint().id(), slot.endpoint().address());
        Self { slot, weight, id, address }
    }
}

/// A policy for one set of backends.
#[derive(Debug)]
pub(crate) enum Table {
    RoundRobin,
    Random(random::Alias),
    P2c,
    LeastRequest,
}

impl Table {
    pub(crate) fn build<T>(policy: &Policy, places: &[Place<T>]) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin,
            Policy::Random => Self::Random(random::Alias::build(places.iter().map(|place| place.weight))),
            Policy::P2c => Self::P2c,
            Policy::LeastRequest => Self::LeastRequest,
        }
    }

    /// The place of the backend for a request. `attempt` counts the choices that were refused before for this one.
    ///
    /// There is at least one place.
    #[inline]
    pub(crate) fn choose<T>(
        &self,
        places: &[Place<T>],
        cursor: &mut Cursor,
        _key: Option<Key>,
        _attempt: u32,
    ) -> usize {
        match self {
            Self::RoundRobin => cursor.next(places.len()),
            Self::Random(alias) => alias.choose(cursor),
            Self::P2c => p2c::choose(places, cursor),
            Self::LeastRequest => least_request::choose(places, cursor),
        }
    }
}
