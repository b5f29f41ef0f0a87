//! What health must find, how fast, and what it must leave alone: pools on virtual time. Figures in brackets were
//! measured over 1,000 seeds.

use std::time::Duration;

use super::simulation::{Fault, Latency, Setup, World, ms};
use super::{
    Canary, Event, Fitness, Group, HealthState, Machine, OutlierConfig, ProbeConfig, Rules, SlowStartConfig, Verdict,
};
use crate::Rng;
use crate::testing::for_each_seed;
use crate::time::Time;

const LATENCIES: [Latency; 4] = [
    Latency::Constant { ms: 1.0 },
    Latency::Exponential { mean_ms: 1.0 },
    Latency::LogNormal { median_ms: 1.0, sigma: 1.0 },
    Latency::Bimodal { fast_ms: 1.0, slow_ms: 50.0, slow_percent: 2 },
];

/// As the request layer does it by default.
const HEDGED: Option<Duration> = Some(ms(5));

/// A pool of three under 1,000 requests per second, with a fault at backend 0 from 2 s to 6 s, and two seconds more.
struct Run {
    world: World,
    began: Time,
    ended: Time,
}

impl Run {
    fn new(setup: Setup, seed: u64, fault: Fault) -> Self {
        let mut world = World::new(setup, seed);
        world.run(ms(2_000));
        let began = world.now;
        world.backends[0].fault = Some(fault);
        world.run(ms(4_000));
        let ended = world.now;
        world.backends[0].fault = None;
        world.run(ms(2_000));
        Self { world, began, ended }
    }

    fn detection(&self) -> Duration {
        self.world.out_after(0, self.began).expect("it must be found")
    }
}

fn for_each_latency(check: impl Fn(Setup, u64)) {
    for_each_seed(|seed| {
        for latency in LATENCIES {
            check(Setup { latency, ..Setup::default() }, seed);
        }
    });
}

#[test]
fn a_backend_that_hangs_is_out_soon() {
    for_each_latency(|setup, seed| {
        let run = Run::new(setup.clone(), seed, Fault::Hangs);
        assert!(run.detection() <= ms(60), "{:?}", run.detection());
        let run = Run::new(Setup { hedge_after: HEDGED, ..setup }, seed, Fault::Hangs);
        assert!(run.detection() <= ms(60), "hedged: {:?}", run.detection());
        let late = run.world.waited_over(ms(100), run.began);
        assert!(late <= 2, "hedged: {late} clients waited");
        assert_eq!(run.world.failed(), 0);
    });
}

#[test]
fn a_grey_backend_is_out_soon_and_few_notice() {
    for_each_latency(|setup, seed| {
        let run = Run::new(setup.clone(), seed, Fault::Delays(ms(200)));
        assert!(run.detection() <= ms(60), "{:?}", run.detection());
        // About 13 are on their way when it is found; later each try costs one, of which there are 7 in 4 s.
        let late = run.world.waited_over(ms(100), run.began);
        assert!(late <= 25, "{late} clients waited");
        let run = Run::new(Setup { hedge_after: HEDGED, ..setup }, seed, Fault::Delays(ms(200)));
        assert!(run.detection() <= ms(60), "hedged: {:?}", run.detection());
        let late = run.world.waited_over(ms(100), run.began);
        assert!(late <= 2, "hedged: {late} clients waited");
    });
}

#[test]
fn a_backend_with_errors_is_out_soon() {
    for_each_latency(|setup, seed| {
        let run = Run::new(setup.clone(), seed, Fault::Fails { percent: 50 });
        assert!(run.detection() <= ms(150), "half: {:?}", run.detection());
        assert_eq!(run.world.failed(), 0, "retries must find another");
        let run = Run::new(setup.clone(), seed, Fault::Fails { percent: 100 });
        assert!(run.detection() <= ms(25), "all: {:?}", run.detection());
        let run = Run::new(setup, seed, Fault::Refuses);
        assert!(run.detection() <= ms(10), "refused: {:?}", run.detection());
    });
}

#[test]
fn a_backend_with_few_errors_is_out_in_the_end() {
    for_each_seed(|seed| {
        let run = Run::new(Setup { retries: 0, ..Setup::default() }, seed, Fault::Fails { percent: 25 });
        assert!(run.detection() <= ms(1_500), "{:?}", run.detection());
    });
}

#[test]
fn a_healed_backend_is_back_soon() {
    for_each_seed(|seed| {
        let latency = Latency::Exponential { mean_ms: 1.0 };
        for fault in [Fault::Refuses, Fault::Hangs, Fault::Delays(ms(200)), Fault::Fails { percent: 100 }] {
            for hedge_after in [None, HEDGED] {
                let run = Run::new(Setup { latency, hedge_after, ..Setup::default() }, seed, fault);
                let is_out = run.world.out_after(0, run.began).is_some();
                let back = run.world.back_after(0, run.ended).expect("it must come back");
                assert!(is_out && back <= ms(1_100), "{fault:?}: back after {back:?}");
            }
        }
    });
}

