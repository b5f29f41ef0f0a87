//! Settings that cannot work, entries that do not fit, and callers' code that misbehaves.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenfold_cache_core::{Builder, Cache, Config, ConfigError, InsertError, ManualClock, RemovalCause, unsync};

use crate::recency::{VecFifo, VecLru};
use crate::staged::{INTENDED, must_panic};

type New = Builder<u64, u64, VecLru>;

fn check_refused(set: impl Fn(New) -> New, expected: ConfigError) {
    assert_eq!(set(Builder::default()).build().unwrap_err(), expected);
    assert_eq!(set(Builder::default()).build_unsync().unwrap_err(), expected);
    assert!(!expected.to_string().is_empty());
}

#[test]
fn settings_out_of_range_are_refused() {
    let zero = Duration::ZERO;
    check_refused(|b| b.time_to_live(zero), ConfigError::ZeroDuration("time_to_live"));
    check_refused(|b| b.time_to_idle(zero), ConfigError::ZeroDuration("time_to_idle"));
    check_refused(|b| b.refresh_after(zero), ConfigError::ZeroDuration("refresh_after"));
    check_refused(|b| b.stale_if_error(zero), ConfigError::ZeroDuration("stale_if_error"));
    check_refused(|b| b.negative_time_to_live(zero), ConfigError::ZeroDuration("negative_time_to_live"));
    check_refused(|b| b.lease_timeout(zero), ConfigError::ZeroDuration("lease_timeout"));
    check_refused(|b| b.load_timeout(zero), ConfigError::ZeroDuration("load_timeout"));
    check_refused(|b| b.shards(0), ConfigError::ZeroLimit("shards"));
    check_refused(|b| b.max_refreshes(0), ConfigError::ZeroLimit("max_refreshes"));
    check_refused(|b| b.negative_capacity(0), ConfigError::ZeroLimit("negative_capacity"));
    check_refused(|b| b.max_leases(0), ConfigError::ZeroLimit("max_leases"));
    check_refused(|b| b.time_to_live_jitter_percent(101), ConfigError::JitterTooLarge(101));
    check_refused(|b| b.shards(65_537), ConfigError::TooManyShards(65_537));
    check_refused(|b| b.shards(usize::MAX), ConfigError::TooManyShards(usize::MAX));
    let second = Duration::from_secs(1);
    check_refused(
        |b| b.time_to_live(second).refresh_after(second),
        ConfigError::RefreshAfterExpiry { refresh_after: second, time_to_live: second },
    );
}

#[test]
fn settings_at_the_edge_of_their_range_work() {
    let config = Config { shards: Some(3), time_to_live_jitter_percent: 100, ..Config::default() };
    let cache: Cache<u64, u64, VecLru> = Builder::default().config(config).build().unwrap();
    assert_eq!((cache.shard_count(), cache.capacity()), (4, 10_000));
    let shards = if cfg!(miri) { 256 } else { 65_536 };
    let cache: Cache<u64, u64, VecLru> = Builder::default().capacity(2).shards(shards).build().unwrap();
    (0..5).for_each(|key| _ = cache.insert(key, key));
    assert_eq!((cache.shard_count(), cache.len()), (shards, 2));
}

#[test]
fn a_capacity_of_zero_stores_nothing() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let cache: Cache<u64, u64, VecLru> = Builder::default()
        .capacity(0)
        .listener(move |&key, _, cause| log.lock().unwrap().push((key, cause)))
        .build()
        .unwrap();
    assert_eq!(cache.insert(1, 1), None);
    assert_eq!(*told.lock().unwrap(), [(1, RemovalCause::Size)]);
    assert!(matches!(cache.try_insert(1, 1), Err(InsertError::TooHeavy { weight: 1, capacity: 0, .. })));
    assert_eq!(cache.get_or_load(1, |_| Ok::<_, ()>(5)).unwrap(), 5, "loads go through");
    assert_eq!(cache.get_or_insert_with(1, || 6), 6);
    assert_eq!(cache.entry(1).or_insert(7), 7);
    assert_eq!((cache.len(), cache.weight(), cache.get(&1)), (0, 0, None));
    cache.check_invariants();
    let mut single: unsync::Cache<u64, u64, VecLru> = unsync::Cache::new(0);
    assert_eq!(single.insert(1, 1), None);
    assert_eq!(single.get_or_insert_with(1, || 1), None);
    assert!(single.is_empty());
    single.check_invariants();
}

