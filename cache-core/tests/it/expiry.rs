//! Time to live, time to idle, per-entry expiry, and the collection of what has expired.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenfold_cache_core::testing::{Rng, for_each_seed, steps};
use tenfold_cache_core::{Builder, Cache, Clock, ManualClock, RemovalCause, unsync};

use crate::recency::{VecFifo, VecLru};

type Seconds = u64;

fn seconds(n: Seconds) -> Duration {
    Duration::from_secs(n)
}

const NANO: Duration = Duration::from_nanos(1);

fn builder(clock: &ManualClock) -> Builder<u64, u64, VecFifo> {
    Builder::default().capacity(1_000).shards(2).clock(clock.clone())
}

#[test]
fn nothing_is_served_at_or_after_its_deadline() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let clock = ManualClock::new();
        let cache = builder(&clock).time_to_live(seconds(100)).build().unwrap();
        let mut deadlines: HashMap<u64, u128> = HashMap::new();
        let mut now = 0_u128;
        for _ in 0..steps(3_000) {
            let key = rng.below(200);
            match rng.below(4) {
                0 => {
                    cache.insert(key, key);
                    deadlines.insert(key, now + seconds(100).as_nanos());
                }
                1 => {
                    // From a nanosecond to a century.
                    let nanos = rng.next_u64() >> (1 + rng.below(62));
                    let time_to_live = Duration::from_nanos(nanos.max(1));
                    cache.insert_with_ttl(key, key, time_to_live);
                    deadlines.insert(key, now + time_to_live.as_nanos());
                }
                2 => {
                    let next = deadlines.values().filter(|&&at| at > now).min();
                    // Often exactly to a deadline or one short of it.
                    let by = match (next, rng.below(3)) {
                        (Some(next), 0) => next - now,
                        (Some(next), 1) => next - now - 1,
                        _ => u128::from(rng.below(40_000_000_000)),
                    };
                    // Centuries would end the clock's range.
                    let by = by.min(seconds(1_000).as_nanos());
                    clock.advance(Duration::from_nanos(u64::try_from(by).unwrap()));
                    now += by;
                }
                _ => {
                    let live = deadlines.get(&key).filter(|&&at| now < at).copied();
                    assert_eq!(cache.get(&key).is_some(), live.is_some(), "{key} at {now}");
                    let left = cache.time_left(&key).map(|left| left.as_nanos());
                    assert_eq!(left, live.map(|at| at - now));
                }
            }
        }
        cache.check_invariants();
        let live = deadlines.values().filter(|&&at| now < at).count();
        assert_eq!(cache.iter().count(), live);
        cache.collect_expired();
        assert_eq!(cache.len(), live);
    });
}

#[test]
fn jitter_spreads_expiry_and_never_lengthens_it() {
    let clock = ManualClock::new();
    let cache = builder(&clock).time_to_live(seconds(1_000)).time_to_live_jitter_percent(10).build().unwrap();
    (0..500).for_each(|key| _ = cache.insert(key, key));
    let left: HashSet<_> = (0..500).map(|key| cache.time_left(&key).unwrap()).collect();
    assert!(left.len() > 490, "hardly two are equal");
    assert!(left.iter().all(|left| (seconds(900)..=seconds(1_000)).contains(left)));
    let mean = left.iter().sum::<Duration>() / u32::try_from(left.len()).unwrap();
    assert!((seconds(940)..seconds(960)).contains(&mean), "{mean:?}");
    cache.insert_with_ttl(1, 1, seconds(700));
    assert_eq!(cache.time_left(&1), Some(seconds(700)), "no jitter on a time of its own");
}

#[test]
fn a_jitter_of_all_the_time_leaves_a_sound_cache() {
    let clock = ManualClock::new();
    let cache = builder(&clock).time_to_live(Duration::from_nanos(300)).time_to_live_jitter_percent(100);
    let cache = cache.build().unwrap();
    for key in 0..900 {
        cache.insert(key, key);
        clock.advance(NANO);
    }
    cache.check_invariants();
    clock.advance(Duration::from_nanos(300));
    assert_eq!(cache.iter().count(), 0);
}

