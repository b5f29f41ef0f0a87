//! A pool on virtual time, for tests: backends with latencies and faults, clients that retry and hedge, and health in
//! between, as the balancer runs it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::judge::{Court, Watched};
use super::{Canary, Vitals};
use super::{Ended, Event, Fitness, HealthState, Machine, Norm, OutlierConfig, Rules, Sign, SlowStartConfig, Step};
use crate::time::Time;
use crate::{Failure, Outcome, Rng};

/// How long a healthy backend takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Latency {
    Constant { ms: f64 },
    Exponential { mean_ms: f64 },
    LogNormal { median_ms: f64, sigma: f64 },
    Bimodal { fast_ms: f64, slow_ms: f64, slow_percent: u64 },
}

impl Latency {
    fn draw(self, rng: &mut Rng) -> Duration {
        let mut uniform = || (rng.below(1 << 53) as f64 + 1.0) / (1_u64 << 53) as f64;
        let ms = match self {
            Self::Constant { ms } => ms,
            Self::Exponential { mean_ms } => -mean_ms * uniform().ln(),
            Self::LogNormal { median_ms, sigma } => {
                let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
                median_ms * (sigma * normal).exp()
            }
            Self::Bimodal { fast_ms, slow_ms, slow_percent } => {
                if rng.below(100) < slow_percent {
                    slow_ms
                } else {
                    fast_ms
                }
            }
        };
        Duration::from_secs_f64(ms / 1_000.0)
    }
}

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    Refuses,
    Hangs,
    Delays(Duration),
    Fails { percent: u64 },
    Rejects { percent: u64 },
}

pub(super) struct Backend {
    vitals: Vitals,
    machine: Machine,
    pub(super) latency: Latency,
    pub(super) fault: Option<Fault>,
}

impl Backend {
    pub(super) fn takes_requests(&self) -> bool {
        use HealthState::{Healthy, Suspect, Unknown, Warming};
        matches!(self.machine.state(), Unknown | Healthy | Suspect | Warming)
    }
}

impl Watched for Backend {
    fn vitals(&self) -> &Vitals {
        &self.vitals
    }
    fn machine(&self) -> &Machine {
        &self.machine
    }
    fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
    fn group(&self) -> Option<u8> {
        Some(0)
    }
}

/// The load and its clients.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) backends: usize,
    pub(super) latency: Latency,
    pub(super) requests_per_s: f64,
    /// Requests come at random times rather than evenly.
    pub(super) poisson: bool,
    /// A second backend is asked after this time, and the first answer is taken.
    pub(super) hedge_after: Option<Duration>,
    /// Failed requests are sent to another backend.
    pub(super) retries: usize,
    pub(super) outlier: OutlierConfig,
    pub(super) slow_start: SlowStartConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            backends: 3,
            latency: Latency::Exponential { mean_ms: 1.0 },
            requests_per_s: 1_000.0,
            poisson: false,
            hedge_after: None,
            retries: 2,
            outlier: OutlierConfig::default(),
            slow_start: SlowStartConfig::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives,
    Overdue { attempt: usize },
    Ends { attempt: usize },
    GivesUp { attempt: usize },
    Wake,
}

/// One request at one backend.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    client: usize,
    backend: usize,
    started: Time,
    outcome: Outcome,
    points: u32,
    is_trial: bool,
    is_open: bool,
}

/// One request as its client sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    started: Time,
    tries: usize,
    hedged: bool,
    /// Attempts that may be under way, the latest ones.
    attempts: [Option<usize>; 2],
    pub(super) took: Option<Duration>,
    pub(super) failed: bool,
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) now: Time,
    pub(super) backends: Vec<Backend>,
    pub(super) clients: Vec<Client>,
    /// Who went out when, and who came back with its whole share or a part of it.
    pub(super) changes: Vec<(Time, usize, HealthState)>,
    norm: Norm,
    rules: Rules,
    attempts: Vec<Attempt>,
    queue: BinaryHeap<Reverse<(Time, usize, Happening)>>,
    happenings: usize,
    turn: usize,
    woken_at: Option<Time>,
    rng: Rng,
}

