use std::time::Duration;

use super::{BUCKETS, LatencyQuantile, REFRESH, bucket, upper_edge};
use crate::rng::Rng;
use crate::testing::for_each_seed;

/// What the quantile may be, given the true one (Q1).
fn is_near(found: Duration, exact: Duration) -> bool {
    found >= exact && found <= exact + exact / 8 + Duration::from_nanos(1_025)
}

#[test]
fn buckets_are_narrow_in_order_and_without_gaps() {
    for index in 0..BUCKETS - 1 {
        let edge = upper_edge(index);
        assert_eq!(bucket(edge - 1), index);
        assert_eq!(bucket(edge), index + 1);
        let next = upper_edge(index + 1);
        assert!(next - edge <= (edge / 8).max(1 << 10), "bucket {index} ends at {edge}, the next at {next}");
    }
    assert_eq!(bucket(0), 0);
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

#[test]
fn is_the_quantile_of_the_sorted_samples() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let permille = 1 + rng.below(1_000);
        let start = crate::clock::now();
        let quantile = LatencyQuantile::new(permille as u16, start);
        let count = 32 + rng.below(2_000);
        // Every order of magnitude from 1 ns to 18 minutes is as likely.
        let sample = |_| Duration::from_nanos((1 << rng.below(39)) + rng.below(1 << 38) % (1 << (1 + rng.below(38))));
        let mut samples: Vec<_> = (0..count).map(sample).collect();
        samples.iter().for_each(|latency| quantile.record(*latency));
        samples.sort();
        let exact = samples[((count * permille).div_ceil(1_000)).max(1) as usize - 1];
        let found = quantile.current(start).unwrap();
        assert!(is_near(found, exact), "{permille}/1000 of {count}: {found:?} for {exact:?}");
    });
}

#[test]
fn is_unknown_until_there_are_enough_samples() {
    let start = crate::clock::now();
    let quantile = LatencyQuantile::new(950, start);
    (0..31).for_each(|_| quantile.record(Duration::from_millis(1)));
    assert_eq!(quantile.current(start), None);
    quantile.record(Duration::from_millis(1));
    assert_eq!(quantile.current(start + REFRESH / 2), None, "not looked at yet");
    assert!(quantile.current(start + REFRESH).is_some());
}

#[test]
fn follows_a_pool_that_became_slower_or_faster_within_seconds() {
    let start = crate::clock::now();
    let quantile = LatencyQuantile::new(950, start);
    let mut now = start;
    let mut run = |latency_ms: u64, seconds: u64| {
        for _ in 0..seconds * 1_000 {
            now += Duration::from_millis(1);
            quantile.record(Duration::from_millis(latency_ms));
            quantile.current(now);
        }
        quantile.current(now).unwrap()
    };
    assert!(is_near(run(2, 60), Duration::from_millis(2)));
    assert!(is_near(run(20, 1), Duration::from_millis(20)), "a minute of 2 ms outweighs a second of 20 ms");
    assert!(is_near(run(2, 5), Duration::from_millis(2)), "20 ms are remembered for longer than 5 s");
}

#[test]
fn a_pool_that_was_idle_keeps_what_it_knew() {
    let start = crate::clock::now();
    let quantile = LatencyQuantile::new(950, start);
    (0..1_000).for_each(|_| quantile.record(Duration::from_millis(3)));
    let known = quantile.current(start);
    assert!(known.is_some());
    assert_eq!(quantile.current(start + Duration::from_secs(86_400)), known);
    assert_eq!(quantile.current(start + Duration::from_secs(2 * 86_400)), known);
}

#[test]
fn no_sample_of_any_thread_is_lost() {
    let start = crate::clock::now();
    let quantile = LatencyQuantile::new(500, start);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let quantile = &quantile;
            scope.spawn(move || {
                for step in 0..1_000_u32 {
                    quantile.record(Duration::from_millis(thread.into()));
                    // No time passes, so nothing fades.
                    quantile.refresh(u64::from(step % 2));
                }
            });
        }
    });
    quantile.refresh(0);
    assert_eq!(quantile.sum.lock().total, 4_000 * super::WEIGHT);
}