#[test]
fn a_huge_capacity_reserves_no_memory() {
    for shards in [1, 8] {
        let cache: Cache<u64, u64, VecLru> = Builder::default().capacity(u64::MAX).shards(shards).build().unwrap();
        (0..100).for_each(|key| _ = cache.insert(key, key));
        assert_eq!((cache.len(), cache.capacity()), (100, u64::MAX));
    }
    let mut single: unsync::Cache<u64, u64, VecLru> = unsync::Cache::new(u64::MAX);
    (0..100).for_each(|key| _ = single.insert(key, key));
    assert_eq!(single.len(), 100);
    let cache: Cache<u64, u64, VecLru> = Cache::new(u64::MAX);
    assert_eq!(cache.insert(1, 1), None);
}

#[test]
fn an_entry_above_the_capacity_comes_back_and_its_old_value_is_gone() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let cache: Cache<u64, u64, VecLru> = Builder::default()
        .capacity(10)
        .shards(2)
        .weigher(|_: &u64, &value: &u64| value)
        .listener(move |&key, &value, cause| log.lock().unwrap().push((key, value, cause)))
        .build()
        .unwrap();
    cache.insert(1, 3);
    cache.insert(2, 4);
    let refused = cache.try_insert(1, 11).unwrap_err();
    assert_eq!(refused.to_string(), "an entry of weight 11 does not fit a capacity of 10");
    assert_eq!(format!("{refused:?}"), "TooHeavy { weight: 11, capacity: 10, .. }");
    assert_eq!(refused.into_parts(), (1, 11));
    assert_eq!(*told.lock().unwrap(), [(1, 3, RemovalCause::Replaced)]);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(4)), "the others stay");
    assert_eq!(cache.insert(2, u64::MAX), None);
    assert_eq!(told.lock().unwrap()[1..], [(2, 4, RemovalCause::Replaced), (2, u64::MAX, RemovalCause::Size)]);
    assert_eq!((cache.stats().rejections, cache.weight()), (2, 0));
}

#[test]
fn pinned_entries_are_never_evicted() {
    let cache: Cache<u64, u64, VecLru> = Builder::default().capacity(3).shards(4).build().unwrap();
    (1..=3).for_each(|key| _ = cache.insert(key, key));
    assert!(!cache.pin(&9));
    assert!([1, 2].iter().all(|key| cache.pin(key)));
    (10..20).for_each(|key| _ = cache.insert(key, key));
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&19)), (Some(1), Some(2), Some(19)));
    assert!(cache.pin(&19) && cache.pin(&19), "twice is once");
    assert!(matches!(cache.try_insert(20, 20), Err(InsertError::NoRoom { key: 20, value: 20 })));
    assert_eq!(cache.insert(1, 100), Some(1), "replacing needs no room");
    cache.resize(1);
    assert_eq!((cache.len(), cache.capacity()), (3, 1), "pinned entries stay");
    cache.check_invariants();
    assert!(cache.unpin(&2));
    assert_eq!((cache.len(), cache.get(&2)), (2, None), "the excess goes as soon as it may");
    assert!(matches!(cache.try_insert(20, 20), Err(InsertError::NoRoom { .. })));
    assert_eq!(cache.remove(&19), Some(19));
    assert_eq!((cache.get(&1), cache.len()), (Some(100), 1));
    assert!(cache.unpin(&1) && !cache.unpin(&2));
    cache.insert(3, 3);
    assert_eq!((cache.get(&1), cache.get(&3)), (None, Some(3)));
    cache.check_invariants();
}

#[test]
fn a_weigher_may_saturate_or_panic() {
    let cache: Cache<u64, u64, VecLru> = Builder::default()
        .capacity(u64::MAX)
        .shards(2)
        .weigher(|_: &u64, &value: &u64| if value == 13 { panic!("{INTENDED}") } else { value.saturating_mul(1 << 60) })
        .build()
        .unwrap();
    for key in 0..20 {
        cache.insert(key, u64::MAX);
        assert_eq!((cache.get(&key), cache.len(), cache.weight()), (Some(u64::MAX), 1, u64::MAX));
        cache.check_invariants();
    }
    assert_eq!(cache.stats().evicted_weight, u64::MAX, "saturated as well");
    must_panic(|| cache.insert(19, 13));
    must_panic(|| cache.entry(19).or_insert_with(|| 12) + cache.entry(20).or_insert(13));
    assert_eq!((cache.get(&19), cache.len()), (Some(u64::MAX), 1), "nothing has changed");
    cache.check_invariants();
}

