//! Health as a host sees it: what it reports changes where requests go. Time is an argument, so nothing sleeps.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tenfold_load_balancer::{
    Backend, BackendState, Balancer, Config, Failure, HealthState, Outcome, OutlierConfig, PickError, Policy, Probe,
    ProbeConfig, ProbeResult, Request, SlowStartConfig, WhenAllDown,
};

const MS: Duration = Duration::from_millis(1);
const REFUSED: Outcome = Outcome::Failure(Failure::Refused);
const FAILED: Outcome = Outcome::Failure(Failure::Answered);

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A pool and its time.
struct Host {
    balancer: Balancer,
    now: Instant,
}

impl Host {
    fn new(backends: u16, config: Config) -> Self {
        let now = Instant::now();
        let balancer = Balancer::<()>::builder().config(config).seed(1).started_at(now).build().unwrap();
        balancer.replace((1..=backends).map(|port| Backend::new(address(port))).collect()).unwrap();
        Self { balancer, now }
    }

    /// Sends requests one after the other, each taking 1 ms and ending as its port says; returns how many each port got.
    fn send(&mut self, count: usize, outcome: impl Fn(u16) -> Outcome) -> Vec<usize> {
        let mut counts = vec![0; self.balancer.backends().len() + 1];
        for _ in 0..count {
            let pick = self.balancer.pick(&Request::default(), self.now).unwrap();
            let port = pick.address().port();
            counts[usize::from(port)] += 1;
            self.now += MS;
            pick.finish(outcome(port), self.now);
        }
        counts.remove(0);
        counts
    }

    fn health(&self, port: u16) -> HealthState {
        let backends = self.balancer.backends();
        backends.iter().find(|backend| backend.address.port() == port).unwrap().health
    }
}

fn good(_: u16) -> Outcome {
    Outcome::Success
}

#[test]
fn a_refused_connection_takes_a_backend_out_at_once_and_a_trial_brings_it_back() {
    let config =
        Config { slow_start: SlowStartConfig { window: Duration::ZERO, ..Default::default() }, ..Config::default() };
    let mut host = Host::new(3, config);
    host.send(30, good);
    let counts = host.send(100, |port| if port == 2 { REFUSED } else { Outcome::Success });
    assert_eq!(counts[1], 1);
    assert_eq!(host.health(2), HealthState::Down);
    let counts = host.send(500, good);
    assert_eq!(host.health(2), HealthState::Healthy, "it was let in by requests alone: nobody called tick");
    assert!(counts[1] > 10 && counts[1] < 100, "{counts:?}");
}

#[test]
fn a_backend_that_does_not_come_back_costs_one_request_a_try() {
    let mut host = Host::new(3, Config::default());
    let counts = host.send(4_000, |port| if port == 2 { REFUSED } else { Outcome::Success });
    assert_eq!(counts[1], 8, "at 0, 0.5, 1 and so on to 3.9 s");
}

#[test]
fn a_backend_that_hangs_is_out_before_anything_has_failed() {
    let mut host = Host::new(3, Config::default());
    host.send(300, good);
    let slow_after = host.balancer.slow_after().expect("known by now");
    assert_eq!(slow_after, 20 * MS);
    let began = host.now;
    let mut waiting = Vec::new();
    while host.health(3) != HealthState::Ejected {
        let pick = host.balancer.pick(&Request::default(), host.now).unwrap();
        host.now += MS;
        if pick.address().port() == 3 {
            waiting.push(pick)
        } else {
            pick.finish(Outcome::Success, host.now)
        }
        for pick in &waiting {
            if host.now - pick.started() > slow_after {
                pick.overdue(host.now);
            }
        }
        assert!(host.now - began < 60 * MS, "it must be found");
    }
    drop(waiting);
    assert_eq!(host.send(300, good)[2], 0);
}