#[test]
fn the_same_seed_gives_the_same_jitter() {
    let times = |seed| {
        let clock = ManualClock::new();
        let cache = builder(&clock).time_to_live(seconds(99)).time_to_live_jitter_percent(50).seed(seed);
        let cache = cache.hasher(std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new()).build().unwrap();
        (0..20).for_each(|key| _ = cache.insert(key, key));
        (0..20).map(|key| cache.time_left(&key).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(times(7), times(7));
    assert_ne!(times(7), times(8));
}

#[test]
fn time_to_idle_starts_anew_with_each_use() {
    let clock = ManualClock::new();
    let cache = builder(&clock).time_to_live(seconds(100)).time_to_idle(seconds(10)).build().unwrap();
    cache.insert(1, 1);
    cache.insert(2, 2);
    for _ in 0..10 {
        clock.advance(seconds(9));
        assert_eq!(cache.get(&1), Some(1));
        // Neither of these is a use.
        cache.peek(&2);
        cache.contains(&2);
    }
    assert_eq!(cache.get(&2), None);
    assert_eq!(cache.time_left(&1), Some(seconds(10)));
    clock.advance(seconds(9));
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(seconds(1) - NANO);
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(NANO);
    assert_eq!(cache.get(&1), None, "the time to live ends all the same");
}

#[test]
fn each_entry_may_have_a_time_of_its_own() {
    let clock = ManualClock::new();
    // No cache-wide limit: the clock must count for these alone.
    let by_value = |_: &u64, &value: &u64| (value > 0).then(|| Duration::from_secs(value));
    let cache = builder(&clock).expiry(by_value).build().unwrap();
    let mut single = builder(&clock).expiry(by_value).build_unsync().unwrap();
    for (key, value) in [(1, 10), (2, 0), (3, 30)] {
        cache.insert(key, value);
        single.insert(key, value);
    }
    assert_eq!(cache.time_left(&2), Some(Duration::MAX));
    clock.advance(seconds(10));
    assert_eq!([1, 2, 3].map(|key| cache.get(&key)), [None, Some(0), Some(30)]);
    assert_eq!([1, 2, 3].map(|key| single.get(&key).copied()), [None, Some(0), Some(30)]);
    cache.insert_with_ttl(3, 30, seconds(1));
    assert_eq!(cache.time_left(&3), Some(seconds(1)), "a time given with the entry goes before");
    assert_eq!(single.update(&2, |value| *value = 5), Some(()));
    assert_eq!(single.time_left(&2), Some(seconds(5)), "changed in place, it is asked for again");
}

#[test]
fn a_time_to_live_works_on_a_cache_without_one() {
    let clock = ManualClock::new();
    let cache = builder(&clock).build().unwrap();
    clock.advance(seconds(1_000));
    (0..100).for_each(|key| _ = cache.insert(key, key));
    assert_eq!(cache.next_expiry(), None);
    cache.insert_with_ttl(7, 77, seconds(5));
    assert_eq!(cache.time_left(&7), Some(seconds(5)));
    assert_eq!(cache.time_left(&8), Some(Duration::MAX));
    clock.advance(seconds(5));
    assert_eq!(cache.get(&7), None);
    assert_eq!(cache.get(&8), Some(8));
    assert_eq!(cache.collect_expired(), 1);
    cache.insert_with_ttl(8, 8, seconds(5));
    cache.insert(8, 9);
    assert_eq!(cache.time_left(&8), Some(Duration::MAX), "a write without a limit takes the limit away");
    cache.check_invariants();
}

#[test]
fn a_cache_without_limits_never_asks_its_clock() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let start = ManualClock::new().now();
    let clock = move || {
        count.fetch_add(1, Ordering::Relaxed);
        start
    };
    let cache = Builder::<u64, u64, VecFifo>::default().clock(clock).build().unwrap();
    let at_start = asked.load(Ordering::Relaxed);
    for key in 0..100 {
        cache.insert(key, key);
        cache.get(&key);
    }
    cache.collect_expired();
    cache.clear();
    assert_eq!(asked.load(Ordering::Relaxed), at_start);
}

#[test]
fn an_entry_with_no_time_at_all_is_not_stored() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let clock = ManualClock::new();
    let cache = builder(&clock).listener(move |&key, &value, cause| log.lock().unwrap().push((key, value, cause)));
    let cache = cache.build().unwrap();
    cache.insert(1, 10);
    assert_eq!(cache.insert_with_ttl(1, 11, Duration::ZERO), Some(10), "what it replaces comes back");
    assert_eq!(cache.insert_with_ttl(2, 20, Duration::ZERO), None);
    assert_eq!((cache.len(), cache.weight()), (0, 0));
    let told = told.lock().unwrap();
    assert_eq!(
        *told,
        [(1, 10, RemovalCause::Replaced), (1, 11, RemovalCause::Expired), (2, 20, RemovalCause::Expired)]
    );
    assert_eq!((cache.stats().expirations, cache.stats().replacements, cache.stats().insertions), (2, 1, 2));
}

