//! Which backends may get requests: a small machine for each, fed by what requests and probes found.
//!
//! Nothing here reads a clock, sleeps or sends: events and the time go in, and what is to be done comes out as a
//! [`Step`].
//!
//! | state | takes requests | leaves it |
//! |---|---|---|
//! | Unknown | yes, unless the first probe is waited for | to Healthy with the first good answer |
//! | Healthy | yes | to Ejected as an outlier, to Down when refused or when probes fail |
//! | Suspect | yes: an outlier, but too many are out already | as Healthy; to Healthy when its score is down again |
//! | Ejected | no | to Probation when its time is over; to Healthy by an amnesty; to Down |
//! | Probation | one request at a time, the *canary* | to Warming after some good canaries; to Ejected, for longer, after a bad one or the second late one; to Down |
//! | Warming | a share that grows | to Healthy at the end of the ramp; as Healthy, but on half the evidence |
//! | Down | no | to Warming when probes succeed; without probes, to Probation when its time is over |
//!
//! Ejections make work for others, and who has too much to do fails. So where much of a pool is out, or came back just now,
//! nobody else is ejected by suspicion: it would be the next, and the next after that.
//!
//! An ejection that made things worse is taken back: if most of those who are left get into trouble, too, all that were
//! ejected by suspicion return at once, with their full share, and nobody is ejected for a while (the *amnesty*). What
//! the pool suffers from is then too much work, and it is carried best by all.
//!
//! Ejected and Down differ in what is known. Nobody serves at a backend that is down: it stays out even in a panic, and
//! is not counted against the share of backends that may be ejected.
//!
//! A trial is made with real requests even where probes are sent: a backend may answer probes well and requests badly.
//! It waits until probes do not fail, so what probes can find costs no request.
//!
//! # How it fits together
//! [`Vitals`] (hot, one a backend) turn results into signs; [`is_outlier`] compares with the peers; [`Machine`] (one a
//! backend, behind the control lock) decides; [`active::Schedule`] says when to probe; [`Rules`] are the settings.
//!
//! ```text
//! a request ends ──> Vitals::finished ──> Sign::Suspect ──> is_outlier? ──> Machine::on(Event::Outlier) ──> Step
//!                                                                                                           publish?
//! a probe ends ────> Schedule::finished ─> Verdict ───────────────────────> Machine::on(Event::Up / Down) ─> wake at?
//! time passes ─────────────────────────────────────────────────────────────> Machine::on(Event::Time)
//! ```

use std::time::Duration;

use crate::Outcome;
use crate::slow_start::SlowStart;
use crate::time::Time;

pub(crate) mod active;
pub(crate) mod config;
mod eject;
pub(crate) mod judge;
mod latency;
mod passive;
mod trial;
mod vitals;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use config::{OutlierConfig, ProbeConfig, SlowStartConfig};
pub(crate) use eject::{Group, Terms};
pub(crate) use passive::{MAX_PEERS, Norm, is_outlier};
pub(crate) use vitals::{Ended, Sign, Vitals};

use eject::Spell;

/// What is thought of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum HealthState {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It answers well.
    Healthy,
    /// It does worse than others, but too many are out already.
    Suspect,
    /// It was out and takes a growing part of its share.
    Warming,
    /// It does worse than others and takes no requests for a while.
    Ejected,
    /// It is tried with one request at a time.
    Probation,
    /// Nobody serves there.
    Down,
}

/// What happened to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Requests found it worse than its peers. The group is its own, itself included.
    Outlier(Group),
    /// A connection was refused.
    Refused,
    /// It gave a good answer, and there is no reason to suspect it.
    Calm,
    /// A request of its trial ended.
    Canary(Canary),
    /// Enough probes in a row agree.
    Probes(Verdict),
    /// Those who are left without it do worse than it did: it is taken back.
    Amnesty,
    /// Time passed.
    Time,
}

/// How a request of a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Canary {
    Good,
    /// It has waited longer than most do, and failed at nothing. That happens to the best: one of a trial is forgiven.
    Late,
    /// It failed, or its client gave it up after it had waited.
    Bad,
}

impl Canary {
    pub(crate) fn of(outcome: Outcome, is_slow: bool) -> Self {
        match (outcome.is_success(), is_slow) {
            (true, false) => Self::Good,
            (true, true) => Self::Late,
            (false, _) => Self::Bad,
        }
    }
}

/// How a row of probes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Good,
    Bad,
}

