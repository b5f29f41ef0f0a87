//! Plain simulators of LRU, FIFO and LFU that ours have to equal on every sequence of accesses.
//!
//! All three are one rule, "evict the entry that comes first in an order", and differ in the order alone. A sorted set keeps it:
//! logarithmic time, and nothing clever that could be wrong.

use std::collections::{BTreeSet, HashMap};

use crate::cache::{Built, Cache};
use crate::catalogue::{Candidate, Origin};

/// The simulators by name.
pub const CANDIDATES: &[Candidate] = &[
    Candidate::local("reference-lru", Origin::Reference, |capacity, _| Built::local(Simulator::lru(capacity))),
    Candidate::local("reference-fifo", Origin::Reference, |capacity, _| Built::local(Simulator::fifo(capacity))),
    Candidate::local("reference-lfu", Origin::Reference, |capacity, _| Built::local(Simulator::lfu(capacity))),
];

/// Which entry is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The one used longest ago.
    Recency,
    /// The one inserted longest ago.
    Insertion,
    /// The one used least often since it was inserted; among equals, the one used longest ago.
    Frequency,
}

/// An entry's place in the order: smaller goes first. Ticks never repeat, so that no two places are equal.
type Place = (u64, u64);

/// A cache that evicts by a sorted set.
#[derive(Debug)]
pub struct Simulator {
    order: Order,
    capacity: usize,
    /// Counts the accesses.
    tick: u64,
    entries: HashMap<u64, Entry>,
    /// The key of every entry behind its place.
    queue: BTreeSet<(Place, u64)>,
}

#[derive(Debug)]
struct Entry {
    value: u64,
    place: Place,
}

impl Simulator {
    /// Least recently used.
    #[must_use]
    pub fn lru(capacity: usize) -> Self {
        Self::new(capacity, Order::Recency)
    }

    /// First in, first out.
    #[must_use]
    pub fn fifo(capacity: usize) -> Self {
        Self::new(capacity, Order::Insertion)
    }

    /// Least frequently used: the count starts at 1 on insertion, grows by 1 a hit, never ages, and is forgotten on eviction.
    /// Among entries with the lowest count, the least recently used goes.
    #[must_use]
    pub fn lfu(capacity: usize) -> Self {
        Self::new(capacity, Order::Frequency)
    }

    fn new(capacity: usize, order: Order) -> Self {
        Self { order, capacity, tick: 0, entries: HashMap::new(), queue: BTreeSet::new() }
    }

    /// The keys held, the next victim first.
    pub fn eviction_order(&self) -> impl Iterator<Item = u64> + '_ {
        self.queue.iter().map(|&(_, key)| key)
    }

    /// Moves an entry that has been used to its new place.
    fn touch(&mut self, key: u64) -> Option<&mut Entry> {
        self.tick += 1;
        let entry = self.entries.get_mut(&key)?;
        let (count, _) = entry.place;
        let place = match self.order {
            Order::Recency => (0, self.tick),
            Order::Insertion => entry.place,
            Order::Frequency => (count + 1, self.tick),
        };
        self.queue.remove(&(entry.place, key));
        self.queue.insert((place, key));
        entry.place = place;
        Some(entry)
    }
}

impl Cache for Simulator {
    fn get(&mut self, key: u64) -> Option<u64> {
        self.touch(key).map(|entry| entry.value)
    }

    fn insert(&mut self, key: u64, value: u64) {
        if let Some(entry) = self.touch(key) {
            entry.value = value;
            return;
        }
        if self.entries.len() >= self.capacity {
            let Some((_, victim)) = self.queue.pop_first() else {
                return;
            };
            self.entries.remove(&victim);
        }
        let place = match self.order {
            Order::Recency | Order::Insertion => (0, self.tick),
            Order::Frequency => (1, self.tick),
        };
        self.queue.insert((place, key));
        self.entries.insert(key, Entry { value, place });
    }

    fn held(&mut self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads each key, inserts it on a miss, and gives the letters h (hit) and m (miss) and the order left behind.
    fn replay(mut simulator: Simulator, keys: &[u64]) -> (String, Vec<u64>) {
        let mut outcome = String::new();
        for &key in keys {
            if let Some(value) = simulator.get(key) {
                assert_eq!(value, key * 10);
                outcome.push('h');
            } else {
                simulator.insert(key, key * 10);
                outcome.push('m');
            }
        }
        assert!(simulator.held() <= simulator.capacity);
        let order = simulator.eviction_order().collect();
        (outcome, order)
    }

    #[track_caller]
    fn check(simulator: Simulator, keys: &[u64], outcome: &str, order: &[u64]) {
        assert_eq!(replay(simulator, keys), (outcome.to_owned(), order.to_vec()));
    }

    #[test]
    fn lru_keeps_what_was_used_last() {
        check(Simulator::lru(3), &[1, 2, 3, 1, 4, 1, 2, 3], "mmmhmhmm", &[1, 2, 3]);
        check(Simulator::lru(2), &[1, 2, 1, 3, 2, 1], "mmhmmm", &[2, 1]);
    }

    #[test]
    fn fifo_ignores_use() {
        check(Simulator::fifo(3), &[1, 2, 3, 1, 4, 1, 2, 3], "mmmhmmmm", &[1, 2, 3]);
        check(Simulator::fifo(2), &[1, 1, 2, 1, 3, 1], "mhmhmm", &[3, 1]);
    }

    #[test]
    fn lfu_keeps_what_is_used_most() {
        // 1 is used twice and stays; 2, 3 and 4 take turns in the other place.
        check(Simulator::lfu(2), &[1, 1, 2, 3, 1, 4, 2], "mhmmhmm", &[2, 1]);
    }

    #[test]
    fn lfu_breaks_ties_by_recency() {
        // 1 and 2 both have count 2, and 1 reached it first: the later hit on 2 protects 2.
        check(Simulator::lfu(2), &[1, 2, 1, 2, 3], "mmhhm", &[3, 2]);
        // The order of insertion is the other way round here, so that insertion ties would evict 1.
        check(Simulator::lfu(2), &[1, 2, 2, 1, 3], "mmhhm", &[3, 1]);
    }

    #[test]
    fn lfu_forgets_the_count_of_an_evicted_key() {
        // 1 reaches count 2 and is evicted by 3 only after 2 has count 3; coming back it starts at 1 and is the victim again.
        check(Simulator::lfu(2), &[1, 1, 2, 2, 2, 3, 1, 4], "mhmhhmmm", &[4, 2]);
    }

    #[test]
    fn replacing_a_value_counts_as_a_use_and_keeps_the_size() {
        let mut lru = Simulator::lru(2);
        for (key, value) in [(1, 1), (2, 2), (1, 9), (3, 3)] {
            lru.insert(key, value);
        }
        assert_eq!((lru.get(1), lru.get(2), lru.held()), (Some(9), None, 2));
    }

    #[test]
    fn capacity_zero_holds_nothing() {
        check(Simulator::lru(0), &[1, 1, 2], "mmm", &[]);
    }
}
