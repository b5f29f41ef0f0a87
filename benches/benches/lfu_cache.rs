//! `LfuCache` for one thread and for many, beside the frequency caches among the peers.

mod suite;

use criterion::{Criterion, criterion_group, criterion_main};

const CACHES: &[&str] = &[
    "tenfold-lfu",
    "tenfold-lfu-sync",
    "tenfold-lfu-aged",
    "foyer-lfu",
    "moka-tinylfu",
    "mini-moka-unsync",
    "quick_cache-unsync",
    "quick_cache-sync",
];

fn lfu_cache(criterion: &mut Criterion) {
    suite::bench(criterion, "lfu", CACHES);
}

criterion_group!(benches, lfu_cache);
criterion_main!(benches);
