//! From windows at many rates to a curve and a figure.

use serde::Serialize;

use super::repeat::Measured;
use super::{Capacity, CapacityPlan};

/// Windows whose rates differ by less than this share make one point.
const POINT_WIDTH: f64 = 0.03;
/// A 99th percentile of fewer requests says nothing.
const LEAST_REQUESTS: u64 = 100;
/// Windows this near the capacity tell the latency there.
const NEAR: f64 = 0.03;

/// A point of the curve of latency against offered load, all repeats pooled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
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

/// Requests of windows with nearly the same rate.
#[derive(Debug, Default)]
struct Pool {
    rate_sum: f64,
    latencies_us: Vec<u32>,
    late_us: Vec<u32>,
    failed: u64,
}

pub(super) fn summarise(plan: &CapacityPlan, measured: &[Measured]) -> Capacity {
    let repeats: Vec<f64> = measured.iter().map(|repeat| repeat.rate).collect();
    let mut sorted = repeats.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let rate = median(&sorted);
    let near = nearest_pool(measured, rate);
    let point = near.point().unwrap_or_default();
    Capacity {
        rate,
        low: sorted.first().copied().unwrap_or(rate),
        high: sorted.last().copied().unwrap_or(rate),
        p50_ms: point.p50_ms,
        p99_ms: point.p99_ms,
        failed_ratio: point.failed_ratio,
        repeats,
        curve: curve(measured, rate),
        late_p99_ms: quantile_ms(&sorted_copy(&near.late_us), 0.99),
        promise: plan.promise,
    }
}

fn nearest_pool(measured: &[Measured], rate: f64) -> Pool {
    let mut width = NEAR;
    loop {
        let mut pool = Pool::default();
        for stretch in measured.iter().flat_map(|repeat| &repeat.stretches) {
            if (stretch.rate / rate).ln().abs() <= width {
                pool.add(stretch);
            }
        }
        // A steep search may have few windows just there; the next ones then tell.
        if pool.requests() >= LEAST_REQUESTS || width > 1.0 {
            return pool;
        }
        width *= 1.5;
    }
}

fn curve(measured: &[Measured], around: f64) -> Vec<CurvePoint> {
    let mut pools = std::collections::BTreeMap::<i64, Pool>::new();
    for stretch in measured.iter().flat_map(|repeat| &repeat.stretches) {
        let bin = ((stretch.rate / around).ln() / POINT_WIDTH).round() as i64;
        pools.entry(bin).or_default().add(stretch);
    }
    pools.values().filter(|pool| pool.requests() >= LEAST_REQUESTS).filter_map(Pool::point).collect()
}

impl Pool {
    fn add(&mut self, stretch: &super::repeat::Stretch) {
        for window in &stretch.windows {
            window.each(stretch.settle, |outcome| {
                self.rate_sum += stretch.rate;
                match outcome {
                    Some((latency_us, late_us)) => {
                        self.latencies_us.push(latency_us);
                        self.late_us.push(late_us);
                    }
                    None => self.failed += 1,
                }
            });
        }
    }

    fn requests(&self) -> u64 {
        self.latencies_us.len() as u64 + self.failed
    }

    fn point(&self) -> Option<CurvePoint> {
        let requests = self.requests();
        if requests == 0 {
            return None;
        }
        let sorted = sorted_copy(&self.latencies_us);
        Some(CurvePoint {
            rate: self.rate_sum / requests as f64,
            p50_ms: quantile_ms(&sorted, 0.5),
            p99_ms: quantile_ms(&sorted, 0.99),
            failed_ratio: self.failed as f64 / requests as f64,
            requests,
        })
    }
}

fn sorted_copy(values: &[u32]) -> Vec<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted
}

/// The least value that a share of `quantile` does not exceed; 0 if there is none.
fn quantile_ms(sorted: &[u32], quantile: f64) -> f64 {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |us| f64::from(*us) / 1000.0)
}

/// Of values in order; the mean of the middle two if their number is even.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
