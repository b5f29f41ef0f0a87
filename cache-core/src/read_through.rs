//! Read-through with a fixed loader, and refresh-ahead.
//!
//! Refresh-ahead is asynchronous here: a hit on an entry older than `refresh_after` returns the present value at once
//! and hands a reload to the executor that the host gave. Only a hit asks for a refresh, so nothing cold is kept
//! alive; a key is refreshed by one job at a time; and `max_refreshes` bounds how many jobs are outstanding, so that a
//! burst of aging entries cannot flood the source.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;

use crate::DefaultHashBuilder;
use crate::cache::Cache;
use crate::load::{Absence, LoadError, Want};
use crate::policy::Policy;
use crate::sync::Mutex;

/// Where values come from, for threads. A closure from `&K` to `Result<Option<V>, E>` is a loader; the compiler wants the
/// type of its argument written out: `|id: &u32| …`.
pub trait Loader<K, V>: Send + Sync + 'static {
    /// What can go wrong.
    type Error: Send + Sync + 'static;

    /// Loads one value; `Ok(None)` says that there is no such thing.
    ///
    /// # Errors
    /// Whatever the source reports.
    fn load(&self, key: &K) -> Result<Option<V>, Self::Error>;

    /// Loads many values, in any order; what is missing from the result does not exist. By default one by one.
    ///
    /// # Errors
    /// Whatever the source reports.
    fn load_all(&self, keys: &[K]) -> Result<Vec<(K, V)>, Self::Error>
    where
        K: Clone,
    {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.extend(self.load(key)?.map(|value| (key.clone(), value)));
        }
        Ok(found)
    }
}

impl<K, V, E, F> Loader<K, V> for F
where
    E: Send + Sync + 'static,
    F: Fn(&K) -> Result<Option<V>, E> + Send + Sync + 'static,
{
    type Error = E;

    fn load(&self, key: &K) -> Result<Option<V>, E> {
        self(key)
    }
}

/// Where values come from, for tasks. A closure from `K` to a future of `Result<Option<V>, E>` is a loader.
pub trait AsyncLoader<K, V>: Send + Sync + 'static {
    /// What can go wrong.
    type Error: Send + Sync + 'static;

    /// Loads one value; `Ok(None)` says that there is no such thing. The future is polled by whoever waits.
    ///
    /// # Errors
    /// Whatever the source reports.
    fn load(&self, key: K) -> impl Future<Output = Result<Option<V>, Self::Error>> + Send;

    /// Loads many values, in any order; what is missing from the result does not exist. By default one after the other.
    /// The future is polled by whoever waits for one of the keys.
    ///
    /// # Errors
    /// Whatever the source reports: one error for all keys, so by default the first one, and what was loaded before it is
    /// lost.
    ///
    /// # Cancel safety
    /// Dropped, as the future of [`load`](Self::load) is, when nobody waits for any of the keys any more.
    fn load_all(&self, keys: Vec<K>) -> impl Future<Output = Result<Vec<(K, V)>, Self::Error>> + Send
    where
        K: Clone + Send,
        V: Send,
    {
        async move {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.extend(self.load(key.clone()).await?.map(|value| (key, value)));
            }
            Ok(found)
        }
    }
}

impl<K, V, E, F, Fut> AsyncLoader<K, V> for F
where
    E: Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
{
    type Error = E;

    fn load(&self, key: K) -> impl Future<Output = Result<Option<V>, E>> + Send {
        self(key)
    }
}

/// A refresh for the host to run on a thread.
pub type RefreshJob = Box<dyn FnOnce() + Send>;

/// A refresh for the host to spawn as a task.
pub type RefreshTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The keys with a refresh outstanding.
struct Refreshing<K> {
    keys: Mutex<HashSet<K>>,
    max: usize,
}

/// Frees a key when its job is over, or was dropped without being run.
struct Ticket<K: Hash + Eq> {
    key: K,
    refreshing: Arc<Refreshing<K>>,
}

impl<K: Hash + Eq + Clone> Refreshing<K> {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::new(HashSet::new()), max })
    }

    /// A ticket, unless the key has one already or all are given out.
    fn enter(self: &Arc<Self>, key: &K) -> Option<Ticket<K>> {
        let mut keys = self.keys.lock();
        if keys.len() >= self.max || !keys.insert(key.clone()) {
            return None;
        }
        drop(keys);
        Some(Ticket { key: key.clone(), refreshing: Arc::clone(self) })
    }
}

impl<K: Hash + Eq> Drop for Ticket<K> {
    fn drop(&mut self) {
        let gone = self.refreshing.keys.lock().take(&self.key);
        drop(gone);
    }
}

/// A cache with a loader: read-through on a miss, refresh-ahead on a hit that comes due.
///
/// A handle like the cache itself: clones share cache, loader and executor.
///
/// # Examples
/// See the crate's documentation.
pub struct ReadThrough<K, V, P, L, S = DefaultHashBuilder> {
    cache: Cache<K, V, P, S>,
    loader: Arc<L>,
    executor: Option<Arc<dyn Fn(RefreshJob) + Send + Sync>>,
    refreshing: Arc<Refreshing<K>>,
}

