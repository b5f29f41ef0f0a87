//! The highest rate at which a system keeps its promise.
//!
//! Near its capacity a system answers in bursts: minutes pass between the long waits that make up the 99th percentile,
//! so a bisection of short windows, each with a hard verdict, takes a wrong turn early and cannot come back. Here the
//! load never stops and its rate follows the verdicts in small and shrinking steps, up when too few requests exceed the
//! limit and down when too many do, in proportion; the capacity is the average of where the rate has been since it first
//! crossed the limit. Noise of single windows averages out, and no model of the system enters the figure: theory tells
//! where to begin, no more. On simulated nodes of known capacity, three repeats of 12 s gave a median 0 to 4 % below it,
//! with a standard deviation of 3 to 4 %; a longer budget or more copies narrow that as their square root.
//!
//! Several copies of the system, each a set of processes of its own, are loaded side by side. Each repeat has its own
//! copies and its own search, so that the spread of the repeats is one of independent measurements.
//!
//! # Source
//! Robbins and Monro, A stochastic approximation method, 1951; Polyak and Juditsky, Acceleration of stochastic
//! approximation by averaging, 1992. We shrink the step at changes of sign only (Kesten 1958).

mod curve;
mod repeat;
mod search;
mod window;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

pub use curve::CurvePoint;

use crate::clock;
use crate::load::{Client, Exchange, Failure, Request};
use crate::progress::Progress;
use crate::rng::Rng;

/// Copies are added while a repeat sees no more requests a second than this.
const REQUESTS_OF_A_REPEAT: f64 = 700.0;
const MAX_COPIES: usize = 4;

/// What counts as keeping the promise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Promise {
    /// The 99th percentile of latency is at most this, in milliseconds; 150.
    pub p99_ms: f64,
    /// The share of failed requests is below this; 0.001.
    pub failed_ratio: f64,
}

impl Default for Promise {
    fn default() -> Self {
        Self { p99_ms: 150.0, failed_ratio: 0.001 }
    }
}

/// How a capacity is to be found.
#[derive(Clone, Debug)]
pub struct CapacityPlan {
    /// Begins each line of progress, such as `02 split tiers`.
    pub label: String,
    /// Where the answer is expected, in requests a second, such as theory's figure. A wrong one costs time and
    /// precision; one that is wrong several times over may end without a figure.
    pub expected_rate: f64,
    /// Independent measurements; 3. Their least and greatest are the spread.
    pub repeats: usize,
    /// Repeats under way at the same time; all of them. Use 1 where they would compete, as with no modelled time.
    pub at_once: usize,
    /// Copies of the system in each repeat that are measured side by side and pooled. More calm the figure of a small
    /// system, and cost processes. The default is 1 to 4, so many that a repeat sees at most 700 requests a second.
    pub copies: usize,
    /// Load time of each repeat; 12 s. Less widens the spread. A wrong expectation may double it.
    pub budget: Duration,
    /// The promise.
    pub promise: Promise,
    /// Determines the arrivals.
    pub seed: u64,
}

impl CapacityPlan {
    /// The defaults around an expected rate.
    pub fn new(label: impl Into<String>, expected_rate: f64) -> Self {
        let repeats = 3;
        Self {
            label: label.into(),
            expected_rate,
            repeats,
            at_once: repeats,
            copies: ((REQUESTS_OF_A_REPEAT / expected_rate).floor() as usize).clamp(1, MAX_COPIES),
            budget: Duration::from_secs(12),
            promise: Promise::default(),
            seed: 1,
        }
    }

    /// How many systems are loaded at the same time.
    pub fn slots(&self) -> usize {
        self.at_once.min(self.repeats) * self.copies
    }

    fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (self.expected_rate.is_finite() && self.expected_rate > 0.0, "an expected rate above zero"),
            (self.repeats > 0, "at least one repeat"),
            (self.at_once > 0, "at least one repeat at a time"),
            (self.copies > 0, "at least one copy of the system"),
            (self.budget >= Duration::from_secs(4), "a budget of 4 s or more"),
            (self.promise.p99_ms >= 1.0 && self.promise.p99_ms <= 10_000.0, "a limit on p99 of 1 ms to 10 s"),
            (self.promise.failed_ratio > 0.0 && self.promise.failed_ratio < 1.0, "a failed share between 0 and 1"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(*rule))
    }
}

/// Which copy of the system is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyId {
    /// The repeat, from 0.
    pub repeat: usize,
    /// The copy within the repeat, from 0.
    pub copy: usize,
    /// A number below [`CapacityPlan::slots`] that no other copy has at the same time: repeats that run one after the
    /// other may share the processes of a slot.
    pub slot: usize,
    /// For whatever is random in this copy.
    pub seed: u64,
}

type Source = Box<dyn FnMut() -> Request + Send>;
type Observe = Arc<dyn Fn(&Exchange) -> Result<(), Failure> + Send + Sync>;

/// A running copy of the system, and what to ask it.
pub struct Subject {
    client: Client,
    source: Source,
    observe: Observe,
    guard: Box<dyn Any>,
}

