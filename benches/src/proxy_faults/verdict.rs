//! From all that was seen in a run to its figures, and whether the run can be believed.

use std::time::Duration;

use super::arrivals::{count_within, fell_silent, first_since};
use super::fleet::COUNT;
use super::sample::{Latencies, Outcome, Sample};
use super::scenario::{Scenario, VICTIM};
use super::trial::Record;

/// Answers later than this are slow.
pub const SLOW: Duration = Duration::from_millis(50);

/// What a proxy may need to act on what it has detected.
pub const REACTION: Duration = Duration::from_millis(100);

/// So long after the healing, slow answers still belong to the fault.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How long a backend that was stopped takes to work off, and record, what had been sent to it meanwhile.
const BACKLOG: Duration = Duration::from_millis(50);

/// The figures of one run. Times count from the fault or from the healing, as their names say.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Requests that count.
    pub requests: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those answered late, of what was meant to leave from the fault to a second after the healing; of all, without a fault.
    pub slow: usize,
    /// Of the slow, those meant to leave more than [`REACTION`] after the backend was ejected, or after the fault if it was
    /// not.
    pub slow_after_detection: usize,
    /// Half of the good answers took at most so long.
    pub p50: Duration,
    /// 99 of a hundred.
    pub p99: Duration,
    /// The latest of the same.
    pub max: Duration,
    /// The latest before the fault.
    pub max_before: Duration,
    /// From the fault until the proxy said that it had taken the backend out of rotation.
    pub ejected: Option<Duration>,
    /// From the fault until the last request that the backend got before a silence.
    pub silent: Option<Duration>,
    /// From the healing until the first request that the backend got, if it had fallen silent.
    pub returned: Option<Duration>,
    /// From the healing until the last request that failed was meant to leave.
    pub recovered: Duration,
    /// Requests that the backends got during the fault over those that were offered.
    pub amplification: Option<f64>,
    /// Processors that were busy with something else meanwhile.
    pub busy_elsewhere: f64,
}

/// Why a run proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsound {
    /// Requests failed while everything was well.
    #[error("{count} requests failed without a fault, the first with {outcome:?}")]
    FailedBefore {
        /// How many.
        count: usize,
        /// How the first of them ended.
        outcome: Outcome,
    },
    /// More good answers than the backends gave.
    #[error("backend {backend} had {arrivals} requests, but gave {answers} answers")]
    Miscounted {
        /// The backend.
        backend: usize,
        /// Requests that it got.
        arrivals: usize,
        /// Good answers that carried its name.
        answers: usize,
    },
}

impl Figures {
    /// The figures of a run.
    ///
    /// # Errors
    ///
    /// [`Unsound`] if the run contradicts itself or failed without a fault.
    pub fn of(record: &Record) -> Result<Self, Unsound> {
        check(record)?;
        let Record { scenario, timeline, samples, .. } = record;
        let counted = || samples.iter().filter(|sample| timeline.counts(sample.intended));
        let is_faultless = scenario.is_faultless();
        let (ejected, silent) = (ejected(record), silent(record));
        let is_detected = ejected.or(silent).unwrap_or_default() + timeline.fault + REACTION;
        let failed = counted().filter(|sample| sample.failed());
        let recovered = failed.map(|sample| sample.intended.saturating_sub(timeline.heal)).max();
        let latencies = Latencies::of(counted());
        // Beyond, what makes a request slow is the machine, and falls on whoever has his turn.
        let aftermath = timeline.heal + AFTERMATH;
        let affected = || counted().filter(|s| is_faultless || s.intended >= timeline.fault && s.intended < aftermath);
        let slow = || affected().filter(|sample| sample.is_slow(SLOW));
        Ok(Self {
            requests: counted().count(),
            failed: counted().filter(|sample| sample.failed()).count(),
            slow: slow().count(),
            slow_after_detection: slow().filter(|sample| sample.intended >= is_detected).count(),
            p50: latencies.percentile(50.0),
            p99: latencies.percentile(99.0),
            max: Latencies::of(affected()).max(),
            max_before: Latencies::of(counted().filter(|sample| sample.intended < timeline.fault)).max(),
            ejected,
            silent,
            returned: returned(record, ejected.is_some() || silent.is_some()),
            recovered: recovered.unwrap_or_default(),
            amplification: amplification(record),
            busy_elsewhere: record.cost.others_cpu.as_secs_f64() / timeline.end.as_secs_f64(),
        })
    }
}

