//! Loading many keys at once.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::{Begin, Landed, LoadError, Want};
use crate::cache::Cache;
use crate::flight::{Failure, Flight, Joined, Leader, Load, Outcome};
use crate::policy::Policy;

/// Found values by key, in the order of the request.
type Found<K, V> = Vec<(K, V)>;

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// The values of many keys; those that are neither there nor being loaded by others are loaded in one call.
    ///
    /// The loader gets the missing keys, each once, and returns what it found; keys it does not return do not exist
    /// and are missing from the result too (with negative caching that is remembered). Values of keys it was not
    /// asked for are dropped: nothing guards them against a write meanwhile. It is called again only if a load by
    /// somebody else, for which this call waited, was abandoned.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load). The first failure ends the call; values found before stay in the cache.
    pub fn get_or_load_all<E: Send + Sync + 'static>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnMut(&[K]) -> Result<Vec<(K, V)>, E>,
    ) -> Result<Vec<(K, V)>, LoadError<E>> {
        self.run_all(keys, loader, |_, _| {})
    }

    /// `due` is told of each hit that is due for a refresh, before anything is loaded: it may load what it wants.
    pub(crate) fn run_all<E: Send + Sync + 'static>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut loader: impl FnMut(&[K]) -> Result<Vec<(K, V)>, E>,
        mut due: impl FnMut(u64, &K),
    ) -> Result<Vec<(K, V)>, LoadError<E>> {
        let started = self.rules.timeline.now();
        let order = distinct(keys);
        let mut found = HashMap::with_capacity(order.len());
        let mut wanted = order.clone();
        // Expired values among those found.
        let mut stale = 0;
        while !wanted.is_empty() {
            wanted.retain(|key| !self.find_hit(key, &mut found, &mut due));
            let mut led = Vec::new();
            let mut joined = Vec::new();
            for key in wanted.drain(..) {
                let hash = self.hash(&key);
                let settle = {
                    let key = key.clone();
                    move |flight: &Flight<V>, outcome: &Outcome<V>| {
                        self.settle(hash, &key, (flight, outcome), started);
                    }
                };
                let lead = || Flight::led_by_thread(settle);
                match self.begin(hash, &key, Want::Answer, lead, Leader::flight) {
                    Begin::Hit(value) => drop(found.insert(key, value)),
                    Begin::Absent => {}
                    Begin::Lead(leader) => led.push((key, leader)),
                    Begin::Join(flight) => joined.push((key, hash, flight)),
                }
            }
            stale += self.lead_all(led, &mut loader, &mut found)?;
            for (key, hash, flight) in joined {
                let settle = |flight: &Flight<V>, outcome: &Outcome<V>| {
                    self.settle(hash, &key, (flight, outcome), started);
                };
                let timeout = Some(self.rules.config.load_timeout);
                let outcome = match flight.wait(timeout, settle) {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        if error == crate::flight::WaitError::TimedOut {
                            self.give_up_on(hash, &key, &flight);
                        }
                        return Err(LoadError::waiting(error));
                    }
                };
                match self.land(hash, &key, outcome) {
                    Landed::Value(value) => drop(found.insert(key, value)),
                    Landed::Stale(value) => {
                        found.insert(key, value);
                        stale += 1;
                    }
                    Landed::Absent => {}
                    Landed::Failed(error) => return Err(error),
                    Landed::Again => wanted.push(key),
                }
            }
        }
        if let Some(first) = order.first() {
            self.count_stale_hits(self.hash(first), stale);
        }
        Ok(in_order(order, found))
    }

    /// Looks a key up, for those found. False if it is not there.
    fn find_hit(&self, key: &K, found: &mut HashMap<K, V>, due: &mut impl FnMut(u64, &K)) -> bool {
        let hash = self.hash(key);
        let Some((value, is_due)) = self.get_and_due(hash, key) else {
            return false;
        };
        if is_due {
            due(hash, key);
        }
        found.insert(key.clone(), value);
        true
    }

    /// Loads the keys that this caller leads; returns how many expired values stand in for what was not loaded. If the loader panics, dropping the leaders tells every waiter.
    fn lead_all<E: Send + Sync + 'static>(
        &self,
        led: Vec<(K, Leader<V, impl FnOnce(&Flight<V>, &Outcome<V>)>)>,
        loader: &mut impl FnMut(&[K]) -> Result<Vec<(K, V)>, E>,
        found: &mut HashMap<K, V>,
    ) -> Result<u64, LoadError<E>> {
        if led.is_empty() {
            return Ok(0);
        }
        let keys: Vec<K> = led.iter().map(|(key, _)| key.clone()).collect();
        match loader(&keys) {
            Ok(loaded) => {
                let mut loaded: HashMap<K, V> = loaded.into_iter().collect();
                for (key, leader) in led {
                    let value = loaded.remove(&key);
                    leader.finish(Ok(value.clone()));
                    found.extend(value.map(|value| (key, value)));
                }
                Ok(0)
            }
            Err(error) => {
                let error = Arc::new(error);
                let mut all_stale = true;
                for (key, leader) in led {
                    leader.finish(Err(Failure::Error(Arc::clone(&error) as _)));
                    match self.stale_value(self.hash(&key), &key) {
                        Some(value) => drop(found.insert(key, value)),
                        None => all_stale = false,
                    }
                }
                if all_stale { Ok(keys.len() as u64) } else { Err(LoadError::Failed(error)) }
            }
        }
    }
}

