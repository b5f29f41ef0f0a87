//! Entries on their way out.
//!
//! What leaves a shard under its lock is put aside in [`Removals`] and is dropped, or shown to the listener, only
//! once the lock is free: neither a listener nor the `Drop` of a key or a value can then deadlock by calling back
//! into the cache, or make other threads wait.

use std::sync::Arc;

use crate::pending::Pending;

/// Why an entry left the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Somebody removed, invalidated or cleared it, `retain` refused it, or a loader found that there is no such thing
    /// any more.
    Explicit,
    /// A newer value took its place.
    Replaced,
    /// Its time to live or time to idle was over.
    Expired,
    /// It was evicted, or refused, because the capacity did not suffice.
    Size,
}

impl RemovalCause {
    /// Whether the cache removed the entry by itself.
    #[must_use]
    pub const fn is_eviction(self) -> bool {
        matches!(self, Self::Expired | Self::Size)
    }
}

/// Told of each entry that leaves, after the fact and outside all locks, on the thread that caused it.
pub(crate) type Listener<K, V> = Arc<dyn Fn(&K, &V, RemovalCause) + Send + Sync>;

/// What was pending for a key, or remembered of it, when the key was written.
pub(crate) struct Voided<K, V> {
    pub(crate) pending: Option<(K, Pending<V>)>,
    pub(crate) absent: Option<K>,
}

impl<K, V> Voided<K, V> {
    const NOTHING: Self = Self { pending: None, absent: None };
}

/// Entries put aside while a lock is held. Allocates only from the second entry on.
#[must_use = "entries put aside must be handed to the listener"]
pub(crate) struct Removals<K, V> {
    /// Not entries yet: dropped outside the lock as well, but nobody is told.
    pub(crate) voided: Voided<K, V>,
    first: Option<(K, V, RemovalCause)>,
    rest: Vec<(K, V, RemovalCause)>,
}

impl<K, V> Removals<K, V> {
    pub(crate) const fn new() -> Self {
        Self { voided: Voided::NOTHING, first: None, rest: Vec::new() }
    }

    #[inline]
    pub(crate) fn push(&mut self, key: K, value: V, cause: RemovalCause) {
        if self.first.is_none() {
            self.first = Some((key, value, cause));
        } else {
            self.rest.push((key, value, cause));
        }
    }

    /// Shows the entries to the listener, oldest removal first, and drops them.
    #[inline]
    pub(crate) fn deliver(self, listener: Option<&Listener<K, V>>) {
        let Some(listener) = listener else { return };
        for (key, value, cause) in self.first.into_iter().chain(self.rest) {
            listener(&key, &value, cause);
        }
    }
}