const TIMEOUT: Duration = Duration::from_millis(500);

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    pub(super) fn new(setup: Setup, seed: u64) -> Self {
        let norm = Norm::new(&setup.outlier);
        let rules = Rules::new(&setup.outlier, setup.slow_start, None);
        let now = Time::default().after(ms(1));
        let backend = |_| Backend {
            vitals: Vitals::new(&norm),
            machine: Machine::new(false, &rules),
            latency: setup.latency,
            fault: None,
        };
        let backends = (0..setup.backends).map(backend).collect();
        let mut world = Self {
            backends,
            setup,
            now,
            norm,
            rules,
            clients: Vec::new(),
            changes: Vec::new(),
            attempts: Vec::new(),
            queue: BinaryHeap::new(),
            happenings: 0,
            turn: 0,
            woken_at: None,
            rng: Rng::new(seed),
        };
        world.at(now, Happening::Arrives);
        world
    }

    fn at(&mut self, time: Time, happening: Happening) {
        self.happenings += 1;
        self.queue.push(Reverse((time, self.happenings, happening)));
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(&Reverse((time, _, happening))) = self.queue.peek() {
            if time > end {
                break;
            }
            self.queue.pop();
            self.now = time;
            self.happen(happening);
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives => {
                let client = Client {
                    started: self.now,
                    tries: 0,
                    hedged: false,
                    attempts: [None; 2],
                    took: None,
                    failed: false,
                };
                self.clients.push(client);
                self.send(self.clients.len() - 1, None);
                let mean = Duration::from_secs_f64(1.0 / self.setup.requests_per_s);
                let poisson = Latency::Exponential { mean_ms: mean.as_secs_f64() * 1_000.0 };
                let gap = if self.setup.poisson { poisson.draw(&mut self.rng) } else { mean };
                self.at(self.now.after(gap), Happening::Arrives);
            }
            Happening::Overdue { attempt } => self.overdue(attempt),
            Happening::GivesUp { attempt } => self.end(attempt, Outcome::Failure(Failure::TimedOut)),
            Happening::Ends { attempt } => {
                let Attempt { backend, outcome, .. } = self.attempts[attempt];
                if self.backends[backend].fault == Some(Fault::Hangs) {
                    self.at(self.now.after(ms(5)), Happening::Ends { attempt });
                } else {
                    self.end(attempt, outcome);
                }
            }
            Happening::Wake => {
                self.woken_at = None;
                let step = self.judge_all();
                self.follow(step);
            }
        }
    }

    // ---- the clients ----

    fn send(&mut self, client: usize, avoid: Option<usize>) {
        let (backend, is_trial) = self.pick(avoid);
        let mut took = self.backends[backend].latency.draw(&mut self.rng);
        let outcome = match self.backends[backend].fault {
            Some(Fault::Refuses) => {
                took = Duration::from_micros(100);
                Outcome::Failure(Failure::Refused)
            }
            Some(Fault::Fails { percent }) if self.rng.below(100) < percent => Outcome::Failure(Failure::Answered),
            Some(Fault::Rejects { percent }) if self.rng.below(100) < percent => Outcome::Failure(Failure::Rejected),
            _ => Outcome::Success,
        };
        if let Some(Fault::Delays(delay)) = self.backends[backend].fault {
            took += delay;
        }
        let started = self.now;
        self.attempts.push(Attempt { client, backend, started, outcome, points: 0, is_trial, is_open: true });
        let attempt = self.attempts.len() - 1;
        let [_, last] = self.clients[client].attempts;
        self.clients[client].attempts = [last, Some(attempt)];
        self.clients[client].tries += 1;
        self.at(self.now.after(took), Happening::Ends { attempt });
        self.at(self.now.after(TIMEOUT), Happening::GivesUp { attempt });
        let slow_after = self.norm.slow_after().map(|slow| slow + Duration::from_micros(1));
        for due in [self.setup.hedge_after, slow_after].into_iter().flatten() {
            self.at(self.now.after(due), Happening::Overdue { attempt });
        }
    }

    /// Round robin; who warms up takes its turn with the probability of its share.
    fn pick(&mut self, avoid: Option<usize>) -> (usize, bool) {
        let (now, rules) = (self.now, self.rules);
        let fitness = |backend: &Backend| backend.machine.fitness(now, &rules);
        let on_trial = self.backends.iter().enumerate().position(|(at, backend)| {
            let is_meant = avoid != Some(at) && matches!(fitness(backend), Fitness::OnTrial { .. });
            is_meant && backend.vitals.trial().take(now, true)
        });
        if let Some(backend) = on_trial {
            return (backend, true);
        }
        for _ in 0..20 * self.backends.len() {
            let at = self.turn % self.backends.len();
            self.turn += 1;
            match fitness(&self.backends[at]) {
                Fitness::Fit { percent } if avoid != Some(at) && self.rng.below(100) < u64::from(percent) => {
                    return (at, false);
                }
                _ => {}
            }
        }
        self.turn += 1;
        (self.turn % self.backends.len(), false)
    }

    fn overdue(&mut self, attempt: usize) {
        let Attempt { client, backend, started, is_open, .. } = self.attempts[attempt];
        if !is_open {
            return;
        }
        let points = self.attempts[attempt].points;
        let (points, sign) = self.backends[backend].vitals.overdue(&self.norm, started, self.now, points);
        self.attempts[attempt].points = points;
        self.judge(backend, sign);
        if self.attempts[attempt].is_trial && points > 0 {
            self.end_trial(attempt, Canary::Late);
        }
        let hedges = self.setup.hedge_after.is_some_and(|after| self.now.since(started) >= after);
        if hedges && !self.clients[client].hedged {
            self.clients[client].hedged = true;
            self.send(client, Some(backend));
        }
    }

    fn end(&mut self, attempt: usize, outcome: Outcome) {
        let Attempt { client, backend, started, points, is_trial, is_open, .. } = self.attempts[attempt];
        if !is_open {
            return;
        }
        self.attempts[attempt].is_open = false;
        let sign =
            self.backends[backend].vitals.finished(&self.norm, Ended { outcome, started, now: self.now, points });
        self.judge(backend, sign);
        if is_trial {
            let is_late = self.norm.slow_after().is_some_and(|slow| self.now.since(started) > slow);
            self.end_trial(attempt, Canary::of(outcome, is_late));
        }
        if self.clients[client].took.is_some() || self.clients[client].failed {
            return;
        }
        if outcome.is_success() {
            self.clients[client].took = Some(self.now.since(self.clients[client].started));
            self.cancel_others(client);
        } else if self.clients[client].tries <= self.setup.retries {
            self.send(client, Some(backend));
        } else {
            self.clients[client].failed = true;
        }
    }

    /// What a hedge has won against is dropped: nobody learns how it would have ended.
    fn cancel_others(&mut self, client: usize) {
        for attempt in self.clients[client].attempts.into_iter().flatten() {
            let Attempt { is_open, is_trial, backend, started, .. } = self.attempts[attempt];
            if is_open {
                self.attempts[attempt].is_open = false;
                if is_trial && self.now.since(started) >= self.norm.limits.floor {
                    self.end_trial(attempt, Canary::Bad);
                } else if is_trial {
                    self.backends[backend].vitals.trial().leave(started, true);
                }
            }
        }
    }

    // ---- health, as the balancer runs it ----

    fn end_trial(&mut self, attempt: usize, canary: Canary) {
        let Attempt { backend, started, .. } = self.attempts[attempt];
        self.attempts[attempt].is_trial = false;
        if self.backends[backend].vitals.trial().leave(started, false) {
            let step = self.watch(backend, |court, world| court.tell(&mut world[backend], Event::Canary(canary)));
            self.follow(step);
        }
    }

    fn judge(&mut self, backend: usize, sign: Sign) {
        let step = self.watch(backend, |court, world| court.judge(world, backend, sign));
        self.follow(step);
    }

    fn judge_all(&mut self) -> Step {
        let before: Vec<_> = self.backends.iter().map(|backend| backend.machine.state()).collect();
        let court = Court { norm: &self.norm, rules: &self.rules, now: self.now };
        let step = court.tick(&mut self.backends, self.setup.outlier.canary_timeout);
        for (at, before) in before.into_iter().enumerate() {
            self.note(at, before);
        }
        step
    }

    fn watch(&mut self, at: usize, tell: impl Fn(&Court<'_>, &mut [Backend]) -> Step) -> Step {
        let before = self.backends[at].machine.state();
        let court = Court { norm: &self.norm, rules: &self.rules, now: self.now };
        let step = tell(&court, &mut self.backends);
        self.note(at, before);
        step
    }

    fn note(&mut self, at: usize, before: HealthState) {
        let state = self.backends[at].machine.state();
        if state != before {
            self.changes.push((self.now, at, state));
        }
        self.check_cap();
    }

    fn check_cap(&self) {
        let is_ejected = |backend: &&Backend| {
            let fitness = backend.machine.fitness(self.now, &self.rules);
            matches!(fitness, Fitness::Ejected | Fitness::OnTrial { was_down: false })
        };
        let ejected = self.backends.iter().filter(is_ejected).count();
        let (all, percent) = (self.backends.len(), usize::from(self.setup.outlier.max_ejection_percent));
        let cap = (all * percent / 100).max(1);
        assert!(ejected <= cap, "{ejected} of {all} are ejected");
    }

    fn follow(&mut self, step: Step) {
        let Some(wake_at) = step.wake_at else { return };
        if self.woken_at.is_none_or(|woken_at| wake_at < woken_at) {
            self.woken_at = Some(wake_at);
            self.at(wake_at, Happening::Wake);
        }
    }

    // ---- what came of it ----

    /// When a backend first went out after `since`.
    pub(super) fn out_after(&self, at: usize, since: Time) -> Option<Duration> {
        let is_out = |state| matches!(state, HealthState::Ejected | HealthState::Down);
        let change = self.changes.iter().find(|(time, who, state)| *time >= since && *who == at && is_out(*state));
        change.map(|(time, ..)| time.since(since))
    }

    /// When it first got a share again after `since`.
    pub(super) fn back_after(&self, at: usize, since: Time) -> Option<Duration> {
        let is_back = |state| matches!(state, HealthState::Warming | HealthState::Healthy);
        let change = self.changes.iter().find(|(time, who, state)| *time >= since && *who == at && is_back(*state));
        change.map(|(time, ..)| time.since(since))
    }

    pub(super) fn ejections(&self) -> usize {
        self.changes.iter().filter(|(.., state)| *state == HealthState::Ejected).count()
    }

    /// Clients that began at or after `since` and waited for more than this.
    pub(super) fn waited_over(&self, limit: Duration, since: Time) -> usize {
        let waited =
            |client: &&Client| client.started >= since && client.took.unwrap_or(self.now.since(client.started)) > limit;
        self.clients.iter().filter(waited).count()
    }

    pub(super) fn failed(&self) -> usize {
        self.clients.iter().filter(|client| client.failed).count()
    }
}
