//! Which shard a key belongs to, how slots move when shards come and go, and which keys are asked for most.
//!
//! A key has a [`Slot`], by a hash that never changes; a [`SlotMap`] says which shard owns each slot, and has a version. To
//! grow, slots move: [`SlotMap::with_shard`] names as few as even shares allow, about one in n, and
//! [`SlotMap::moved`] makes the next version, slot by slot. This much is pure.
//!
//! With the feature `tokio`, `Shards` reads and writes on the cluster that owns a key, reads from all, and moves slots while
//! they are written, over the tables that a `SlotStore` knows. A process with an old map must not write to a shard that has
//! given the slot away: each shard keeps beside its data since which version it owns a slot, and that is compared in the
//! transaction of each write. Where the map is kept, and how other processes get it, is the host's matter.
//!
//! # Examples
//! ```
//! use tenfold_replication::ShardId;
//! use tenfold_replication::shard::{Slot, SlotMap};
//!
//! let mut map = SlotMap::new(1_024, &[ShardId(0), ShardId(1)])?;
//! let slot = map.slot(b"user/42");
//! assert_eq!(map.shard_of(b"user/42"), map.owner(slot).unwrap());
//!
//! // A third shard takes a third of the slots, and no other slot moves.
//! let moves = map.with_shard(ShardId(2))?;
//! assert_eq!(moves.len(), 341);
//! for one in moves {
//!     // Here its rows are copied, and the old owner stops writing them.
//!     map = map.moved(one)?;
//! }
//! assert_eq!(map.count(ShardId(2)), 341);
//! # Ok::<(), tenfold_replication::shard::MapError>(())
//! ```
//!
//! # In SQL
//!
//! What a shard of PostgreSQL has beside its tables, where `counter` stands for one of them. The example `shards` has the
//! `SlotStore` that goes with it.
//!
//! ```sql
#![doc = include_str!("../../examples/shards/schema.sql")]
//! ```
//!
//! - **Copied** are the keys of a slot in pages, as of one snapshot each (`select key from counter where slot = $1 and key > $2
//!   order by key limit $3`), each with all its rows, which take the place of those that the other shard has; then, by what
//!   `note` says, the keys that were written meanwhile.
//! - **Fenced** is each write by its own transaction, which begins with `select fenced_holding($1)`: what that says is compared
//!   with the map, and whoever has an old one is refused. So a former owner takes no write, whoever sends it.
//! - **Deleted** is a slot by its column: `delete from counter where slot = $1`.
//!
//! SQLite needs no lock, since its writers take turns; `tests/sqlite/shards.rs` has its store.
//!
//! Keys that must be together, such as a user and the user's orders, have one key to shard by: hash that part alone.

mod codec;
#[cfg(feature = "tokio")]
mod gathered;
mod hot;
mod map;
#[cfg(feature = "tokio")]
mod mover;
mod plan;
#[cfg(feature = "tokio")]
mod shards;
#[cfg(feature = "tokio")]
mod store;

pub use codec::DecodeError;
#[cfg(feature = "tokio")]
pub use gathered::{Gathered, Incomplete};
pub use hot::{HotKey, HotKeys};
pub use map::{MAX_SLOTS, MapError, Slot, SlotMap, StaleMap};
pub use plan::Move;
#[cfg(feature = "tokio")]
pub use shards::{Sessions, ShardError, Shards};
#[cfg(feature = "tokio")]
pub use store::{Holding, HoldingState, ParseHoldingError, SlotStore};
