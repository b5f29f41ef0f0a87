//! Many threads on one cache.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenfold_cache_core::testing::{Rng, for_each_seed};
use tenfold_cache_core::{Builder, Cache, Change, ManualClock, Policy};

use crate::recency::{VecCounts, VecFifo, VecLru};

const THREADS: u64 = if cfg!(miri) { 2 } else { 4 };

fn rounds(full: u64) -> u64 {
    if cfg!(miri) { full / 200 } else { full }
}

/// A value that tells its key, so that a mix-up is seen, and its weight.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    key: u64,
    weight: u64,
}

fn weighed<P: Policy + Default>(capacity: u64, shards: usize) -> Builder<u64, Value, P> {
    Builder::default().capacity(capacity).shards(shards).weigher(|_: &u64, value: &Value| value.weight)
}

/// Puts key `n` into shard `n % shards`.
#[derive(Clone, Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = (key << 32) | (key << 57) | key;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for ByNumber {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        self.clone()
    }
}

const MAX_CAPACITY: u64 = 100;

/// One thread's share of the hammering.
fn hammer<P: Policy>(cache: &Cache<u64, Value, P>, clock: &ManualClock, mut rng: Rng) {
    let mut pinned = Vec::new();
    for _ in 0..rounds(4_000) {
        let key = rng.below(60);
        let heaviest = if rng.chance(1, 20) { MAX_CAPACITY } else { 8 };
        let value = Value { key, weight: 1 + rng.below(heaviest) };
        match rng.below(40) {
            0..14 => assert!(cache.get(&key).is_none_or(|value| value.key == key)),
            14..26 => assert!(cache.insert(key, value).is_none_or(|old| old.key == key)),
            26 => drop(cache.insert_with_ttl(key, value, Duration::from_nanos(rng.below(50)))),
            27 => drop(cache.try_insert(key, value)),
            28..32 => assert!(cache.remove(&key).is_none_or(|old| old.key == key)),
            32 => {
                if pinned.len() < 2 && cache.pin(&key) {
                    pinned.push(key);
                }
            }
            33 => {
                if let Some(key) = pinned.pop() {
                    cache.unpin(&key);
                }
            }
            34 => cache.resize(40 + rng.below(MAX_CAPACITY - 39)),
            35 => clock.advance(Duration::from_nanos(rng.below(40))),
            36 => assert!(cache.iter().all(|(key, value)| value.key == key)),
            37 => cache.retain(|key, _| key % 7 != 0),
            38 => {
                let seen = cache.entry(key).and_compute(|present| match present {
                    Some(_) => Change::Remove,
                    None => Change::Put(value.clone()),
                });
                assert!(seen.is_none_or(|seen| seen.key == key));
            }
            _ if rng.chance(1, 50) => cache.clear(),
            _ => drop(cache.collect_expired()),
        }
    }
    for key in pinned {
        cache.unpin(&key);
    }
}

fn check_hammered<P: Policy + Default>(seed: u64) {
    let clock = ManualClock::new();
    let cache = weighed::<P>(MAX_CAPACITY, 8).clock(clock.clone()).build().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let weight = cache.weight();
                assert!(weight <= MAX_CAPACITY, "{weight} is above every capacity there was");
                std::thread::yield_now();
            }
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (cache, clock) = (&cache, &clock);
                scope.spawn(move || hammer(cache, clock, Rng::new(seed ^ (number << 32))))
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().is_ok()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(watcher.join().is_ok() && ended.iter().all(|&ok| ok));
    });
    cache.check_invariants();
    // Pins of one thread may have been taken off by another's `clear`, and the other way round.
    (0..60).for_each(|key| _ = cache.unpin(&key));
    assert!(cache.weight() <= cache.capacity(), "nothing is pinned any more");
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.weight), (cache.len() as u64, cache.weight()));
    cache.clear();
    assert_eq!((cache.len(), cache.weight()), (0, 0));
    cache.check_invariants();
}

#[test]
fn the_weight_stays_within_the_capacity_under_fire() {
    for_each_seed(|seed| {
        // A few of the seeds are enough: what differs between runs is the timing.
        match seed % 3 {
            0 => check_hammered::<VecLru>(seed),
            1 => check_hammered::<VecFifo>(seed),
            _ => check_hammered::<VecCounts>(seed),
        }
    });
}

#[test]
fn a_lowered_capacity_holds_at_once_whatever_others_insert() {
    let cache: Cache<u64, u64, VecLru> = Builder::default().capacity(20).shards(4).build().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (cache, done) = (&cache, &done);
            scope.spawn(move || {
                let mut rng = Rng::new(thread);
                while !done.load(Ordering::Relaxed) {
                    let key = rng.below(200);
                    if rng.chance(1, 3) { _ = cache.remove(&key) } else { _ = cache.insert(key, key) }
                }
            });
        }
        for round in 0..rounds(3_000) {
            cache.resize(20);
            cache.resize(10);
            // An insertion that reserved room before the resize may be about to give it back.
            let settled = (0..1_000).any(|_| {
                std::thread::yield_now();
                cache.weight() <= 10
            });
            assert!(settled, "round {round}: {} is above the lowered capacity for good", cache.weight());
        }
        done.store(true, Ordering::Relaxed);
    });
    cache.check_invariants();
}

