//! What a load run has seen: latencies, failures by kind, and both by the second.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::Failure;
use super::depart::Times;
use super::faults::Event;
use crate::clock::Instant;

/// Latencies up to a minute with 3 significant digits.
const MAX_LATENCY_US: u64 = 60_000_000;

/// A distribution of latencies.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("1 us to 60 s with 3 digits is valid");
        Self { histogram }
    }
}

impl Latency {
    /// Adds one latency; what is above a minute counts as a minute.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(us);
    }

    /// Adds every latency of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all histograms here have the same bounds");
    }

    /// The latency that a share of `quantile` (0 to 1) does not exceed, in milliseconds; 0 if there is none.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The share of latencies above `limit`; 0 if there is none.
    pub fn share_above(&self, limit: Duration) -> f64 {
        if self.histogram.is_empty() {
            return 0.0;
        }
        let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let below = self.histogram.count_between(0, limit_us.min(MAX_LATENCY_US));
        (self.count() - below) as f64 / self.count() as f64
    }

    /// The longest latency in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.histogram.max() as f64 / 1000.0
    }

    /// The mean in milliseconds; 0 if there is none.
    pub fn mean_ms(&self) -> f64 {
        if self.histogram.is_empty() { 0.0 } else { self.histogram.mean() / 1000.0 }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }
}

/// One second of a run, by the intended start of its requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Whole seconds since the measured part began.
    pub t_s: u64,
    /// Requests answered well.
    pub ok: u64,
    /// Requests failed.
    pub failed: u64,
    /// p99 of those answered well, in milliseconds; 0 if there is none.
    pub p99_ms: f64,
}

/// The measured part of a load run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoadResult {
    /// Requests a second that were to be sent.
    pub offered_rate: f64,
    /// Length of the measured part in seconds.
    pub duration_s: f64,
    /// Requests whose intended start lies in the measured part: `ok + failed`.
    pub sent: u64,
    /// Those answered well.
    pub ok: u64,
    /// Those not answered well.
    pub failed: u64,
    /// The failed ones by kind.
    pub failures: BTreeMap<Failure, u64>,
    /// Median latency from the intended start, of those answered well, in milliseconds.
    pub p50_ms: f64,
    /// Its 99th percentile.
    pub p99_ms: f64,
    /// Its maximum.
    pub max_ms: f64,
    /// How late the generator itself sent, 99th percentile in milliseconds. Part of every latency; much more than 2 ms
    /// means that the machine, not the system, was measured.
    pub late_p99_ms: f64,
    /// Second by second.
    pub timeline: Vec<Second>,
    /// The faults that were played.
    pub events: Vec<Event>,
    /// The whole distribution.
    #[serde(skip)]
    pub latency: Latency,
}

impl LoadResult {
    /// Failed requests as a share of all; 0 if none was sent.
    pub fn failed_ratio(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.failed as f64 / self.sent as f64 }
    }

    /// Answers a second that came well.
    pub fn goodput(&self) -> f64 {
        if self.duration_s > 0.0 { self.ok as f64 / self.duration_s } else { 0.0 }
    }
}

/// Gathers a run.
#[derive(Debug)]
pub(super) struct Record {
    begin: Instant,
    latency: Latency,
    late: Latency,
    failures: BTreeMap<Failure, u64>,
    seconds: Vec<Bin>,
}

#[derive(Clone, Debug, Default)]
struct Bin {
    failed: u64,
    latencies_us: Vec<u32>,
}

impl Record {
    /// A record of a measured part that begins at `begin`; what was to start before is warm-up.
    pub(super) fn new(begin: Instant, duration: Duration) -> Self {
        let seconds = vec![Bin::default(); duration.as_secs_f64().ceil() as usize];
        Self { begin, latency: Latency::default(), late: Latency::default(), failures: BTreeMap::new(), seconds }
    }

    pub(super) fn is_measured(&self, intended: Instant) -> bool {
        intended >= self.begin
    }

    pub(super) fn finish(&mut self, times: Times, verdict: Result<(), Failure>) {
        let Some(since) = times.intended.checked_duration_since(self.begin) else { return };
        let Some(bin) = self.seconds.get_mut(since.as_secs() as usize) else { return };
        self.late.record(times.sent - times.intended);
        match verdict {
            Ok(()) => {
                let latency = times.finished - times.intended;
                self.latency.record(latency);
                bin.latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
            }
            Err(failure) => {
                bin.failed += 1;
                *self.failures.entry(failure).or_default() += 1;
            }
        }
    }

    pub(super) fn second(&self, t_s: u64) -> Second {
        let Some(bin) = self.seconds.get(t_s as usize) else { return Second { t_s, ..Second::default() } };
        let mut sorted = bin.latencies_us.clone();
        sorted.sort_unstable();
        let p99 = match sorted.len() {
            0 => 0,
            n => sorted[(n * 99).div_ceil(100) - 1],
        };
        Second { t_s, ok: sorted.len() as u64, failed: bin.failed, p99_ms: f64::from(p99) / 1000.0 }
    }

    pub(super) fn result(&self, offered_rate: f64, duration: Duration, events: Vec<Event>) -> LoadResult {
        let failed = self.failures.values().sum();
        let ok = self.latency.count();
        LoadResult {
            offered_rate,
            duration_s: duration.as_secs_f64(),
            sent: ok + failed,
            ok,
            failed,
            failures: self.failures.clone(),
            p50_ms: self.latency.quantile_ms(0.5),
            p99_ms: self.latency.quantile_ms(0.99),
            max_ms: self.latency.max_ms(),
            late_p99_ms: self.late.quantile_ms(0.99),
            timeline: (0..self.seconds.len() as u64).map(|t_s| self.second(t_s)).collect(),
            events,
            latency: self.latency.clone(),
        }
    }
}
