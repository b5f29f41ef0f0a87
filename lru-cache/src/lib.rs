//! Recency and insertion-order caches for programs of any size: [`LruCache`] and [`FifoCache`].
//!
//! ```
//! use std::time::Duration;
//! use tenfold_lru_cache::LruCache;
//!
//! let cache: LruCache<String, u64> = LruCache::builder()
//!     .capacity(10_000)
//!     .time_to_live(Duration::from_secs(300))
//!     .build()?;
//!
//! cache.insert("answer".to_owned(), 42);
//! assert_eq!(cache.get("answer"), Some(42));
//! assert_eq!(cache.get("question"), None);
//! # Ok::<(), tenfold_lru_cache::ConfigError>(())
//! ```
//!
//! [`LruCache`] evicts what was *used* longest ago: the right first choice where what was asked for lately will be
//! asked for again. [`FifoCache`] evicts what was *inserted* longest ago and takes no notice of hits, so a hit changes
//! nothing but a counter. Both can be bounded by a count or by a weight, expire entries, load on a miss, refresh ahead, pin,
//! resize and report; [`unsync`] has both for a single thread, without locks and with references instead of clones.
//!
//! The order is exact within a shard. A concurrent cache has several ([`Config::shards`]); all shards share one
//! capacity, so an entry as heavy as the whole capacity fits, and nothing is evicted before the whole is full.
//!
//! # Three ways to fill it
//! **Cache-aside**: the program looks, reads the database on a miss and fills. A *lease* keeps a slow reader from
//! putting yesterday's value over today's:
//!
//! ```
//! use tenfold_lru_cache::{LruCache, FillError, Lookup};
//!
//! # fn read_database(_: &u32) -> String { "v1".to_owned() }
//! let cache: LruCache<u32, String> = LruCache::new(1_000);
//!
//! // A reader misses, and is granted the right to fill.
//! let Lookup::Granted(lease) = cache.lease(&7) else { panic!("the cache was empty") };
//! let old = read_database(&7);
//!
//! // Before it fills, a writer updates the database and invalidates the key …
//! cache.remove(&7);
//!
//! // … so the fill is refused, and the stale value comes back to the reader.
//! assert_eq!(cache.fill(7, lease, old), Err(FillError::Void("v1".to_owned())));
//! assert_eq!(cache.get(&7), None);
//! ```
//!
//! **Read-through**: the cache calls a loader, once, however many threads and tasks want the key at that moment.
//! [`Cache::get_or_load_async`] is the same for tasks, on any runtime, and the two wait for each other:
//!
//! ```
//! use std::io;
//! use tenfold_lru_cache::{LruCache, LoadError};
//!
//! let cache: LruCache<u32, String> = LruCache::new(1_000);
//! let load = |id: &u32| Ok::<_, io::Error>(format!("user {id}"));
//! assert_eq!(cache.get_or_load(7, load)?, "user 7");
//!
//! // An error reaches everybody who waited for that load, and is not remembered.
//! let fail = |_: &u32| Err::<String, _>(io::Error::other("no database"));
//! assert!(matches!(cache.get_or_load(8, fail), Err(LoadError::Failed(_))));
//! assert_eq!(cache.get_or_load(8, load)?, "user 8");
//! # Ok::<(), LoadError<io::Error>>(())
//! ```
//!
//! A loader may find that there is no such thing, and a source may be down. The cache remembers the one for
//! [`negative_time_to_live`](Config::negative_time_to_live), and for [`stale_if_error`](Config::stale_if_error) helps out
//! with an expired value in the other case:
//!
//! ```
//! use std::{io, time::Duration};
//! use tenfold_lru_cache::{LruCache, ManualClock};
//!
//! let clock = ManualClock::new();
//! let cache: LruCache<u32, String> = LruCache::builder()
//!     .time_to_live(Duration::from_secs(60))
//!     .negative_time_to_live(Duration::from_secs(10))
//!     .stale_if_error(Duration::from_secs(600))
//!     .clock(clock.clone())
//!     .build()?;
//! let find = |id: &u32| Ok::<_, io::Error>((*id < 100).then(|| format!("user {id}")));
//! let fail = |_: &u32| Err(io::Error::other("no database"));
//! assert_eq!(cache.get_or_load_optional(7, find)?.as_deref(), Some("user 7"));
//! assert_eq!(cache.get_or_load_optional(100, find)?, None);
//! assert_eq!(cache.get_or_load_optional(100, fail)?, None, "remembered, nobody is asked");
//!
//! clock.advance(Duration::from_secs(61));
//! assert_eq!(cache.get(&7), None, "expired");
//! assert_eq!(cache.get_or_load_optional(7, fail)?.as_deref(), Some("user 7"), "better than nothing");
//! assert!(cache.get_or_load_optional(100, fail).is_err(), "forgotten by now");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A loader that is a future must own what it uses, since whoever waits may poll it:
//!
//! ```
//! use std::{io, sync::Arc};
//! use tenfold_lru_cache::{LruCache, LoadError};
//!
//! # struct Database;
//! # impl Database { async fn user_name(&self, id: u32) -> io::Result<String> { Ok(format!("user {id}")) } }
//! async fn user_name(
//!     users: &LruCache<u32, String>,
//!     database: &Arc<Database>,
//!     id: u32,
//! ) -> Result<String, LoadError<io::Error>> {
//!     let database = Arc::clone(database);
//!     users.get_or_load_async(id, move |id| async move { database.user_name(id).await }).await
//! }
//! # let _ = user_name;
//! ```
//!
//! **Refresh-ahead**: a hit on an aging entry returns at once and reloads in the background, on an executor of the
//! host's, so that nobody waits when a popular entry expires:
//!
//! ```
//! use std::{sync::mpsc, time::Duration};
//! use tenfold_lru_cache::{LruCache, ManualClock, ReadThrough, RefreshJob};
//!
//! let clock = ManualClock::new();
//! let cache: LruCache<u32, Duration> = LruCache::builder()
//!     .time_to_live(Duration::from_secs(60))
//!     .refresh_after(Duration::from_secs(45))
//!     .clock(clock.clone())
//!     .build()?;
//!
//! # use tenfold_lru_cache::Clock; let start = clock.now(); let time = clock.clone();
//! let (jobs, queue) = mpsc::channel::<RefreshJob>();
//! let users = ReadThrough::new(cache, move |_: &u32| Ok::<_, std::io::Error>(Some(time.now() - start)))
//!     .executor(move |job| drop(jobs.send(job)));
//!
//! assert_eq!(users.get(&7)?, Some(Duration::ZERO));
//! clock.advance(Duration::from_secs(50));
//! assert_eq!(users.get(&7)?, Some(Duration::ZERO), "served at once, though due");
//! queue.recv()?(); // the host's worker
//! assert_eq!(users.get(&7)?, Some(Duration::from_secs(50)), "refreshed before it expired");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//! - The sum of the weights never exceeds the capacity, at any instant, however many threads insert.
//! - An entry is never served at or after its deadline, unless a load fails and you asked for `stale_if_error`.
//! - Each operation is linearizable for its key. After [`Cache::remove`] returns, no load, lease or refresh that began
//!   before can bring the old value back.
//! - One load a key at a time. A loader that panics, fails, is cancelled or is never polled again hangs nobody.
//! - The listener, the weigher, loaders and the `Drop` of keys and values run outside locks and may call the cache.
//! - Nothing is global: no threads, no tasks, no logging, no clock but the one you may replace.
//!
//! Values are cloned out of the cache, under a shard's lock: keep anything big in an `Arc`. A cache that is dropped tells
//! its listener nothing.
//!
//! # Features
//! | feature | what for |
//! |---|---|
//! | `serde` | [`Config`] from a configuration file; [`Snapshot`] to and from any format, for a warm restart; [`StatsSnapshot`] to any |
//! | `testing` | `policy::testing`, the conformance kit for policies of your own, and `check_invariants` |
//!
//! A policy of your own is a small structure behind the trait [`policy::Policy`]; the crate `tenfold-cache-core` has the
//! tour.
//!
//! # When to use something else
//! - A scan (a report, a crawler, a loop over more keys than fit) empties an LRU cache of everything useful. A
//!   frequency policy resists: see `tenfold-lfu-cache`.
//! - Where every hit matters on dozens of cores, the lock that each hit takes is the limit.
//! - For data that must survive the process, or be shared by several, put a server (Redis, memcached) behind it.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod fifo;
mod lru;

