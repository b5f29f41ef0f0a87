//! What stands in for a value: a remembered absence, and an expired value while the source is down.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenfold_cache_core::{Builder, LoadError, ManualClock};

use crate::recency::VecLru;
use crate::staged::{INTENDED, must_panic, ready};

fn builder() -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(100).shards(2)
}

#[test]
fn absence_is_remembered_for_its_time() {
    let clock = ManualClock::new();
    let cache = builder().negative_time_to_live(Duration::from_secs(10)).clock(clock.clone()).build().unwrap();
    let calls = AtomicUsize::new(0);
    let look = |found: Option<u64>| {
        let loaded = cache.get_or_load_optional(7, |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(found)
        });
        (loaded.unwrap(), calls.swap(0, Ordering::Relaxed))
    };
    assert_eq!(look(None), (None, 1));
    assert_eq!(look(Some(1)), (None, 0), "remembered");
    assert_eq!(cache.stats().negative_hits, 1);
    assert_eq!((cache.len(), cache.contains(&7)), (0, false));
    clock.advance(Duration::from_secs(10));
    assert_eq!(look(None), (None, 1));
    cache.insert(7, 2);
    assert_eq!(look(None), (Some(2), 0), "a write knows better");
    cache.remove(&7);
    assert_eq!(look(None), (None, 1));
    cache.remove(&7);
    assert_eq!(look(None), (None, 1), "an invalidation forgets the absence too");
    cache.clear();
    assert_eq!(look(None), (None, 1));
    let bulk = cache.get_or_load_all([7, 8], |missing| {
        assert_eq!(missing, [8]);
        Ok::<_, ()>(Vec::new())
    });
    assert!(bulk.unwrap().is_empty());
    assert_eq!(cache.get_or_load_optional(8, |_| Ok::<_, ()>(Some(1))).unwrap(), None, "learnt in bulk");
    // A loader that cannot say "absent" is asked all the same.
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(3)).unwrap(), 3);
    assert_eq!(look(None), (Some(3), 0));
    cache.check_invariants();
}

#[test]
fn absences_are_bounded_and_evict_nothing() {
    let cache = builder().capacity(5).negative_time_to_live(Duration::from_secs(9)).negative_capacity(8);
    let cache = cache.build().unwrap();
    (0..5).for_each(|key| _ = cache.insert(key, key));
    for key in 100..1_000 {
        assert_eq!(cache.get_or_load_optional(key, |_| Ok::<_, ()>(None)).unwrap(), None);
    }
    assert_eq!((cache.len(), cache.stats().evictions), (5, 0));
    let remembered = (100..1_000).filter(|&key| cache.get_or_load_optional(key, |_| Err::<Option<u64>, _>(())).is_ok());
    assert_eq!(remembered.count(), 8);
    assert_eq!(cache.get_or_load_optional(999, |_| Err::<Option<u64>, _>(())).unwrap(), None, "the youngest are kept");
}

#[test]
fn an_expired_value_stands_in_for_a_failing_load() {
    let clock = ManualClock::new();
    let cache = builder().time_to_live(Duration::from_secs(10)).stale_if_error(Duration::from_secs(5));
    let cache = cache.clock(clock.clone()).build().unwrap();
    cache.insert(7, 1);
    clock.advance(Duration::from_secs(10));
    assert_eq!(cache.get(&7), None, "never without asking");
    assert_eq!(cache.get_or_load(7, |_| Err("down")).unwrap(), 1);
    must_panic(|| cache.get_or_load(7, |_| -> Result<u64, ()> { panic!("{INTENDED}") }));
    let found = cache.get_or_load_all([7], |_| Err::<Vec<(u64, u64)>, _>("down"));
    assert_eq!(found.unwrap(), [(7, 1)]);
    assert!(cache.get_or_load_all([7, 8], |_| Err::<Vec<(u64, u64)>, _>("down")).is_err(), "8 has nothing to show");
    assert_eq!(cache.get_or_load_optional(7, |_| Err("down")).unwrap(), Some(1));
    assert_eq!(cache.stats().stale_hits, 3, "what was found for 7 beside 8 reached nobody");
    clock.advance(Duration::from_secs(5));
    assert!(cache.get_or_load(7, |_| Err("down")).is_err(), "its grace is over");
    cache.insert(7, 2);
    clock.advance(Duration::from_secs(10));
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, &str>(3)).unwrap(), 3);
    assert_eq!(cache.get(&7), Some(3));
    clock.advance(Duration::from_secs(10));
    assert_eq!(cache.get_or_load_optional(7, |_| Ok::<_, &str>(None)).unwrap(), None, "absence is no failure");
    assert!(cache.get_or_load(7, |_| Err("down")).is_err(), "and it ended the old value");
    // A live value stays, and a failed refresh says so.
    cache.insert(7, 4);
    let stale_hits = cache.stats().stale_hits;
    assert!(matches!(cache.refresh(7, |_| Err("down")), Err(LoadError::Failed(_))));
    assert_eq!((cache.get(&7), cache.stats().stale_hits), (Some(4), stale_hits));
}