/// Answers that come late now and then, as they do in good times, keep nobody out.
#[test]
fn a_healed_backend_with_a_tail_is_back_soon() {
    let failed = (0..100).filter(|seed| {
        // One in twelve is overdue.
        let latency = Latency::Exponential { mean_ms: 2.0 };
        let run = Run::new(Setup { latency, hedge_after: Some(ms(5)), ..Setup::default() }, *seed, Fault::Hangs);
        // What began before it was well may end badly.
        run.world.out_after(0, run.ended.after(ms(20))).is_some()
    });
    let failed = failed.count();
    assert!(failed <= 8, "{failed} of 100 failed a trial after they were well");
}

#[test]
fn good_pools_are_left_alone() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for latency in LATENCIES {
            let backends = 2 + rng.below(20) as usize;
            let hedge_after = (rng.below(2) == 0).then_some(ms(4));
            let requests_per_s = 1_000.0;
            let setup = Setup { backends, latency, hedge_after, requests_per_s, poisson: true, ..Setup::default() };
            let mut world = World::new(setup, seed);
            world.run(ms(4_000));
            assert_eq!(world.ejections(), 0, "{:?}: {:?}", world.setup, world.changes);
        }
    });
}

/// The first to get four failures in a row may be taken for the only one, if the others had luck in these milliseconds.
#[test]
fn trouble_that_all_share_ejects_nobody() {
    let faults = [(Fault::Delays(ms(200)), 0), (Fault::Fails { percent: 30 }, 1), (Fault::Rejects { percent: 100 }, 0)];
    for_each_seed(|seed| {
        for (fault, max_ejected) in faults {
            for hedge_after in [None, HEDGED] {
                let setup = Setup { backends: 6, poisson: true, hedge_after, ..Setup::default() };
                let mut world = World::new(setup, seed);
                world.run(ms(2_000));
                world.backends.iter_mut().for_each(|backend| backend.fault = Some(fault));
                world.run(ms(2_000));
                let ejected = world.backends.iter().filter(|backend| !backend.takes_requests()).count();
                assert!(ejected <= max_ejected, "{fault:?}, {hedge_after:?}: {:?}", world.changes);
            }
        }
    });
}

/// Somebody who died long ago, and was never taken out of the pool, does not excuse those who fall ill now.
#[test]
fn a_second_fault_is_found_while_one_backend_is_long_dead() {
    for_each_seed(|seed| {
        for backends in [3, 4, 6] {
            for (fault, within) in
                [(Fault::Hangs, ms(150)), (Fault::Delays(ms(200)), ms(150)), (Fault::Fails { percent: 50 }, ms(400))]
            {
                let mut world = World::new(Setup { backends, hedge_after: HEDGED, ..Setup::default() }, seed);
                world.run(ms(1_000));
                world.backends[0].fault = Some(Fault::Refuses);
                world.run(ms(8_000));
                let began = world.now;
                world.backends[1].fault = Some(fault);
                world.run(ms(1_000));
                let found = world.out_after(1, began);
                assert!(found.is_some_and(|found| found <= within), "{fault:?} of {backends}: {found:?}");
            }
        }
    });
}

/// The cap is checked by the world at each change.
#[test]
fn faults_of_many_at_once_never_go_beyond_the_cap() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let setup = Setup { backends: 3 + rng.below(48) as usize, requests_per_s: 3_000.0, ..Setup::default() };
        let mut world = World::new(setup, seed);
        world.run(ms(1_000));
        for _ in 0..6 {
            for at in 0..world.backends.len() {
                let fault = [
                    None,
                    None,
                    Some(Fault::Refuses),
                    Some(Fault::Hangs),
                    Some(Fault::Delays(ms(100))),
                    Some(Fault::Fails { percent: 60 }),
                ][rng.below(6) as usize];
                world.backends[at].fault = fault;
            }
            world.run(ms(300));
        }
        world.backends.iter_mut().for_each(|backend| backend.fault = None);
        world.run(ms(6_000));
        let out = world.backends.iter().filter(|backend| !backend.takes_requests()).count();
        assert_eq!(out, 0, "all must come back: {:?}", world.changes);
    });
}

#[test]
fn a_flapping_backend_stays_out_for_longer_and_longer() {
    for_each_seed(|seed| {
        let mut world = World::new(Setup { hedge_after: HEDGED, ..Setup::default() }, seed);
        world.run(ms(1_000));
        let mut ejections = Vec::new();
        for _ in 0..2 {
            let before = world.ejections();
            for _ in 0..30 {
                world.backends[0].fault = Some(Fault::Hangs);
                world.run(ms(150));
                world.backends[0].fault = None;
                world.run(ms(850));
            }
            ejections.push(world.ejections() - before);
        }
        assert!(ejections[0] <= 20 && ejections[1] <= 8, "in each half a minute: {ejections:?}");
    });
}

// ---- the machine by itself ----

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

