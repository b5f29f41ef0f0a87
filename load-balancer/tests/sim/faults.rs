//! One backend falls ill: no request that may be repeated fails, few are slow, and it is out soon and back soon.

use std::time::Duration;

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{BudgetConfig, Policy, RequestConfig};

use crate::backend::{Ill, MS, Nanos, S, Service};
use crate::world::{Plan, Story, World};

/// The fault begins and ends.
const BEGIN: Nanos = 2 * S;
const END: Nanos = 5 * S;

/// 1000 requests a second of about 1 ms over three backends, one of which falls ill for three seconds.
fn one_falls(ill: Ill, policy: Policy) -> Plan {
    Plan {
        service: Service::Exponential(MS),
        policy,
        length: 13 * S,
        faults: vec![(BEGIN, 1, ill), (END, 1, Ill::Well)],
        ..Plan::default()
    }
}

fn check(ill: Ill, bound: impl Fn(&Story, Policy, &str)) {
    for policy in [Policy::RoundRobin, Policy::P2c, Policy::PeakEwma] {
        for_each_seed(|seed| {
            let story = World::run(&one_falls(ill, policy), seed);
            let label = format!("{ill:?}, {policy:?}, seed {seed}, out {:?}", story.out);
            assert_eq!(story.failed(), 0, "failed: {label}");
            assert_eq!((story.unfinished, story.bad_picks), (0, 0), "{label}");
            bound(&story, policy, &label);
            // Back within seconds of being well (mostly within one; a trial that meets a late answer is made again), and in
            // for good.
            let last = story.out[1].last().map_or(0, |(_, to)| *to);
            assert!(last < END + 7 * S, "back at {last}: {label}");
            assert!(story.out[0].is_empty() && story.out[2].is_empty(), "the well stay in: {label}");
        });
    }
}

/// How long after the fault it was out first.
fn noticed_after(story: &Story) -> Nanos {
    story.out[1].iter().map(|(from, _)| from.saturating_sub(BEGIN)).next().unwrap_or(Nanos::MAX)
}

/// Whether it was out within this time. Not asked of policies that look at load or failures: they send a bad backend so
/// few requests that it may be noticed late, to nobody's harm.
fn is_noticed(story: &Story, policy: Policy, within: Nanos) -> bool {
    policy != Policy::RoundRobin || noticed_after(story) <= within
}

#[test]
fn a_crash_costs_nothing_and_is_noticed_at_once() {
    check(Ill::Crashed, |story, _, label| {
        assert!(noticed_after(story) <= 100 * MS, "noticed: {label}");
        let slow = story.slow(0, Nanos::MAX, 50 * MS);
        assert!(slow == 0, "{slow} slow: {label}");
    });
}

#[test]
fn a_hang_costs_no_request_and_hardly_any_time() {
    check(Ill::Hung, |story, policy, label| {
        assert!(is_noticed(story, policy, 100 * MS), "noticed: {label}");
        let slow = story.slow(BEGIN + 100 * MS, Nanos::MAX, 50 * MS);
        // Hardly ever one: a canary, whose hedge meets a late answer.
        assert!(slow <= 2, "{slow} slow after it was noticed: {label}");
    });
}

#[test]
fn a_grey_backend_is_out_soon() {
    check(Ill::Slow(200 * MS), |story, policy, label| {
        assert!(is_noticed(story, policy, 300 * MS), "noticed: {label}");
        let slow = story.slow(0, Nanos::MAX, 50 * MS);
        assert!(slow <= 10, "{slow} slow: {label}");
    });
}

#[test]
fn half_the_answers_wrong_reach_nobody() {
    check(Ill::Failing(50), |story, policy, label| {
        assert!(is_noticed(story, policy, 300 * MS), "noticed: {label}");
    });
}

/// The first has been dead for long, and nobody took it out of the pool, when the second falls ill.
#[test]
fn a_second_fault_is_found_while_one_backend_is_long_dead() {
    for ill in [Ill::Hung, Ill::Slow(200 * MS), Ill::Failing(50)] {
        for_each_seed(|seed| {
            let plan = Plan {
                backends: 4,
                service: Service::Exponential(MS),
                length: 12 * S,
                faults: vec![(S, 0, Ill::Crashed), (9 * S, 1, ill)],
                ..Plan::default()
            };
            let story = World::run(&plan, seed);
            let label = format!("{ill:?}, seed {seed}, out {:?}", story.out);
            assert_eq!((story.failed(), story.unfinished, story.bad_picks), (0, 0, 0), "{label}");
            let noticed = story.out[1].first().map_or(Nanos::MAX, |(from, _)| from - 9 * S);
            assert!(noticed <= 400 * MS, "noticed after {noticed}: {label}");
        });
    }
}

/// Where few requests come, each one that hangs must tell: when it is hedged, and again when it is slow, unless its hedge
/// was answered by then.
#[test]
fn a_hang_under_little_load_is_noticed_by_few_requests() {
    let seeds = 32;
    let noticed = (0..seeds).map(|seed| {
        let faults = vec![(4 * S, 1, Ill::Hung), (8 * S, 1, Ill::Well)];
        let plan = Plan { rate: 120, length: 8 * S, faults, ..one_falls(Ill::Hung, Policy::RoundRobin) };
        let story = World::run(&plan, seed);
        assert_eq!((story.failed(), story.unfinished), (0, 0), "seed {seed}");
        story.out[1].first().map_or(Nanos::MAX, |(from, _)| from - 4 * S)
    });
    let mean = noticed.sum::<Nanos>() / seeds;
    // 40 requests a second are for it, of which hedges save most before they are slow. Were the others told of once, it
    // would be 690 ms.
    assert!(mean <= 550 * MS, "noticed after {mean} on average");
}

/// Four clients, five hedges in two seconds, and no time-out: soon all of them wait for the backend that hangs, with no
/// credit left, and nobody comes who could show what is wrong with it. Each gets away before its deadline.
#[test]
fn a_hang_that_holds_every_client_lets_them_go() {
    for_each_seed(|seed| {
        let budget = BudgetConfig { percent: 0, min_per_second: 5, ..BudgetConfig::default() };
        let request = RequestConfig { try_timeout: Duration::from_secs(30), budget, ..RequestConfig::default() };
        let faults = vec![(BEGIN, 1, Ill::Hung)];
        let plan = Plan { clients: 4, request, faults, ..one_falls(Ill::Hung, Policy::RoundRobin) };
        let story = World::run(&plan, seed);
        assert_eq!((story.failed(), story.unfinished), (0, 0), "seed {seed}, out {:?}", story.out);
    });
}

/// Clients that wait for one answer before they ask for the next: what shows that a backend is slow are requests that went
/// on before and after, not beside. Hedges win over it, so most of its requests have no end.
#[test]
fn a_few_clients_have_a_grey_backend_ejected() {
    for policy in [Policy::RoundRobin, Policy::P2c, Policy::LeastRequest] {
        for clients in [1, 2, 4] {
            for_each_seed(|seed| {
                let story = World::run(&Plan { clients, ..one_falls(Ill::Slow(200 * MS), policy) }, seed);
                let label = format!("{policy:?}, {clients} clients, seed {seed}, out {:?}", story.out);
                assert_eq!((story.failed(), story.unfinished, story.bad_picks), (0, 0, 0), "{label}");
                assert!(noticed_after(&story) <= S, "noticed: {label}");
                let slow = story.slow(0, Nanos::MAX, 50 * MS);
                assert!(slow <= 12, "{slow} slow: {label}");
                assert!(story.out[0].is_empty() && story.out[2].is_empty(), "the well stay in: {label}");
            });
        }
    }
}