pub use fifo::Fifo;
pub use lru::Lru;
pub use tenfold_cache_core::{
    AsyncLoader, AsyncReadThrough, Builder, Cache, Change, Clock, Config, ConfigError, DefaultHashBuilder, Entry,
    FillError, InsertError, Iter, LeaseId, LeaseVoid, LoadError, Loader, Lookup, ManualClock, ReadThrough, RefreshJob,
    RefreshTask, RemovalCause, Snapshot, SnapshotEntry, StatsSnapshot, SystemClock, Weigher,
};

/// A concurrent cache that evicts what was used longest ago.
pub type LruCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Lru, S>;

/// A concurrent cache that evicts what was inserted longest ago.
pub type FifoCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Fifo, S>;

/// The same caches for one thread.
///
/// ```
/// use tenfold_lru_cache::unsync::LruCache;
///
/// let mut cache: LruCache<String, Vec<u8>> = LruCache::builder()
///     .capacity(1_000)
///     .weigher(|key: &String, value: &Vec<u8>| (key.len() + value.len()) as u64)
///     .build_unsync()?;
/// cache.insert("page".to_owned(), vec![0; 500]);
/// assert_eq!(cache.get("page").map(Vec::len), Some(500)); // lent, not cloned
/// cache.update("page", |page| page.truncate(100));
/// assert_eq!(cache.weight(), 104);
/// # Ok::<(), tenfold_lru_cache::ConfigError>(())
/// ```
pub mod unsync {
    use super::{DefaultHashBuilder, Fifo, Lru};
    pub use tenfold_cache_core::unsync::{Cache, Entry};

    /// A cache for one thread that evicts what was used longest ago.
    pub type LruCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Lru, S>;

    /// A cache for one thread that evicts what was inserted longest ago.
    pub type FifoCache<K, V, S = DefaultHashBuilder> = Cache<K, V, Fifo, S>;
}

/// What a policy of your own is made of.
pub mod policy {
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub use tenfold_cache_core::testing;
    pub use tenfold_cache_core::{Hit, Newcomer, Policy, Slot, list};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
