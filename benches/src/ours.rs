//! Adapters for the caches of this workspace, each at its default settings.

use tenfold_lru_cache::{FifoCache, LruCache, unsync};

use crate::cache::{Built, Cache, SharedCache};
use crate::catalogue::{Candidate, Origin, Purpose};

/// Our caches by name.
pub const CANDIDATES: &[Candidate] = &[
    local("tenfold-lru", |capacity, _| {
        Built::local(unsync::LruCache::<u64, u64>::new(capacity as u64))
    }),
    shared("tenfold-lru-sync", |capacity, _| {
        Built::shared(LruCache::<u64, u64>::new(capacity as u64))
    }),
    local("tenfold-fifo", |capacity, _| {
        Built::local(unsync::FifoCache::<u64, u64>::new(capacity as u64))
    }),
    shared("tenfold-fifo-sync", |capacity, _| {
        Built::shared(FifoCache::<u64, u64>::new(capacity as u64))
    }),
];

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
    LruCache<u64, u64>, unsync::LruCache<u64, u64>;
    FifoCache<u64, u64>, unsync::FifoCache<u64, u64>;
}
