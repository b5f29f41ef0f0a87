//! All proxies take turns at a scenario, round after round, so that whatever the machine does meanwhile falls on all alike.

use std::io;
use std::time::Duration;

use super::cost::Cost;
use super::fleet::{Fleet, Ports};
use super::load;
use super::proxy::{Candidate, Engine, Programs, Proxy};
use super::row::{FaultRow, ThroughputRow};
use super::sample::{Latencies, Sample};
use super::scenario::Scenario;
use super::schedule::Timeline;
use super::trial;
use super::verdict::{Figures, Unsound, explain};
use crate::cli;

/// Connections of the closed loads.
pub const CONNECTIONS: [u32; 3] = [1, 32, 128];

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of the scenarios with an open load.
    pub timeline: Timeline,
    /// Before all backends fail, in addition: as long as credits for retries live where there are any, so that they are all
    /// there to be spent.
    pub calm: Duration,
    /// Of each closed load, before it counts.
    pub warm_up: Duration,
    /// Of each closed load.
    pub span: Duration,
}

impl Pace {
    /// For figures.
    pub const FULL: Self = Self {
        timeline: Timeline::FULL,
        calm: Duration::from_secs(8),
        warm_up: Duration::from_millis(500),
        span: Duration::from_secs(6),
    };
    /// To see that everything works.
    pub const QUICK: Self = Self {
        timeline: Timeline::QUICK,
        calm: Duration::ZERO,
        warm_up: Duration::from_millis(100),
        span: Duration::from_millis(500),
    };
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContestError {
    /// The processes or sockets of a run failed.
    #[error("{scenario} with {proxy} could not be run")]
    Run {
        /// What was run.
        scenario: &'static str,
        /// Against which proxy.
        proxy: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A run that proves nothing.
    #[error("{scenario} with {proxy} proves nothing")]
    Unsound {
        /// What was run.
        scenario: &'static str,
        /// Against which proxy.
        proxy: &'static str,
        /// Why not.
        source: Unsound,
    },
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Contest {
    /// The proxies.
    pub candidates: Vec<Candidate>,
    /// Their programs. A candidate without one is left out.
    pub programs: Programs,
    /// How often each has its turn, at least 1.
    pub rounds: usize,
    /// How long a turn takes.
    pub pace: Pace,
    /// Of each run, so many failed or slow requests are told on stderr.
    pub explained: usize,
}

impl Contest {
    /// Holds a scenario with an open load.
    ///
    /// # Errors
    ///
    /// [`ContestError`].
    pub fn faults(&self, scenario: Scenario) -> Result<Vec<FaultRow>, ContestError> {
        let calm = if scenario == Scenario::AllFailing { self.pace.calm } else { Duration::ZERO };
        let timeline = self.pace.timeline.after_calm(calm);
        let able = |candidate: &Candidate| scenario.is_faultless() || candidate.engine != Engine::Direct;
        let turns = self.take_turns(scenario, able, |fleet, proxy, name| {
            let record = trial::run(scenario, timeline, fleet, proxy).map_err(Stop::Io)?;
            for line in explain(&record, self.explained).iter().filter(|_| self.explained > 0) {
                cli::remark(format_args!("{} {name} {line}", scenario.name()));
            }
            Figures::of(&record).map_err(Stop::Unsound)
        })?;
        Ok(turns.iter().map(|(candidate, figures)| FaultRow::new(scenario.name(), candidate.name, figures)).collect())
    }

    /// Holds the throughput scenario at a number of connections.
    ///
    /// # Errors
    ///
    /// [`ContestError`].
    pub fn throughput(&self, connections: u32) -> Result<Vec<ThroughputRow>, ContestError> {
        let lap = |fleet: &mut Fleet, proxy: Option<&mut Proxy>, _| self.closed(connections, fleet, proxy.as_deref());
        let turns = self.take_turns(Scenario::Throughput, |_| true, lap)?;
        Ok(turns.iter().map(|(candidate, laps)| ThroughputRow::new(candidate.name, connections, laps)).collect())
    }

    fn closed(&self, connections: u32, fleet: &Fleet, proxy: Option<&Proxy>) -> Result<Lap, Stop> {
        let target = proxy.map_or(fleet.addresses()[0], Proxy::address);
        let count = || Cost::so_far(fleet, proxy);
        let (mut before, mut after) = (None, None);
        let Pace { warm_up, span, .. } = self.pace;
        let closed =
            load::closed(target, connections, warm_up, span, || before = Some(count()), || after = Some(count()));
        let closed = closed.map_err(Stop::Io)?;
        let lack = || Stop::Io(io::Error::other("the load ended while it warmed up"));
        let (before, after) = (before.ok_or_else(lack)?.map_err(Stop::Io)?, after.ok_or_else(lack)?.map_err(Stop::Io)?);
        let failed: Vec<&Sample> = closed.samples.iter().filter(|sample| sample.failed()).collect();
        if let Some(first) = failed.first() {
            return Err(Stop::Unsound(Unsound::FailedBefore { count: failed.len(), outcome: first.outcome }));
        }
        let cost = after.since(&before);
        Ok(Lap {
            requests: closed.samples.len(),
            elapsed: closed.elapsed,
            latencies: Latencies::of(&closed.samples),
            cost,
        })
    }

    /// Runs `turn` for each candidate that is able and here, `rounds` times, each time with backends and a proxy of its own.
    /// A turn without a result is said and left out; a candidate without any ends the contest.
    fn take_turns<T>(
        &self,
        scenario: Scenario,
        able: impl Fn(&Candidate) -> bool,
        turn: impl Fn(&mut Fleet, Option<&mut Proxy>, &'static str) -> Result<T, Stop>,
    ) -> Result<Vec<(Candidate, Vec<T>)>, ContestError> {
        let present = |candidate: &&Candidate| able(candidate) && self.programs.of(candidate).is_some();
        let mut turns: Vec<(Candidate, Vec<T>)> =
            self.candidates.iter().filter(present).map(|&candidate| (candidate, Vec::new())).collect();
        let mut broken = Vec::new();
        for _ in 0..self.rounds {
            for (candidate, results) in &mut turns {
                match self.stage(candidate, &turn) {
                    Ok(result) => results.push(result),
                    Err(stop) => {
                        let error = stop.within(scenario.name(), candidate.name);
                        cli::complain(&error);
                        broken.push((candidate.name, error));
                    }
                }
            }
        }
        // A stall of the machine can break any proxy for once.
        let has_none = |name: &str| turns.iter().any(|(other, results)| other.name == name && results.is_empty());
        if let Some((_, error)) = broken.into_iter().find(|(name, _)| has_none(name)) {
            return Err(error);
        }
        Ok(turns)
    }

    fn stage<T>(
        &self,
        candidate: &Candidate,
        turn: impl Fn(&mut Fleet, Option<&mut Proxy>, &'static str) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let mut ports = Ports::new();
        let mut fleet = Fleet::start(&mut ports).map_err(Stop::Io)?;
        let program = self.programs.of(candidate).unwrap_or_else(|| std::path::Path::new(""));
        let mut proxy = Proxy::start(candidate, program, &fleet.addresses(), &mut ports).map_err(Stop::Io)?;
        turn(&mut fleet, proxy.as_mut(), candidate.name)
    }
}

/// What a closed load came to.
#[derive(Clone, Debug)]
pub struct Lap {
    /// Requests answered.
    pub requests: usize,
    /// Within so long.
    pub elapsed: Duration,
    /// Of the answers.
    pub latencies: Latencies,
    /// What it cost whom.
    pub cost: Cost,
}

enum Stop {
    Io(io::Error),
    Unsound(Unsound),
}

impl Stop {
    fn within(self, scenario: &'static str, proxy: &'static str) -> ContestError {
        match self {
            Self::Io(source) => ContestError::Run { scenario, proxy, source },
            Self::Unsound(source) => ContestError::Unsound { scenario, proxy, source },
        }
    }
}
