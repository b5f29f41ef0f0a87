//! Storms: too much load, and everybody ill at once. The balancer must not make them worse, nor keep them going.

use std::time::Duration;

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{BudgetConfig, RequestConfig};

use crate::backend::{Ill, MS, Nanos, S, Service};
use crate::world::{Plan, World};

/// All backends fail every request for two seconds: tries stay within 1.2 of the requests and what was saved up.
#[test]
fn when_all_fail_retries_stay_within_their_budget() {
    for_each_seed(|seed| {
        let ill = |ill, at| (0..3).map(move |backend| (at, backend, ill));
        let faults = ill(Ill::Failing(100), 0).chain(ill(Ill::Well, 4 * S)).collect();
        let plan = Plan { service: Service::Exponential(MS), length: 4 * S, faults, ..Plan::default() };
        let story = World::run(&plan, seed);
        let (requests, tries) = (story.fates.len() as f64, story.tries() as f64);
        // 10 a second beside the share, and the reserve of 10 seconds of them.
        assert!(tries <= 1.2 * requests + 10.0 * 14.0, "{tries} tries of {requests} requests");
    });
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