impl<K, V, P, L, S> ReadThrough<K, V, P, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    P: Policy,
    L: Loader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Puts a loader before a cache. Without an [`executor`](Self::executor) nothing is refreshed ahead.
    pub fn new(cache: Cache<K, V, P, S>, loader: L) -> Self {
        let max = cache.rules.config.max_refreshes;
        Self { cache, loader: Arc::new(loader), executor: None, refreshing: Refreshing::new(max) }
    }

    /// Runs refreshes here: for instance on a thread pool's queue, or `|job| drop(std::thread::spawn(job))`. Called on the
    /// thread of the hit, outside locks; it should return at once. A job that is dropped counts as not begun.
    #[must_use]
    pub fn executor(mut self, executor: impl Fn(RefreshJob) + Send + Sync + 'static) -> Self {
        self.executor = Some(Arc::new(executor));
        self
    }

    /// The cache, for everything but loading.
    pub fn cache(&self) -> &Cache<K, V, P, S> {
        &self.cache
    }

    /// The value of a key, loaded if it is not there; `None` if the loader says that there is no such thing.
    ///
    /// A hit on an entry that is due for a refresh returns the present value and starts the refresh.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`]. A failed refresh is not an error here: the old value serves until it expires, and
    /// the next attempt waits for a tenth of `refresh_after`.
    pub fn get(&self, key: &K) -> Result<Option<V>, LoadError<L::Error>> {
        let hash = self.cache.hash(key);
        if let Some((value, due)) = self.cache.get_and_due(hash, key) {
            if due {
                self.refresh_ahead(hash, key);
            }
            return Ok(Some(value));
        }
        let load = |key: &K| self.loader.load(key);
        self.cache.run(hash, key, Want::Answer, Absence::IsAnAnswer, load)
    }

    /// The values of many keys, the missing ones loaded by one call of [`Loader::load_all`]; keys without a value
    /// are left out. Hits that are due for a refresh are served and refreshed one by one, as by [`get`](Self::get).
    ///
    /// # Errors
    /// As [`Cache::get_or_load_all`].
    pub fn get_all(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<(K, V)>, LoadError<L::Error>> {
        let load_all = |missing: &[K]| self.loader.load_all(missing);
        self.cache.run_all(keys, load_all, |hash, key| self.refresh_ahead(hash, key))
    }

    /// Loads the key anew on this thread, now; the present value keeps being served meanwhile.
    ///
    /// `None` if the loader says that there is no such thing; the entry is then gone. Joins a load that is already going on.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`]; a live value stays as it is.
    pub fn refresh(&self, key: &K) -> Result<Option<V>, LoadError<L::Error>> {
        let hash = self.cache.hash(key);
        let load = |key: &K| self.loader.load(key);
        self.cache.run(hash, key, Want::NewValue, Absence::IsAnAnswer, load)
    }

    fn refresh_ahead(&self, hash: u64, key: &K) {
        let Some(executor) = &self.executor else { return };
        if self.cache.current_load(hash, key).is_some() {
            return;
        }
        let Some(ticket) = self.refreshing.enter(key) else {
            return;
        };
        let cache = self.cache.clone();
        let loader = Arc::clone(&self.loader);
        executor(Box::new(move || {
            // Somebody may have written the key while the job was queued.
            if cache.begin_refresh(hash, &ticket.key) {
                let load = |key: &K| loader.load(key);
                let key = &ticket.key;
                // The outcome is in the statistics, and the old value serves on.
                drop(cache.run(hash, key, Want::NewValue, Absence::IsAnAnswer, load));
            }
        }));
    }
}

/// [`ReadThrough`] for tasks.
pub struct AsyncReadThrough<K, V, P, L, S = DefaultHashBuilder> {
    cache: Cache<K, V, P, S>,
    loader: Arc<L>,
    spawner: Option<Arc<dyn Fn(RefreshTask) + Send + Sync>>,
    refreshing: Arc<Refreshing<K>>,
}

