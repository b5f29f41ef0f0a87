//! The tables of the hash policies, to be used alone: which server a key belongs to, for caches, shards and partitions.
//!
//! All are built from a list of [`Seat`]s and answer with an index into it. Where a key goes depends on the ids and
//! weights of the seats and on nothing else, neither on their order nor on the process, so that machines that never
//! talked agree. `find(key, 0)` is the owner; `find(key, 1)`, `find(key, 2)`, ... are others to go to when it is down,
//! so that only its keys move.
//!
//! | table | look-up | balance | moves that were not needed |
//! |---|---|---|---|
//! | [`CappedRendezvous`] | one index | within its cap, 2 % | hardly any |
//! | [`Maglev`] | one index | exact | some |
//! | [`Rendezvous`] | every seat | as chance has it | none |
//! | [`RingHash`] | a short search | 10 to 30 % off | none |
//!
//! # Examples
//! ```
//! use tenfold_load_balancer::hash::{CappedRendezvous, Seat};
//! use tenfold_load_balancer::{BackendId, Key};
//!
//! let seats = ["a", "b", "c"].map(|name| Seat { id: BackendId::of_name(name), weight: 1 });
//! let table = CappedRendezvous::build(&seats, CappedRendezvous::DEFAULT_SLOTS, CappedRendezvous::DEFAULT_CAP_PERCENT)?;
//! let key = Key::of(b"user 123");
//! let owner = seats[table.find(key, 0) as usize].id;
//! # assert!(seats.iter().any(|seat| seat.id == owner));
//! # Ok::<(), tenfold_load_balancer::hash::NoSeats>(())
//! ```

pub use crate::policy::{CappedRendezvous, Maglev, NoSeats, Rendezvous, RingHash, Seat};
