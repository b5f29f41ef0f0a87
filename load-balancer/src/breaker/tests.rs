use super::*;
use crate::Failure;
use crate::testing::for_each_seed;

const FAILED: Outcome = Outcome::Failure(Failure::TimedOut);
const MS: Duration = Duration::from_millis(1);

fn breaker(config: BreakerConfig) -> (Breaker, Instant) {
    let now = crate::clock::now();
    (Breaker::with_seed(config, 1, now).unwrap(), now)
}

fn fail(breaker: &Breaker, count: u32, now: Instant) {
    for _ in 0..count {
        breaker.record(breaker.allow(now).unwrap(), FAILED, now);
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_does_not() {
    let (breaker, now) = breaker(BreakerConfig::default());
    fail(&breaker, 4, now);
    breaker.record(breaker.allow(now).unwrap(), Outcome::Success, now);
    fail(&breaker, 4, now);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 1, now);
    assert_eq!(breaker.state(), BreakerState::Open);
    let retry_after = breaker.allow(now).unwrap_err().retry_after;
    assert!((900 * MS..=1_100 * MS).contains(&retry_after), "{retry_after:?}");
}

#[test]
fn a_share_of_failures_opens_it() {
    let (breaker, now) = breaker(BreakerConfig::default());
    for _ in 0..9 {
        breaker.record(breaker.allow(now).unwrap(), Outcome::Success, now);
        fail(&breaker, 1, now);
    }
    breaker.record(breaker.allow(now).unwrap(), Outcome::Success, now);
    assert_eq!(breaker.state(), BreakerState::Closed, "19 are too few");
    fail(&breaker, 1, now);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn half_open_lets_a_few_through_and_closes_when_all_went_well() {
    let (breaker, now) = breaker(BreakerConfig { jitter_percent: 0, ..Default::default() });
    let late = breaker.allow(now).unwrap();
    fail(&breaker, 5, now);
    assert!(breaker.allow(now + 999 * MS).is_err());
    let now = now + 1_000 * MS;
    let passes: Vec<_> = (0..3).map(|_| breaker.allow(now).unwrap()).collect();
    assert_eq!(breaker.allow(now).unwrap_err().retry_after, 1_000 * MS);
    breaker.record(late, FAILED, now);
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "what began before counts for nothing");
    for pass in passes {
        breaker.record(pass, Outcome::Success, now);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    // Soon after, it is open for longer; a long time after, it begins anew.
    fail(&breaker, 5, now + 10 * MS);
    assert_eq!(breaker.allow(now + 10 * MS).unwrap_err().retry_after, 2_000 * MS);
}

#[test]
fn passes_that_were_lost_are_given_out_again() {
    let (breaker, now) = breaker(BreakerConfig { jitter_percent: 0, ..Default::default() });
    fail(&breaker, 5, now);
    let now = now + 1_000 * MS;
    for _ in 0..3 {
        drop(breaker.allow(now).unwrap());
    }
    assert!(breaker.allow(now + 999 * MS).is_err());
    assert!(breaker.allow(now + 1_000 * MS).is_ok());
}

#[test]
fn each_failed_trial_is_followed_by_a_longer_time_up_to_the_longest() {
    let (breaker, mut now) = breaker(BreakerConfig { jitter_percent: 0, ..Default::default() });
    fail(&breaker, 5, now);
    let mut times = Vec::new();
    for _ in 0..7 {
        let retry_after = breaker.allow(now).unwrap_err().retry_after;
        times.push(retry_after.as_secs());
        now += retry_after;
        fail(&breaker, 1, now);
    }
    assert_eq!(times, [1, 2, 4, 8, 16, 30, 30]);
}

/// Whatever is recorded: open lets nobody through before its time, half-open no more than it may, and a good time
/// closes it.
#[test]
fn any_course_keeps_the_promises() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let config = BreakerConfig { open_time: 50 * MS, max_open_time: 400 * MS, ..Default::default() };
        let mut now = crate::clock::now();
        let breaker = Breaker::with_seed(config, seed, now).unwrap();
        let mut under_way = Vec::new();
        let mut closed_until = None;
        for _ in 0..20_000 {
            now += Duration::from_micros(rng.below(3_000));
            let fails = rng.below(10) < if rng.below(2) == 0 { 1 } else { 5 };
            match breaker.allow(now) {
                Ok(pass) => {
                    assert!(closed_until.is_none_or(|until| now >= until), "let through before its time");
                    closed_until = None;
                    under_way.push(pass);
                }
                Err(open) => {
                    assert!(open.retry_after <= 440 * MS);
                    if breaker.state() == BreakerState::Open {
                        closed_until = Some(now + open.retry_after);
                    }
                }
            }
            if breaker.state() == BreakerState::HalfOpen {
                let word = breaker.word.load(Ordering::Relaxed);
                assert!(under_way.iter().filter(|pass| pass.0 == word).count() <= 3);
            }
            if !under_way.is_empty() && rng.below(3) > 0 {
                let pass = under_way.swap_remove(rng.below(under_way.len() as u64) as usize);
                breaker.record(pass, if fails { FAILED } else { Outcome::Success }, now);
            }
        }
        for _ in 0..20 {
            now += 500 * MS;
            if let Ok(pass) = breaker.allow(now) {
                breaker.record(pass, Outcome::Success, now);
            }
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    });
}

#[test]
fn settings_out_of_range_are_refused() {
    let config = BreakerConfig { half_open_requests: 0, ..Default::default() };
    assert!(Breaker::new(config, crate::clock::now()).is_err());
}
