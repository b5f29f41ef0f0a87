//! Walking over a cache that others keep changing.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::vec;

use crate::cache::Cache;
use crate::policy::Policy;
use crate::{DefaultHashBuilder, Slot};

/// Entries cloned under one hold of a shard's lock.
const BATCH: usize = 64;

/// An entry as it was when it was seen.
pub(crate) struct Seen<K, V> {
    pub(crate) slot: Slot,
    pub(crate) generation: u32,
    pub(crate) key: K,
    pub(crate) value: V,
}

/// Some live entries of one shard.
pub(crate) struct Batch<K, V> {
    pub(crate) shard: usize,
    pub(crate) entries: Vec<Seen<K, V>>,
}

/// Batch after batch, shard after shard.
pub(crate) struct Batches<'a, K, V, P, S> {
    cache: &'a Cache<K, V, P, S>,
    shard: usize,
    next_index: usize,
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    pub(crate) fn batches(&self) -> Batches<'_, K, V, P, S> {
        Batches { cache: self, shard: 0, next_index: 0 }
    }

    /// Visits clones of the live entries, in no particular order, without counting as a use of them.
    ///
    /// Entries that are there from the first step to the last are visited exactly once; of those that come, change
    /// or go meanwhile some may be missed. No lock is held between steps.
    pub fn iter(&self) -> Iter<'_, K, V, P, S>
    where
        K: Clone,
        V: Clone,
    {
        Iter { batches: self.batches(), current: Vec::new().into_iter() }
    }
}

impl<K, V, P, S> Iterator for Batches<'_, K, V, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    type Item = Batch<K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        let now = self.cache.rules.now();
        loop {
            let number = self.shard;
            let shard = self.cache.lock_shard(number)?;
            let slots: Vec<_> = shard.fresh_slots(self.next_index, now).take(BATCH).collect();
            let entries: Vec<_> = slots
                .iter()
                .filter_map(|&slot| {
                    Some(Seen {
                        slot,
                        generation: shard.generation(slot)?,
                        key: shard.key(slot).clone(),
                        value: shard.value(slot).clone(),
                    })
                })
                .collect();
            match slots.last() {
                Some(last) if slots.len() == BATCH => self.next_index = last.index() + 1,
                _ => {
                    self.shard += 1;
                    self.next_index = 0;
                }
            }
            if !entries.is_empty() {
                return Some(Batch { shard: number, entries });
            }
        }
    }
}

/// Clones of a cache's live entries; see [`Cache::iter`].
#[must_use = "iterators do nothing unless consumed"]
pub struct Iter<'a, K, V, P, S = DefaultHashBuilder> {
    batches: Batches<'a, K, V, P, S>,
    current: vec::IntoIter<Seen<K, V>>,
}

impl<K, V, P, S> Iterator for Iter<'_, K, V, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(seen) = self.current.next() {
                return Some((seen.key, seen.value));
            }
            self.current = self.batches.next()?.entries.into_iter();
        }
    }
}

impl<'a, K, V, P, S> IntoIterator for &'a Cache<K, V, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    type Item = (K, V);
    type IntoIter = Iter<'a, K, V, P, S>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V, P, S> fmt::Debug for Iter<'_, K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}