impl<K, V, P, L, S> AsyncReadThrough<K, V, P, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    P: Policy,
    L: AsyncLoader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Puts a loader before a cache. Without a [`spawner`](Self::spawner) nothing is refreshed ahead.
    pub fn new(cache: Cache<K, V, P, S>, loader: L) -> Self {
        let max = cache.rules.config.max_refreshes;
        Self { cache, loader: Arc::new(loader), spawner: None, refreshing: Refreshing::new(max) }
    }

    /// Spawns refreshes here, for instance on a runtime: with tokio, `|task| drop(tokio::spawn(task))`. Called in the task
    /// of the hit, outside locks. A task that is dropped before it ran counts as not begun.
    #[must_use]
    pub fn spawner(mut self, spawner: impl Fn(RefreshTask) + Send + Sync + 'static) -> Self {
        self.spawner = Some(Arc::new(spawner));
        self
    }

    /// The cache, for everything but loading.
    pub fn cache(&self) -> &Cache<K, V, P, S> {
        &self.cache
    }

    /// The value of a key, loaded if it is not there; `None` if the loader says that there is no such thing.
    ///
    /// A hit on an entry that is due for a refresh returns the present value and starts the refresh.
    ///
    /// # Errors
    /// As [`Cache::get_or_load_async`]. A failed refresh is not an error here: the old value serves until it expires, and
    /// the next attempt waits for a tenth of `refresh_after`.
    ///
    /// # Cancel safety
    /// Cancel safe: a load goes on for the others.
    pub async fn get(&self, key: &K) -> Result<Option<V>, LoadError<L::Error>> {
        let hash = self.cache.hash(key);
        if let Some((value, due)) = self.cache.get_and_due(hash, key) {
            if due {
                self.refresh_ahead(hash, key);
            }
            return Ok(Some(value));
        }
        self.run(hash, key, Want::Answer).await
    }

    /// The values of many keys, the missing ones loaded by one call of [`AsyncLoader::load_all`]; keys without a value
    /// are left out. Hits that are due for a refresh are served and refreshed one by one, as by [`get`](Self::get).
    ///
    /// # Errors
    /// As [`Cache::get_or_load_all_async`].
    ///
    /// # Cancel safety
    /// Cancel safe: a load goes on for the others.
    pub async fn get_all(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<(K, V)>, LoadError<L::Error>> {
        let load_all = |missing| {
            let loader = Arc::clone(&self.loader);
            async move { loader.load_all(missing).await }
        };
        self.cache.run_all_async(keys, load_all, |hash, key| self.refresh_ahead(hash, key)).await
    }

    /// Loads the key anew, now; the present value keeps being served meanwhile.
    ///
    /// `None` if the loader says that there is no such thing; the entry is then gone. Joins a load that is already going on.
    ///
    /// # Errors
    /// As [`Cache::get_or_load_async`]; a live value stays as it is.
    ///
    /// # Cancel safety
    /// Cancel safe: a load goes on for the others, and is dropped if there are none.
    pub async fn refresh(&self, key: &K) -> Result<Option<V>, LoadError<L::Error>> {
        let hash = self.cache.hash(key);
        self.run(hash, key, Want::NewValue).await
    }

    async fn run(&self, hash: u64, key: &K, want: Want) -> Result<Option<V>, LoadError<L::Error>> {
        let loader = Arc::clone(&self.loader);
        let load = move |key| async move { loader.load(key).await };
        let cache = &self.cache;
        cache.run_async(hash, key.clone(), want, Absence::IsAnAnswer, load).await
    }

    fn refresh_ahead(&self, hash: u64, key: &K) {
        let Some(spawner) = &self.spawner else { return };
        if self.cache.current_load(hash, key).is_some() {
            return;
        }
        let Some(ticket) = self.refreshing.enter(key) else {
            return;
        };
        let cache = self.cache.clone();
        let loader = Arc::clone(&self.loader);
        spawner(Box::pin(async move {
            if cache.begin_refresh(hash, &ticket.key) {
                let load = move |key| async move { loader.load(key).await };
                let key = ticket.key.clone();
                let run = cache.run_async(hash, key, Want::NewValue, Absence::IsAnAnswer, load);
                // The outcome is in the statistics, and the old value serves on.
                drop(run.await);
            }
            drop(ticket);
        }));
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// A hit, and whether it is due for a refresh.
    pub(crate) fn get_and_due(&self, hash: u64, key: &K) -> Option<(V, bool)>
    where
        V: Clone,
    {
        if self.rules.config.refresh_after.is_none() {
            return self.get_hashed(hash, key).map(|value| (value, false));
        }
        let now = self.rules.now();
        let mut shard = self.lock(hash);
        let (slot, value) = shard.hit(hash, key, now)?;
        let value = value.clone();
        Some((value, shard.is_refresh_due(slot, now)))
    }

    /// Whether the key's live value is still due for a refresh; counts one.
    fn begin_refresh(&self, hash: u64, key: &K) -> bool {
        let now = self.rules.now();
        let mut shard = self.lock(hash);
        let due = match shard.find_fresh(hash, key, now) {
            Some(slot) => shard.is_refresh_due(slot, now),
            None => false,
        };
        shard.counters.refreshes += u64::from(due);
        due
    }
}

impl<K, V, P, L, S> Clone for ReadThrough<K, V, P, L, S> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            loader: Arc::clone(&self.loader),
            executor: self.executor.clone(),
            refreshing: Arc::clone(&self.refreshing),
        }
    }
}

impl<K, V, P, L, S> Clone for AsyncReadThrough<K, V, P, L, S> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            loader: Arc::clone(&self.loader),
            spawner: self.spawner.clone(),
            refreshing: Arc::clone(&self.refreshing),
        }
    }
}

impl<K, V, P, L, S> fmt::Debug for ReadThrough<K, V, P, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl<K, V, P, L, S> fmt::Debug for AsyncReadThrough<K, V, P, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncReadThrough").field("cache", &self.cache).finish_non_exhaustive()
    }
}