impl<K, V, P, S> Cache<K, V, P, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    P: Policy,
    S: BuildHasher,
{
    /// Like [`get_or_load_all`](Self::get_or_load_all) with a loader that is a future.
    ///
    /// Each missing key's load refers to the one shared load of them all, which goes on as long as anybody waits for
    /// any of its keys. Keys beyond those asked for are dropped.
    ///
    /// # Errors
    /// As [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// # Cancel safety
    /// Cancel safe: the load goes on for the others.
    pub async fn get_or_load_all_async<E, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnMut(Vec<K>) -> F,
    ) -> Result<Vec<(K, V)>, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, V)>, E>> + Send + 'static,
    {
        self.run_all_async(keys, loader, |_, _| {}).await
    }

    /// As [`run_all`](Self::run_all).
    pub(crate) async fn run_all_async<E, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut loader: impl FnMut(Vec<K>) -> F,
        mut due: impl FnMut(u64, &K),
    ) -> Result<Vec<(K, V)>, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, V)>, E>> + Send + 'static,
    {
        let started = self.rules.timeline.now();
        let order = distinct(keys);
        let mut found = HashMap::with_capacity(order.len());
        let mut wanted = order.clone();
        // Expired values among those found.
        let mut stale = 0;
        while !wanted.is_empty() {
            // Keys that are neither here nor on their way, as seen now; `begin` looks again.
            let mut missing = Vec::new();
            let mut absent = HashSet::new();
            wanted.retain(|key| !self.find_hit(key, &mut found, &mut due));
            for key in &wanted {
                let hash = self.hash(key);
                if self.current_load(hash, key).is_some() {
                    continue;
                }
                if self.is_known_absent(hash, key) {
                    absent.insert(key.clone());
                } else {
                    missing.push(key.clone());
                }
            }
            wanted.retain(|key| !absent.contains(key));
            let asked: HashSet<K> = missing.iter().cloned().collect();
            let bulk = (!missing.is_empty()).then(|| Bulk::new(loader(missing)));
            let mut joined = Vec::new();
            let mut again = Vec::new();
            for key in wanted.drain(..) {
                let hash = self.hash(&key);
                let settle = {
                    let key = key.clone();
                    move |flight: &Flight<V>, outcome: &Outcome<V>| {
                        self.settle(hash, &key, (flight, outcome), started);
                    }
                };
                // Never lead a key that the loader was not asked for: it would seem not to exist.
                let Some(bulk) = bulk.as_ref().filter(|_| asked.contains(&key)) else {
                    match self.current_load(hash, &key) {
                        Some(flight) => joined.push((key, hash, flight.join(settle))),
                        None => again.push(key),
                    }
                    continue;
                };
                let lead = || Flight::led_by_future(bulk.share(key.clone()), settle.clone());
                match self.begin(hash, &key, Want::Answer, lead, Joined::flight) {
                    Begin::Hit(value) => drop(found.insert(key, value)),
                    Begin::Absent => {}
                    Begin::Lead(own) => joined.push((key, hash, own)),
                    Begin::Join(flight) => joined.push((key, hash, flight.join(settle))),
                }
            }
            drop(bulk);
            for (key, hash, flight) in joined {
                match self.land(hash, &key, flight.await.map_err(LoadError::waiting)?) {
                    Landed::Value(value) => drop(found.insert(key, value)),
                    Landed::Stale(value) => {
                        found.insert(key, value);
                        stale += 1;
                    }
                    Landed::Absent => {}
                    Landed::Failed(error) => return Err(error),
                    Landed::Again => again.push(key),
                }
            }
            wanted = again;
        }
        if let Some(first) = order.first() {
            self.count_stale_hits(self.hash(first), stale);
        }
        Ok(in_order(order, found))
    }
}

type NoSettle<T> = fn(&Flight<T>, &Outcome<T>);

/// What one loader call found.
type All<K, V> = Arc<HashMap<K, V>>;

/// One loader call, shared by the loads of its keys: it lives as long as any of them.
struct Bulk<K, V> {
    flight: Arc<Flight<All<K, V>>>,
    /// A waiter that is never polled: it keeps the load from being abandoned before the keys' loads wait for it.
    _seated: Joined<All<K, V>, NoSettle<All<K, V>>>,
}

fn no_settle<T>(_: &Flight<T>, _: &Outcome<T>) {}

impl<K, V> Bulk<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new<E, F>(load: F) -> Arc<Self>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, V)>, E>> + Send + 'static,
    {
        let load = async move {
            match load.await {
                Ok(found) => Ok(Some(Arc::new(found.into_iter().collect()))),
                Err(error) => Err(Failure::Error(Arc::new(error))),
            }
        };
        let seated = Flight::led_by_future(Box::pin(load), no_settle as NoSettle<_>);
        Arc::new(Self { flight: Arc::clone(seated.flight()), _seated: seated })
    }

    /// The load of one key: its part of the whole.
    fn share(self: &Arc<Self>, key: K) -> Load<V> {
        let bulk = Arc::clone(self);
        Box::pin(async move {
            let flight = Arc::clone(&bulk.flight);
            match flight.join(no_settle as NoSettle<_>).await {
                Ok(Ok(found)) => Ok(found.and_then(|found| found.get(&key).cloned())),
                Ok(Err(failure)) => Err(failure),
                Err(_) => Err(Failure::Recursive),
            }
        })
    }
}

fn distinct<K: Hash + Eq + Clone>(keys: impl IntoIterator<Item = K>) -> Vec<K> {
    let mut seen = HashSet::new();
    let keys = keys.into_iter();
    keys.filter(|key| seen.insert(key.clone())).collect()
}

fn in_order<K: Hash + Eq, V>(order: Vec<K>, mut found: HashMap<K, V>) -> Found<K, V> {
    let order = order.into_iter();
    order.filter_map(|key| found.remove(&key).map(|value| (key, value))).collect()
}
