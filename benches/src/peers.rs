//! Adapters for the other crates, each at its default settings unless said otherwise at its line.

use std::num::NonZeroUsize;

use foyer_memory::{Cache as Foyer, CacheBuilder, EvictionConfig};
use foyer_memory::{FifoConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};
use mini_moka::sync::ConcurrentCacheExt;
use moka::policy::EvictionPolicy;
use parking_lot::Mutex;
use schnellru::ByLength;

use crate::cache::{Built, Cache, SharedCache};
use crate::catalogue::{Candidate, Origin, Purpose};
use crate::rng::scramble;

/// The peers by name.
pub const CANDIDATES: &[Candidate] = &[
    shared("moka-tinylfu", |capacity, _| moka(capacity, EvictionPolicy::tiny_lfu())),
    shared("moka-lru", |capacity, _| moka(capacity, EvictionPolicy::lru())),
    shared("mini-moka-sync", |capacity, _| Built::shared(mini_moka::sync::Cache::<u64, u64>::new(capacity as u64))),
    local("mini-moka-unsync", |capacity, _| Built::local(mini_moka::unsync::Cache::<u64, u64>::new(capacity as u64))),
    shared("quick_cache-sync", |capacity, _| Built::shared(quick_cache::sync::Cache::<u64, u64>::new(capacity))),
    local("quick_cache-unsync", |capacity, _| Built::local(quick_cache::unsync::Cache::<u64, u64>::new(capacity))),
    shared("foyer-lru", |capacity, purpose| foyer(capacity, purpose, LruConfig::default())),
    shared("foyer-lfu", |capacity, purpose| foyer(capacity, purpose, LfuConfig::default())),
    shared("foyer-s3fifo", |capacity, purpose| foyer(capacity, purpose, S3FifoConfig::default())),
    shared("foyer-sieve", |capacity, purpose| foyer(capacity, purpose, SieveConfig)),
    shared("foyer-fifo", |capacity, purpose| foyer(capacity, purpose, FifoConfig::default())),
    local("lru", |capacity, _| Built::local(lru(capacity))),
    local("hashlink", |capacity, _| Built::local(hashlink::LruCache::<u64, u64>::new(capacity))),
    local("schnellru", |capacity, _| {
        let length = u32::try_from(capacity).unwrap_or(u32::MAX);
        Built::local(schnellru::LruMap::<u64, u64>::new(ByLength::new(length)))
    }),
    shared("sharded-mutex-lru", |capacity, _| Built::shared(ShardedMutexLru::new(capacity))),
];

const fn local(name: &'static str, build: fn(usize, Purpose) -> Built) -> Candidate {
    Candidate::local(name, Origin::Peer, build)
}

const fn shared(name: &'static str, build: fn(usize, Purpose) -> Built) -> Candidate {
    Candidate::shared(name, Origin::Peer, build)
}

fn moka(capacity: usize, policy: EvictionPolicy) -> Built {
    Built::shared(
        moka::sync::Cache::<u64, u64>::builder().max_capacity(capacity as u64).eviction_policy(policy).build(),
    )
}

fn foyer(capacity: usize, purpose: Purpose, eviction: impl Into<EvictionConfig>) -> Built {
    let builder = CacheBuilder::new(capacity).with_eviction_config(eviction);
    let cache: Foyer<u64, u64> = match purpose {
        Purpose::HitRatio => builder.with_shards(1).build(),
        Purpose::Speed => builder.build(),
    };
    Built::shared(cache)
}

fn lru(capacity: usize) -> lru::LruCache<u64, u64> {
    lru::LruCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN))
}

impl SharedCache for moka::sync::Cache<u64, u64> {
    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&self) -> usize {
        self.run_pending_tasks();
        self.entry_count() as usize
    }
}

impl SharedCache for mini_moka::sync::Cache<u64, u64> {
    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&self) -> usize {
        self.sync();
        self.entry_count() as usize
    }
}

impl Cache for mini_moka::unsync::Cache<u64, u64> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&mut self) -> usize {
        self.entry_count() as usize
    }
}

impl SharedCache for quick_cache::sync::Cache<u64, u64> {
    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&self) -> usize {
        self.len()
    }
}

impl Cache for quick_cache::unsync::Cache<u64, u64> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        quick_cache::unsync::Cache::get(self, &key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&mut self) -> usize {
        self.len()
    }
}

impl SharedCache for Foyer<u64, u64> {
    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.get(&key).map(|entry| *entry.value())
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&self) -> usize {
        self.entries()
    }
}

impl Cache for lru::LruCache<u64, u64> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) {
        self.put(key, value);
    }

    fn held(&mut self) -> usize {
        self.len()
    }
}

impl Cache for hashlink::LruCache<u64, u64> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&mut self) -> usize {
        self.len()
    }
}

impl Cache for schnellru::LruMap<u64, u64, ByLength> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn held(&mut self) -> usize {
        self.len()
    }
}

/// What people write before they take a crate: an LRU behind a mutex, cut into shards.
struct ShardedMutexLru {
    shards: Vec<Mutex<lru::LruCache<u64, u64>>>,
}

impl ShardedMutexLru {
    const SHARD_COUNT: usize = 64;

    fn new(capacity: usize) -> Self {
        // Never more shards than entries, and the capacity is met exactly.
        let shard_count = Self::SHARD_COUNT.min(capacity).max(1);
        let shard = |index| capacity / shard_count + usize::from(index < capacity % shard_count);
        Self { shards: (0..shard_count).map(|index| Mutex::new(lru(shard(index)))).collect() }
    }

    #[inline]
    fn shard(&self, key: u64) -> &Mutex<lru::LruCache<u64, u64>> {
        // The high word of the product spreads the scrambled key over any number of shards.
        let index = (u128::from(scramble(key)) * self.shards.len() as u128) >> 64;
        &self.shards[index as usize]
    }
}

impl SharedCache for ShardedMutexLru {
    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.shard(key).lock().get(&key).copied()
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.shard(key).lock().put(key, value);
    }

    fn held(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}