#[test]
fn an_expiry_function_or_a_conditional_update_may_panic() {
    let armed = Arc::new(AtomicBool::new(true));
    let fuse = Arc::clone(&armed);
    let cache: Cache<u64, u64, VecLru> = Builder::default()
        .expiry(move |_, _| if fuse.load(Ordering::Relaxed) { panic!("{INTENDED}") } else { None })
        .build()
        .unwrap();
    must_panic(|| cache.insert(1, 1));
    assert!(cache.is_empty());
    armed.store(false, Ordering::Relaxed);
    cache.insert(1, 1);
    must_panic(|| cache.entry(1).and_compute(|_| panic!("{INTENDED}")));
    must_panic(|| cache.entry(2).or_insert_with(|| panic!("{INTENDED}")));
    must_panic(|| cache.retain(|_, _| panic!("{INTENDED}")));
    must_panic(|| cache.get_or_insert_with(3, || panic!("{INTENDED}")));
    assert_eq!(cache.iter().collect::<Vec<_>>(), [(1, 1)]);
    assert_eq!(cache.get_or_insert_with(3, || 3), 3);
    cache.check_invariants();
}

#[test]
fn an_update_in_place_that_grows_too_heavy_leaves() {
    let mut cache: unsync::Cache<u64, u64, VecFifo> =
        Builder::default().capacity(10).weigher(|_: &u64, &value: &u64| value).build_unsync().unwrap();
    cache.insert(1, 3);
    cache.insert(2, 3);
    assert_eq!(cache.update(&1, |value| std::mem::replace(value, 11)), Some(3));
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.get(&2), Some(&3), "nobody had to make room in vain");
    assert_eq!(cache.weight(), 3);
    cache.insert(1, 3);
    assert_eq!(cache.update(&2, |value| *value = 9), Some(()));
    assert_eq!((cache.len(), cache.weight()), (1, 9), "1 made room, though 2 came first");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        cache.update(&2, |value| {
            *value = 5;
            panic!("{INTENDED}")
        })
    }));
    assert!(outcome.is_err());
    cache.check_invariants();
    cache.remove(&2);
    assert_eq!(cache.weight(), 0);
}

#[test]
fn keys_and_values_of_no_size_will_do() {
    let cache: Cache<(), (), VecLru> = Builder::default().capacity(1).build().unwrap();
    assert_eq!(cache.insert((), ()), None);
    assert_eq!(cache.insert((), ()), Some(()));
    assert_eq!((cache.get(&()), cache.len(), cache.iter().count()), (Some(()), 1, 1));
    assert_eq!(cache.remove(&()), Some(()));
    cache.check_invariants();
    let many: Cache<u64, (), VecLru> = Builder::default().capacity(50).shards(2).build().unwrap();
    (0..100).for_each(|key| _ = many.insert(key, ()));
    assert_eq!(many.len(), 50);
    many.check_invariants();
}

/// Every key collides with every other.
#[derive(Clone, Copy)]
struct Constant(u64);

impl Hasher for Constant {
    fn write(&mut self, _: &[u8]) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Constant {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        *self
    }
}

#[test]
fn keys_that_all_collide_are_told_apart() {
    for hash in [0, u64::MAX, 1 << 32] {
        let builder = Builder::<u64, u64, VecLru>::default().capacity(20).shards(4).hasher(Constant(hash));
        let cache = builder.negative_time_to_live(Duration::from_secs(60)).build().unwrap();
        for key in 0..60 {
            cache.insert(key, key);
            assert_eq!(cache.get(&key), Some(key));
        }
        assert_eq!((cache.len(), cache.get(&39), cache.get(&40)), (20, None, Some(40)));
        assert_eq!(cache.get_or_load_optional(100, |_| Ok::<_, ()>(None)).unwrap(), None);
        assert_eq!(cache.get_or_load_optional(101, |_| Ok::<_, ()>(Some(1))).unwrap(), Some(1));
        for key in (40..60).rev() {
            cache.remove(&key);
            assert_eq!(cache.get(&key), None);
        }
        cache.check_invariants();
        assert_eq!(cache.len(), 1);
    }
}

#[test]
fn the_parts_of_the_builder_say_what_they_are() {
    let builder = Builder::<u64, u64, VecLru>::default().weigher(|_: &u64, _: &u64| 1);
    assert!(format!("{builder:?}").contains("capacity: 10000"));
    let cache = builder.build().unwrap();
    assert!(format!("{cache:?}").contains("weight: 0"));
    assert!(format!("{:?} {:?}", cache.entry(1), cache.iter()).contains("key: 1"));
    let calls = Cell::new(0);
    let value = cache.entry(1).or_insert_with(|| {
        calls.set(calls.get() + 1);
        5
    });
    assert_eq!((value, cache.entry(1).or_insert_with(|| 6), calls.get()), (5, 5, 1));
    assert_eq!(cache.entry(1).and_modify(|value| *value += 1).or_insert(0), 6);
    assert_eq!(*cache.entry(3).key(), 3);
}

