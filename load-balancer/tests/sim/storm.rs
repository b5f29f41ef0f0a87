//! Storms: too much load, and everybody ill at once. The balancer must not make them worse, nor keep them going.

use std::time::Duration;

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{BudgetConfig, RequestConfig};

use crate::backend::{Ill, MS, Nanos, S, Service};
use crate::world::{Plan, World};

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
