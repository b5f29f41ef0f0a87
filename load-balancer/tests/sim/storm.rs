//! Storms: too much load, and everybody ill at once. The balancer must not make them worse, nor keep them going.

use std::time::Duration;

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{BudgetConfig, LimitConfig, RequestConfig};

use crate::backend::{Ill, MS, Nanos, S, Service};
use crate::world::{Fate, Plan, Story, World};

/// Ten good seconds, whose credits would pay for half as many tries more, and then everybody is ill for four seconds.
fn all_fall(ill: Ill) -> Plan {
    let all = |at, ill| (0..3).map(move |backend| (at, backend, ill));
    let faults = all(BEGIN, ill).chain(all(END, Ill::Well)).collect();
    Plan { service: Service::Exponential(MS), length: END + 4 * S, faults, ..Plan::default() }
}

const BEGIN: Nanos = 10 * S;
const END: Nanos = 14 * S;

/// Whatever it is that all fail by, they get at most a fifth more than what is asked of them; what comes afterwards is
/// answered.
#[test]
fn when_all_fail_they_get_hardly_more_than_is_asked() {
    for ill in [Ill::Failing(100), Ill::Crashed, Ill::Hung] {
        for_each_seed(|seed| {
            let story = World::run(&all_fall(ill), seed);
            let more = story.amplification(BEGIN, END);
            assert!(more <= 1.2, "{more} tries a request: {ill:?}, seed {seed}");
            let late = story.fates.iter().filter(|fate| fate.arrived >= END + S);
            assert_eq!(late.filter(|fate| !fate.is_success).count(), 0, "{ill:?}, seed {seed}");
        });
    }
}

/// 75 % of what ten backends of 2 slots of 10 ms can do, for ten seconds half as much again, and then as before; callers
/// give a try half a second, and up after one.
fn overload(request: RequestConfig) -> Plan {
    let second = Duration::from_secs(1);
    Plan {
        backends: 10,
        slots: 2,
        rate: 1500,
        rates: vec![(2 * S, 2250), (12 * S, 1500)],
        length: 40 * S,
        request: RequestConfig { try_timeout: second / 2, deadline: second, ..request },
        ..Plan::default()
    }
}

/// The share of failures among the requests that arrive after this time.
fn failed_after(from: Nanos, request: RequestConfig, seed: u64) -> f64 {
    let story = World::run(&overload(request), seed);
    let late: Vec<_> = story.fates.iter().filter(|fate| fate.arrived >= from).collect();
    late.iter().filter(|fate| !fate.is_success).count() as f64 / late.len() as f64
}

/// The backends go on with what nobody waits for any more, so a long line must be worked off. Retries under
/// the budget leave room for that; without it they keep the line as long as it is, for good.
#[test]
fn an_overload_ends_when_its_cause_does() {
    let seeds = 3;
    (0..seeds).for_each(|seed| {
        let share = failed_after(32 * S, RequestConfig::default(), seed);
        assert!(share < 0.01, "{share} of the requests failed long after the storm");
    });
    let budget = BudgetConfig { min_per_second: 1_000_000, ..BudgetConfig::default() };
    let naive = RequestConfig { max_tries: 4, hedge: None, budget, ..RequestConfig::default() };
    assert!(failed_after(32 * S, naive, 1) > 0.5, "the control recovers too: this test shows nothing");
}

/// How an [`overload`] went. Shares are in thousandths of what arrived.
#[derive(Debug)]
#[allow(dead_code, reason = "to be printed")]
struct Course {
    /// In its last nine seconds.
    answered: usize,
    refused: usize,
    /// What those answers took.
    median_ms: u64,
    p99_ms: u64,
    /// How many seconds after it there was the last one in which one request in a hundred was not answered.
    recovery_s: u64,
    /// Refused from a second after it on, at the load of before.
    refused_later: usize,
}

fn course(story: &Story) -> Course {
    let arrived = |from: Nanos, to: Nanos| -> Vec<&Fate> {
        story.fates.iter().filter(|fate| (from..to).contains(&fate.arrived)).collect()
    };
    let permille = |fates: &[&Fate], is_meant: fn(&Fate) -> bool| {
        fates.iter().filter(|fate| is_meant(fate)).count() * 1_000 / fates.len()
    };
    let storm = arrived(3 * S, 12 * S);
    let mut took: Vec<Nanos> = storm.iter().filter(|fate| fate.is_success).map(|fate| fate.took).collect();
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0, |took| took / MS);
    let is_bad = |second: &u64| permille(&arrived((12 + second) * S, (13 + second) * S), |fate| !fate.is_success) >= 10;
    Course {
        answered: permille(&storm, |fate| fate.is_success),
        refused: permille(&storm, |fate| fate.is_refused),
        median_ms: at(50),
        p99_ms: at(99),
        recovery_s: (0..28).rev().find(is_bad).map_or(0, |second| second + 1),
        refused_later: permille(&arrived(13 * S, 40 * S), |fate| fate.is_refused),
    }
}

/// What a limit is worth in an overload, and what its two signals are: drops alone (additive increase, multiplicative
/// decrease), or latency as well.
#[test]
fn a_limit_answers_in_time_what_it_lets_in() {
    let drops_alone = LimitConfig { tolerance_percent: 1_000, ..LimitConfig::default() };
    for seed in 0..3 {
        let run = |name, limit: Option<LimitConfig>| {
            let course = course(&World::run(&overload(RequestConfig { limit, ..RequestConfig::default() }), seed));
            println!("seed {seed}, {name}: {course:?}");
            course
        };
        let off = run("off", None);
        let drops = run("drops alone", Some(drops_alone.clone()));
        let both = run("latency and drops", Some(LimitConfig::default()));
        // The pool can do 889 of a thousand.
        assert!(off.answered < 400, "the control bears it: this test shows nothing");
        assert!(drops.answered > 700 && both.answered > 700, "seed {seed}: {drops:?}, {both:?}");
        assert!(
            2 * both.median_ms < drops.median_ms && 2 * both.p99_ms < off.p99_ms,
            "seed {seed}: {drops:?}, {both:?}"
        );
        assert!(both.refused_later <= 5, "seed {seed}: {both:?}");
    }
}
