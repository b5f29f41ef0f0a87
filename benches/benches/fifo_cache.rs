//! `FifoCache` for one thread and for many, beside the other FIFO cache and the fastest peers.

mod suite;

use criterion::{Criterion, criterion_group, criterion_main};

const CACHES: &[&str] =
    &["tenfold-fifo", "tenfold-fifo-sync", "foyer-fifo", "foyer-s3fifo", "quick_cache-unsync", "quick_cache-sync"];

fn fifo_cache(criterion: &mut Criterion) {
    suite::bench(criterion, "fifo", CACHES);
}

criterion_group!(benches, fifo_cache);
criterion_main!(benches);
