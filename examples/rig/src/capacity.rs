//! The highest rate at which a system keeps its promise.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::load::LoadResult;
use crate::progress::Progress;

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
    /// Where the answer is expected, in requests a second, such as theory's figure. A wrong one costs time only.
    pub expected_rate: f64,
    /// Independent measurements; 3. Their least and greatest are the spread.
    pub repeats: usize,
    /// Copies of the system in each repeat that are measured side by side and pooled; 1. More copies calm the figure of
    /// a small system, and cost processes.
    pub copies: usize,
    /// Load time of each repeat, all windows together; 15 s. Less widens the spread.
    pub budget: Duration,
    /// The promise.
    pub promise: Promise,
    /// Determines the arrivals of every window.
    pub seed: u64,
}

impl CapacityPlan {
    /// The defaults around an expected rate.
    pub fn new(label: impl Into<String>, expected_rate: f64) -> Self {
        Self {
            label: label.into(),
            expected_rate,
            repeats: 3,
            copies: 1,
            budget: Duration::from_secs(15),
            promise: Promise::default(),
            seed: 1,
        }
    }
}

/// One window that the search asks for: this much load on this copy of the system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// The repeat, from 0.
    pub repeat: usize,
    /// The copy within the repeat, from 0.
    pub copy: usize,
    /// Requests a second on this copy.
    pub rate: f64,
    /// Load before the measured part.
    pub warm_up: Duration,
    /// The measured part.
    pub duration: Duration,
    /// For the arrivals.
    pub seed: u64,
}

/// A point of the curve of latency against offered load, all repeats pooled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Requests a second on one system.
    pub rate: f64,
    /// Median in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// Failed share.
    pub failed_ratio: f64,
    /// Requests behind the point.
    pub requests: u64,
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
    /// p99 in milliseconds at that rate, read from the measured curve.
    pub p99_ms: f64,
    /// Failed share in the windows at or below that rate.
    pub failed_ratio: f64,
    /// Each repeat's own figure.
    pub repeats: Vec<f64>,
    /// The measured points, by ascending rate.
    pub curve: Vec<CurvePoint>,
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
    #[error("the promise is broken even at {rate:.1} requests a second (p99 {p99_ms:.0} ms, {:.2} % failed)", failed_ratio * 100.0)]
    NoCapacity {
        /// The lowest rate tried.
        rate: f64,
        /// p99 there.
        p99_ms: f64,
        /// Failed share there.
        failed_ratio: f64,
    },
    /// The promise is kept at every rate tried: what limits the system was not found.
    #[error("the promise is still kept at {rate:.1} requests a second, {factor:.0} times what was expected")]
    NoLimit {
        /// The highest rate tried.
        rate: f64,
        /// That over the expected one.
        factor: f64,
    },
    /// A window could not be measured.
    #[error("a window could not be measured")]
    Probe(#[source] E),
}

/// Finds the capacity of a system; `probe` puts the asked load on the asked copy.
///
/// # Errors
/// See [`CapacityError`].
///
/// # Cancel safety
/// Windows under way are abandoned.
pub async fn measure_capacity<P, Fut, E>(
    plan: &CapacityPlan,
    probe: P,
    progress: &Progress,
) -> Result<Capacity, CapacityError<E>>
where
    P: Fn(Probe) -> Fut,
    Fut: Future<Output = Result<LoadResult, E>>,
{
    let _ = (plan, probe, progress);
    Err(CapacityError::BadPlan("an implementation"))
}