#[test]
fn what_happens_is_counted() {
    let mut host = Host::new(3, Config::default());
    host.send(300, good);
    host.send(60, |port| if port == 2 { REFUSED } else { Outcome::Success });
    let before = host.balancer.stats();
    assert_eq!((before.backends, before.serving, before.downs, before.is_panicking), (3, 2, 1, false));
    assert_eq!((before.successes, before.failures), (359, 1));
    let held = host.balancer.pick(&Request::default(), host.now).unwrap();
    host.send(60, |port| if port == 1 { REFUSED } else { Outcome::Success });
    let panic = host.balancer.stats();
    assert_eq!((panic.serving, panic.downs, panic.panics, panic.is_panicking), (1, 2, 1, true));
    assert_eq!(panic.in_flight, 1);
    drop(held);
    host.send(4_000, good);
    let healed = host.balancer.stats();
    assert_eq!((healed.serving, healed.recoveries, healed.is_panicking), (3, 2, false));
    assert_eq!(healed.successes + healed.failures, 300 + 60 + 60 + 4_000);
    // What those who leave have done stays counted.
    host.balancer.replace(vec![]).unwrap();
    let left = host.balancer.stats();
    assert_eq!((left.backends, left.successes, left.failures), (0, healed.successes, healed.failures));
}

#[test]
fn errors_of_one_eject_it_and_errors_of_all_do_not() {
    let mut host = Host::new(4, Config::default());
    host.send(100, good);
    let counts = host.send(200, |port| if port == 1 { FAILED } else { Outcome::Success });
    assert_eq!((counts[0], host.health(1)), (4, HealthState::Ejected));

    let mut host = Host::new(4, Config::default());
    host.send(100, good);
    host.send(400, |_| FAILED);
    assert!(host.balancer.backends().iter().all(|backend| backend.state == BackendState::Healthy));
}

#[test]
fn one_backend_alone_is_never_ejected_but_can_be_down() {
    let mut host = Host::new(1, Config { when_all_down: WhenAllDown::Refuse, ..Config::default() });
    host.send(10, good);
    host.send(100, |_| FAILED);
    assert_eq!(host.balancer.backends()[0].state, BackendState::Healthy);
    host.send(1, |_| REFUSED);
    assert_eq!(host.health(1), HealthState::Down);
    let error = host.balancer.pick(&Request::default(), host.now).unwrap_err();
    assert_eq!(error, PickError::NoneAvailable);
    // Nobody can finish a request now, so somebody must tell the time.
    let next = host.balancer.tick(host.now).expect("its time ends");
    host.now = next;
    host.balancer.tick(host.now);
    assert_eq!(host.send(1, good), [1]);
}

#[test]
fn a_cancelled_trial_is_no_verdict() {
    let mut host = Host::new(2, Config::default());
    host.send(10, good);
    host.send(10, |port| if port == 1 { REFUSED } else { Outcome::Success });
    host.now += 500 * MS;
    host.balancer.tick(host.now);
    assert_eq!(host.health(1), HealthState::Probation);
    for _ in 0..5 {
        let trial = host.balancer.pick(&Request::default(), host.now).unwrap();
        assert_eq!(trial.address().port(), 1);
        let beside = host.balancer.pick(&Request::default(), host.now).unwrap();
        assert_eq!(beside.address().port(), 2, "one at a time");
        drop(trial);
    }
    host.send(3, good);
    assert_eq!(host.health(1), HealthState::Warming);
}

/// Of two backends, 1 is on trial.
fn on_trial() -> Host {
    let mut host = Host::new(2, Config::default());
    host.send(200, good);
    assert_eq!(host.balancer.slow_after(), Some(20 * MS));
    host.send(10, |port| if port == 1 { REFUSED } else { Outcome::Success });
    host.now += 500 * MS;
    host.balancer.tick(host.now);
    assert_eq!(host.health(1), HealthState::Probation);
    host
}

#[test]
fn a_trial_that_is_given_up_late_is_not_passed() {
    let host = on_trial();
    let trial = host.balancer.pick(&Request::default(), host.now).unwrap();
    trial.cancel(host.now + 19 * MS);
    assert_eq!(host.health(1), HealthState::Probation, "it had no time to show anything");
    let trial = host.balancer.pick(&Request::default(), host.now).unwrap();
    assert_eq!(trial.address().port(), 1);
    trial.cancel(host.now + 20 * MS);
    assert_eq!(host.health(1), HealthState::Down);
}

