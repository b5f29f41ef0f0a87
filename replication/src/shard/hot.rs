//! The keys that are asked for most, in bounded memory.
//!
//! Space-Saving: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams", ICDT
//! 2005. Of `capacity` counters, a key without one takes over the smallest and goes on from its count, which is noted as the
//! error. Every key that makes up more than one in `capacity` of all is among them.

use std::collections::HashMap;

/// Counts keys and remembers the most frequent.
///
/// # Invariants
/// - I1: `counts` is a heap, the least first, of at most `capacity`; `places` says where each key is in it.
/// - I2: the counts add up to `total`.
///
/// # Examples
/// ```
/// use tenfold_replication::shard::HotKeys;
///
/// let mut hot = HotKeys::new(2);
/// for key in ["a", "b", "a", "c", "a"] {
///     hot.count(key.as_bytes());
/// }
/// let first = &hot.top(1)[0];
/// assert_eq!((&*first.key, first.count, first.error), (&b"a"[..], 3, 0));
/// ```
#[derive(Clone, Debug)]
pub struct HotKeys {
    capacity: usize,
    total: u64,
    counts: Vec<Counter>,
    places: HashMap<Box<[u8]>, usize>,
}

#[derive(Clone, Debug)]
struct Counter {
    key: Box<[u8]>,
    count: u64,
    error: u64,
}

/// A key that was asked for often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// Which.
    pub key: Box<[u8]>,
    /// How often at most; at least `error` less.
    pub count: u64,
    /// By how much the count may be too high.
    pub error: u64,
}

impl HotKeys {
    /// Nothing counted yet, with room for so many keys, at least one. A hundred find whatever is asked for more often than one
    /// time in a hundred.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), total: 0, counts: Vec::new(), places: HashMap::new() }
    }

    /// Counts a key.
    ///
    /// # Complexity
    /// O(log n) in the number of keys with a counter; allocates when a key gets one.
    pub fn count(&mut self, key: &[u8]) {
        self.total += 1;
        if let Some(&place) = self.places.get(key) {
            self.counts[place].count += 1;
            return self.sink(place);
        }
        let key: Box<[u8]> = key.into();
        if self.counts.len() < self.capacity {
            let place = self.counts.len();
            self.counts.push(Counter { key: key.clone(), count: 1, error: 0 });
            self.places.insert(key, place);
            return self.rise(place);
        }
        let least = &mut self.counts[0];
        let error = least.count;
        let before = std::mem::replace(least, Counter { key: key.clone(), count: error + 1, error });
        self.places.remove(&before.key);
        self.places.insert(key, 0);
        self.sink(0);
    }

    /// How many were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The most frequent keys, most frequent first.
    ///
    /// # Complexity
    /// O(n log n) in the number of keys with a counter.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<HotKey> {
        let mut keys: Vec<_> = self.counts.iter().collect();
        keys.sort_unstable_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
        let named = |counter: &Counter| HotKey { key: counter.key.clone(), count: counter.count, error: counter.error };
        keys.into_iter().take(most).map(named).collect()
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2].into_iter().filter(|child| *child < self.counts.len());
            let Some(least) = children.min_by_key(|child| self.counts[*child].count) else { return };
            if self.counts[least].count >= self.counts[place].count {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.counts[place].count < self.counts[(place - 1) / 2].count {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.counts.swap(one, other);
        for place in [one, other] {
            if let Some(noted) = self.places.get_mut(&self.counts[place].key) {
                *noted = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    impl HotKeys {
        fn check_invariants(&self) {
            assert!(self.counts.len() <= self.capacity && self.counts.len() == self.places.len());
            for (place, counter) in self.counts.iter().enumerate() {
                assert_eq!(self.places[&counter.key], place);
                assert!(place == 0 || self.counts[(place - 1) / 2].count <= counter.count);
            }
            assert_eq!(self.counts.iter().map(|counter| counter.count).sum::<u64>(), self.total);
        }
    }

    /// Against exact counts: no key is counted too low, none by more than its error too high, and no frequent one is missed.
    #[test]
    fn bounds_hold_for_random_streams() {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let capacity = 1 + rng.below(20) as usize;
            let (mut hot, mut exact) = (HotKeys::new(capacity), HashMap::<u64, u64>::new());
            for _ in 0..2_000 {
                // The smaller of three numbers: small ones are frequent.
                let key = (0..3).map(|_| rng.below(60)).min().unwrap();
                *exact.entry(key).or_default() += 1;
                hot.count(&key.to_le_bytes());
                hot.check_invariants();
            }
            let top = hot.top(capacity);
            assert!(top.is_sorted_by(|one, next| one.count >= next.count));
            for (key, count) in exact {
                match top.iter().find(|hot| *hot.key == key.to_le_bytes()) {
                    Some(hot) => assert!(hot.count >= count && hot.count - hot.error <= count, "seed {seed}: {hot:?}"),
                    None => assert!(count <= 2_000 / capacity as u64, "seed {seed}: {key} was missed"),
                }
            }
        }
    }

    #[test]
    fn room_for_nothing_is_room_for_one() {
        let mut hot = HotKeys::new(0);
        (0..10).for_each(|_| hot.count(b"only"));
        assert_eq!((hot.total(), hot.top(5).len(), hot.top(5)[0].count), (10, 1, 10));
    }
}