/// What follows from an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a step that is not taken leaves the tables as they were"]
pub(crate) struct Step {
    /// Whether the tables must be built again.
    pub(crate) publish: bool,
    /// When the machine wants [`Event::Time`].
    pub(crate) wake_at: Option<Time>,
}

/// The settings, prepared; one for all backends of a balancer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    terms: Terms,
    slow_start: SlowStart,
    canaries: u32,
    is_probed: bool,
    waits_for_probe: bool,
}

impl Rules {
    /// The settings were checked. `probes` is `None` where backends are not probed.
    pub(crate) fn new(outlier: &OutlierConfig, slow_start: SlowStartConfig, probes: Option<&ProbeConfig>) -> Self {
        Self {
            terms: Terms::new(outlier),
            slow_start: SlowStart::new(slow_start),
            canaries: outlier.canaries,
            is_probed: probes.is_some(),
            waits_for_probe: probes.is_some_and(|probes| !probes.assume_up),
        }
    }

    /// The share at the beginning of a ramp.
    fn first_percent(&self) -> u8 {
        self.slow_start.percent(Time::default(), Time::default())
    }
}

/// What health says of a backend's share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// It takes this share, from 1 to 100 percent.
    Fit { percent: u8 },
    /// None, by suspicion; in a panic all the same.
    Ejected,
    /// One request at a time; in a panic as many as come, unless nobody served there before.
    OnTrial { was_down: bool },
    /// None.
    Down,
}

impl Fitness {
    /// Whether nobody served there the last time that it was tried.
    pub(crate) const fn is_down(self) -> bool {
        matches!(self, Self::Down | Self::OnTrial { was_down: true })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Healthy,
    Suspect,
    /// Of a newcomer nobody knows since when; from the first time that is told on it warms up.
    Joining,
    Warming {
        since: Time,
    },
    Ejected {
        until: Time,
    },
    Probation {
        passed: u32,
        has_been_late: bool,
        was_down: bool,
    },
    /// Until probes succeed, if there is no time.
    Down {
        until: Option<Time>,
    },
}

/// The health of one backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    state: State,
    spell: Spell,
    /// Whether the last row of probes that agreed was a bad one.
    probes_fail: bool,
}

impl Machine {
    /// Of a backend that has just joined. It is warmed up if it joins others that work already.
    pub(crate) fn new(is_late: bool, rules: &Rules) -> Self {
        let state = match rules.waits_for_probe {
            true => State::Down { until: None },
            false if is_late && rules.first_percent() < 100 => State::Joining,
            false => State::Unknown,
        };
        Self { state, spell: Spell::default(), probes_fail: false }
    }

    /// What is thought of it.
    pub(crate) fn state(&self) -> HealthState {
        match self.state {
            State::Unknown => HealthState::Unknown,
            State::Healthy => HealthState::Healthy,
            State::Suspect => HealthState::Suspect,
            State::Joining | State::Warming { .. } => HealthState::Warming,
            State::Ejected { .. } => HealthState::Ejected,
            State::Probation { .. } => HealthState::Probation,
            State::Down { .. } => HealthState::Down,
        }
    }

    /// What that means for its share.
    pub(crate) fn fitness(&self, now: Time, rules: &Rules) -> Fitness {
        match self.state {
            State::Unknown | State::Healthy | State::Suspect => Fitness::Fit { percent: 100 },
            State::Joining => Fitness::Fit { percent: rules.first_percent() },
            State::Warming { since } => Fitness::Fit { percent: rules.slow_start.percent(since, now) },
            State::Ejected { .. } => Fitness::Ejected,
            State::Probation { was_down: false, .. } if self.probes_fail => Fitness::Ejected,
            State::Probation { was_down, .. } => Fitness::OnTrial { was_down },
            State::Down { .. } => Fitness::Down,
        }
    }

    /// How many times it was ejected in its present spell of trouble.
    pub(crate) fn ejections(&self) -> u32 {
        self.spell.count()
    }

    /// Whether others may still suffer from its absence.
    pub(crate) fn is_missed(&self, window: Duration, now: Time) -> bool {
        let is_out = match self.state {
            State::Ejected { .. } | State::Probation { was_down: false, .. } => true,
            // Nobody knows whether it ever comes back, and the others do its work as their own by then.
            State::Down { .. } | State::Probation { .. } => self.spell.has_begun_within(window, now),
            _ => false,
        };
        self.spell.is_felt(is_out, window, now)
    }

