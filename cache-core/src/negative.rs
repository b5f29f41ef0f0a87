//! Keys that the loader said do not exist.
//!
//! They are kept apart from the entries and bounded by a count of their own: a flood of made-up keys can then
//! neither evict a real entry nor grow without limit. All have the same time to live, so the order of insertion is
//! the order of expiry and a queue does the work of a timer wheel.

use std::borrow::Borrow;
use std::collections::VecDeque;

use hashbrown::HashTable;

struct Absence<K> {
    key: K,
    hash: u64,
    /// Nanoseconds on the cache's timeline.
    expires_at: u64,
    /// Ties this record to its place in the queue.
    sequence: u64,
}

/// # Invariants
/// - **N1** At most `capacity` keys are remembered.
/// - **N2** Every remembered key has one queue place with its sequence number; other queue places are leftovers, at
///   most as many as `capacity`.
pub(crate) struct Negative<K> {
    table: HashTable<Absence<K>>,
    queue: VecDeque<(u64, u64)>,
    capacity: usize,
    sequence: u64,
}

impl<K: Eq> Negative<K> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { table: HashTable::new(), queue: VecDeque::new(), capacity, sequence: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether the key is in the table, its time over or not.
    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub(crate) fn remembers(&self, hash: u64, key: &K) -> bool {
        self.table.find(hash, |absence| absence.key == *key).is_some()
    }

    /// Whether the key is known to be absent at `now`.
    pub(crate) fn contains<Q: Eq + ?Sized>(&self, hash: u64, key: &Q, now: u64) -> bool
    where
        K: Borrow<Q>,
    {
        let found = self.table.find(hash, |absence| absence.key.borrow() == key);
        found.is_some_and(|absence| now < absence.expires_at)
    }

    /// Remembers the key until `expires_at`, forgetting the oldest if there are too many. Returns what was
    /// forgotten, to be dropped outside the lock.
    pub(crate) fn insert(&mut self, hash: u64, key: K, now: u64, expires_at: u64) -> Vec<K> {
        let mut forgotten = Vec::new();
        forgotten.extend(self.remove(hash, &key));
        while let Some(&(hash, sequence)) = self.queue.front() {
            let found = self.table.find_entry(hash, |a| a.sequence == sequence);
            if let Ok(entry) = found {
                if entry.get().expires_at > now && self.table.len() < self.capacity {
                    break;
                }
                // Found again, since `find_entry` borrows the table.
                if let Ok(entry) = self.table.find_entry(hash, |a| a.sequence == sequence) {
                    forgotten.push(entry.remove().0.key);
                }
            }
            self.queue.pop_front();
        }
        self.sequence += 1;
        self.queue.push_back((hash, self.sequence));
        let absence = Absence { key, hash, expires_at, sequence: self.sequence };
        self.table.insert_unique(hash, absence, |a| a.hash);
        self.trim_queue();
        forgotten
    }

    /// Drops queue places whose key is gone, once they outnumber what N2 allows.
    fn trim_queue(&mut self) {
        if self.queue.len() > self.capacity.saturating_mul(2) {
            let table = &self.table;
            self.queue.retain(|&(hash, sequence)| table.find(hash, |a| a.sequence == sequence).is_some());
        }
    }

    /// Forgets the key.
    pub(crate) fn remove<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<K>
    where
        K: Borrow<Q>,
    {
        let found = self.table.find_entry(hash, |a| a.key.borrow() == key);
        found.ok().map(|entry| entry.remove().0.key)
    }

    /// Forgets everything; returns the keys, to be dropped outside the lock.
    pub(crate) fn clear(&mut self) -> Vec<K> {
        self.queue.clear();
        self.table.drain().map(|absence| absence.key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn forgets_the_oldest_beyond_capacity_and_what_has_expired() {
        let state = hashbrown::DefaultHashBuilder::default();
        let hash = |key: u64| state.hash_one(key);
        let mut absent = Negative::new(3);
        for key in 0..5_u64 {
            let forgotten = absent.insert(hash(key), key, 0, 100 + key);
            assert_eq!(forgotten, key.checked_sub(3).into_iter().collect::<Vec<_>>());
        }
        assert!(!absent.contains(hash(1), &1, 0));
        assert!(absent.contains(hash(2), &2, 0));
        assert!(!absent.contains(hash(2), &2, 102), "expired at its deadline");
        assert_eq!(absent.insert(hash(9), 9, 103, 300), [2, 3], "2 and 3 have expired");
        assert_eq!(absent.remove(hash(9), &9), Some(9));
    }

    #[test]
    fn leftovers_in_the_queue_stay_bounded() {
        let hash = |_| 7;
        let mut absent = Negative::new(4);
        for round in 0..1_000_u64 {
            let _ = absent.insert(hash(1), 1, round, u64::MAX);
            let _ = absent.remove(hash(1), &1);
            assert!(absent.queue.len() <= 8, "N2");
        }
        assert!(absent.is_empty());
    }
}