/// When the proxy said that it had ejected the victim.
fn ejected(Record { scenario, timeline, rotations, .. }: &Record) -> Option<Duration> {
    let is_asked = !scenario.is_faultless() && *scenario != Scenario::Rolling;
    let found = rotations.iter().find(|(at, rotation)| *at >= timeline.fault && !rotation[VICTIM]);
    found.filter(|_| is_asked).map(|(at, _)| *at - timeline.fault)
}

/// When the victim's own record fell silent. A stopped one records nothing, whatever is sent to it.
fn silent(Record { scenario, timeline, arrivals, .. }: &Record) -> Option<Duration> {
    let is_told = !scenario.is_faultless() && !scenario.loses_records() && *scenario != Scenario::Hang;
    let found = is_told.then(|| fell_silent(&arrivals[VICTIM], timeline.fault, timeline.heal)).flatten();
    found.map(|at| at - timeline.fault)
}

/// When the victim, if it had been left alone, had a request again that was sent to it after the healing.
fn returned(Record { scenario, timeline, arrivals, .. }: &Record, was_left_alone: bool) -> Option<Duration> {
    let since = match scenario {
        Scenario::Hang => timeline.heal + BACKLOG,
        _ => timeline.heal,
    };
    let is_told =
        *scenario != Scenario::Rolling && (was_left_alone || matches!(scenario, Scenario::Kill | Scenario::Hang));
    is_told.then(|| first_since(&arrivals[VICTIM], since)).flatten().map(|at| at - timeline.heal)
}

fn amplification(record: &Record) -> Option<f64> {
    let Record { scenario, timeline, samples, arrivals, .. } = record;
    let offered = samples.iter().filter(|sample| timeline.is_faulty(sample.intended)).count();
    let until = |backend: usize| match scenario {
        Scenario::Hang if backend == VICTIM => timeline.heal + BACKLOG,
        _ => timeline.heal,
    };
    let within = |backend: usize| count_within(&arrivals[backend], timeline.fault, until(backend));
    let got: usize = (0..COUNT).map(within).sum();
    (!scenario.loses_records() && offered > 0).then(|| got as f64 / offered as f64)
}

fn check(record: &Record) -> Result<(), Unsound> {
    let Record { scenario, timeline, samples, arrivals, .. } = record;
    let is_before = |sample: &&Sample| scenario.is_faultless() || sample.intended + sample.latency < timeline.fault;
    let failed: Vec<&Sample> = samples.iter().filter(is_before).filter(|sample| sample.failed()).collect();
    if let Some(first) = failed.first() {
        return Err(Unsound::FailedBefore { count: failed.len(), outcome: first.outcome });
    }
    for backend in (0..COUNT).filter(|_| !scenario.loses_records()) {
        let is_its = |sample: &&Sample| sample.outcome == Outcome::Good(Some(backend as u8));
        let (answers, arrivals) = (samples.iter().filter(is_its).count(), arrivals[backend].len());
        if answers > arrivals {
            return Err(Unsound::Miscounted { backend, arrivals, answers });
        }
    }
    Ok(())
}

/// The requests that failed or were slow, one a line, at most `limit`: when they left from the fault on, and what became of
/// them.
#[must_use]
pub fn explain(record: &Record, limit: usize) -> Vec<String> {
    let from_fault = |at: Duration| (at.as_secs_f64() - record.timeline.fault.as_secs_f64()) * 1e3;
    let turns =
        record.rotations.iter().map(|(at, rotation)| format!("{:+9.1} ms rotation {rotation:?}", from_fault(*at)));
    let bad = record.samples.iter().filter(|sample| record.timeline.counts(sample.intended));
    let bad =
        bad.filter(|sample| sample.failed() || sample.is_slow(SLOW)).map(|Sample { intended, latency, outcome }| {
            format!("{:+9.1} ms {outcome:?} after {:.1} ms", from_fault(*intended), latency.as_secs_f64() * 1e3)
        });
    turns.chain(bad.take(limit)).collect()
}

#[cfg(test)]
mod tests;