#[test]
fn absence_and_stale_values_are_as_on_threads() {
    let clock = ManualClock::new();
    let cache = builder()
        .negative_time_to_live(Duration::from_secs(1))
        .time_to_live(Duration::from_secs(10))
        .stale_if_error(Duration::from_secs(5))
        .clock(clock.clone())
        .build()
        .unwrap();
    let look = |answer: Result<Option<u64>, &'static str>| {
        ready(cache.get_or_load_optional_async(7, move |_| async move { answer }))
    };
    assert_eq!(look(Ok(None)).unwrap(), None);
    assert_eq!(look(Err("asked")).unwrap(), None, "remembered");
    assert_eq!(ready(cache.get_or_load_async(7, |_| async { Ok::<_, ()>(1) })).unwrap(), 1, "asked all the same");
    clock.advance(Duration::from_secs(10));
    assert_eq!(look(Err("down")).unwrap(), Some(1), "stale");
    clock.advance(Duration::from_secs(5));
    assert!(look(Err("down")).is_err());
    cache.insert(7, 3);
    assert_eq!(ready(cache.refresh_async(7, |_| async { Ok::<_, ()>(4) })).unwrap(), 4);
    assert!(ready(cache.refresh_async(7, |_| async { Err::<u64, _>(()) })).is_err());
    assert_eq!(cache.get(&7), Some(4));
    assert_eq!((cache.stats().negative_hits, cache.stats().stale_hits), (1, 1));
}

#[test]
fn what_stands_in_is_counted_when_somebody_gets_it() {
    let clock = ManualClock::new();
    let cache = builder().time_to_live(Duration::from_secs(10)).stale_if_error(Duration::from_secs(5));
    let cache = cache.clock(clock.clone()).build().unwrap();
    (1..=2).for_each(|key| _ = cache.insert(key, key));
    clock.advance(Duration::from_secs(10));
    let down = |keys: &[u64]| {
        ready(cache.get_or_load_all_async(keys.to_vec(), |_| async { Err::<Vec<(u64, u64)>, _>("down") }))
    };
    assert!(down(&[1, 2, 3]).is_err());
    assert_eq!(cache.stats().stale_hits, 0, "3 has nothing to show");
    assert_eq!(down(&[1, 2]).unwrap(), [(1, 1), (2, 2)]);
    assert_eq!(cache.stats().stale_hits, 2);
    // Those who join a load get what stands in as its leader does.
    let (began, begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let cache = &cache;
        let leader = scope.spawn(move || {
            cache.get_or_load_all([1], |_| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                Err::<Vec<(u64, u64)>, _>("down")
            })
        });
        begun.recv().unwrap();
        let joined = scope.spawn(move || {
            cache.get_or_load_all([1, 3], |_| {
                go.send(()).unwrap();
                Ok::<_, &str>(vec![(3, 3)])
            })
        });
        assert_eq!(leader.join().unwrap().unwrap(), [(1, 1)]);
        assert_eq!(joined.join().unwrap().unwrap(), [(1, 1), (3, 3)]);
    });
    assert_eq!(cache.stats().stale_hits, 4);
}
