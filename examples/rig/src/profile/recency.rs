//! The recency order of keys, with draws from a range of depths.
//!
//! Every access takes the next slot of a long row, so the row is ordered by last access. Two Fenwick trees over it answer
//! "which slot is at depth d" and "which slot holds the w-th unit of weight" in logarithmic time. When the row is used
//! up, the live slots move together at its beginning.
//!
//! # Invariants
//! I1: `slot_of[key]` is the slot whose `holder` is that key, and `NOWHERE` for a key not in the order. I2: the tree
//! `live` counts 1 for each slot with a holder, the tree `weight` that key's weight. I3: no slot from `next` on is held.

use crate::rng::Rng;

const NOWHERE: u32 = u32::MAX;

/// Keys by last access.
#[derive(Clone, Debug)]
pub(super) struct Recency {
    slot_of: Vec<u32>,
    holder: Vec<u32>,
    weight_of: Vec<u32>,
    live: Fenwick,
    weight: Fenwick,
    next: usize,
    len: usize,
}

impl Recency {
    /// An empty order of at most `keys` keys, numbered from 0.
    pub(super) fn new(keys: usize) -> Self {
        let slots = (2 * keys).max(8).next_power_of_two();
        Self {
            slot_of: vec![NOWHERE; keys],
            holder: vec![NOWHERE; slots],
            weight_of: vec![0; keys],
            live: Fenwick::new(slots),
            weight: Fenwick::new(slots),
            next: 0,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a key that is not in the order on its top.
    pub(super) fn push(&mut self, key: u32, weight: u32) {
        debug_assert_eq!(self.slot_of[key as usize], NOWHERE, "I1: a key has one place");
        if self.next == self.holder.len() {
            self.compact();
        }
        let slot = self.next;
        self.next += 1;
        self.len += 1;
        self.slot_of[key as usize] = slot as u32;
        self.holder[slot] = key;
        self.weight_of[key as usize] = weight;
        self.live.add(slot, 1);
        self.weight.add(slot, i64::from(weight));
    }

    /// The depth of a key, 1 for the top.
    pub(super) fn depth(&self, key: u32) -> Option<usize> {
        let slot = self.slot_of[key as usize];
        (slot != NOWHERE).then(|| self.len - self.live.sum_before(slot as usize) as usize)
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: u32) {
        let slot = std::mem::replace(&mut self.slot_of[key as usize], NOWHERE) as usize;
        self.holder[slot] = NOWHERE;
        self.live.add(slot, -1);
        self.weight.add(slot, -i64::from(self.weight_of[key as usize]));
        self.len -= 1;
    }

    /// Takes out a key at a depth from `low` to `high`, drawn by weight, or evenly where no key there has weight.
    ///
    /// `None` unless 1 ≤ `low` ≤ `high` ≤ `len`.
    pub(super) fn take(&mut self, low: usize, high: usize, rng: &mut Rng) -> Option<u32> {
        if low < 1 || low > high || high > self.len {
            return None;
        }
        let deepest = self.slot_at_depth(high);
        let before = self.weight.sum_before(deepest);
        let within = self.weight.sum_before(self.slot_at_depth(low) + 1) - before;
        let slot = if within > 0 {
            self.weight.slot_of_unit(before + rng.below(within as u64) as i64 + 1)
        } else {
            self.slot_at_depth(low + rng.below((high - low + 1) as u64) as usize)
        };
        let key = self.holder[slot];
        self.remove(key);
        Some(key)
    }

    /// Takes out the key at the bottom.
    pub(super) fn take_oldest(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let key = self.holder[self.slot_at_depth(self.len)];
        self.remove(key);
        Some(key)
    }

    fn slot_at_depth(&self, depth: usize) -> usize {
        self.live.slot_of_unit((self.len - depth + 1) as i64)
    }

    fn compact(&mut self) {
        let held: Vec<u32> = self.holder.iter().copied().filter(|key| *key != NOWHERE).collect();
        self.holder.fill(NOWHERE);
        self.live = Fenwick::new(self.holder.len());
        self.weight = Fenwick::new(self.holder.len());
        for (slot, key) in held.iter().copied().enumerate() {
            self.holder[slot] = key;
            self.slot_of[key as usize] = slot as u32;
            self.live.add(slot, 1);
            self.weight.add(slot, i64::from(self.weight_of[key as usize]));
        }
        self.next = held.len();
    }
}

/// Sums over a prefix of slots, changed and searched in logarithmic time.
///
/// # Source
/// Fenwick, A new data structure for cumulative frequency tables, 1994.
#[derive(Clone, Debug)]
struct Fenwick {
    /// Node i, from 1, sums the slots i − lowest bit of i to i − 1. The number of slots is a power of two.
    nodes: Vec<i64>,
}

impl Fenwick {
    fn new(slots: usize) -> Self {
        debug_assert!(slots.is_power_of_two(), "the search halves the slots");
        Self { nodes: vec![0; slots + 1] }
    }

    fn add(&mut self, slot: usize, amount: i64) {
        let mut node = slot + 1;
        while node < self.nodes.len() {
            self.nodes[node] += amount;
            node += node & node.wrapping_neg();
        }
    }

    /// Sum of the slots below `slot`.
    fn sum_before(&self, slot: usize) -> i64 {
        let (mut node, mut sum) = (slot, 0);
        while node > 0 {
            sum += self.nodes[node];
            node -= node & node.wrapping_neg();
        }
        sum
    }

    /// The first slot up to and with which the sum is at least `unit`, which is from 1 to the sum of all.
    fn slot_of_unit(&self, mut unit: i64) -> usize {
        let (mut node, mut step) = (0, self.nodes.len() - 1);
        while step > 0 {
            if node + step < self.nodes.len() && self.nodes[node + step] < unit {
                node += step;
                unit -= self.nodes[node];
            }
            step /= 2;
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same order as a plain list, top last.
    fn check(seed: u64) {
        let keys = 40u32;
        let mut rng = Rng::new(seed);
        let mut recency = Recency::new(keys as usize);
        let mut list: Vec<(u32, u32)> = Vec::new();
        for step in 0..5_000 {
            let key = rng.below(u64::from(keys)) as u32;
            match rng.below(8) {
                0 => {
                    let oldest = (!list.is_empty()).then(|| list.remove(0).0);
                    assert_eq!(recency.take_oldest(), oldest, "seed {seed}, step {step}");
                }
                1 | 2 if !list.is_empty() => {
                    let low = 1 + rng.below(list.len() as u64) as usize;
                    let high = low + rng.below((list.len() - low + 1) as u64) as usize;
                    let range = list.len() - high..list.len() - low + 1;
                    let any_weight = list[range.clone()].iter().any(|(_, weight)| *weight > 0);
                    let taken = recency.take(low, high, &mut rng).unwrap();
                    let at = list.iter().position(|(key, _)| *key == taken).unwrap();
                    assert!(range.contains(&at), "seed {seed}, step {step}");
                    assert!(!any_weight || list[at].1 > 0, "seed {seed}, step {step}: no weight, yet drawn");
                    list.remove(at);
                }
                _ => {
                    let at = list.iter().position(|(held, _)| *held == key);
                    assert_eq!(recency.depth(key), at.map(|at| list.len() - at), "seed {seed}, step {step}");
                    if let Some(at) = at {
                        recency.remove(key);
                        list.remove(at);
                    }
                    let weight = rng.below(3) as u32;
                    recency.push(key, weight);
                    list.push((key, weight));
                }
            }
            assert_eq!(recency.len(), list.len());
        }
    }

    #[test]
    fn it_agrees_with_a_list() {
        for seed in 0..20 {
            check(seed);
        }
    }

    #[test]
    fn draws_outside_the_order_are_refused() {
        let mut rng = Rng::new(1);
        let mut recency = Recency::new(3);
        assert_eq!(recency.take(1, 1, &mut rng), None);
        recency.push(2, 0);
        assert_eq!(recency.take(0, 1, &mut rng), None);
        assert_eq!(recency.take(2, 1, &mut rng), None);
        assert_eq!(recency.take(1, 2, &mut rng), None);
        assert_eq!(recency.take(1, 1, &mut rng), Some(2));
        assert_eq!(recency.take_oldest(), None);
    }
}
