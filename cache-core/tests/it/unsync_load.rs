//! Read-through and warm restart on one thread.

use std::cell::Cell;
use std::time::Duration;

use tenfold_cache_core::{Builder, ManualClock, StatsSnapshot, unsync};

use crate::recency::VecLru;
use crate::staged::{INTENDED, must_panic};

type Store = unsync::Cache<u64, u64, VecLru>;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn builder(clock: &ManualClock) -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(5).clock(clock.clone())
}

#[test]
fn a_miss_loads_and_a_hit_does_not() {
    let mut cache: Store = builder(&ManualClock::new()).build_unsync().unwrap();
    assert_eq!(cache.get_or_load(7, |key| Ok::<_, ()>(key * 10)), Ok(70));
    assert_eq!(cache.get_or_load(7, |_| Err("not asked")), Ok(70));
    assert_eq!(cache.get_or_load(8, |_| Err("down")), Err("down"), "as the loader returned it");
    must_panic(|| cache.get_or_load(9, |_| -> Result<u64, ()> { panic!("{INTENDED}") }));
    assert_eq!(cache.get_or_load(9, |_| Ok::<_, ()>(90)), Ok(90));
    assert_eq!(cache.refresh(7, |_| Ok::<_, ()>(71)), Ok(71));
    assert_eq!(cache.refresh(7, |_| Err("down")), Err("down"));
    assert_eq!(cache.get(&7), Some(&71), "a live value stays");
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.hits, stats.misses), (3, 3, 2, 4));
    cache.check_invariants();
}

#[test]
fn what_cannot_be_stored_is_returned_all_the_same() {
    let builder = builder(&ManualClock::new()).weigher(|_: &u64, &value: &u64| value);
    let mut cache: Store = builder.build_unsync().unwrap();
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(6)), Ok(6));
    assert!(cache.is_empty());
}

#[test]
fn absence_is_remembered_for_its_time() {
    let clock = ManualClock::new();
    let mut cache: Store = builder(&clock).negative_time_to_live(seconds(10)).build_unsync().unwrap();
    let calls = Cell::new(0);
    let look = |cache: &mut Store, found: Option<u64>| {
        let loaded = cache.get_or_load_optional(7, |_| {
            calls.set(calls.get() + 1);
            Ok::<_, ()>(found)
        });
        (loaded.unwrap(), calls.take())
    };
    assert_eq!(look(&mut cache, None), (None, 1));
    assert_eq!(look(&mut cache, Some(1)), (None, 0), "remembered");
    assert_eq!(cache.stats().negative_hits, 1);
    clock.advance(seconds(10));
    assert_eq!(look(&mut cache, None), (None, 1));
    cache.insert(7, 2);
    assert_eq!(look(&mut cache, None), (Some(2), 0), "a write knows better");
    cache.remove(&7);
    assert_eq!(look(&mut cache, None), (None, 1));
    cache.remove(&7);
    assert_eq!(look(&mut cache, None), (None, 1), "an invalidation forgets the absence too");
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(3)), Ok(3), "a loader that cannot say so is asked");
    cache.check_invariants();
}

#[test]
fn a_bulk_load_asks_for_each_missing_key_once() {
    let mut cache: Store = builder(&ManualClock::new()).negative_time_to_live(seconds(1)).build_unsync().unwrap();
    cache.insert(1, 10);
    let found = cache.get_or_load_all([3, 1, 2, 3, 4, 2], |missing| {
        assert_eq!(missing, [3, 2, 4]);
        Ok::<_, ()>(vec![(2, 20), (99, 990), (3, 30)])
    });
    assert_eq!(found.unwrap(), [(3, 30), (1, 10), (2, 20)], "in the order asked for; 4 does not exist");
    assert_eq!([2, 3, 4, 99].map(|key| cache.peek(&key).copied()), [Some(20), Some(30), None, None]);
    let found = cache.get_or_load_all([1, 4], |_| -> Result<Vec<(u64, u64)>, ()> { panic!("4 is known not to exist") });
    assert_eq!(found.unwrap(), [(1, 10)]);
    assert_eq!(cache.get_or_load_all([1, 5], |_| Err("down")), Err("down"));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (3, 1));
    cache.check_invariants();
}

