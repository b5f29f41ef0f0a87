//! Takes the profile of a sequence.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Profile, Recency};

impl Profile {
    /// Takes the profile of a sequence of accesses, under this name.
    ///
    /// # Complexity
    /// O(n log k) time for n accesses to k keys; some 60 bytes a key.
    pub fn measure(name: impl Into<String>, accesses: &[u64]) -> Self {
        let mut ids: HashMap<u64, u32> = HashMap::new();
        let numbered: Vec<u32> = accesses
            .iter()
            .map(|key| {
                let next = ids.len() as u32;
                *ids.entry(*key).or_insert(next)
            })
            .collect();
        let mut counts = vec![0u64; ids.len()];
        let mut recency = Recency::new(ids.len());
        let mut reuse = Vec::new();
        for key in numbered {
            counts[key as usize] += 1;
            if let Some(depth) = recency.depth(key) {
                count(&mut reuse, Self::bucket_of(depth as u64), 1);
                recency.remove(key);
            }
            recency.push(key, 0);
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let mut popularity = Vec::new();
        for (rank, accesses) in (1..).zip(&counts) {
            count(&mut popularity, Self::bucket_of(rank), *accesses);
        }
        let total = accesses.len().max(1) as f64;
        let shares = |counts: Vec<u64>| Cow::Owned(counts.into_iter().map(|n| n as f64 / total).collect());
        Self {
            name: Cow::Owned(name.into()),
            source: Cow::Borrowed(""),
            accesses: accesses.len() as u64,
            keys: counts.len() as u32,
            first: counts.len() as f64 / total,
            popularity: shares(popularity),
            reuse: shares(reuse),
        }
    }
}

fn count(buckets: &mut Vec<u64>, bucket: usize, amount: u64) {
    if buckets.len() <= bucket {
        buckets.resize(bucket + 1, 0);
    }
    buckets[bucket] += amount;
}