    /// Whether probes should come faster.
    pub(crate) fn is_urgent(&self) -> bool {
        !matches!(self.state, State::Healthy | State::Joining | State::Warming { .. })
    }

    /// Takes an event in.
    pub(crate) fn on(&mut self, event: Event, now: Time, rules: &Rules) -> Step {
        let before = self.fitness(now, rules);
        if let Event::Probes(verdict) = event {
            self.probes_fail = verdict == Verdict::Bad;
        }
        // A ramp was published with the share of an earlier time.
        let ramps = matches!(self.state, State::Warming { .. }) && event == Event::Time;
        self.state = self.next(event, now, rules);
        let publish = ramps || before != self.fitness(now, rules);
        Step { publish, wake_at: self.wake_at(now, rules) }
    }

    fn next(&mut self, event: Event, now: Time, rules: &Rules) -> State {
        match (self.state, event) {
            (state, Event::Time) => self.after_time(state, now, rules),
            (State::Down { .. }, Event::Probes(Verdict::Good)) => self.warm(now, rules),
            (state @ State::Down { .. }, _) => state,
            (state, Event::Refused) => self.refused(state, now, rules),
            (_, Event::Probes(Verdict::Bad)) => State::Down { until: None },
            (state @ State::Probation { .. }, Event::Canary(canary)) => self.after_canary(state, canary, now, rules),
            (
                State::Unknown | State::Healthy | State::Suspect | State::Joining | State::Warming { .. },
                Event::Outlier(group),
            ) => self.outlier(group, now, rules),
            (State::Ejected { .. } | State::Probation { was_down: false, .. }, Event::Amnesty) => {
                self.spell.end(now);
                State::Healthy
            }
            (State::Unknown, Event::Probes(Verdict::Good)) => State::Healthy,
            (State::Unknown | State::Suspect, Event::Calm) => State::Healthy,
            (state, _) => state,
        }
    }

    fn after_canary(&mut self, state: State, canary: Canary, now: Time, rules: &Rules) -> State {
        let State::Probation { passed, has_been_late, was_down } = state else { return state };
        match canary {
            Canary::Good if passed + 1 < rules.canaries => {
                State::Probation { passed: passed + 1, has_been_late, was_down }
            }
            Canary::Good => self.warm(now, rules),
            Canary::Late if !has_been_late => State::Probation { passed, has_been_late: true, was_down },
            Canary::Late | Canary::Bad => {
                let until = self.spell.eject(false, now, &rules.terms);
                if was_down { State::Down { until: Some(until) } } else { State::Ejected { until } }
            }
        }
    }

    fn outlier(&mut self, group: Group, now: Time, rules: &Rules) -> State {
        if rules.terms.have_room(group) {
            State::Ejected { until: self.spell.eject(true, now, &rules.terms) }
        } else if let State::Joining | State::Warming { .. } = self.state {
            self.state
        } else {
            State::Suspect
        }
    }

    fn refused(&mut self, state: State, now: Time, rules: &Rules) -> State {
        let was_serving = !matches!(state, State::Ejected { .. } | State::Probation { .. });
        let until = self.spell.eject(was_serving, now, &rules.terms);
        // Where probes are sent, they find out when somebody serves again, and no request is risked.
        State::Down { until: (!rules.is_probed).then_some(until) }
    }

    fn warm(&mut self, now: Time, rules: &Rules) -> State {
        self.spell.end(now);
        if rules.first_percent() < 100 { State::Warming { since: now } } else { State::Healthy }
    }

    fn after_time(&self, state: State, now: Time, rules: &Rules) -> State {
        match state {
            State::Ejected { until } if now >= until => {
                State::Probation { passed: 0, has_been_late: false, was_down: false }
            }
            State::Down { until: Some(until) } if now >= until => {
                State::Probation { passed: 0, has_been_late: false, was_down: true }
            }
            State::Joining => State::Warming { since: now },
            State::Warming { since } if rules.slow_start.percent(since, now) == 100 => State::Healthy,
            _ => state,
        }
    }

    fn wake_at(&self, now: Time, rules: &Rules) -> Option<Time> {
        match self.state {
            State::Ejected { until } => Some(until),
            State::Down { until } => until,
            State::Joining => Some(now),
            State::Warming { since } => Some(rules.slow_start.next_step(since, now).unwrap_or(now)),
            State::Unknown | State::Healthy | State::Suspect | State::Probation { .. } => None,
        }
    }
}
