//! Adapters for the caches of this workspace, each at its default settings.

use tenfold_lfu_cache::{Ageing, Builder, Lfu, LfuCache};
use tenfold_lru_cache::{FifoCache, LruCache};

/// The caches for one thread.
mod local {
    pub(super) use tenfold_lfu_cache::unsync::LfuCache;
    pub(super) use tenfold_lru_cache::unsync::{FifoCache, LruCache};
}

use crate::cache::{Built, Cache, SharedCache};
use crate::catalogue::{Candidate, Origin, Purpose};

/// Our caches by name.
pub const CANDIDATES: &[Candidate] = &[
    local("tenfold-lru", |capacity, _| Built::local(local::LruCache::<u64, u64>::new(capacity as u64))),
    shared("tenfold-lru-sync", |capacity, _| Built::shared(LruCache::<u64, u64>::new(capacity as u64))),
    local("tenfold-fifo", |capacity, _| Built::local(local::FifoCache::<u64, u64>::new(capacity as u64))),
    shared("tenfold-fifo-sync", |capacity, _| Built::shared(FifoCache::<u64, u64>::new(capacity as u64))),
    local("tenfold-lfu", |capacity, _| Built::local(local::LfuCache::<u64, u64>::new(capacity as u64))),
    shared("tenfold-lfu-sync", |capacity, _| Built::shared(LfuCache::<u64, u64>::new(capacity as u64))),
    local("tenfold-lfu-aged", |capacity, _| Built::local(aged(capacity).build_unsync().expect(VALID))),
    shared("tenfold-lfu-aged-sync", |capacity, _| Built::shared(aged(capacity).build().expect(VALID))),
];

const VALID: &str = "a capacity and a policy alone contradict nothing";

fn aged(capacity: usize) -> Builder<u64, u64, Lfu> {
    LfuCache::builder().capacity(capacity as u64).policy(Lfu::aged(Ageing::default()))
}

const fn local(name: &'static str, build: fn(usize, Purpose) -> Built) -> Candidate {
    Candidate::local(name, Origin::Ours, build)
}

const fn shared(name: &'static str, build: fn(usize, Purpose) -> Built) -> Candidate {
    Candidate::shared(name, Origin::Ours, build)
}

/// Adapts the shared and the single-threaded form of one cache.
macro_rules! adapt {
    ($($shared:ty, $local:ty;)*) => {$(
        impl SharedCache for $shared {
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

        impl Cache for $local {
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
    )*};
}

adapt! {
    LruCache<u64, u64>, local::LruCache<u64, u64>;
    FifoCache<u64, u64>, local::FifoCache<u64, u64>;
    LfuCache<u64, u64>, local::LfuCache<u64, u64>;
}
