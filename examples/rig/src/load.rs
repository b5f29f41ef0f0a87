//! Open-loop load: requests leave when they were meant to, however slow the answers are.
//!
//! A closed loop (send, wait, send) slows down together with the system it measures and so hides its stalls
//! (coordinated omission). Here arrivals are a Poisson stream drawn from a seed; each request's latency counts from the
//! instant at which it was meant to leave; and a request that cannot leave, as too many are in flight, is a failed one.
//!
//! # Source
//! Schroeder, Wierman, Harchol-Balter: Open versus closed: a cautionary tale, NSDI 2006. Gil Tene: How not to measure
//! latency, 2013.

mod client;
mod depart;
mod faults;
mod record;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

pub(crate) use depart::{ARRIVAL_LANE, Book, Bounds, Pace, Times, depart};

pub use client::{Client, Failure, Request, Response};
pub use faults::{Event, Faults};
pub use record::{Latency, LoadResult, Second};

use crate::clock::{self, Instant};
use crate::progress::Progress;
use crate::rng::Rng;
use record::Record;

/// Why a load cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Nobody to send to.
    #[error("a load needs at least one target")]
    NoTargets,
    /// A rate that is zero, negative or not a number.
    #[error("a load needs a rate above zero, not {0}")]
    BadRate(f64),
    /// No time to measure in.
    #[error("a load needs a duration above zero")]
    NoDuration,
    /// No request may be in flight.
    #[error("a load needs room for at least one request in flight")]
    NoRoom,
}

/// How much load, for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadPlan {
    /// Mean arrivals a second, above 0.
    pub rate: f64,
    /// Load before the measured part, so that queues and caches are as they will be; 1 s.
    pub warm_up: Duration,
    /// The measured part.
    pub duration: Duration,
    /// After so long from its intended start a request has failed; 2 s.
    pub timeout: Duration,
    /// Requests sent and not answered, at most; 4096. One more is counted as failed and not sent.
    pub max_in_flight: usize,
    /// Determines the arrivals.
    pub seed: u64,
}

impl LoadPlan {
    /// `rate` requests a second, measured for `duration`, with the defaults for the rest.
    pub fn new(rate: f64, duration: Duration) -> Self {
        Self {
            rate,
            warm_up: Duration::from_secs(1),
            duration,
            timeout: Duration::from_secs(2),
            max_in_flight: 4096,
            seed: 1,
        }
    }

    /// Sets the warm-up.
    #[must_use]
    pub fn warm_up(mut self, warm_up: Duration) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// A request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// The request as the source made it.
    pub request: Request,
    /// The whole answer, or why there is none.
    pub outcome: Result<Response, Failure>,
    /// When it was meant to leave.
    pub intended: Instant,
    /// When it left.
    pub sent: Instant,
    /// When the answer was there or the wait ended.
    pub finished: Instant,
    /// Whether it counts, that is, whether it was meant to leave after the warm-up.
    pub is_measured: bool,
}

impl Exchange {
    /// The whole answer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn response(&self) -> Result<&Response, Failure> {
        self.outcome.as_ref().map_err(|failure| *failure)
    }

    /// The verdict by status alone: 200 to 299 is well.
    ///
    /// # Errors
    /// Why it counts as failed.
    pub fn verdict(&self) -> Result<(), Failure> {
        match self.response()?.status.as_u16() {
            200..=299 => Ok(()),
            429 | 503 => Err(Failure::Overloaded),
            _ => Err(Failure::Status),
        }
    }
}

/// A load on the targets of a client.
#[derive(Clone, Debug)]
pub struct Load {
    client: Client,
    plan: LoadPlan,
    progress: Option<(String, Progress)>,
}

impl Load {
    /// A load by `plan`.
    ///
    /// # Errors
    /// A plan without rate, duration or room.
    pub fn new(client: Client, plan: LoadPlan) -> Result<Self, LoadError> {
        if !(plan.rate.is_finite() && plan.rate > 0.0) {
            return Err(LoadError::BadRate(plan.rate));
        }
        if plan.duration.is_zero() {
            return Err(LoadError::NoDuration);
        }
        if plan.max_in_flight == 0 {
            return Err(LoadError::NoRoom);
        }
        Ok(Self { client, plan, progress: None })
    }

