//! The host's code between the clock and the lock: times that others have overtaken, clocks and weighers that call the
//! cache, weighers that panic, invalidations while something is on its way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tenfold_cache_core::{Builder, Cache, Clock, Config, Lookup, ManualClock, Snapshot, SnapshotEntry};

use crate::recency::VecLru;

type Store = Cache<u64, u64, VecLru>;

fn builder() -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(1_000).shards(1)
}

const TTL: Duration = Duration::from_secs(10);

/// A weigher that inserts other entries at a later time leaves its own insertion behind with an old time, while more has
/// come due than one write collects.
#[test]
fn a_time_that_was_overtaken_is_no_trap() {
    let clock = ManualClock::new();
    let later = clock.clone();
    let handle: Arc<OnceLock<Store>> = Arc::default();
    let inner = Arc::clone(&handle);
    let armed = Arc::new(AtomicBool::new(false));
    let trigger = Arc::clone(&armed);
    let cache = builder()
        .config(Config { time_to_live: Some(TTL), time_to_idle: Some(TTL), shards: Some(1), ..Config::default() })
        .clock(clock.clone())
        .weigher(move |_: &u64, _: &u64| {
            if trigger.swap(false, Ordering::SeqCst) {
                later.advance(TTL * 2);
                if let Some(cache) = inner.get() {
                    cache.insert(10_000, 0);
                }
            }
            1
        })
        .build()
        .unwrap();
    assert!(handle.set(cache.clone()).is_ok());
    for key in 0..100 {
        cache.insert(key, key);
    }
    armed.store(true, Ordering::SeqCst);
    cache.insert(20_000, 0);
    assert!(cache.contains(&20_000) && cache.contains(&10_000));
    cache.collect_expired();
    assert_eq!(cache.len(), 2);
    cache.check_invariants();
}

#[test]
fn a_clock_may_look_at_the_cache() {
    let handle: Arc<OnceLock<Store>> = Arc::default();
    let seen = Arc::clone(&handle);
    let clock = move || {
        if let Some(cache) = seen.get() {
            let _ = cache.len();
        }
        Instant::now()
    };
    let config = Config {
        time_to_live: Some(TTL),
        negative_time_to_live: Some(TTL),
        stale_if_error: Some(TTL),
        shards: Some(1),
        ..Config::default()
    };
    let cache = builder().config(config).clock(clock).build().unwrap();
    assert!(handle.set(cache.clone()).is_ok());
    assert_eq!(cache.get_or_load(1, |_| Ok::<_, ()>(1)), Ok(1));
    assert_eq!(cache.get_or_load_optional(2, |_| Ok::<_, ()>(None)), Ok(None));
    assert!(cache.get_or_load(3, |_| Err::<u64, _>("no")).is_err());
    let Lookup::Granted(lease) = cache.lease(&4) else { panic!("nobody has it") };
    cache.fill(4, lease, 4).unwrap();
    cache.entry(5).or_insert(5);
    assert_eq!(cache.len(), 3);
}

#[test]
fn a_weigher_that_panics_in_a_load_leaves_nothing_behind() {
    /// Counts itself.
    #[derive(Clone)]
    struct Counted(#[allow(dead_code, reason = "held to be counted")] Arc<()>);
    let alive = Arc::new(());
    let cache: Cache<u64, Counted, VecLru> =
        Builder::default().capacity(10).weigher(|_: &u64, _: &Counted| panic!("intended")).build().unwrap();
    for key in 0..100 {
        let load = |_: &u64| Ok::<_, ()>(Counted(Arc::clone(&alive)));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(cache.get_or_load(key, load)))).is_err());
    }
    assert_eq!(Arc::strong_count(&alive), 1, "values are kept");
    assert_eq!((cache.len(), cache.weight()), (0, 0));
}

#[test]
fn what_was_removed_meanwhile_does_not_come_back() {
    let cache = builder().build().unwrap();
    let writer = cache.clone();
    // By a bulk load, under keys that it was not asked for.
    let loaded = cache.get_or_load_all([1], |_| {
        writer.insert(2, 22);
        writer.remove(&4);
        Ok::<_, ()>(vec![(1, 1), (2, 2), (4, 4)])
    });
    assert_eq!(loaded.unwrap(), [(1, 1)]);
    assert_eq!((cache.get(&2), cache.get(&4)), (Some(22), None));
    // By a load that `retain` would have judged.
    let loaded = cache.get_or_load(5, |_| {
        writer.retain(|_, _| false);
        Ok::<_, ()>(5)
    });
    assert_eq!((loaded.unwrap(), cache.get(&5)), (5, None));
    // By a restart that finds newer things.
    cache.insert(6, 66);
    let entry = |key, value| SnapshotEntry { key, value, time_left: None };
    let Lookup::Granted(_) = cache.lease(&7) else { panic!("nobody has it") };
    assert_eq!(cache.restore(Snapshot { entries: vec![entry(6, 6), entry(7, 7), entry(8, 8)] }), 1);
    assert_eq!((cache.get(&6), cache.peek(&7), cache.get(&8)), (Some(66), None, Some(8)));
}

/// Entries that were read since they came due in the wheel are put back, but not all of them by one write.
#[test]
fn one_write_moves_few_entries() {
    let clock = ManualClock::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let cache = builder().capacity(100_000).time_to_idle(TTL).clock(clock.clone()).build().unwrap();
    for key in 0..10_000 {
        cache.insert(key, key);
    }
    clock.advance(TTL / 2);
    for key in 0..10_000 {
        asked.fetch_add(usize::from(cache.get(&key).is_some()), Ordering::Relaxed);
    }
    clock.advance(TTL / 2 + Duration::from_nanos(1));
    cache.insert(10_000, 0);
    assert_eq!((asked.load(Ordering::Relaxed), cache.len()), (10_000, 10_001));
    assert!(cache.next_expiry() <= Some(clock.now()), "one write has put every entry back");
    cache.check_invariants();
    assert_eq!(cache.collect_expired(), 0);
}
