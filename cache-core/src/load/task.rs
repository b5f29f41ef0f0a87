//! Loading in a task.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::thread::ALWAYS_A_VALUE;
use super::{Absence, Begin, Landed, LoadError, Want};
use crate::cache::Cache;
use crate::flight::{Failure, Flight, Joined, Load, Outcome};
use crate::policy::Policy;

impl<K, V, P, S> Cache<K, V, P, S>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
    P: Policy,
    S: BuildHasher,
{
    /// The value of a key, loaded if it is not there: by one future, whoever asked first.
    ///
    /// The load belongs to all who wait for it. Whichever of them is polled when there is progress to make drives it,
    /// so a caller that is cancelled, or is never polled again, hangs nobody, and the load is dropped only when
    /// nobody is left. Threads in [`get_or_load`](Self::get_or_load) and tasks here wait for each other's loads.
    ///
    /// A future that needs its runtime's context (a timer or a socket of tokio's, say) must bring it along if threads
    /// outside that runtime may wait for the same key, since they poll it too: enter the runtime's handle in the loader's
    /// future.
    ///
    /// A loader that waits for its own key is told so ([`LoadError::Recursive`]) if it does so while it is being polled;
    /// one that spawns a task and waits for that to load the key waits for ever.
    ///
    /// If the key is written or invalidated while it is being loaded, every waiter still gets the loaded value but it
    /// is not stored. As with [`get_or_load`](Self::get_or_load), a remembered absence does not keep the loader from being
    /// called.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load), except that nothing times out: drop the future to stop waiting.
    ///
    /// # Cancel safety
    /// Cancel safe: the load goes on for the others.
    pub async fn get_or_load_async<E, F>(
        &self,
        key: K,
        loader: impl FnOnce(K) -> F + Send + 'static,
    ) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let hash = self.hash(&key);
        if let Some(value) = self.get_hashed(hash, &key) {
            return Ok(value);
        }
        let loader = |key| {
            let load = loader(key);
            async move { load.await.map(Some) }
        };
        let loaded = self.run_async(hash, key, Want::Value, Absence::IsNoAnswer, loader);
        Ok(loaded.await?.expect(ALWAYS_A_VALUE))
    }

    /// Like [`get_or_load_async`](Self::get_or_load_async) with a loader that may find that there is no such thing,
    /// which is remembered for `negative_time_to_live`.
    ///
    /// # Errors
    /// As [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// # Cancel safety
    /// Cancel safe: the load goes on for the others.
    pub async fn get_or_load_optional_async<E, F>(
        &self,
        key: K,
        loader: impl FnOnce(K) -> F + Send + 'static,
    ) -> Result<Option<V>, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        let hash = self.hash(&key);
        if let Some(value) = self.get_hashed(hash, &key) {
            return Ok(Some(value));
        }
        self.run_async(hash, key, Want::Answer, Absence::IsAnAnswer, loader).await
    }

    /// Loads the key anew though a live value is there, which keeps being served meanwhile. Joins a load that is
    /// already going on.
    ///
    /// # Errors
    /// As [`get_or_load_async`](Self::get_or_load_async); a live value stays as it is.
    ///
    /// # Cancel safety
    /// Cancel safe: the load goes on for the others, and is dropped if there are none.
    pub async fn refresh_async<E, F>(
        &self,
        key: K,
        loader: impl FnOnce(K) -> F + Send + 'static,
    ) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let hash = self.hash(&key);
        let loader = |key| {
            let load = loader(key);
            async move { load.await.map(Some) }
        };
        let loaded = self.run_async(hash, key, Want::NewValue, Absence::IsNoAnswer, loader);
        Ok(loaded.await?.expect(ALWAYS_A_VALUE))
    }

    pub(crate) async fn run_async<E, F>(
        &self,
        hash: u64,
        key: K,
        want: Want,
        absence: Absence,
        loader: impl FnOnce(K) -> F + Send + 'static,
    ) -> Result<Option<V>, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        let started = self.rules.timeline.now();
        let settle = |flight: &Flight<V>, outcome: &Outcome<V>| {
            self.settle(hash, &key, (flight, outcome), started);
        };
        let mut loader = Some(loader);
        loop {
            let begun = self.begin(
                hash,
                &key,
                want,
                || {
                    let loader = loader.take().expect("a caller leads at most once");
                    Flight::led_by_future(load_of(loader, key.clone()), settle)
                },
                Joined::flight,
            );
            let (joined, leads) = match begun {
                Begin::Hit(value) => return Ok(Some(value)),
                Begin::Absent => return Ok(None),
                Begin::Lead(joined) => (joined, true),
                Begin::Join(flight) => (flight.join(settle), false),
            };
            match self.land(hash, &key, joined.await.map_err(LoadError::waiting)?) {
                Landed::Value(value) => return Ok(Some(value)),
                Landed::Stale(value) => {
                    self.count_stale_hits(hash, 1);
                    return Ok(Some(value));
                }
                Landed::Absent if absence == Absence::IsAnAnswer => return Ok(None),
                Landed::Failed(error) => return Err(error),
                // Nobody abandons a load that its first caller still waits for.
                Landed::Again if leads => return Err(LoadError::Panicked),
                Landed::Absent | Landed::Again => {}
            }
        }
    }
}

/// The load of a flight: the loader itself runs at the first poll, outside the lock.
pub(super) fn load_of<K, V, E, F>(loader: impl FnOnce(K) -> F + Send + 'static, key: K) -> Load<V>
where
    K: Send + 'static,
    E: Send + Sync + 'static,
    F: Future<Output = Result<Option<V>, E>> + Send + 'static,
{
    Box::pin(async move {
        let loaded = loader(key).await;
        loaded.map_err(|error| Failure::Error(Arc::new(error)))
    })
}
