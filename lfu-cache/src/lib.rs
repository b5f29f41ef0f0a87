//! Frequency.

mod ageing;
mod lfu;

pub use ageing::Ageing;
pub use lfu::Lfu;
pub use tenfold_cache_core::{
    AsyncLoader, AsyncReadThrough, Builder, Cache, Change, Clock, Config, ConfigError,
    DefaultHashBuilder, Entry, FillError, InsertError, Iter, LeaseId, LoadError, Loader, Lookup,
    ManualClock, ReadThrough, RefreshJob, RefreshTask, RemovalCause, StatsSnapshot, SystemClock,
    UnitWeigher, Weigher,
};

/// A concurrent cache that evicts what was used least often.
pub type LfuCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Lfu, S>;

/// The same cache for one thread.
pub mod unsync {
    use super::{DefaultHashBuilder, Lfu};
    pub use tenfold_cache_core::unsync::Cache;

    /// A cache for one thread that evicts what was used least often.
    pub type LfuCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Lfu, S>;
}
