//! The engine under tenfold's caches: a sharded, bounded, concurrent map that asks a policy what to evict.
//!
//! You probably want `tenfold-lru-cache` or `tenfold-lfu-cache`, which are this engine with a policy and re-export all
//! that their users name. Use this crate to write a policy of your own: implement [`Policy`] (a small structure of slots,
//! no keys, no values), check it with the conformance kit in `testing` (feature of that name), and name the cache:
//!
//! ```
//! use tenfold_cache_core::list::{Links, List};
//! use tenfold_cache_core::{Cache, Hit, Newcomer, Policy, Slot};
//!
//! /// Evicts what came last.
//! #[derive(Clone, Default)]
//! struct Lifo { order: List, links: Links }
//!
//! impl Policy for Lifo {
//!     const HIT: Hit = Hit::Ignored;
//!     fn insert(&mut self, slot: Slot, _: Newcomer) { self.order.push_front(&mut self.links, slot) }
//!     fn remove(&mut self, slot: Slot) { self.order.remove(&mut self.links, slot) }
//!     fn victim(&mut self) -> Option<Slot> { self.order.front() }
//!     fn len(&self) -> usize { self.order.len() }
//!     fn clear(&mut self) { *self = Self::default() }
//!     fn order(&self) -> Vec<Slot> { self.order.iter(&self.links).collect() }
//! }
//!
//! let cache: Cache<u32, &str, Lifo> = Cache::builder().capacity(2).shards(1).build()?;
//! cache.insert(1, "one");
//! cache.insert(2, "two");
//! cache.insert(3, "three");
//! assert_eq!(cache.get(&2), None);
//! assert_eq!(cache.get(&1), Some("one"));
//! # Ok::<(), tenfold_cache_core::ConfigError>(())
//! ```
//!
//! # How it is put together
//! - A [`Cache`] routes by hash to shards, each an index table, a slab of entries, a policy and, where anything can
//!   expire, a timer wheel, behind one lock. [`unsync::Cache`] is the same shard without the lock.
//! - All shards draw on one account of the capacity. An insertion reserves its weight before the entry exists, so the
//!   bound holds at every instant; one that evicts passes the freed weight on and touches no shared line.
//! - The host's code (weigher, loader, listener, `Drop`) never runs under a lock; `Hash`, `Eq` and `Clone` of keys and
//!   `Clone` of values do.
//! - Loads in progress and leases are kept by key beside the entries; whatever writes or removes a key voids them, so
//!   nothing stale is stored. One [flight](Cache::get_or_load_async) serves threads and tasks.
//! - Expiry is decided on reads by comparing two numbers; the wheel only finds what to collect, a few entries with each
//!   write.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod budget;
mod builder;
mod cache;
mod clock;
mod config;
#[cfg(feature = "serde")]
mod duration;
mod entry;
mod expire;
mod flight;
mod insert;
mod iter;
mod lease;
pub mod list;
mod load;
mod lock;
mod negative;
mod order;
mod pending;
mod policy;
mod read_through;
mod removal;
mod rng;
mod rules;
mod shard;
mod slab;
mod slot;
mod snapshot;
mod stats;
mod sync;
#[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod unsync;
mod weigh;
mod wheel;

pub use builder::Builder;
pub use cache::Cache;
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Config, ConfigError};
pub use entry::{Change, Entry};
pub use hashbrown::DefaultHashBuilder;
pub use insert::InsertError;
pub use iter::Iter;
pub use lease::{FillError, LeaseId, LeaseVoid, Lookup};
pub use load::LoadError;
pub use policy::{Hit, Newcomer, Policy};
pub use read_through::{AsyncLoader, AsyncReadThrough, Loader, ReadThrough, RefreshJob, RefreshTask};
pub use removal::RemovalCause;
pub use slot::Slot;
pub use snapshot::{Snapshot, SnapshotEntry};
pub use stats::StatsSnapshot;
pub use weigh::Weigher;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
