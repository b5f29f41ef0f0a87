//! How a backend is chosen among those that take requests.
//!
//! A policy is data ([`Policy`]); a [`Table`] is what it becomes for one set of backends, built off the hot path and
//! never changed. Choosing reads the table, the picker's own cursor and, where the policy looks at load, the counts of
//! the backends it compares.

mod apportion;
mod bounded;
mod claims;
#[cfg(test)]
mod hash_tests;
mod kind;
mod least_request;
mod logarithm;
mod maglev;
mod p2c;
mod peak_ewma;
pub(crate) mod prequal;
mod random;
#[cfg(feature = "serde")]
mod read;
mod rendezvous;
mod ring;
mod rounds;
mod seat;
mod slots;
mod smooth;
mod table;

pub use claims::CappedRendezvous;
pub use kind::{HashConfig, ParsePolicyError, Policy};
pub use maglev::Maglev;
pub use rendezvous::Rendezvous;
pub use ring::RingHash;
pub use seat::{NoSeats, Seat};

pub(crate) use bounded::{Share, fits};
pub(crate) use table::{Place, Table};
