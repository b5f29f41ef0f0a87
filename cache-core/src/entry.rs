//! Conditional updates of one key.
//!
//! The caller's closures run outside the lock, on a clone, and the result is stored only if the entry is still the one
//! they saw; else they run again on what is there now. Such an update is linearizable at the moment of storing and
//! can neither deadlock nor hold up other keys.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::cache::Cache;
use crate::insert::Insertion;
use crate::policy::Policy;
use crate::shard::Shard;
use crate::{DefaultHashBuilder, Slot};

/// What a conditional update wants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<V> {
    /// Store this value. Its times start anew, as with [`insert`](Cache::insert).
    Put(V),
    /// Store this value with a time to live of its own, as with [`insert_with_ttl`](Cache::insert_with_ttl). To keep what
    /// an entry had left, give it [`time_left`](Cache::time_left).
    PutWithTtl(V, Duration),
    /// Remove the entry.
    Remove,
    /// Leave everything as it is.
    Keep,
}

/// One key of a cache, to be updated depending on what is there; made by [`Cache::entry`].
#[must_use = "nothing happens before one of its methods is called"]
pub struct Entry<'a, K, V, P, S = DefaultHashBuilder> {
    cache: &'a Cache<K, V, P, S>,
    key: K,
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Starts a conditional update of this key.
    ///
    /// Nothing is locked and nothing happens before one of the [`Entry`]'s methods is called.
    ///
    /// This compares the cache with itself, not with a source: a value read from a database belongs in
    /// [`get_or_load`](Self::get_or_load) or under a [`lease`](Self::lease), which a removal in between voids.
    pub fn entry(&self, key: K) -> Entry<'_, K, V, P, S> {
        Entry { cache: self, key }
    }
}

impl<K, V, P, S> Entry<'_, K, V, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The value, `value` being stored first if there is none. Counts as a use.
    pub fn or_insert(self, value: V) -> V {
        self.or_insert_with(|| value.clone())
    }

    /// The value, that of `make` being stored first if there is none. Counts as a use.
    ///
    /// Concurrent callers may each call their `make`; one of the values is stored and all return it. Where `make` is
    /// expensive, [`get_or_insert_with`](Cache::get_or_insert_with) calls it once.
    pub fn or_insert_with(self, mut make: impl FnMut() -> V) -> V {
        if let Some(value) = self.cache.get(&self.key) {
            return value;
        }
        let mut made = None;
        let mut found = None;
        self.and_compute(|present| {
            if let Some(present) = present {
                found = Some(present.clone());
                return Change::Keep;
            }
            found = None;
            Change::Put(made.get_or_insert_with(&mut make).clone())
        });
        found.or(made).expect("the closure sets one of the two before it returns")
    }

    /// Replaces the value, if there is one, by a clone that `change` has changed. Its times start anew, as with
    /// [`insert`](Cache::insert): one of its own is not kept (see [`Change::PutWithTtl`]). `change` runs outside locks, and
    /// again if the entry changed meanwhile.
    #[must_use = "continue with `or_insert`, or call `and_compute` for the update alone"]
    pub fn and_modify(self, mut change: impl FnMut(&mut V)) -> Self {
        let again = Self { cache: self.cache, key: self.key.clone() };
        self.and_compute(|present| match present {
            None => Change::Keep,
            Some(present) => {
                let mut value = present.clone();
                change(&mut value);
                Change::Put(value)
            }
        });
        again
    }

    /// Stores, removes or keeps, depending on the live value. Returns the value that is there afterwards.
    ///
    /// `decide` runs outside locks and may call the cache; it runs again if the entry changed meanwhile. A value that
    /// the cache refuses (too heavy, say) is returned but not stored.
    pub fn and_compute(self, mut decide: impl FnMut(Option<&V>) -> Change<V>) -> Option<V> {
        let Self { cache, key } = self;
        let hash = cache.hash(&key);
        loop {
            let now = cache.rules.now();
            let seen = cache.see(hash, &key, now);
            let value = seen.as_ref().map(|(_, value)| value);
            let change = decide(value);
            let version = seen.as_ref().map(|&(version, _)| version);
            let (new, time_to_live) = match change {
                Change::Put(new) => (new, None),
                Change::PutWithTtl(new, time_to_live) => (new, Some(time_to_live)),
                Change::Keep => return seen.map(|(_, value)| value),
                Change::Remove if cache.remove_if(hash, &key, now, version) => return None,
                Change::Remove => continue,
            };
            let incoming = cache.incoming(hash, key.clone(), new.clone(), time_to_live);
            let unchanged = |shard: &Shard<K, V, P>| shard.version(hash, &key, now) == version;
            match cache.place_if(incoming, unchanged) {
                Insertion::Stored(_) | Insertion::Refused(_) => return Some(new),
                Insertion::Void(..) => {}
            }
        }
    }
}

/// Identifies one written value: the place and its generation.
pub(crate) type Version = (Slot, u32);

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    fn see(&self, hash: u64, key: &K, now: u64) -> Option<(Version, V)>
    where
        V: Clone,
    {
        let shard = self.lock(hash);
        let version = shard.version(hash, key, now)?;
        Some((version, shard.value(version.0).clone()))
    }

    /// Removes the key's live entry if it is still this version. True if the entry is gone, false if it changed.
    fn remove_if(&self, hash: u64, key: &K, now: u64, version: Option<Version>) -> bool {
        let mut shard = self.lock(hash);
        if shard.version(hash, key, now) != version {
            return false;
        }
        let voided = shard.void(hash, key);
        let removed = shard.remove(hash, key, now, &self.rules);
        drop(shard);
        drop(voided);
        if let Some((key, value, cause)) = removed {
            self.rules.tell(&key, &value, cause);
        }
        true
    }
}

impl<K: fmt::Debug, V, P, S> fmt::Debug for Entry<'_, K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).finish_non_exhaustive()
    }
}
