use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ConcurrencyLimit, ConfigError, LimitConfig, Permit, Priority};
use crate::rng::Rng;
use crate::testing::for_each_seed;

/// A pool that does `width` requests at once in `service` each and queues the others, and callers that want more.
struct Pool {
    limit: ConcurrencyLimit,
    now: Instant,
}

impl Pool {
    fn new(config: LimitConfig) -> Self {
        let now = crate::clock::now();
        Self { limit: ConcurrencyLimit::new(config, now).unwrap(), now }
    }

    /// Callers that keep `wanted` requests in flight, as far as the limit lets them, for so many seconds.
    fn run(&mut self, wanted: u32, width: u32, service: Duration, seconds: u32) -> u32 {
        for _ in 0..seconds * 20 {
            let permits: Vec<_> = (0..wanted).map_while(|_| self.limit.try_acquire(Priority::Critical).ok()).collect();
            let latency = service * (permits.len() as u32).max(width) / width;
            self.now += Duration::from_millis(50);
            permits.iter().for_each(|_| self.limit.record(latency, self.now));
        }
        self.limit.limit()
    }
}

const SERVICE: Duration = Duration::from_millis(10);

#[test]
fn settles_where_the_pool_is_busy_and_the_queue_short() {
    for width in [10, 200] {
        for initial in [4, 100, 2_000] {
            let mut pool = Pool::new(LimitConfig { initial, ..LimitConfig::default() });
            // What it does without a queue is seen first, as on any normal day.
            pool.run(width / 2 + 1, width, SERVICE, 5);
            let limit = pool.run(u32::MAX, width, SERVICE, 60);
            assert!((width..=width * 3 + 20).contains(&limit), "{limit} for {width}, from {initial}");
        }
    }
}

#[test]
fn follows_a_pool_that_lost_half_its_width() {
    let mut pool = Pool::new(LimitConfig { initial: 100, ..LimitConfig::default() });
    pool.run(40, 100, SERVICE, 5);
    let before = pool.run(u32::MAX, 100, SERVICE, 60);
    let after = pool.run(u32::MAX, 50, SERVICE, 10);
    assert!(after < before * 2 / 3, "{before}, then {after}");
}

#[test]
fn does_not_grow_while_it_is_not_used() {
    let mut pool = Pool::new(LimitConfig { initial: 100, ..LimitConfig::default() });
    assert_eq!(pool.run(10, 100, SERVICE, 60), 100);
}

#[test]
fn takes_slower_work_for_what_it_is_while_there_is_room() {
    let mut pool = Pool::new(LimitConfig { initial: 100, ..LimitConfig::default() });
    pool.run(10, 100, SERVICE, 10);
    pool.run(10, 100, SERVICE * 5, 30);
    let limit = pool.run(60, 100, SERVICE * 5, 10);
    assert!(limit >= 60, "{limit}");
}

#[test]
fn slower_work_is_not_taken_for_a_queue_for_ever() {
    let mut pool = Pool::new(LimitConfig { initial: 100, ..LimitConfig::default() });
    pool.run(50, 100, SERVICE, 10);
    pool.run(u32::MAX, 100, SERVICE, 10);
    let limit = pool.run(u32::MAX, 100, SERVICE * 5, 300);
    assert!((100..=400).contains(&limit), "{limit}");
}

#[test]
fn shrinks_when_requests_are_dropped() {
    let mut pool = Pool::new(LimitConfig { initial: 100, ..LimitConfig::default() });
    for _ in 0..100 {
        pool.now += Duration::from_millis(10);
        (0..10).for_each(|_| pool.limit.record_drop(pool.now));
    }
    let limit = pool.limit.limit();
    assert!((30..60).contains(&limit), "{limit} after one second, from 100");
    for _ in 0..10_000 {
        pool.now += Duration::from_millis(10);
        (0..10).for_each(|_| pool.limit.record_drop(pool.now));
    }
    assert_eq!(pool.limit.limit(), 4);
}