#[test]
fn no_update_is_lost() {
    let cache: Cache<u64, u64, VecLru> = Builder::default().capacity(100).shards(4).build().unwrap();
    let each = rounds(2_000).max(20);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for step in 0..each {
                    let key = step % 3;
                    let _ = cache.entry(key).and_compute(|present| Change::Put(present.copied().unwrap_or(0) + 1));
                    let _ = cache.entry(key).and_modify(|count| *count += 1).or_insert(1);
                }
            });
        }
    });
    let total: u64 = (0..3).filter_map(|key| cache.get(&key)).sum();
    assert_eq!(total, 2 * each * THREADS);
    cache.check_invariants();
}

#[test]
fn an_entry_that_grows_beyond_its_shard_is_not_lost() {
    // Key 0 is alone in shard 0; the room for it to grow is in the other shards.
    let cache: Cache<u64, u64, VecLru, ByNumber> = Builder::default()
        .capacity(10)
        .shards(8)
        .weigher(|&key: &u64, &value: &u64| if key == 0 { value } else { 1 })
        .hasher(ByNumber::default())
        .build()
        .unwrap();
    (1..8).for_each(|key| _ = cache.insert(key, 1));
    for expected in 1..=10 {
        let count = cache.entry(0).and_compute(|present| Change::Put(present.copied().unwrap_or(0) + 1));
        assert_eq!(count, Some(expected));
        assert_eq!(cache.peek(&0), Some(expected), "what was counted so far is still there");
        assert!(cache.weight() <= 10);
        cache.check_invariants();
    }
    assert_eq!(cache.len(), 1, "it needs all the room");
    assert_eq!(cache.stats().rejections, 0);
    assert_eq!(cache.stats().replacements, 9);
    assert_eq!(cache.entry(0).and_compute(|_| Change::Put(11)), Some(11));
    assert_eq!(cache.len(), 0, "too heavy, and the old value is out of date");
}

#[test]
fn growing_evicts_no_more_than_is_missing() {
    let cache: Cache<u64, u64, VecLru, ByNumber> = Builder::default()
        .capacity(10)
        .shards(8)
        .weigher(|_: &u64, &value: &u64| value)
        .hasher(ByNumber::default())
        .build()
        .unwrap();
    cache.insert(0, 4);
    (1..7).for_each(|key| _ = cache.insert(key, 1));
    cache.insert(0, 6);
    assert_eq!((cache.len(), cache.weight(), cache.stats().evictions), (5, 10, 2));
}

#[test]
fn small_capacities_are_used_up_whatever_the_number_of_shards() {
    for shards in [1, 2, 8, 64] {
        let cache: Cache<u64, u64, VecLru> = Builder::default().capacity(10).shards(shards).build().unwrap();
        for key in 0..if cfg!(miri) { 30 } else { 1_000 } {
            cache.insert(key, key);
            assert_eq!(cache.len() as u64, (key + 1).min(10), "{shards} shards");
            assert_eq!(cache.get(&key), Some(key), "the newest is there");
        }
        cache.check_invariants();
    }
}

#[test]
fn an_entry_as_heavy_as_the_capacity_fits() {
    for shards in [1, 2, 8, 64] {
        let cache = weighed::<VecLru>(50, shards).build().unwrap();
        for key in 0..50 {
            cache.insert(key, Value { key, weight: 1 });
        }
        assert_eq!(cache.weight(), 50);
        assert!(cache.try_insert(99, Value { key: 99, weight: 50 }).is_ok());
        assert_eq!((cache.len(), cache.weight()), (1, 50), "{shards} shards");
        cache.check_invariants();
    }
}

#[test]
fn heavy_entries_from_many_threads_neither_hang_nor_leak() {
    let cache = weighed::<VecLru>(10, 8).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..rounds(2_000) {
                    let key = thread * 10_000 + round;
                    let weight = if round % 3 == 0 { 10 } else { 1 + round % 4 };
                    if let Err(refused) = cache.try_insert(key, Value { key, weight }) {
                        assert_eq!(refused.into_parts().0, key);
                    }
                }
            });
        }
    });
    cache.check_invariants();
    assert!(cache.weight() <= 10);
    // Alone, nothing is in the way.
    assert!(cache.try_insert(1, Value { key: 1, weight: 10 }).is_ok());
}

#[test]
fn what_is_there_all_the_time_is_visited_exactly_once() {
    let cache: Cache<u64, u64, VecLru> = Builder::default().capacity(10_000).shards(4).build().unwrap();
    let stays = if cfg!(miri) { 100 } else { 500 };
    (0..stays).for_each(|key| _ = cache.insert(key, 0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(1);
            while !done.load(Ordering::Relaxed) {
                let key = 1_000 + rng.below(500);
                if rng.chance(1, 2) { _ = cache.insert(key, 1) } else { _ = cache.remove(&key) }
            }
        });
        for _ in 0..rounds(200).max(2) {
            let mut seen: Vec<_> = cache.iter().map(|(key, _)| key).filter(|&key| key < stays).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..stays));
        }
        done.store(true, Ordering::Relaxed);
    });
}
