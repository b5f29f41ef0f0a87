//! Read-through for one thread. Nobody else can ask meanwhile, so there is no flight, and an error belongs to one caller.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

use super::Cache;
use crate::clock::{Timeline, saturating_nanos};
use crate::policy::Policy;
use crate::stats::Counters;

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// The value of a key, loaded and stored if it is not there.
    ///
    /// A value that cannot be stored is returned all the same. If the loader panics, nothing has changed but the statistics.
    ///
    /// # Errors
    /// The loader's; nothing is remembered of it. With `stale_if_error` an expired value may be returned instead.
    pub fn get_or_load<E>(&mut self, key: K, loader: impl FnOnce(&K) -> Result<V, E>) -> Result<V, E> {
        if let Some(value) = self.get(&key) {
            return Ok(value.clone());
        }
        let loaded = self.load(key, |key| loader(key).map(Some))?;
        Ok(loaded.unwrap_or_else(|| unreachable!("the loader found something, or its error has been returned")))
    }

    /// Like [`get_or_load`](Self::get_or_load) with a loader that may find that there is no such thing, which is
    /// remembered for `negative_time_to_live`.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_optional<E>(
        &mut self,
        key: K,
        loader: impl FnOnce(&K) -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E> {
        if let Some(value) = self.get(&key) {
            return Ok(Some(value.clone()));
        }
        if self.is_known_absent(&key) {
            return Ok(None);
        }
        self.load(key, loader)
    }

    /// The values of many keys; those that are missing are loaded in one call.
    ///
    /// The loader gets the missing keys, each once, and returns what it found; keys it does not return do not exist and
    /// are missing from the result too (with negative caching that is remembered). Values of keys it was not asked for are
    /// dropped.
    ///
    /// # Errors
    /// The loader's, unless every missing key has an expired value that `stale_if_error` lets stand in.
    pub fn get_or_load_all<E>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnOnce(&[K]) -> Result<Vec<(K, V)>, E>,
    ) -> Result<Vec<(K, V)>, E> {
        let mut seen = HashSet::new();
        let order: Vec<K> = keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
        let mut found = HashMap::with_capacity(order.len());
        let mut missing = Vec::new();
        for key in &order {
            if let Some(value) = self.get(key) {
                found.insert(key.clone(), value.clone());
            } else if !self.is_known_absent(key) {
                missing.push(key.clone());
            }
        }
        if !missing.is_empty() {
            self.load_all(missing, loader, &mut found)?;
        }
        Ok(order.into_iter().filter_map(|key| found.remove(&key).map(|value| (key, value))).collect())
    }

    fn load_all<E>(
        &mut self,
        missing: Vec<K>,
        loader: impl FnOnce(&[K]) -> Result<Vec<(K, V)>, E>,
        found: &mut HashMap<K, V>,
    ) -> Result<(), E> {
        let loaded = self.counted(missing.len() as u64, || loader(&missing));
        match loaded {
            Ok(loaded) => {
                let mut loaded: HashMap<K, V> = loaded.into_iter().collect();
                for key in missing {
                    let value = loaded.remove(&key);
                    self.keep(key.clone(), value.clone());
                    found.extend(value.map(|value| (key, value)));
                }
                Ok(())
            }
            Err(error) => {
                let count = missing.len() as u64;
                for key in missing {
                    let Some(stale) = self.stale_value(&key) else { return Err(error) };
                    found.insert(key, stale);
                }
                self.shard.counters.stale_hits += count;
                Ok(())
            }
        }
    }

    /// Loads the key anew though a live value is there.
    ///
    /// # Errors
    /// The loader's; a live value stays as it is, and so does an expired one in its grace.
    pub fn refresh<E>(&mut self, key: K, loader: impl FnOnce(&K) -> Result<V, E>) -> Result<V, E> {
        let loaded = self.load(key, |key| loader(key).map(Some))?;
        Ok(loaded.unwrap_or_else(|| unreachable!("the loader found something, or its error has been returned")))
    }

    fn load<E>(&mut self, key: K, loader: impl FnOnce(&K) -> Result<Option<V>, E>) -> Result<Option<V>, E> {
        let loaded = self.counted(1, || loader(&key));
        match loaded {
            Ok(value) => {
                self.keep(key, value.clone());
                Ok(value)
            }
            Err(error) => {
                let stale = self.stale_value(&key).ok_or(error)?;
                self.shard.counters.stale_hits += 1;
                Ok(Some(stale))
            }
        }
    }

    /// Runs a load of so many keys, and counts it, whether it ends well, with an error or with a panic.
    fn counted<T, E>(&mut self, keys: u64, load: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = self.rules.timeline.now();
        let counters = &mut self.shard.counters;
        let mut going_on = GoingOn { counters, timeline: &self.rules.timeline, started, keys, failed: true };
        let loaded = load();
        going_on.failed = loaded.is_err();
        loaded
    }

    /// Stores what was loaded, or remembers that there is no such thing.
    fn keep(&mut self, key: K, loaded: Option<V>) {
        if let Some(value) = loaded {
            self.insert(key, value);
            return;
        }
        self.remove(&key);
        if let Some(time_to_live) = self.rules.config.negative_time_to_live {
            let now = self.rules.timeline.now();
            let expires_at = now.saturating_add(saturating_nanos(time_to_live));
            let hash = self.rules.hash(&key);
            drop(self.shard.absent.insert(hash, key, now, expires_at));
        }
    }

    /// Whether the key is remembered to be absent; counts as an answer if it is.
    fn is_known_absent(&mut self, key: &K) -> bool {
        let absent = self.remembers_absence(key);
        self.shard.counters.negative_hits += u64::from(absent);
        absent
    }

    /// Whether the key is remembered to be absent; counts nothing.
    pub(crate) fn remembers_absence(&self, key: &K) -> bool {
        !self.shard.absent.is_empty()
            && self.shard.absent.contains(self.rules.hash(key), key, self.rules.negative_now())
    }

    /// An expired value within its grace.
    fn stale_value(&self, key: &K) -> Option<V> {
        self.rules.config.stale_if_error?;
        self.shard.stale(self.rules.hash(key), key, self.rules.now()).cloned()
    }
}

/// Counts a load when it is over.
struct GoingOn<'a> {
    counters: &'a mut Counters,
    timeline: &'a Timeline,
    started: u64,
    keys: u64,
    failed: bool,
}

impl Drop for GoingOn<'_> {
    fn drop(&mut self) {
        let Self { counters, keys, .. } = self;
        let nanos = self.timeline.now().saturating_sub(self.started).saturating_mul(*keys);
        counters.load_nanos = counters.load_nanos.saturating_add(nanos);
        if self.failed {
            counters.load_failures += *keys;
        } else {
            counters.loads += *keys;
        }
    }
}
