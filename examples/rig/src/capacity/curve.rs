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
    let curve = curve(measured, rate);
    Capacity {
        rate,
        low: sorted.first().copied().unwrap_or(rate),
        high: sorted.last().copied().unwrap_or(rate),
        p50_ms: read_smoothed(&curve, rate, |point| point.p50_ms),
        p99_ms: read_smoothed(&curve, rate, |point| point.p99_ms),
        failed_ratio: near.failed_ratio(),
        repeats,
        curve,
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

/// Reads a quantile off the curve at `rate`, as it must be if more load never means less latency.
///
/// Single points near the capacity are noisy, as few bursts make them; neighbours that fall are replaced by their mean
/// until none does (pool adjacent violators; Ayer et al. 1955), in logarithms, weighted by requests.
fn read_smoothed(curve: &[CurvePoint], rate: f64, value: impl Fn(&CurvePoint) -> f64) -> f64 {
    struct Block {
        log_sum: f64,
        weight: f64,
        points: usize,
    }
    let mut blocks: Vec<Block> = Vec::new();
    for point in curve {
        let weight = point.requests as f64;
        blocks.push(Block { log_sum: value(point).max(1e-3).ln() * weight, weight, points: 1 });
        while let [.., left, right] = blocks.as_mut_slice() {
            if left.log_sum / left.weight <= right.log_sum / right.weight {
                break;
            }
            left.log_sum += right.log_sum;
            left.weight += right.weight;
            left.points += right.points;
            blocks.pop();
        }
    }
    let smooth = blocks.iter().flat_map(|block| std::iter::repeat_n(block.log_sum / block.weight, block.points));
    let points: Vec<(f64, f64)> = curve.iter().map(|point| point.rate).zip(smooth).collect();
    let after = points.partition_point(|(at, _)| *at < rate);
    let log = match (points.get(after.wrapping_sub(1)), points.get(after)) {
        (Some((r0, y0)), Some((r1, y1))) => y0 + (y1 - y0) * (rate - r0) / (r1 - r0),
        (Some((_, y)), None) | (None, Some((_, y))) => *y,
        (None, None) => return 0.0,
    };
    log.exp()
}

impl Pool {
    fn failed_ratio(&self) -> f64 {
        self.failed as f64 / self.requests().max(1) as f64
    }

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
            failed_ratio: self.failed_ratio(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smoothed_curve_never_falls_and_is_read_between_its_points() {
        let point = |rate: f64, p99_ms: f64| CurvePoint { rate, p99_ms, requests: 100, ..CurvePoint::default() };
        let curve = [point(10.0, 10.0), point(20.0, 40.0), point(30.0, 20.0), point(40.0, 80.0)];
        let read = |rate| read_smoothed(&curve, rate, |point| point.p99_ms);
        let middle = (40.0_f64 * 20.0).sqrt();
        for (rate, expected) in [(5.0, 10.0), (10.0, 10.0), (20.0, middle), (25.0, middle), (40.0, 80.0), (99.0, 80.0)]
        {
            assert!((read(rate) - expected).abs() < 1e-9, "{rate}: {}", read(rate));
        }
        assert!(read(35.0) > middle && read(35.0) < 80.0);
        assert_eq!(read_smoothed(&[], 1.0, |point| point.p99_ms), 0.0);
    }
}
