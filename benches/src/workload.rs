//! Which keys are asked for in `throughput` and the criterion benches, prepared before the clock starts.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use crate::cache::{Batches, Tally};
use crate::rng::Rng;
use crate::zipf::Zipf;

/// How many keys a thread draws, for each key there is, before its sequence repeats.
const DRAWS_PER_KEY: usize = 16;

/// The least and the most it draws.
const DRAWS: RangeInclusive<usize> = 1 << 16..=1 << 20;

/// How many times more keys than entries there are in the workloads that evict.
const KEYS_PER_ENTRY: usize = 10;

/// The exponent of the popularity curve.
const EXPONENT: f64 = 0.99;

/// What the threads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Look-ups only, every key resident.
    Hits,
    /// 95 look-ups to 5 inserts over ten times more keys than entries.
    ReadMostly,
    /// As many look-ups as inserts over ten times more keys than entries.
    Even,
    /// All keys in turn, ten times more than entries, each inserted on a miss.
    Scan,
}

/// A name that no workload has.
#[derive(Debug, thiserror::Error)]
#[error("no workload is called `{name}`; there are hits, 95-5, 50-50 and scan")]
pub struct UnknownWorkload {
    name: String,
}

impl FromStr for Workload {
    type Err = UnknownWorkload;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|workload| workload.name() == name);
        found.ok_or_else(|| UnknownWorkload { name: name.to_owned() })
    }
}

impl Workload {
    /// Every workload.
    pub const ALL: [Self; 4] = [Self::Hits, Self::ReadMostly, Self::Even, Self::Scan];

    /// The name in rows and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::ReadMostly => "95-5",
            Self::Even => "50-50",
            Self::Scan => "scan",
        }
    }

    /// The capacity that the caches are built with.
    ///
    /// `hits` has an eighth of headroom: the shards of a sharded cache do not fill evenly, and with none of it they would evict.
    /// An eighth leaves the size of a hash table of 10,000, 100,000 or a million entries as it is.
    #[must_use]
    pub fn capacity(self, entries: usize) -> usize {
        match self {
            Self::Hits => entries + entries / 8,
            Self::ReadMostly | Self::Even | Self::Scan => entries,
        }
    }

    /// The keys that lie in the cache before the first round, coldest first.
    #[must_use]
    pub fn initial_keys(self, entries: usize, seed: u64) -> Vec<u64> {
        let mut keys = self.keys_by_rank(entries, seed);
        keys.truncate(entries);
        keys.reverse();
        keys
    }

    /// The keys each thread goes through.
    ///
    /// `resident` are the keys that all caches hold, coldest first; only `hits` looks at them.
    #[must_use]
    pub fn sequences(self, entries: usize, resident: &[u64], threads: usize, seed: u64) -> Vec<Sequence> {
        let ranks: Vec<u64> = match self {
            Self::Hits => resident.iter().rev().copied().collect(),
            Self::ReadMostly | Self::Even | Self::Scan => self.keys_by_rank(entries, seed),
        };
        if self == Self::Scan {
            let keys: Arc<[u64]> = ranks.into_iter().rev().collect();
            let start = |thread: usize| keys.len() / threads * thread;
            return (0..threads).map(|thread| Sequence { position: start(thread), keys: Arc::clone(&keys) }).collect();
        }
        let zipf = Zipf::new(ranks.len(), EXPONENT);
        (0..threads).map(|thread| Sequence::zipf(&ranks, &zipf, seed ^ (thread as u64 + 1))).collect()
    }

    /// Runs one batch.
    pub fn run(self, cache: &mut dyn Batches, keys: &[u64]) -> Tally {
        match self {
            Self::Hits => cache.gets(keys),
            Self::ReadMostly => cache.mix(keys, 20),
            Self::Even => cache.mix(keys, 2),
            Self::Scan => cache.read_through(keys),
        }
    }

    /// All keys, the most popular first. They are small numbers in random order, so that keys of like popularity lie neither
    /// next to each other in number nor, being inserted in this order, in a cache's memory. A scan goes by number.
    fn keys_by_rank(self, entries: usize, seed: u64) -> Vec<u64> {
        let key_count = match self {
            Self::Hits => entries,
            Self::ReadMostly | Self::Even | Self::Scan => entries * KEYS_PER_ENTRY,
        };
        let mut keys: Vec<u64> = (0..key_count as u64).rev().collect();
        if self != Self::Scan {
            Rng::new(seed).shuffle(&mut keys);
        }
        keys
    }
}

/// The keys of one thread, repeated for ever.
#[derive(Clone, Debug)]
pub struct Sequence {
    keys: Arc<[u64]>,
    position: usize,
}

impl Sequence {
    /// Draws keys by Zipf's law; `ranks` holds the most popular key first.
    #[must_use]
    pub fn zipf(ranks: &[u64], zipf: &Zipf, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let draws = (ranks.len() * DRAWS_PER_KEY).clamp(*DRAWS.start(), *DRAWS.end());
        Self { keys: (0..draws).map(|_| ranks[zipf.rank(&mut rng)]).collect(), position: 0 }
    }

    /// Goes through the given keys (at least one) in their order.
    #[must_use]
    pub fn in_order(keys: Vec<u64>) -> Self {
        Self { keys: keys.into(), position: 0 }
    }

    /// The next keys, at most `count` and at least one: fewer at the end of the sequence, after which it starts over.
    pub fn advance(&mut self, count: usize) -> &[u64] {
        let start = self.position;
        let end = self.keys.len().min(start + count.max(1));
        self.position = if end == self.keys.len() { 0 } else { end };
        &self.keys[start..end]
    }
}

#[cfg(test)]
mod tests;
