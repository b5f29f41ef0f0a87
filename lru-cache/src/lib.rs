//! Recency.

mod fifo;
mod lru;

pub use fifo::Fifo;
pub use lru::Lru;
pub use tenfold_cache_core::{
    AsyncLoader, AsyncReadThrough, Builder, Cache, Change, Clock, Config, ConfigError,
    DefaultHashBuilder, Entry, FillError, InsertError, Iter, LeaseId, LoadError, Loader, Lookup,
    ManualClock, ReadThrough, RefreshJob, RefreshTask, RemovalCause, StatsSnapshot, SystemClock,
    UnitWeigher, Weigher,
};

/// A concurrent cache that evicts what was used longest ago.
pub type LruCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Lru, S>;

/// A concurrent cache that evicts what was inserted longest ago.
pub type FifoCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Fifo, S>;

/// The same caches for one thread.
pub mod unsync {
    use super::{DefaultHashBuilder, Fifo, Lru};
    pub use tenfold_cache_core::unsync::Cache;

    /// A cache for one thread that evicts what was used longest ago.
    pub type LruCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Lru, S>;

    /// A cache for one thread that evicts what was inserted longest ago.
    pub type FifoCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Fifo, S>;
}
