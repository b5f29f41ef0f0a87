//! Which shard a key belongs to, how slots move when shards come and go, and which keys are asked for most.
//!
//! A key has a [`Slot`], by a hash that never changes; a [`SlotMap`] says which shard owns each slot, and has a version. To
//! grow, slots move: [`SlotMap::with_shard`] names as few as even shares allow, about one in n, and
//! [`SlotMap::moved`] makes the next version, slot by slot. Everything here is pure: where the map is kept, and how rows
//! are copied, is the host's matter.
//!
//! A process that works with an old map must not write to a shard that has given the slot away. So each shard keeps the
//! version of the last change of each of its slots beside its data and compares it in the transaction of the write:
//! [`SlotMap::check`] says which of both is behind.
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
//! Keys that must be together, such as a user and the user's orders, have one key to shard by: hash that part alone.

mod codec;
mod hot;
mod map;
mod plan;

pub use codec::DecodeError;
pub use hot::{HotKey, HotKeys};
pub use map::{MAX_SLOTS, MapError, Slot, SlotMap, StaleMap};
pub use plan::Move;