#[test]
fn requests_that_must_not_be_lost_are_no_trials_while_others_may_come() {
    let host = on_trial();
    let precious = Request { may_be_trial: false, ..Request::default() };
    let at = |port: u16, request: &Request<'_>, now: Instant| {
        let pick = host.balancer.pick(request, now).unwrap();
        assert_eq!(pick.address().port(), port);
    };
    at(2, &precious, host.now + 999 * MS);
    at(1, &Request::default(), host.now + 999 * MS);
    // Where all are such, the backend must come back all the same.
    let host = on_trial();
    let pick = host.balancer.pick(&precious, host.now + 1_000 * MS).unwrap();
    assert_eq!(pick.address().port(), 1);
}

#[test]
fn one_late_answer_of_a_trial_is_forgiven() {
    for lates in [1, 2] {
        let mut host = on_trial();
        for late in 0..3 + lates {
            let trial = host.balancer.pick(&Request::default(), host.now).unwrap();
            let wait = if late < lates { 60 * MS } else { MS };
            host.now += wait;
            trial.finish(Outcome::Success, host.now);
        }
        assert_eq!(host.health(1), if lates == 1 { HealthState::Warming } else { HealthState::Down });
    }
}

#[test]
fn a_request_that_begins_anew_is_slow_from_there_on_only() {
    let mut host = Host::new(2, Config::default());
    host.send(400, good);
    // What the clients need to send is a second each time, what the backend needs is nothing.
    for _ in 0..50 {
        let mut pick = host.balancer.pick(&Request::default(), host.now).unwrap();
        host.now += 1_000 * MS;
        pick.restart(host.now);
        pick.finish(Outcome::Success, host.now + MS);
        host.send(1, good);
    }
    assert!((1..=2).all(|port| host.health(port) == HealthState::Healthy));
}

#[test]
fn a_trial_is_decided_by_the_beginning_of_an_answer_and_waits_for_who_sends() {
    let mut host = Host::new(2, Config::default());
    host.send(40, good);
    host.send(10, |port| if port == 2 { REFUSED } else { Outcome::Success });
    host.now += 600 * MS;
    let mut trials = 0;
    let mut downloads = vec![];
    for _ in 0..100 {
        let mut pick = host.balancer.pick(&Request::default(), host.now).unwrap();
        if pick.address().port() == 1 || host.health(2) != HealthState::Probation {
            host.now += MS;
            pick.finish(Outcome::Success, host.now);
            continue;
        }
        trials += 1;
        // The client is slow to send, then slow to read.
        for _ in 0..20 {
            host.now += 1_000 * MS;
            pick.restart(host.now);
            host.balancer.tick(host.now);
        }
        host.now += MS;
        pick.answered(host.now);
        downloads.push(pick);
        host.now += 10_000 * MS;
        host.balancer.tick(host.now);
    }
    assert_eq!(trials, 3, "as many as there are canaries");
    assert_ne!(host.health(2), HealthState::Probation);
    assert_eq!(host.balancer.backends().iter().map(|backend| backend.in_flight).sum::<usize>(), 3);
}

#[test]
fn a_backend_that_comes_back_takes_a_growing_share() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::WeightedRoundRobin, Policy::Prequal] {
        let mut host = Host::new(2, Config { policy, ..Config::default() });
        host.send(100, good);
        host.send(20, |port| if port == 1 { REFUSED } else { Outcome::Success });
        host.send(500, good);
        let shares: Vec<_> = (0..4).map(|_| host.send(500, good)[0]).collect();
        assert!(shares[0] < 120 && shares[3] > 190 && shares.is_sorted(), "{policy}: {shares:?}");
    }
}

/// Requests that are in flight together do not all go to whom nothing is known of.
#[test]
fn a_newcomer_is_not_flooded() {
    for policy in [Policy::PeakEwma, Policy::Prequal] {
        let slow_start = SlowStartConfig { window: Duration::ZERO, ..Default::default() };
        let mut host = Host::new(4, Config { policy, slow_start, ..Config::default() });
        host.send(400, good);
        host.balancer.insert(Backend::new(address(5))).unwrap();
        let picks: Vec<_> = (0..40).map(|_| host.balancer.pick(&Request::default(), host.now).unwrap()).collect();
        let there = picks.iter().filter(|pick| pick.address().port() == 5).count();
        assert!(there <= 12, "{policy}: {there} of 40 at once");
    }
}

