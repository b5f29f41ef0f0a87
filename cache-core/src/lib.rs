//! The engine under the caches.

mod budget;
mod builder;
mod cache;
mod clock;
mod config;
mod entry;
mod expire;
mod flight;
mod insert;
mod iter;
mod lease;
mod load;
mod negative;
mod pending;
mod read_through;
mod removal;
mod rules;
mod shard;
mod slab;
mod stats;
mod sync;
pub mod unsync;
mod weigh;

pub use builder::Builder;
pub use cache::Cache;
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Config, ConfigError};
pub use entry::{Change, Entry};
pub use hashbrown::DefaultHashBuilder;
pub use insert::InsertError;
pub use iter::Iter;
pub use lease::{FillError, LeaseId, Lookup};
pub use load::LoadError;
pub use read_through::{AsyncLoader, AsyncReadThrough, Loader, ReadThrough, RefreshJob, RefreshTask};
pub use removal::RemovalCause;
pub use stats::StatsSnapshot;
pub use weigh::{UnitWeigher, Weigher};
pub mod list;
mod policy;
mod rng;
mod slot;
#[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
pub mod testing;
mod wheel;

pub use policy::{Hit, Policy};
pub use slot::Slot;
