//! Stations that requests visit in a row, along one of several paths.

use std::time::Duration;

use thiserror::Error;

use super::Mmc;
use crate::report::{Curve, Point};

/// Cells of the numeric convolution between 0 and the time asked about: its error falls with the square.
const CELLS: usize = 768;
/// A root is looked for to one part in a million, and in no more than so many steps.
const PRECISION: f64 = 1e-6;
/// See `PRECISION`.
const MAX_STEPS: u32 = 60;

/// A station of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StationId(usize);

/// Why a network cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A share is negative, or not a number.
    #[error("the share {share} of a path is not a probability")]
    Share {
        /// The share given.
        share: f64,
    },
    /// The shares of the paths do not sum to 1.
    #[error("the shares of the paths sum to {sum}, not to 1")]
    Shares {
        /// What they sum to.
        sum: f64,
    },
    /// A path names a station of another network.
    #[error("a path names a station that this network does not have")]
    UnknownStation,
}

/// A latency at a rate, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// Stations and the paths of requests through them.
///
/// Exact for paths of one or two stations; for more it takes the times to be independent, which is close.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    stations: Vec<Mmc>,
    paths: Vec<(f64, Vec<usize>)>,
    fixed_s: f64,
}

impl Network {
    /// Every request visits these stations in this order.
    pub fn tandem(stations: impl IntoIterator<Item = Mmc>) -> Self {
        let stations: Vec<Mmc> = stations.into_iter().collect();
        let path = (0..stations.len()).collect();
        Self { stations, paths: vec![(1.0, path)], fixed_s: 0.0 }
    }

    /// Every request visits `first`; the share `1 - hit_ratio` that misses the cache goes on to `behind`.
    ///
    /// A hit ratio outside 0 to 1 counts as the nearer end.
    pub fn cached(first: Mmc, behind: Mmc, hit_ratio: f64) -> Self {
        let hits = if hit_ratio.is_nan() { 0.0 } else { hit_ratio.clamp(0.0, 1.0) };
        Self { stations: vec![first, behind], paths: vec![(hits, vec![0]), (1.0 - hits, vec![0, 1])], fixed_s: 0.0 }
    }

    /// Stations, and paths of which each takes a share of the requests; a path may be empty.
    ///
    /// The closure gets the ids of the stations in the order given and returns the paths.
    ///
    /// # Errors
    /// Shares that are no probabilities or do not sum to 1; a path with an unknown station.
    pub fn routed<P>(
        stations: impl IntoIterator<Item = Mmc>,
        paths: impl FnOnce(&[StationId]) -> P,
    ) -> Result<Self, NetworkError>
    where
        P: IntoIterator<Item = (f64, Vec<StationId>)>,
    {
        let stations: Vec<Mmc> = stations.into_iter().collect();
        let ids: Vec<StationId> = (0..stations.len()).map(StationId).collect();
        let paths: Vec<(f64, Vec<usize>)> =
            paths(&ids).into_iter().map(|(share, path)| (share, path.into_iter().map(|id| id.0).collect())).collect();
        if let Some(&(share, _)) = paths.iter().find(|(share, _)| !(0.0..=1.0).contains(share)) {
            return Err(NetworkError::Share { share });
        }
        let sum: f64 = paths.iter().map(|(share, _)| share).sum();
        if (sum - 1.0).abs() > 1e-9 {
            return Err(NetworkError::Shares { sum });
        }
        if paths.iter().flat_map(|(_, path)| path).any(|station| *station >= stations.len()) {
            return Err(NetworkError::UnknownStation);
        }
        Ok(Self { stations, paths, fixed_s: 0.0 })
    }

    /// Adds a constant time that every request takes, such as a wide-area round trip.
    #[must_use]
    pub fn fixed(mut self, time: Duration) -> Self {
        self.fixed_s += time.as_secs_f64();
        self
    }

    /// Arrivals a second at which the busiest station is busy all the time.
    pub fn saturation(&self) -> f64 {
        self.stations
            .iter()
            .zip(self.visits())
            .filter(|(_, visits)| *visits > 0.0)
            .map(|(station, visits)| station.saturation() / visits)
            .fold(f64::INFINITY, f64::min)
    }

    /// Probability that a request takes at most `time`; 0 in overload.
    pub fn within(&self, rate: f64, time: Duration) -> f64 {
        self.within_s(rate, time.as_secs_f64())
    }

    /// Median and 99th percentile at `rate` requests a second. `None` in overload.
    pub fn latency(&self, rate: f64) -> Option<Quantiles> {
        let percentile = |q| Some(self.percentile(rate, q)?.as_secs_f64() * 1e3);
        Some(Quantiles { p50_ms: percentile(0.5)?, p99_ms: percentile(0.99)? })
    }

    /// Time within which the share `quantile` of requests is answered. `None` in overload or if `quantile` is not
    /// above 0 and below 1.
    pub fn percentile(&self, rate: f64, quantile: f64) -> Option<Duration> {
        if rate >= self.saturation() || !(quantile > 0.0 && quantile < 1.0) {
            return None;
        }
        let services: f64 = self.stations.iter().map(Mmc::service_s).sum();
        let (mut low, mut high) = (0.0, self.fixed_s + services.max(1e-6));
        while self.within_s(rate, high) < quantile {
            low = high;
            high *= 2.0;
            if high > 1e9 {
                return None;
            }
        }
        Some(Duration::from_secs_f64(root(low, high, |seconds| self.within_s(rate, seconds) - quantile)))
    }