const ROOM: Event = Event::Outlier(Group { up: 3, ejected: 0, missed: 0 });
const NO_ROOM: Event = Event::Outlier(Group { up: 3, ejected: 1, missed: 0 });

#[test]
fn a_backend_goes_out_and_comes_back_by_the_table() {
    let rules = Rules::new(&OutlierConfig::default(), SlowStartConfig::default(), None);
    let mut machine = Machine::new(false, &rules);
    let mut tell = |event, ms| {
        let step = machine.on(event, at(ms), &rules);
        (machine.state(), step.publish, step.wake_at)
    };
    use HealthState::{Ejected, Healthy, Probation, Suspect, Warming};
    assert_eq!(tell(Event::Calm, 1), (Healthy, false, None));
    assert_eq!(tell(NO_ROOM, 2), (Suspect, false, None));
    assert_eq!(tell(Event::Calm, 3), (Healthy, false, None));
    assert_eq!(tell(ROOM, 1_000), (Ejected, true, Some(at(1_500))));
    assert_eq!(tell(Event::Time, 1_499), (Ejected, false, Some(at(1_500))));
    assert_eq!(tell(Event::Time, 1_500), (Probation, true, None));
    assert_eq!(tell(Event::Canary(Canary::Good), 1_501), (Probation, false, None));
    assert_eq!(tell(Event::Canary(Canary::Bad), 1_502), (Ejected, true, Some(at(2_002))));
    assert_eq!(tell(Event::Time, 2_002), (Probation, true, None));
    for _ in 0..2 {
        assert_eq!(tell(Event::Canary(Canary::Good), 2_003), (Probation, false, None));
    }
    assert_eq!(tell(Event::Canary(Canary::Good), 2_010), (Warming, true, Some(at(2_210))));
    assert_eq!(tell(Event::Time, 2_210), (Warming, true, Some(at(2_410))));
    assert_eq!(tell(Event::Time, 4_010), (Healthy, true, None));
}

#[test]
fn probes_take_a_backend_down_and_bring_it_back() {
    let probes = ProbeConfig { assume_up: false, ..Default::default() };
    let rules = Rules::new(&OutlierConfig::default(), SlowStartConfig::default(), Some(&probes));
    let mut machine = Machine::new(false, &rules);
    let mut tell = |event, ms| (machine.on(event, at(ms), &rules).publish, machine.state());
    use HealthState::{Down, Ejected, Probation, Warming};
    assert_eq!(tell(Event::Time, 60_000), (false, Down));
    assert_eq!(tell(Event::Probes(Verdict::Good), 60_001), (true, Warming));
    assert_eq!(tell(Event::Refused, 60_002), (true, Down));
    assert_eq!(tell(Event::Time, 120_000), (false, Down), "probes will tell");
    assert_eq!(tell(Event::Probes(Verdict::Good), 120_001), (true, Warming));
    assert_eq!(tell(ROOM, 120_002), (true, Ejected));
    assert_eq!(tell(Event::Probes(Verdict::Good), 120_003), (false, Ejected), "green probes do not excuse it");
    assert_eq!(tell(Event::Time, 200_000), (true, Probation));
    assert_eq!(tell(Event::Probes(Verdict::Bad), 200_001), (true, Down));
}

/// Whatever happens: who is out has a way back, who is told to wait is told until when, and a change of the share is
/// published.
#[test]
fn no_sequence_of_events_strands_a_backend() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for round in 0..200 {
            let is_probed = round % 2 == 0;
            let probes = is_probed.then(ProbeConfig::default);
            let rules = Rules::new(&OutlierConfig::default(), SlowStartConfig::default(), probes.as_ref());
            let mut now = at(rng.below(10_000));
            let mut machine = Machine::new(rng.below(2) == 0, &rules);
            let mut published = machine.fitness(now, &rules);
            for _ in 0..100 {
                now = now.after(ms(rng.below(300)));
                let verdict = if rng.below(2) == 0 { Verdict::Good } else { Verdict::Bad };
                let event = match rng.below(7) {
                    0 => ROOM,
                    1 => NO_ROOM,
                    2 => Event::Refused,
                    3 => Event::Calm,
                    4 => Event::Canary([Canary::Good, Canary::Late, Canary::Bad][rng.below(3) as usize]),
                    5 if is_probed => Event::Probes(verdict),
                    _ => Event::Time,
                };
                let step = machine.on(event, now, &rules);
                let fitness = machine.fitness(now, &rules);
                if step.publish {
                    published = fitness;
                }
                let is_ramp = |fitness| matches!(fitness, Fitness::Fit { .. });
                assert!(published == fitness || is_ramp(published) && is_ramp(fitness), "{event:?} to {machine:?}");
                let waits = step.wake_at.is_some();
                let has_way_back = match machine.state() {
                    HealthState::Ejected | HealthState::Warming => waits,
                    HealthState::Down => is_probed != waits,
                    _ => !waits,
                };
                assert!(has_way_back, "{event:?} to {machine:?}");
            }
        }
    });
}
