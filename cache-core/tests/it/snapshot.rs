//! Warm restart.

use std::collections::BTreeSet;
use std::time::Duration;

use tenfold_cache_core::{Builder, Cache, ManualClock, Snapshot, SnapshotEntry, unsync};

use crate::recency::VecLru;

type Store = Cache<u64, u64, VecLru>;

fn builder(clock: &ManualClock) -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(5).shards(1).clock(clock.clone())
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A snapshot of entries that were given so much time.
fn snapshot_of<const N: usize>(entries: [(u64, u64, Option<Duration>); N]) -> Snapshot<u64, u64> {
    let entries = entries.map(|(key, value, time_left)| SnapshotEntry { key, value, time_left });
    Snapshot { entries: entries.into() }
}

#[test]
fn a_restored_cache_evicts_in_the_same_order() {
    let clock = ManualClock::new();
    let before: Store = builder(&clock).build().unwrap();
    (0..5).for_each(|key| _ = before.insert(key, key * 10));
    before.get(&0);
    before.pin(&2);
    let snapshot = before.snapshot();
    let keys: Vec<_> = snapshot.entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, [1, 3, 4, 0, 2], "the first to go first, pinned ones last");
    assert_eq!((before.len(), before.stats().hits), (5, 1), "looking is no use");
    let after: Store = builder(&clock).build().unwrap();
    assert_eq!(after.restore(snapshot.clone()), 5);
    assert_eq!(after.eviction_order(), [[1, 3, 4, 0, 2]]);
    assert_eq!(after.get(&4), Some(40));
    after.check_invariants();

    let smaller: Store = builder(&clock).capacity(2).build().unwrap();
    smaller.restore(snapshot.clone());
    assert_eq!(smaller.eviction_order(), [[0, 2]], "the last to go are kept");

    let warm: Store = builder(&clock).build().unwrap();
    warm.insert(3, 99);
    assert_eq!(warm.restore(snapshot), 4);
    assert_eq!(warm.get(&3), Some(99), "what is there is newer");
}

#[test]
fn the_time_to_live_goes_on_and_the_time_to_idle_starts_anew() {
    let clock = ManualClock::new();
    let build = || -> Store { builder(&clock).time_to_idle(seconds(10)).build().unwrap() };
    let before = build();
    before.insert(1, 1);
    before.insert_with_ttl(2, 2, seconds(15));
    before.insert_with_ttl(3, 3, seconds(5));
    clock.advance(seconds(5));
    let snapshot = before.snapshot();
    let entry = |key, time_left| SnapshotEntry { key, value: key, time_left };
    assert_eq!(snapshot, Snapshot { entries: vec![entry(1, None), entry(2, Some(seconds(10)))] }, "3 has expired");
    let after = build();
    after.restore(snapshot);
    for _ in 0..3 {
        clock.advance(seconds(3));
        assert_eq!((after.get(&1), after.get(&2)), (Some(1), Some(2)));
    }
    clock.advance(seconds(1));
    assert_eq!((after.get(&1), after.get(&2)), (Some(1), None), "1 is in use, and has no other limit");
    after.check_invariants();
}

#[test]
fn what_cannot_be_stored_is_not_counted() {
    let clock = ManualClock::new();
    let cache: Store = builder(&clock).weigher(|_: &u64, &value: &u64| value).build().unwrap();
    let entries = [(1, 6), (2, 3)].map(|(key, value)| SnapshotEntry { key, value, time_left: None });
    assert_eq!(cache.restore(Snapshot { entries: entries.into() }), 1);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(3)));
}

#[test]
fn an_entry_whose_time_ran_out_is_left_alone() {
    let clock = ManualClock::new();
    let builder = || builder(&clock).time_to_live(seconds(10)).stale_if_error(seconds(60));
    let late = || snapshot_of([(1, 11, Some(Duration::ZERO)), (2, 22, Some(Duration::ZERO))]);
    let cache: Store = builder().build().unwrap();
    let mut single: unsync::Cache<u64, u64, VecLru> = builder().build_unsync().unwrap();
    cache.insert(1, 1);
    single.insert(1, 1);
    clock.advance(seconds(10));
    assert_eq!((cache.restore(late()), single.restore(late())), (0, 0), "nothing was stored");
    assert_eq!((cache.stats().insertions, single.stats().insertions), (1, 1), "or seemed to be");
    assert_eq!(cache.get_or_load(1, |_| Err("down")).unwrap(), 1, "what may stand in is still there");
    assert_eq!(single.get_or_load(1, |_| Err("down")), Ok(1));
}

