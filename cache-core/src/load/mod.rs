//! Read-through: a miss loads the value, once, however many ask for it.
//!
//! This module holds what loading on a thread ([`thread`]), in a task ([`task`]) and of many keys at once ([`bulk`])
//! have in common: how a load begins, and how its outcome reaches the cache.

mod bulk;
mod task;
mod thread;

use std::any::Any;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::cache::Cache;
use crate::clock::saturating_nanos;
use crate::flight::{Failure, Flight, Outcome, WaitError};
use crate::insert::Insertion;
use crate::policy::Policy;
use crate::shard::Shard;

pub(crate) use thread::Absence;

/// Why a value could not be had from the loader.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed. Every caller who waited for this load gets the same error; nothing is remembered of it.
    #[error("the loader failed")]
    Failed(#[source] Arc<E>),
    /// The loader panicked. A loader that is a closure panics on the thread that runs it, and goes on panicking there; the
    /// others get this. A loader that is a future belongs to all who wait, and all get this.
    #[error("the loader panicked")]
    Panicked,
    /// Another thread's load took longer than `load_timeout`. The key is free again: the next caller starts anew, and what
    /// that load may still bring goes to its own callers and is not stored.
    #[error("timed out waiting for another caller's load")]
    TimedOut,
    /// The loader asked the cache for the very key it is loading.
    #[error("the loader waits for itself")]
    Recursive,
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked => Self::Panicked,
            Self::TimedOut => Self::TimedOut,
            Self::Recursive => Self::Recursive,
        }
    }
}

