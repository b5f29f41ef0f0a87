//! What holds of every run.

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{Policy, RequestConfig, Rng};

use crate::backend::{Ill, MS, Nanos, S, Service};
use crate::world::{Plan, World};

/// Faults at random: any number of backends, ills, and times.
fn at_random(seed: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let backends = 2 + rng.below(8) as usize;
    let policies = [Policy::RoundRobin, Policy::Random, Policy::P2c, Policy::LeastRequest, Policy::PeakEwma];
    let ills =
        [Ill::Well, Ill::Well, Ill::Crashed, Ill::Hung, Ill::Slow(150 * MS), Ill::Failing(30), Ill::Failing(100)];
    let faults = (0..rng.below(12)).map(|_| {
        let at = rng.below(3 * S);
        (at, rng.below(backends as u64) as usize, ills[rng.below(ills.len() as u64) as usize])
    });
    let mut faults: Vec<_> = faults.collect();
    faults.extend((0..backends).map(|backend| (3 * S, backend, Ill::Well)));
    Plan {
        backends,
        policy: policies[rng.below(5) as usize],
        rate: 300,
        service: if rng.below(2) == 0 { Service::Exponential(5 * MS) } else { Service::LongTail(4 * MS) },
        length: 8 * S,
        faults,
        ..Plan::default()
    }
}

/// Whatever happens: every request ends, none later than its deadline, nothing that is out is picked while others are
/// in, and five seconds after all are well nobody fails.
#[test]
fn whatever_happens_every_request_ends_and_peace_comes_back() {
    for_each_seed(|seed| {
        for part in 0..4 {
            let plan = at_random(seed.wrapping_mul(4).wrapping_add(part));
            let story = World::run(&plan, seed);
            assert_eq!((story.unfinished, story.bad_picks), (0, 0), "{plan:?}");
            let deadline = RequestConfig::default().deadline.as_nanos() as Nanos;
            let longest = story.fates.iter().map(|fate| fate.took).max().unwrap();
            assert!(longest <= deadline + MS, "one took {longest} in {plan:?}");
            let late = story.fates.iter().filter(|fate| fate.arrived > 6 * S && !fate.is_success).count();
            assert_eq!(late, 0, "failed after all were well: {plan:?}, out {:?}", story.out);
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for_each_seed(|seed| {
        let plan = at_random(seed);
        let fingerprint = || World::run(&plan, seed).fingerprint();
        assert_eq!(fingerprint(), fingerprint());
    });
}

/// Nobody is ejected from a pool in which all is well, tails and all.
#[test]
fn the_well_are_left_alone() {
    for_each_seed(|seed| {
        for service in [Service::Exponential(10 * MS), Service::LongTail(5 * MS)] {
            let plan = Plan { service, length: 10 * S, ..Plan::default() };
            let story = World::run(&plan, seed);
            assert_eq!(story.failed(), 0);
            assert!(story.out.iter().all(Vec::is_empty), "{service:?}: {:?}", story.out);
        }
    });
}

/// A backend that falls and rises all the time costs no request.
#[test]
fn flapping_costs_nothing() {
    for_each_seed(|seed| {
        let flaps = (0..20).map(|turn| (S + turn * 200 * MS, 0, if turn % 2 == 0 { Ill::Crashed } else { Ill::Well }));
        let plan = Plan { service: Service::Exponential(MS), faults: flaps.collect(), ..Plan::default() };
        let story = World::run(&plan, seed);
        assert_eq!((story.failed(), story.unfinished), (0, 0), "{:?}", story.out);
    });
}