#[test]
fn an_update_that_panics_leaves_the_weight_of_what_it_made() {
    let clock = ManualClock::new();
    let builder = Builder::<u64, u64, VecFifo>::default().capacity(10).weigher(|_: &u64, &value: &u64| value);
    let mut cache = builder.expiry(|_, &value| Some(Duration::from_secs(value))).clock(clock).build_unsync().unwrap();
    let mut update = |from: u64, to: u64| {
        cache.insert(1, 1);
        cache.insert(2, from);
        must_panic(|| {
            cache.update(&2, |value| {
                *value = to;
                panic!("{INTENDED}")
            })
        });
        cache.check_invariants();
        (cache.weight(), cache.len(), cache.time_left(&2))
    };
    assert_eq!(update(3, 2), (3, 2, Some(Duration::from_secs(2))));
    assert_eq!(update(3, 10), (10, 1, Some(Duration::from_secs(10))), "the other had to make room");
    assert_eq!(update(3, 11), (1, 1, None), "too heavy to stay");
}

thread_local! {
    /// How many more keys may be hashed on this thread before one panics.
    static HASHES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A key whose `Hash` panics when it is told to.
#[derive(Clone, PartialEq, Eq)]
struct Fused(u64);

impl Hash for Fused {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match HASHES_LEFT.get() {
            Some(0) => {
                HASHES_LEFT.set(None);
                panic!("{INTENDED}");
            }
            left => HASHES_LEFT.set(left.map(|left| left - 1)),
        }
        state.write_u64(self.0);
    }
}

/// Does something to a fresh cache, again and again, with a panic in each of the hashes in turn.
fn panic_in_each_hash<C>(make: impl Fn() -> C, step: impl Fn(&mut C), check: impl Fn(&C)) {
    for count in 0.. {
        let mut cache = make();
        HASHES_LEFT.set(Some(count));
        let outcome = catch_unwind(AssertUnwindSafe(|| step(&mut cache)));
        HASHES_LEFT.set(None);
        check(&cache);
        if outcome.is_ok() {
            assert!(count > 0, "nothing was hashed");
            return;
        }
    }
}

/// What makes the engine hash keys that it has already.
type Hashing<C> = fn(&mut C);

#[test]
fn a_hash_that_panics_leaves_the_account_right() {
    type Concurrent = Cache<Fused, u64, VecLru>;
    let steps: [Hashing<Concurrent>; 8] = [
        |cache| _ = cache.collect_expired(),
        |cache| _ = cache.insert(Fused(50), 1),
        |cache| _ = cache.insert(Fused(50), 90),
        |cache| _ = cache.insert(Fused(0), 90),
        |cache| _ = cache.remove(&Fused(1)),
        |cache| cache.clear(),
        |cache| cache.resize(10),
        |cache| cache.retain(|key, _| key.0 % 2 == 0),
    ];
    for shards in [1, 4] {
        for step in steps {
            let clock = ManualClock::new();
            let make = || {
                let builder = Builder::default().capacity(100).shards(shards).weigher(|_: &Fused, &value: &u64| value);
                let cache: Concurrent = builder.clock(clock.clone()).build().unwrap();
                for key in 0..28 {
                    // Some have expired when the step is taken.
                    let time_to_live = Duration::from_secs(if key % 7 == 3 { 1 } else { 9 });
                    cache.insert_with_ttl(Fused(key), 1 + 2 * (key % 4), time_to_live);
                }
                clock.advance(Duration::from_secs(1));
                cache
            };
            panic_in_each_hash(make, step, Cache::check_invariants);
        }
    }
}

#[test]
fn a_hash_that_panics_while_the_table_grows_loses_no_entry() {
    type Single = unsync::Cache<Fused, u64, VecLru>;
    let fill = |cache: &mut Single| (0..120).for_each(|key| _ = cache.insert(Fused(key), key));
    panic_in_each_hash(|| Single::new(1_000), fill, Single::check_invariants);
    // Room that removals left is used again by a table that is put in order where it stands.
    let churn = |cache: &mut Single| (100..200).for_each(|key| _ = cache.insert(Fused(key), key));
    let make = || {
        let mut cache = Single::new(12);
        (0..12).for_each(|key| _ = cache.insert(Fused(key), key));
        cache
    };
    panic_in_each_hash(make, churn, Single::check_invariants);
}