impl<E> LoadError<E> {
    /// The loader's own error, if that is what it was.
    pub fn failed(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn waiting(error: WaitError) -> Self {
        match error {
            WaitError::TimedOut => Self::TimedOut,
            WaitError::Recursive => Self::Recursive,
        }
    }
}

impl<E: PartialEq> PartialEq for LoadError<E> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed(one), Self::Failed(other)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// How a look-up by read-through goes on.
pub(crate) enum Begin<V, L> {
    Hit(V),
    /// Remembered: there is no such thing.
    Absent,
    /// Somebody is loading it.
    Join(Arc<Flight<V>>),
    /// The caller is to load it.
    Lead(L),
}

/// What a finished flight means to one who waited for it.
pub(crate) enum Landed<V, E> {
    Value(V),
    /// A value that stands in for one that could not be loaded; to be counted if the caller returns it.
    Stale(V),
    Absent,
    Failed(LoadError<E>),
    /// The flight is no use to this caller: look again.
    Again,
}

/// Whether what is there will do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// A live value, or the memory that there is none.
    Answer,
    /// A live value.
    Value,
    /// A value loaded from now on.
    NewValue,
}

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Looks again, under the lock under which a load begins: so at most one load of a key is current.
    ///
    /// `lead` makes the flight; it must not call the host's code.
    pub(crate) fn begin<L>(
        &self,
        hash: u64,
        key: &K,
        want: Want,
        lead: impl FnOnce() -> L,
        flight_of: impl Fn(&L) -> &Arc<Flight<V>>,
    ) -> Begin<V, L> {
        let now = self.rules.now();
        let negative_now = self.rules.negative_now();
        // Declared before the lock is taken and so dropped after it, should the host's `Clone` or `Eq` panic below:
        // dropping a leader settles, which locks the shard.
        let leader;
        let mut shard = self.lock(hash);
        if want != Want::NewValue {
            if let Some(slot) = shard.find_fresh(hash, key, now) {
                return Begin::Hit(shard.value(slot).clone());
            }
            if want == Want::Answer && shard.absent.contains(hash, key, negative_now) {
                shard.counters.negative_hits += 1;
                return Begin::Absent;
            }
        }
        if let Some(flight) = shard.pending.load(hash, key) {
            if !flight.is_finished() {
                return Begin::Join(Arc::clone(flight));
            }
        }
        leader = lead();
        let voided = shard.pending.void(hash, key);
        shard.pending.start(hash, key.clone(), Arc::clone(flight_of(&leader)));
        drop(shard);
        drop(voided);
        Begin::Lead(leader)
    }

    /// Brings the outcome of a load into the cache, unless the key was written or invalidated meanwhile. Called once
    /// a flight, outside locks.
    pub(crate) fn settle(&self, hash: u64, key: &K, (flight, outcome): (&Flight<V>, &Outcome<V>), started: u64) {
        let is_current = |shard: &Shard<K, V, P>| {
            let current = shard.pending.load(hash, key);
            current.is_some_and(|current| std::ptr::eq(Arc::as_ptr(current), flight))
        };
        let mut stale_fill = false;
        if let Ok(Some(value)) = outcome {
            let now = self.rules.now();
            // A weigher may panic. The flight must not keep its claim to the key then, nor its value.
            let mut claim = GiveUp { cache: self, hash, key, flight: Some(flight) };
            let incoming = self.rules.incoming(hash, key.clone(), value.clone(), now);
            claim.flight = None;
            stale_fill = matches!(self.place_if(incoming, is_current), Insertion::Void(..));
        }
        // The clock is the host's: read before the lock is taken.
        let now = self.rules.now();
        let ended = self.rules.timeline.now();
        let mut shard = self.lock(hash);
        if !matches!(outcome, Err(Failure::Abandoned)) {
            let nanos = ended.saturating_sub(started);
            shard.counters.load_nanos = shard.counters.load_nanos.saturating_add(nanos);
        }
        shard.counters.stale_fills += u64::from(stale_fill);
        match outcome {
            Ok(_) => shard.counters.loads += 1,
            Err(Failure::Abandoned) => {}
            Err(_) => shard.counters.load_failures += 1,
        }
        if !is_current(&shard) {
            return;
        }
        let voided = shard.pending.void(hash, key);
        let mut old = None;
        let mut forgotten = Vec::new();
        match outcome {
            Ok(None) => {
                // The source has no such thing any more.
                old = shard.remove(hash, key, now, &self.rules);
                forgotten = self.note_absence(&mut shard, hash, key, ended);
            }
            Ok(Some(_)) => {}
            Err(_) => {
                if let Some(slot) = shard.find_fresh(hash, key, now) {
                    shard.postpone_refresh(slot, now);
                }
            }
        }
        drop(shard);
        drop((voided, forgotten));
        if let Some((key, value, cause)) = old {
            self.rules.tell(&key, &value, cause);
        }
    }

    /// Ends a flight's claim to its key, so that the next caller starts anew.
    pub(crate) fn give_up_on(&self, hash: u64, key: &K, flight: &Flight<V>) {
        let mut shard = self.lock(hash);
        let current = shard.pending.load(hash, key);
        if current.is_some_and(|current| std::ptr::eq(Arc::as_ptr(current), flight)) {
            let voided = shard.pending.void(hash, key);
            drop(shard);
            drop(voided);
        }
    }

    /// Makes of a flight's outcome what one caller gets. A failed load falls back on an expired value if
    /// `stale_if_error` keeps one.
    pub(crate) fn land<E: Send + Sync + 'static>(&self, hash: u64, key: &K, outcome: Outcome<V>) -> Landed<V, E> {
        let failure = match outcome {
            Ok(Some(value)) => return Landed::Value(value),
            Ok(None) => return Landed::Absent,
            Err(failure) => failure,
        };
        if matches!(failure, Failure::Abandoned) {
            return Landed::Again;
        }
        if let Some(stale) = self.stale_value(hash, key) {
            return Landed::Stale(stale);
        }
        match failure {
            Failure::Error(error) => {
                downcast(error).map_or(Landed::Again, |error| Landed::Failed(LoadError::Failed(error)))
            }
            Failure::Recursive => Landed::Failed(LoadError::Recursive),
            Failure::Panicked | Failure::Abandoned => Landed::Failed(LoadError::Panicked),
        }
    }

    /// An expired value within its grace.
    pub(crate) fn stale_value(&self, hash: u64, key: &K) -> Option<V> {
        self.rules.config.stale_if_error?;
        let now = self.rules.now();
        self.lock(hash).stale(hash, key, now).cloned()
    }

    /// Counts expired values that are returned to a caller: by one of their keys, since shards are added up.
    pub(crate) fn count_stale_hits(&self, hash: u64, count: u64) {
        if count > 0 {
            self.lock(hash).counters.stale_hits += count;
        }
    }

    /// The load of the key that is going on.
    pub(crate) fn current_load(&self, hash: u64, key: &K) -> Option<Arc<Flight<V>>> {
        let shard = self.lock(hash);
        // One may be over and not yet forgotten, or not at all if the weigher or the listener panicked over its value.
        shard.pending.load(hash, key).filter(|flight| !flight.is_finished()).cloned()
    }

    /// Whether the key is remembered to be absent; counts as an answer if it is.
    pub(crate) fn is_known_absent(&self, hash: u64, key: &K) -> bool {
        if self.rules.config.negative_time_to_live.is_none() {
            return false;
        }
        let now = self.rules.negative_now();
        let mut shard = self.lock(hash);
        let absent = shard.absent.contains(hash, key, now);
        shard.counters.negative_hits += u64::from(absent);
        absent
    }
}

impl<K: Hash + Eq + Clone, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Remembers that there is no such thing, if asked to; returns the absences forgotten for it.
    pub(crate) fn note_absence(&self, shard: &mut Shard<K, V, P>, hash: u64, key: &K, now: u64) -> Vec<K> {
        let Some(time_to_live) = self.rules.config.negative_time_to_live else {
            return Vec::new();
        };
        let expires_at = now.saturating_add(saturating_nanos(time_to_live));
        shard.absent.insert(hash, key.clone(), now, expires_at)
    }
}

/// The error as the caller's loader would return it; `None` if another call site's loader has another error type.
fn downcast<E: Send + Sync + 'static>(error: Arc<dyn Any + Send + Sync>) -> Option<Arc<E>> {
    error.downcast().ok()
}

/// Ends a flight's claim to its key if the host's code panics on the way.
struct GiveUp<'a, K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> {
    cache: &'a Cache<K, V, P, S>,
    hash: u64,
    key: &'a K,
    flight: Option<&'a Flight<V>>,
}

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Drop for GiveUp<'_, K, V, P, S> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight {
            self.cache.give_up_on(self.hash, self.key, flight);
        }
    }
}
