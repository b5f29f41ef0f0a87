//! `LruCache` for one thread and for many, beside other LRU caches and quick_cache.

mod suite;

use criterion::{Criterion, criterion_group, criterion_main};

const CACHES: &[&str] = &[
    "tenfold-lru",
    "tenfold-lru-sync",
    "lru",
    "hashlink",
    "schnellru",
    "sharded-mutex-lru",
    "quick_cache-unsync",
    "quick_cache-sync",
    "foyer-lru",
    "moka-lru",
];

fn lru_cache(criterion: &mut Criterion) {
    suite::bench(criterion, "lru", CACHES);
}

criterion_group!(benches, lru_cache);
criterion_main!(benches);