/// Nobody told the balancer the time before the newcomer came: its ramp begins with it all the same.
#[test]
fn a_newcomer_warms_up_from_when_it_comes() {
    let mut host = Host::new(2, Config::default());
    host.send(100, good);
    host.now += 60_000 * MS;
    host.balancer.insert(Backend::new(address(3))).unwrap();
    let shares: Vec<_> = (0..5).map(|_| host.send(500, good)[2]).collect();
    assert!(shares[0] < 60 && shares[3] > 110 && shares.is_sorted(), "{shares:?}");
    assert_eq!(host.health(3), HealthState::Healthy);
}

#[test]
fn probes_decide_who_is_up() {
    let probes = ProbeConfig { assume_up: false, ..Default::default() };
    let mut host =
        Host::new(2, Config { probes: Some(probes), when_all_down: WhenAllDown::Refuse, ..Config::default() });
    assert_eq!(host.balancer.pick(&Request::default(), host.now).unwrap_err(), PickError::NoneAvailable);
    let probe = |host: &mut Host, time: Duration, is_good: &dyn Fn(&Probe) -> bool| {
        let end = host.now + time;
        let mut count = 0;
        while host.now < end {
            let (probes, next) = host.balancer.due_probes(host.now);
            count += probes.len();
            host.now += MS;
            for probe in probes {
                host.balancer.probed(probe, is_good(&probe), host.now);
            }
            host.now = next.unwrap().max(host.now);
        }
        count
    };
    probe(&mut host, 1_000 * MS, &|probe| probe.address.port() == 1);
    assert_eq!((host.health(1), host.health(2)), (HealthState::Warming, HealthState::Down));
    assert_eq!(host.send(100, good), [100, 0]);
    let count = probe(&mut host, 60_000 * MS, &|_| true);
    assert!((55..70).contains(&count), "{count} probes of two backends in a minute");
    probe(&mut host, 10_000 * MS, &|probe| probe.address.port() == 2);
    assert_eq!(host.health(1), HealthState::Down);
    assert_eq!(host.send(100, good), [0, 100]);
}

/// As where there is no descriptor for a probe: whoever is up stays so, whoever is down, too, and all are asked again soon.
#[test]
fn probes_that_were_not_sent_say_nothing() {
    let mut host = Host::new(2, Config { probes: Some(ProbeConfig::default()), ..Config::default() });
    let probe = |host: &mut Host, time: Duration, result: &dyn Fn(u16) -> ProbeResult| {
        let end = host.now + time;
        let mut count = 0;
        while host.now < end {
            let (probes, next) = host.balancer.due_probes(host.now);
            if probes.is_empty() {
                host.now = next.unwrap();
            }
            count += probes.len();
            probes.into_iter().for_each(|probe| host.balancer.probed(probe, result(probe.address.port()), host.now));
        }
        count
    };
    probe(&mut host, 5_000 * MS, &|port| (port == 1).into());
    assert_eq!((host.health(1), host.health(2)), (HealthState::Healthy, HealthState::Down));
    let count = probe(&mut host, 5_000 * MS, &|_| ProbeResult::Unasked);
    assert_eq!((host.health(1), host.health(2)), (HealthState::Healthy, HealthState::Down));
    // Two, each after a quarter of the fast interval.
    assert!((150..230).contains(&count), "{count} asked in 5 s");
    probe(&mut host, 1_000 * MS, &|_| ProbeResult::Good);
    assert_ne!(host.health(2), HealthState::Down);
}

#[test]
fn ejection_can_be_switched_off() {
    let outlier = OutlierConfig { max_ejection_percent: 0, ..Default::default() };
    let mut host = Host::new(3, Config { outlier, ..Config::default() });
    host.send(30, good);
    host.send(300, |port| if port == 1 { FAILED } else { Outcome::Success });
    assert_eq!(host.balancer.backends().iter().filter(|backend| backend.state != BackendState::Healthy).count(), 0);
}