#[test]
fn an_expired_value_stands_in_for_a_failing_load() {
    let clock = ManualClock::new();
    let builder = builder(&clock).time_to_live(seconds(10)).stale_if_error(seconds(5));
    let mut cache: Store = builder.build_unsync().unwrap();
    cache.insert(7, 1);
    clock.advance(seconds(10));
    assert_eq!(cache.get(&7), None, "never without asking");
    assert_eq!(cache.get_or_load(7, |_| Err("down")), Ok(1));
    assert_eq!(cache.get_or_load_all([7], |_| Err("down")), Ok(vec![(7, 1)]));
    assert_eq!(cache.get_or_load_all([7, 8], |_| Err("down")), Err("down"), "8 has nothing to show");
    assert_eq!(cache.stats().stale_hits, 2, "what was found for 7 reached nobody");
    assert_eq!(cache.get_or_load_optional(7, |_| Ok::<_, ()>(None)), Ok(None), "absence is no failure");
    assert_eq!(cache.get_or_load(7, |_| Err("down")), Err("down"), "and it ended the old value");
    cache.check_invariants();
}

#[test]
fn a_restored_cache_evicts_in_the_same_order() {
    let clock = ManualClock::new();
    let mut before: Store = builder(&clock).time_to_live(seconds(20)).build_unsync().unwrap();
    (0..5).for_each(|key| _ = before.insert(key, key * 10));
    before.get(&0);
    before.pin(&2);
    clock.advance(seconds(5));
    let snapshot = before.snapshot();
    let entries: Vec<_> = snapshot.entries.iter().map(|entry| (entry.key, entry.time_left)).collect();
    assert_eq!(entries, [1, 3, 4, 0, 2].map(|key| (key, Some(seconds(15)))), "pinned ones last");
    let mut after: Store = builder(&clock).time_to_live(seconds(10)).build_unsync().unwrap();
    after.insert(3, 99);
    assert_eq!(after.restore(snapshot), 4);
    let order: Vec<_> = after.iter_by_eviction().map(|(key, value)| (*key, *value)).collect();
    assert_eq!(order, [(3, 99), (1, 10), (4, 40), (0, 0), (2, 20)], "what was there is newer");
    assert_eq!(after.time_left(&1), Some(seconds(10)), "no longer than here");
    after.check_invariants();
}

#[test]
fn loads_are_counted_and_timed_as_by_the_concurrent_twin() {
    let clock = ManualClock::new();
    let twin = builder(&clock).shards(1).build().unwrap();
    let mut cache: Store = builder(&clock).build_unsync().unwrap();
    let took = |answer: Result<Vec<(u64, u64)>, ()>| {
        clock.advance(seconds(3));
        answer
    };
    let none = || -> Result<Vec<(u64, u64)>, ()> {
        clock.advance(seconds(3));
        panic!("{INTENDED}")
    };
    let found = || Ok(vec![(1, 1), (2, 2)]);
    assert_eq!(twin.get_or_load_all([1, 2, 3], |_| took(found())).unwrap(), [(1, 1), (2, 2)]);
    assert_eq!(cache.get_or_load_all([1, 2, 3], |_| took(found())).unwrap(), [(1, 1), (2, 2)]);
    assert!(twin.get_or_load_all([1, 4, 5], |_| took(Err(()))).is_err());
    assert!(cache.get_or_load_all([1, 4, 5], |_| took(Err(()))).is_err());
    must_panic(|| twin.get_or_load_all([4, 5, 6, 7], |_| none()));
    must_panic(|| cache.get_or_load_all([4, 5, 6, 7], |_| none()));
    let one = |fails: bool| {
        clock.advance(seconds(1));
        if fails { panic!("{INTENDED}") } else { Err::<u64, _>(()) }
    };
    assert!(twin.get_or_load(8, |_| one(false)).is_err() && cache.get_or_load(8, |_| one(false)).is_err());
    must_panic(|| twin.get_or_load(9, |_| one(true)));
    must_panic(|| cache.get_or_load(9, |_| one(true)));
    let figures = |stats: StatsSnapshot| (stats.loads, stats.load_failures, stats.load_nanos, stats.misses);
    assert_eq!(figures(cache.stats()), figures(twin.stats()));
    assert_eq!(figures(cache.stats()), (3, 8, 29_000_000_000, 11), "nine keys took three seconds each, two one");
}