#[test]
fn whoever_sleeps_until_the_next_expiry_collects_everything_in_few_steps() {
    let clock = ManualClock::new();
    let start = clock.now();
    let cache = builder(&clock).build().unwrap();
    let mut rng = Rng::new(5);
    for key in 0..50 {
        cache.insert_with_ttl(key, key, Duration::from_nanos(1 + rng.below(1 << 40)));
    }
    let mut wake_ups = 0;
    let mut elapsed = Duration::ZERO;
    while let Some(next) = cache.next_expiry() {
        let until = next - start;
        clock.advance(until.saturating_sub(elapsed));
        elapsed = elapsed.max(until);
        cache.collect_expired();
        wake_ups += 1;
        assert!(wake_ups <= 50 * 11, "no progress");
    }
    assert!(cache.is_empty());
    assert_eq!(cache.stats().expirations, 50);
}

#[test]
fn a_mass_expiry_is_collected_a_few_at_a_time() {
    let clock = ManualClock::new();
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let many = steps(5_000) as u64;
    let cache = Builder::<u64, u64, VecFifo>::default()
        .capacity(many + 1_000)
        .shards(1)
        .time_to_live(seconds(1))
        .clock(clock.clone())
        .listener(move |_, _, cause| {
            assert_eq!(cause, RemovalCause::Expired);
            count.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    (0..many).for_each(|key| _ = cache.insert(key, key));
    clock.advance(seconds(1));
    assert_eq!(cache.get(&0), None);
    assert_eq!((cache.iter().count(), cache.len() as u64), (0, many), "gone to readers, not collected yet");
    let mut writes = 0;
    while told.load(Ordering::Relaxed) < many {
        let before = told.load(Ordering::Relaxed);
        cache.insert(many + writes, 0);
        writes += 1;
        assert!((1..=17).contains(&(told.load(Ordering::Relaxed) - before)), "no write pays for them all");
    }
    assert_eq!(cache.len() as u64, writes);
    clock.advance(seconds(1));
    assert_eq!(cache.collect_expired() as u64, writes);
    cache.check_invariants();
}

#[test]
fn a_clock_that_goes_back_brings_nothing_back_to_life() {
    let start = ManualClock::new().now() + seconds(1_000_000);
    let time = Arc::new(AtomicU64::new(100));
    let at = Arc::clone(&time);
    let clock = move || start + Duration::from_secs(at.load(Ordering::Relaxed));
    let set = |to| time.store(to, Ordering::Relaxed);
    let build = || Builder::<u64, u64, VecFifo>::default().capacity(10).clock(clock.clone());
    let cache = build().time_to_live(seconds(10)).time_to_idle(seconds(8)).build().unwrap();
    cache.insert(1, 1);
    set(107);
    assert_eq!(cache.get(&1), Some(1));
    set(110);
    assert_eq!(cache.get(&1), None);
    set(105);
    assert_eq!(cache.get(&1), None, "expired once, expired for ever");
    // Behind the beginning.
    set(0);
    cache.insert(2, 2);
    assert_eq!(cache.get(&2), Some(2));
    cache.check_invariants();
    set(118);
    assert_eq!(cache.get(&2), None);
    assert_eq!(cache.collect_expired(), 1);
    cache.check_invariants();
}

#[test]
fn the_longest_durations_are_no_limit() {
    let clock = ManualClock::new();
    let cache = builder(&clock)
        .time_to_live(Duration::MAX)
        .time_to_idle(Duration::MAX)
        .stale_if_error(Duration::MAX)
        .negative_time_to_live(Duration::MAX)
        .refresh_after(Duration::MAX - NANO)
        .lease_timeout(Duration::MAX)
        .load_timeout(Duration::MAX)
        .time_to_live_jitter_percent(100)
        .build()
        .unwrap();
    cache.insert(1, 1);
    cache.insert_with_ttl(2, 2, Duration::MAX);
    cache.insert_with_ttl(3, 3, Duration::from_nanos(u64::MAX - 1));
    clock.advance(Duration::from_nanos(u64::MAX - 2));
    assert_eq!([1, 2, 3].map(|key| cache.get(&key)), [Some(1), Some(2), Some(3)]);
    assert_eq!(cache.time_left(&3), Some(NANO));
    clock.advance(Duration::MAX);
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(cache.get(&3), None);
    cache.check_invariants();
    assert_eq!(cache.get_or_load(9, |_| Ok::<_, ()>(9)).unwrap(), 9);
}

#[test]
fn expired_entries_kept_for_failing_loads_are_not_served() {
    let clock = ManualClock::new();
    let mut cache: unsync::Cache<u64, u64, VecFifo> = Builder::default()
        .capacity(10)
        .time_to_live(seconds(1))
        .stale_if_error(seconds(10))
        .clock(clock.clone())
        .build_unsync()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(seconds(1));
    cache.insert(2, 2);
    assert_eq!(cache.get(&1), None);
    assert_eq!((cache.peek(&1), cache.len()), (None, 2));
    assert_eq!(cache.iter().count(), 1);
    assert_eq!(cache.pop_victim(), Some((2, 2)), "1 would be the first, but it has expired");
    assert!(cache.is_empty());
    assert_eq!(cache.stats().expirations, 1);
}

#[test]
fn the_system_clock_expires_entries_too() {
    let cache: Cache<u64, u64, VecFifo> = Builder::default().time_to_live(Duration::from_nanos(1)).build().unwrap();
    cache.insert(1, 1);
    let patience = Instant::now() + seconds(10);
    while cache.contains(&1) {
        assert!(Instant::now() < patience);
    }
}

#[test]
fn an_entry_that_is_there_at_first_is_there_to_the_end() {
    let clock = ManualClock::new();
    let ticking = {
        let clock = clock.clone();
        move || {
            clock.advance(Duration::from_secs(1));
            clock.now()
        }
    };
    let builder = Builder::<u64, u64, VecLru>::default().time_to_live(Duration::from_secs(2)).clock(ticking);
    let mut cache = builder.build_unsync().unwrap();
    cache.insert(7, 1);
    assert_eq!(
        cache.get_or_try_insert_with(7, || Err("not asked")),
        Ok(Some(&1)),
        "found once, a second before its end"
    );
    assert_eq!(cache.get_or_try_insert_with(7, || Ok::<_, ()>(2)), Ok(Some(&2)));
    assert_eq!(cache.get_or_insert_with(7, || 3), Some(&2));
    assert_eq!((cache.stats().hits, cache.stats().misses), (2, 1));
}

#[test]
fn what_has_expired_is_in_no_eviction_order_of_references() {
    let clock = ManualClock::new();
    let builder = Builder::<u64, u64, VecLru>::default().clock(clock.clone()).stale_if_error(Duration::from_secs(9));
    let mut cache = builder.build_unsync().unwrap();
    cache.insert_with_ttl(1, 1, Duration::from_secs(5));
    cache.insert(2, 2);
    clock.advance(Duration::from_secs(5));
    assert_eq!(cache.iter_by_eviction().collect::<Vec<_>>(), [(&2, &2)]);
    assert_eq!(cache.len(), 2);
}
