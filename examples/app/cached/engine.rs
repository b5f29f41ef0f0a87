//! One face over the caches of the climb, so that a cache server can be told its policy at its start.

use std::sync::Arc;

use tenfold_lfu_cache::{Lfu, LfuCache};
use tenfold_lru_cache::{
    AsyncLoader, AsyncReadThrough, ConfigError, Fifo, FifoCache, LeaseId, LoadError, Lookup, Lru, LruCache,
    StatsSnapshot,
};

use super::config::{CacheConfig, EvictionPolicy};
use crate::database::{DatabaseError, Reply};
use crate::user::{UserId, Versioned};
use crate::users::{Answered, Users};

/// What the climb does with a cache of users.
pub(super) trait UserCache: Send + Sync {
    /// The entry, counted as a hit or a miss.
    fn get(&self, id: UserId) -> Option<Versioned>;
    /// Stores without a lease.
    fn insert(&self, id: UserId, value: Versioned);
    /// Drops the entry and voids its lease.
    fn remove(&self, id: UserId);
    /// The entry, or the right to fill it.
    fn lease(&self, id: UserId) -> Lookup<Versioned>;
    /// Stores under a lease; whether the lease was good.
    fn fill(&self, id: UserId, lease: LeaseId, value: Versioned) -> bool;
    /// The entry, loaded if need be, once for all who ask at the same time.
    fn load(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>>;
    /// The cache's own counts.
    fn stats(&self) -> StatsSnapshot;
}

/// Sets up a cache of one of the three types, which share their builder but not a type.
macro_rules! set_up {
    ($cache:ident, $config:expr) => {{
        let mut builder = $cache::<UserId, Versioned>::builder()
            .capacity($config.capacity)
            .time_to_live_jitter_percent($config.jitter_percent);
        if let Some(time_to_live) = $config.time_to_live() {
            builder = builder.time_to_live(time_to_live);
        }
        if let Some(refresh_after) = $config.refresh_after() {
            builder = builder.refresh_after(refresh_after);
        }
        builder.build()
    }};
}

/// Implements the face for the cache with each policy, behind its loader.
macro_rules! user_caches {
    ($($policy:ty => $make:ident),+ $(,)?) => {$(
        fn $make(
            cache: tenfold_lru_cache::Cache<UserId, Versioned, $policy>,
            loader: StoreLoader,
        ) -> AsyncReadThrough<UserId, Versioned, $policy, StoreLoader> {
            AsyncReadThrough::new(cache, loader).spawner(|refresh| drop(tokio::spawn(refresh)))
        }

        impl UserCache for AsyncReadThrough<UserId, Versioned, $policy, StoreLoader> {
            fn get(&self, id: UserId) -> Option<Versioned> {
                self.cache().get(&id)
            }

            fn insert(&self, id: UserId, value: Versioned) {
                self.cache().insert(id, value);
            }

            fn remove(&self, id: UserId) {
                self.cache().remove(&id);
            }

            fn lease(&self, id: UserId) -> Lookup<Versioned> {
                self.cache().lease(&id)
            }

            fn fill(&self, id: UserId, lease: LeaseId, value: Versioned) -> bool {
                self.cache().fill(id, lease, value).is_ok()
            }

            fn load(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>> {
                Box::pin(async move {
                    let answered = if self.cache().contains(&id) { Answered::Cache } else { Answered::Store };
                    let loaded = AsyncReadThrough::get(self, &id).await.map_err(load_failure)?;
                    Ok(loaded.map(|value| (value, answered)))
                })
            }

            fn stats(&self) -> StatsSnapshot {
                self.cache().stats()
            }
        }
    )+};
}

user_caches!(Lru => lru, Lfu => lfu, Fifo => fifo);

/// Makes the cache that `config` describes, loading from `store`.
pub(super) fn build(config: &CacheConfig, store: Arc<dyn Users>) -> Result<Arc<dyn UserCache>, ConfigError> {
    let loader = StoreLoader(store);
    Ok(match config.policy {
        EvictionPolicy::Lru => Arc::new(lru(set_up!(LruCache, config)?, loader)),
        EvictionPolicy::Lfu => Arc::new(lfu(set_up!(LfuCache, config)?, loader)),
        EvictionPolicy::Fifo => Arc::new(fifo(set_up!(FifoCache, config)?, loader)),
    })
}

/// Loads users from the store.
struct StoreLoader(Arc<dyn Users>);

impl AsyncLoader<UserId, Versioned> for StoreLoader {
    type Error = DatabaseError;

    fn load(&self, id: UserId) -> impl Future<Output = Result<Option<Versioned>, DatabaseError>> + Send {
        let store = Arc::clone(&self.0);
        async move { Ok(store.user(id).await?.map(|(found, _)| found)) }
    }
}

fn load_failure(error: LoadError<DatabaseError>) -> DatabaseError {
    match error {
        LoadError::Failed(error) => (*error).clone(),
        LoadError::TimedOut => DatabaseError::TimedOut,
        _ => DatabaseError::Unavailable,
    }
}