#[test]
fn what_was_written_together_is_restored_with_jitter() {
    let clock = ManualClock::new();
    let builder = || {
        let builder = Builder::<u64, u64, VecLru>::default().capacity(64).shards(1).clock(clock.clone());
        builder.time_to_live(seconds(100)).time_to_live_jitter_percent(50)
    };
    let mut snapshot = Snapshot { entries: Vec::new() };
    for key in 0..64 {
        let time_left = [None, Some(seconds(100)), Some(seconds(500)), Some(seconds(7))][key as usize % 4];
        snapshot.entries.push(SnapshotEntry { key, value: key, time_left });
    }
    let cache = builder().build().unwrap();
    let mut single = builder().build_unsync().unwrap();
    assert_eq!((cache.restore(snapshot.clone()), single.restore(snapshot)), (64, 64));
    let check = |left: &dyn Fn(u64) -> Option<Duration>| {
        for remainder in 0..3 {
            let left: BTreeSet<_> = (0..64).filter(|key| key % 4 == remainder).map(left).collect();
            assert!(left.len() > 8, "they expire together: {left:?}");
            assert!(left.iter().all(|left| left.is_some_and(|left| left >= seconds(50) && left <= seconds(100))));
        }
        assert_eq!(left(3), Some(seconds(7)), "what is left of a life is not shortened again");
    };
    check(&|key| cache.time_left(&key));
    check(&|key| single.time_left(&key));
}

#[test]
fn no_entry_lives_longer_than_here_whatever_the_expiry_says() {
    let clock = ManualClock::new();
    let builder = || builder(&clock).time_to_live(seconds(10)).expiry(|_, &value| (value > 0).then(|| seconds(value)));
    let old = || snapshot_of([(1, 5, Some(seconds(20))), (2, 99, Some(seconds(20))), (3, 0, Some(seconds(20)))]);
    let cache: Store = builder().build().unwrap();
    let mut single: unsync::Cache<u64, u64, VecLru> = builder().build_unsync().unwrap();
    assert_eq!((cache.restore(old()), single.restore(old())), (3, 3));
    for (key, left) in [(1, 5), (2, 10), (3, 10)] {
        assert_eq!((cache.time_left(&key), single.time_left(&key)), (Some(seconds(left)), Some(seconds(left))));
    }
}

#[test]
fn a_remembered_absence_is_newer_than_a_snapshot() {
    let clock = ManualClock::new();
    let builder = || builder(&clock).negative_time_to_live(seconds(10));
    let old = || snapshot_of([(1, 1, None), (2, 2, None)]);
    let cache: Store = builder().build().unwrap();
    let mut single: unsync::Cache<u64, u64, VecLru> = builder().build_unsync().unwrap();
    assert_eq!(cache.get_or_load_optional(1, |_| Ok::<_, ()>(None)), Ok(None));
    assert_eq!(single.get_or_load_optional(1, |_| Ok::<_, ()>(None)), Ok(None));
    assert_eq!((cache.restore(old()), single.restore(old())), (1, 1));
    assert_eq!((cache.get(&1), single.get(&1)), (None, None), "the source said that it is gone");
    assert_eq!((cache.stats().negative_hits, single.stats().negative_hits), (0, 0), "nobody was answered");
    clock.advance(seconds(10));
    assert_eq!((cache.restore(old()), single.restore(old())), (1, 1), "that is forgotten now");
    assert_eq!((cache.get(&1), single.get(&1)), (Some(1), Some(&1)));
}

/// A value that takes its time to be cloned.
struct Slow(ManualClock);

impl Clone for Slow {
    fn clone(&self) -> Self {
        self.0.advance(seconds(5));
        Self(self.0.clone())
    }
}

#[test]
fn a_snapshot_asks_the_time_for_each_shard() {
    let clock = ManualClock::new();
    let builder = Builder::<u64, Slow, VecLru>::default().shards(8).time_to_live(seconds(5)).clock(clock.clone());
    let cache = builder.build().unwrap();
    (0..64).for_each(|key| _ = cache.insert(key, Slow(clock.clone())));
    let first = cache.eviction_order().iter().map(Vec::len).find(|&len| len > 0).unwrap();
    assert_eq!(cache.snapshot().entries.len(), first, "the others' time was over when their turn came");
}