    /// Writes one line a second about the second before, beginning with `label`.
    #[must_use]
    pub fn progress(mut self, label: impl Into<String>, progress: Progress) -> Self {
        self.progress = Some((label.into(), progress));
        self
    }

    /// Sends what `source` makes and lets `observe` judge each answer; `Exchange::verdict` judges by status.
    ///
    /// `source` is called when a request leaves, one call at a time; `observe` is called once for every request, those
    /// of the warm-up too, from several threads.
    ///
    /// # Cancel safety
    /// Requests in flight are abandoned.
    pub async fn run<S, O>(&self, source: S, observe: O) -> LoadResult
    where
        S: FnMut() -> Request,
        O: Fn(&Exchange) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.run_with_faults(source, observe, Faults::new()).await
    }

    /// As [`run`](Self::run), with `faults` at their times beside the load. Ends when both have ended.
    ///
    /// # Cancel safety
    /// Requests in flight are abandoned, and so are the faults to come.
    pub async fn run_with_faults<S, O>(&self, source: S, observe: O, faults: Faults) -> LoadResult
    where
        S: FnMut() -> Request,
        O: Fn(&Exchange) -> Result<(), Failure> + Send + Sync + 'static,
    {
        let plan = &self.plan;
        let start = clock::now();
        let begin = start + plan.warm_up;
        let record = Arc::new(Mutex::new(Record::new(begin, plan.duration)));
        let pace = Constant {
            rng: Rng::new(plan.seed).fork(ARRIVAL_LANE),
            mean_gap: Duration::from_secs_f64(1.0 / plan.rate),
            intended: start,
            end: begin + plan.duration,
            book: record.clone(),
        };
        let bounds = Bounds { timeout: plan.timeout, max_in_flight: plan.max_in_flight };
        let departures = depart(&self.client, bounds, pace, source, Arc::new(observe));
        let ((), events) = tokio::join!(self.watched(departures, begin, &record), faults.play(begin));
        let record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.result(plan.rate, plan.duration, events)
    }

    /// Runs `departures` while it writes the lines of progress.
    async fn watched(&self, departures: impl Future<Output = ()>, begin: Instant, record: &Mutex<Record>) {
        let Some((label, progress)) = &self.progress else { return departures.await };
        let lines = async {
            for t_s in 0.. {
                clock::sleep_until(begin + Duration::from_secs(t_s + 1)).await;
                let second = record.lock().unwrap_or_else(PoisonError::into_inner).second(t_s);
                let Second { ok, failed, p99_ms, .. } = second;
                progress.line(&format!("{label}  {t_s:>3} s  ok {ok}/s  failed {failed}/s  p99 {p99_ms:.0} ms"));
            }
        };
        tokio::select! {
            () = departures => {}
            () = lines => {}
        }
    }
}

/// A Poisson stream of one rate between two instants.
struct Constant {
    rng: Rng,
    mean_gap: Duration,
    intended: Instant,
    end: Instant,
    book: Arc<Mutex<Record>>,
}

impl Pace for Constant {
    type Book = Mutex<Record>;

    fn next(&mut self) -> Option<(Instant, Arc<Self::Book>)> {
        self.intended += self.rng.exponential(self.mean_gap);
        (self.intended < self.end).then(|| (self.intended, self.book.clone()))
    }
}

impl Book for Mutex<Record> {
    fn leave(&self, _intended: Instant) -> usize {
        0
    }

    fn is_measured(&self, intended: Instant) -> bool {
        self.lock().unwrap_or_else(PoisonError::into_inner).is_measured(intended)
    }

    fn finish(&self, _ticket: usize, times: Times, verdict: Result<(), Failure>) {
        self.lock().unwrap_or_else(PoisonError::into_inner).finish(times, verdict);
    }
}

#[cfg(test)]
mod tests;
