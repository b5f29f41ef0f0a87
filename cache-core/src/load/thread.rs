//! Loading on the caller's thread.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::{Begin, Landed, LoadError, Want};
use crate::cache::Cache;
use crate::flight::{Failure, Flight, Leader, Outcome};
use crate::policy::Policy;

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// The value of a key, loaded if it is not there: by one caller, while the others wait for it.
    ///
    /// The loader runs on the caller's thread, outside all locks; it may call the cache, other keys of it included.
    /// If the key is written or invalidated while it is being loaded, every waiter still gets the loaded value but it
    /// is not stored. A value that the cache refuses (too heavy, say) is returned as well.
    ///
    /// This loader always finds a value, so it is called although the key is remembered to be absent
    /// (`negative_time_to_live`), or somebody else's load of it has just found nothing.
    ///
    /// # Errors
    /// - [`LoadError::Failed`]: the loader's error, the same for all who waited; one whose loader has another error type
    ///   calls its own instead. Nothing is remembered of it; with `stale_if_error` an expired value may be returned
    ///   instead.
    /// - [`LoadError::Panicked`]: the loader panicked on the thread that ran it, where the panic goes on.
    /// - [`LoadError::TimedOut`]: another caller's loader did not end within `load_timeout`.
    /// - [`LoadError::Recursive`]: called from inside the loader of the same key.
    pub fn get_or_load<E: Send + Sync + 'static>(
        &self,
        key: K,
        loader: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let hash = self.hash(&key);
        if let Some(value) = self.get_hashed(hash, &key) {
            return Ok(value);
        }
        let loaded = self.load_value(hash, &key, Absence::IsNoAnswer, |key| loader(key).map(Some))?;
        Ok(loaded.expect(ALWAYS_A_VALUE))
    }

    /// Like [`get_or_load`](Self::get_or_load) with a loader that may find that there is no such thing, which is
    /// remembered for `negative_time_to_live`.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_optional<E: Send + Sync + 'static>(
        &self,
        key: K,
        loader: impl FnOnce(&K) -> Result<Option<V>, E>,
    ) -> Result<Option<V>, LoadError<E>> {
        let hash = self.hash(&key);
        if let Some(value) = self.get_hashed(hash, &key) {
            return Ok(Some(value));
        }
        self.load_value(hash, &key, Absence::IsAnAnswer, loader)
    }

    /// The value of a key, made if it is not there: by one caller, while the others wait for it.
    ///
    /// If the maker panics on another thread, or takes longer than `load_timeout` there, this caller makes the value
    /// for itself, and it is not stored.
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> V {
        let mut make = Some(make);
        let taken: &mut Option<_> = &mut make;
        let result = self.get_or_load(key.clone(), |_| match taken.take() {
            Some(make) => Ok::<V, Never>(make()),
            None => unreachable!("a loader is called once"),
        });
        match (result, make) {
            (Ok(value), _) => value,
            (Err(_), Some(make)) => make(),
            (Err(_), None) => unreachable!("a maker that has run has made a value"),
        }
    }

    /// Loads the key anew though a live value is there, which keeps being served meanwhile. Joins a load that is
    /// already going on.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load); a live value stays as it is, and so does an expired one in its grace.
    pub fn refresh<E: Send + Sync + 'static>(
        &self,
        key: K,
        loader: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let hash = self.hash(&key);
        let loader = |key: &K| loader(key).map(Some);
        let loaded = self.run(hash, &key, Want::NewValue, Absence::IsNoAnswer, loader)?;
        Ok(loaded.expect(ALWAYS_A_VALUE))
    }

    fn load_value<E: Send + Sync + 'static>(
        &self,
        hash: u64,
        key: &K,
        absence: Absence,
        loader: impl FnOnce(&K) -> Result<Option<V>, E>,
    ) -> Result<Option<V>, LoadError<E>> {
        let want = if absence == Absence::IsAnAnswer { Want::Answer } else { Want::Value };
        self.run(hash, key, want, absence, loader)
    }

    pub(crate) fn run<E: Send + Sync + 'static>(
        &self,
        hash: u64,
        key: &K,
        want: Want,
        absence: Absence,
        loader: impl FnOnce(&K) -> Result<Option<V>, E>,
    ) -> Result<Option<V>, LoadError<E>> {
        let started = self.rules.timeline.now();
        let settle = |flight: &Flight<V>, outcome: &Outcome<V>| {
            self.settle(hash, key, (flight, outcome), started);
        };
        loop {
            let begun = self.begin(hash, key, want, || Flight::led_by_thread(settle), Leader::flight);
            let outcome = match begun {
                Begin::Hit(value) => return Ok(Some(value)),
                Begin::Absent => return Ok(None),
                Begin::Lead(leader) => return self.lead(hash, key, leader, loader),
                Begin::Join(flight) => match flight.wait(Some(self.rules.config.load_timeout), settle) {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        if error == crate::flight::WaitError::TimedOut {
                            self.give_up_on(hash, key, &flight);
                        }
                        return Err(LoadError::waiting(error));
                    }
                },
            };
            match self.land(hash, key, outcome) {
                Landed::Value(value) => return Ok(Some(value)),
                Landed::Stale(value) => {
                    self.count_stale_hits(hash, 1);
                    return Ok(Some(value));
                }
                Landed::Absent if absence == Absence::IsAnAnswer => return Ok(None),
                Landed::Failed(error) => return Err(error),
                Landed::Absent | Landed::Again => {}
            }
        }
    }

    /// Runs the loader as the leader of its flight.
    fn lead<E: Send + Sync + 'static>(
        &self,
        hash: u64,
        key: &K,
        leader: Leader<V, impl FnOnce(&Flight<V>, &Outcome<V>)>,
        loader: impl FnOnce(&K) -> Result<Option<V>, E>,
    ) -> Result<Option<V>, LoadError<E>> {
        match loader(key) {
            Ok(loaded) => {
                leader.finish(Ok(loaded.clone()));
                Ok(loaded)
            }
            Err(error) => {
                let error = Arc::new(error);
                leader.finish(Err(Failure::Error(Arc::clone(&error) as _)));
                let stale = self.stale_value(hash, key).ok_or(LoadError::Failed(error))?;
                self.count_stale_hits(hash, 1);
                Ok(Some(stale))
            }
        }
    }
}

/// Whether a caller can make use of "there is no such thing".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    IsAnAnswer,
    /// Its loader always finds a value: where another's found nothing, it looks again and may load for itself.
    IsNoAnswer,
}

pub(super) const ALWAYS_A_VALUE: &str = "the caller's loader finds a value, and another's absence is no answer";

/// The error of a loader that has none.
enum Never {}