    /// Highest rate at which the 99th percentile is at most `p99_bound`; 0 if no rate is low enough.
    ///
    /// Infinite when no station takes time.
    pub fn capacity(&self, p99_bound: Duration) -> f64 {
        let bound = p99_bound.as_secs_f64();
        let saturation = self.saturation();
        if saturation == f64::INFINITY {
            return if self.fixed_s <= bound { f64::INFINITY } else { 0.0 };
        }
        let lowest = saturation * 1e-9;
        if self.within_s(lowest, bound) < 0.99 {
            return 0.0;
        }
        root(lowest, saturation, |rate| 0.99 - self.within_s(rate, bound))
    }

    /// The latency curve up to `max_rate`, for [`Curve::theory`]: `points` of them, closer together near saturation.
    ///
    /// It ends where the 99th percentile passes `p99_limit`, as it grows beyond all bounds there.
    pub fn curve(&self, max_rate: f64, points: u32, p99_limit: Duration) -> Vec<Point> {
        let end = self.capacity(p99_limit).min(max_rate);
        if !end.is_finite() || end <= 0.0 {
            return Vec::new();
        }
        (1..=points)
            .filter_map(|step| {
                // Quadratic steps towards the end, where the curve bends.
                let rest = 1.0 - f64::from(step) / f64::from(points);
                let rate = end * (1.0 - rest * rest);
                let latency = self.latency(rate)?;
                Some(Point { rate, p50_ms: latency.p50_ms, p99_ms: latency.p99_ms, failed_ratio: 0.0 })
            })
            .collect()
    }

    /// A curve with this model's points and capacity, to which measured points are added.
    pub fn to_curve(&self, label: impl Into<String>, p99_bound: Duration) -> Curve {
        Curve {
            label: label.into(),
            measured: Vec::new(),
            theory: self.curve(f64::INFINITY, 48, p99_bound * 2),
            capacity: None,
        }
    }

    /// Mean visits of a request to each station.
    fn visits(&self) -> Vec<f64> {
        let mut visits = vec![0.0; self.stations.len()];
        for (share, path) in &self.paths {
            for station in path {
                visits[*station] += share;
            }
        }
        visits
    }

    fn within_s(&self, rate: f64, seconds: f64) -> f64 {
        let left = seconds - self.fixed_s;
        if left < 0.0 || rate >= self.saturation() {
            return 0.0;
        }
        let rates: Vec<f64> = self.visits().iter().map(|visits| visits * rate).collect();
        self.paths
            .iter()
            .filter(|(share, _)| *share > 0.0)
            .map(|(share, path)| share * self.path_within(path, &rates, left))
            .sum()
    }

    /// Probability that the times at the stations of `path` sum to at most `seconds`.
    fn path_within(&self, path: &[usize], rates: &[f64], seconds: f64) -> f64 {
        let timed: Vec<usize> = path.iter().copied().filter(|s| self.stations[*s].service_s() > 0.0).collect();
        let Some((last, before)) = timed.split_last() else { return 1.0 };
        let width = seconds / CELLS as f64;
        // `sum[k]`: probability that the stations so far take between k and k + 1 cells. Nothing has been taken yet.
        let mut sum: Option<Vec<f64>> = None;
        for station in before {
            let cells = self.cells(*station, rates[*station], width);
            sum = Some(sum.map_or(cells.clone(), |sum| convolve(&sum, &cells)));
        }
        let Some(sojourn) = self.stations[*last].sojourn(rates[*last]) else { return 0.0 };
        let within = |seconds| sojourn.within_s(seconds);
        match sum {
            None => within(seconds),
            Some(sum) => sum.iter().enumerate().map(|(k, p)| p * within(seconds - (k as f64 + 0.5) * width)).sum(),
        }
    }

    fn cells(&self, station: usize, rate: f64, width: f64) -> Vec<f64> {
        let Some(sojourn) = self.stations[station].sojourn(rate) else { return vec![0.0; CELLS] };
        let mut before = 0.0;
        let mut cell = |k: usize| {
            let within = sojourn.within_s((k + 1) as f64 * width);
            within - std::mem::replace(&mut before, within)
        };
        (0..CELLS).map(&mut cell).collect()
    }
}

/// Where `f`, which rises, crosses zero between `low` and `high`.
///
/// # Source
/// Dowell and Jarratt, A modified regula falsi method for computing the root of an equation, 1971 (the Illinois
/// method): some ten steps where halving takes twenty, and each step is a convolution.
fn root(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let (mut at_low, mut at_high) = (f(low), f(high));
    let mut was_low = None;
    for _ in 0..MAX_STEPS {
        if at_high <= at_low || high - low <= PRECISION * high {
            break;
        }
        let middle = ((low * at_high - high * at_low) / (at_high - at_low)).clamp(low, high);
        let at_middle = f(middle);
        if at_middle.abs() <= PRECISION * 1e-3 {
            return middle;
        }
        let is_low = at_middle < 0.0;
        // The end that stays for a second time counts half, or it would stay for good.
        let weight = if was_low == Some(is_low) { 0.5 } else { 1.0 };
        if is_low {
            (low, at_low, at_high) = (middle, at_middle, at_high * weight);
        } else {
            (high, at_high, at_low) = (middle, at_middle, at_low * weight);
        }
        was_low = Some(is_low);
    }
    (low + high) / 2.0
}

/// Probabilities of the sum of two times on the same grid, cut off at its end.
///
/// Two cells k and j hold, on average, a sum that begins half a cell into k + j: their mass is split between k + j and
/// the next cell, so that the mean of the sum stays right.
fn convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; a.len()];
    for (k, p) in a.iter().enumerate() {
        for (j, q) in b.iter().take(a.len() - k).enumerate() {
            sum[k + j] += p * q / 2.0;
            if let Some(next) = sum.get_mut(k + j + 1) {
                *next += p * q / 2.0;
            }
        }
    }
    sum
}