#[test]
fn stays_between_its_bounds_and_counts_every_permit() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let (min, span) = (1 + rng.below(20) as u32, rng.below(100) as u32);
        let initial = min + rng.below(u64::from(span) + 1) as u32;
        let config = LimitConfig { initial, min, max: min + span, tolerance_percent: 100 + rng.below(900) as u32 };
        let mut now = crate::clock::now();
        let limit = Arc::new(ConcurrencyLimit::new(config, now).unwrap());
        let mut permits = vec![];
        for _ in 0..4_000 {
            let priority = [Priority::Sheddable, Priority::Default, Priority::Critical][rng.below(3) as usize];
            match rng.below(8) {
                0..=3 => match Permit::of(Arc::clone(&limit), priority) {
                    Ok(permit) => permits.push(permit),
                    Err(refused) => {
                        assert_eq!(refused.in_flight as usize, permits.len());
                        assert_eq!(refused.limit, priority.share_of(limit.limit()));
                        assert!(refused.in_flight >= refused.limit);
                    }
                },
                4 if !permits.is_empty() => drop(permits.swap_remove(rng.below(permits.len() as u64) as usize)),
                5 => limit.record(Duration::from_micros(rng.next_u64() >> (24 + rng.below(40))), now),
                6 => limit.record_drop(now),
                _ => now += Duration::from_millis(rng.below(30)),
            }
            assert_eq!(limit.in_flight() as usize, permits.len());
            assert!((min..=min + span).contains(&limit.limit()), "L1: {}", limit.limit());
            assert!(permits.len() as u32 <= min + span, "L1: {} permits", permits.len());
        }
        permits.clear();
        assert_eq!(limit.in_flight(), 0);
    });
}

#[test]
fn what_matters_less_is_refused_first() {
    let config = LimitConfig { initial: 100, ..LimitConfig::default() };
    let limit = ConcurrencyLimit::new(config, crate::clock::now()).unwrap();
    let mut permits = vec![];
    for (priority, most) in [(Priority::Sheddable, 80), (Priority::Default, 95), (Priority::Critical, 100)] {
        permits.extend(std::iter::from_fn(|| limit.try_acquire(priority).ok()));
        assert_eq!(permits.len(), most, "{priority:?}");
        let refused = limit.try_acquire(priority).unwrap_err();
        assert_eq!((refused.limit, refused.in_flight), (most as u32, most as u32));
    }
    assert!(Priority::Sheddable.share_of(1) == 1, "a limit of one lets one of every kind through");
}

#[test]
fn threads_never_hold_more_than_the_limit() {
    let config = LimitConfig { initial: 3, max: 3, min: 1, ..LimitConfig::default() };
    let limit = ConcurrencyLimit::new(config, crate::clock::now()).unwrap();
    let held = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    if let Ok(permit) = limit.try_acquire(Priority::Critical) {
                        assert!(held.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3);
                        std::thread::yield_now();
                        held.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert_eq!(limit.in_flight(), 0);
}

#[test]
fn who_steps_aside_leaves_room_and_comes_back_in_any_case() {
    let config = LimitConfig { initial: 2, min: 2, max: 2, ..LimitConfig::default() };
    let limit = ConcurrencyLimit::new(config, crate::clock::now()).unwrap();
    let mut slow = limit.try_acquire(Priority::Critical).unwrap();
    let second = limit.try_acquire(Priority::Critical).unwrap();
    assert!(limit.try_acquire(Priority::Critical).is_err());
    slow.step_back();
    slow.step_aside();
    slow.step_aside();
    let third = limit.try_acquire(Priority::Critical).unwrap();
    assert!(limit.try_acquire(Priority::Critical).is_err());
    slow.step_back();
    slow.step_back();
    assert_eq!(limit.in_flight(), 3);
    drop(second);
    assert!(limit.try_acquire(Priority::Critical).is_err(), "there are two again");
    slow.step_aside();
    drop((slow, third));
    assert_eq!(limit.in_flight(), 0);
}

#[test]
fn settings_out_of_range_are_refused() {
    let default = LimitConfig::default;
    for (config, field, value, min, max) in [
        (LimitConfig { min: 0, ..default() }, "limit.min", 0, 1, 10_000),
        (LimitConfig { max: 3, ..default() }, "limit.min", 4, 1, 3),
        (LimitConfig { max: 1_000_001, ..default() }, "limit.max", 1_000_001, 1, 1_000_000),
        (LimitConfig { initial: 3, ..default() }, "limit.initial", 3, 4, 10_000),
        (LimitConfig { tolerance_percent: 99, ..default() }, "limit.tolerance_percent", 99, 100, 1_000),
    ] {
        let refused = ConcurrencyLimit::new(config, crate::clock::now()).unwrap_err();
        assert_eq!(refused, ConfigError::Number { field, value, min, max });
    }
}