impl Subject {
    /// Asks the targets of `client` what `source` makes and lets `observe` judge; [`Exchange::verdict`] judges by status.
    pub fn new<S, O>(client: Client, source: S, observe: O) -> Self
    where
        S: FnMut() -> Request + Send + 'static,
        O: Fn(&Exchange) -> Result<(), Failure> + Send + Sync + 'static,
    {
        Self { client, source: Box::new(source), observe: Arc::new(observe), guard: Box::new(()) }
    }

    /// Holds `guard`, such as the [`Supervisor`](crate::Supervisor) of this copy, until its measurement is over.
    #[must_use]
    pub fn keep(mut self, guard: impl Any) -> Self {
        self.guard = Box::new(guard);
        self
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("client", &self.client).finish_non_exhaustive()
    }
}

/// A measured capacity.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// Requests a second: the median of the repeats.
    pub rate: f64,
    /// The least of the repeats.
    pub low: f64,
    /// The greatest of the repeats.
    pub high: f64,
    /// Median latency at that rate in milliseconds, read from the smoothed curve.
    pub p50_ms: f64,
    /// 99th percentile at that rate in milliseconds, read from the smoothed curve.
    pub p99_ms: f64,
    /// Failed share near that rate.
    pub failed_ratio: f64,
    /// Each repeat's own figure, in order.
    pub repeats: Vec<f64>,
    /// Latency against offered load, by ascending rate, all repeats pooled.
    pub curve: Vec<CurvePoint>,
    /// How late the generator itself sent, 99th percentile in milliseconds; more than a few means a busy machine.
    pub late_p99_ms: f64,
    /// The promise that was kept.
    pub promise: Promise,
}

/// Why there is no figure.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CapacityError<E> {
    /// A plan that cannot be carried out.
    #[error("a capacity needs {0}")]
    BadPlan(&'static str),
    /// Even at this low rate the promise is broken.
    #[error("the promise is broken even at {rate:.1} requests a second ({:.1} % failed)", failed_ratio * 100.0)]
    NoCapacity {
        /// The lowest rate tried.
        rate: f64,
        /// Failed share there.
        failed_ratio: f64,
    },
    /// The promise is kept at every rate tried: what limits the system was not found.
    #[error("the promise is still kept at {rate:.1} requests a second, where {expected_rate:.1} were expected")]
    NoLimit {
        /// The highest rate tried.
        rate: f64,
        /// The expected one.
        expected_rate: f64,
    },
    /// A copy of the system could not be had.
    #[error("a copy of the system could not be started")]
    Subject(#[source] E),
}

/// Finds the capacity of a system, of which `make` gives running copies.
///
/// # Errors
/// See [`CapacityError`].
///
/// # Cancel safety
/// The load stops and the copies' guards are dropped.
pub async fn measure_capacity<M, Fut, E>(
    plan: &CapacityPlan,
    make: M,
    progress: &Progress,
) -> Result<Capacity, CapacityError<E>>
where
    M: Fn(CopyId) -> Fut,
    Fut: Future<Output = Result<Subject, E>>,
{
    plan.check().map_err(CapacityError::BadPlan)?;
    let at_once = plan.at_once.min(plan.repeats);
    let mut measured = Vec::new();
    for begin in (0..plan.repeats).step_by(at_once) {
        let batch = begin..(begin + at_once).min(plan.repeats);
        let board = Board::new(batch.clone());
        let repeats = batch.map(|index| repeat::measure(plan, index, &make, &board)).collect();
        let outcomes = tokio::select! {
            outcomes = join_all(repeats) => outcomes,
            never = board.report(&plan.label, progress) => match never {},
        };
        for outcome in outcomes {
            measured.push(outcome?);
        }
    }
    Ok(curve::summarise(plan, &measured))
}

impl CapacityPlan {
    fn copy(&self, repeat: usize, copy: usize) -> CopyId {
        let index = repeat * self.copies + copy;
        let slot = (repeat % self.at_once.min(self.repeats)) * self.copies + copy;
        CopyId { repeat, copy, slot, seed: Rng::new(self.seed).fork(index as u64).next_u64() }
    }
}

/// What each repeat does at present, for the line of progress.
struct Board {
    first: usize,
    states: Mutex<Vec<String>>,
}

enum Never {}

impl Board {
    fn new(repeats: std::ops::Range<usize>) -> Self {
        Self { first: repeats.start, states: Mutex::new(vec!["starting".to_owned(); repeats.len()]) }
    }

    fn post(&self, repeat: usize, state: String) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)[repeat - self.first] = state;
    }

    async fn report(&self, label: &str, progress: &Progress) -> Never {
        for second in 1u64.. {
            clock::sleep(Duration::from_secs(1)).await;
            let states = self.states.lock().unwrap_or_else(PoisonError::into_inner).join(" | ");
            progress.line(&format!("{label}  {second:>3} s  {states}"));
        }
        std::future::pending().await
    }
}

/// Runs futures side by side in this task, to the end of the last.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let unfinished = running.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none());
        let mut is_done = true;
        for (future, output) in unfinished {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
