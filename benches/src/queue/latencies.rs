//! Latencies in buckets, so that millions of them take a few kilobytes.

use std::time::Duration;

/// Buckets for each power of two: a figure read back is at most 3 % off.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// How often what latency was seen.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Latencies {
    /// Adds one.
    #[inline]
    pub fn record(&mut self, latency: Duration) {
        let bucket = bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The latency in microseconds that a fraction of all are at most; `None` if there are none.
    #[must_use]
    pub fn quantile_us(&self, fraction: f64) -> Option<f64> {
        let rank = (self.total as f64 * fraction).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = |&count: &u64| {
            seen += count;
            seen >= rank
        };
        self.counts.iter().position(reached).map(|bucket| middle(bucket) / 1e3)
    }
}

/// Below `STEPS` exact, above by the highest bits.
fn bucket(nanos: u64) -> usize {
    let bits = 64 - nanos.leading_zeros();
    let shift = bits.saturating_sub(STEP_BITS + 1);
    (u64::from(shift) * STEPS + (nanos >> shift)) as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let low = (bucket - shift * STEPS) << shift;
    low as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_falls_into_a_bucket_near_it() {
        let mut last = 0;
        for power in 0..60 {
            for offset in [0, 1, 7] {
                let nanos = (1_u64 << power) + (offset << power >> 3);
                let bucket = bucket(nanos);
                assert!(bucket >= last, "{nanos}");
                last = bucket;
                let error = (middle(bucket) - nanos as f64).abs() / nanos as f64;
                assert!(error < 0.032, "{nanos} reads as {}", middle(bucket));
            }
        }
    }

    #[test]
    fn quantiles() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_us(0.5), None);
        for micros in 1..=100 {
            latencies.record(Duration::from_micros(micros));
        }
        let mut more = Latencies::default();
        more.record(Duration::from_millis(50));
        latencies.merge(&more);
        assert_eq!(latencies.count(), 101);
        for (fraction, expected) in [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 50_000.0)] {
            let found = latencies.quantile_us(fraction).unwrap();
            assert!((found / expected - 1.0).abs() < 0.032, "{fraction}: {found}");
        }
    }
}
