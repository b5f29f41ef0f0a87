//! What is known of a backend's latency: two estimates of one word each, so that adding a sample takes no lock.
//!
//! Both are read and written without exclusion: of two samples that are added in the same nanoseconds one may be lost.
//! They are estimates of a distribution, and a lost sample is a sample not drawn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::{Time, nanos};

/// A moving average that jumps up to every higher sample at once and comes down slowly, with time, not with samples: who
/// was slow a moment ago is avoided at once, and who gets no requests is forgiven.
///
/// The high half of the word is the average in nanoseconds, an `f32`; the low half the time it was taken at, in units of
/// 2^16 ns. Samples within one unit that are not higher are merged into one. Callers tell the time, and two threads may do so
/// in the other order: what was taken a little later than now is of now, and a stamp never goes back.
///
/// # Source
/// The peak-sensitive average of Finagle's load balancer. Here the weight of the past fades as `1 / (1 + x + x²/2)`
/// rather than as `exp(-x)`, from which it differs by less than 0.05 anywhere and costs a fraction.
#[derive(Debug)]
pub(crate) struct PeakEwma(AtomicU64);

const UNIT_BITS: u32 = 16;

/// How fast the past fades, prepared: units of time, in time constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decay(f32);

impl Decay {
    pub(crate) fn new(time_constant: Duration) -> Self {
        Self((1_u64 << UNIT_BITS) as f32 / nanos(time_constant).max(1) as f32)
    }

    /// What is left of the past after this many units.
    #[inline]
    fn left(self, units: u32) -> f32 {
        let x = units as f32 * self.0;
        1.0 / (1.0 + x + 0.5 * x * x)
    }
}

impl PeakEwma {
    /// No latency known: 0.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The average now, in nanoseconds.
    #[inline]
    pub(crate) fn load(&self, now: Time, decay: Decay) -> f32 {
        let (value, stamp) = unpack(self.0.load(Ordering::Relaxed));
        value * decay.left(elapsed(stamp, unit(now)))
    }

    /// Adds a sample. Says whether it is the first one of its unit of time: what follows a distribution need not look at
    /// the others, which is what keeps a busy backend cheap.
    #[inline]
    pub(crate) fn add(&self, latency: f32, now: Time, decay: Decay) -> bool {
        let (value, stamp) = unpack(self.0.load(Ordering::Relaxed));
        let elapsed = elapsed(stamp, unit(now));
        let is_first = elapsed != 0;
        if is_first || latency > value {
            let next = if latency >= value { latency } else { latency + (value - latency) * decay.left(elapsed) };
            self.0.store(pack(next, stamp.wrapping_add(elapsed)), Ordering::Relaxed);
        }
        is_first
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The latency that 95 of 100 answers stay below, followed sample by sample.
///
/// A sample above the estimate raises it by a step, one below lowers it by a nineteenth of that step; where 5 of 100 are
/// above, the two balance. Steps are shares of the estimate, so one rule serves microseconds and minutes, and are large
/// while little is known. The high half of the word is the estimate in nanoseconds, an `f32`; the low half counts the
/// samples, up to the number at which steps no longer shrink.
///
/// # Source
/// The stochastic approximation of a quantile: Robbins, Monro, "A stochastic approximation method", Annals of
/// Mathematical Statistics 1951; on a logarithmic scale here.
#[derive(Debug)]
pub(crate) struct HighQuantile(AtomicU64);

/// Samples after which the estimate is worth something.
pub(crate) const MIN_SAMPLES: u32 = 16;
/// Samples after which it is as good as it gets: steps no longer shrink.
const MAX_SAMPLES: u32 = 64;

impl HighQuantile {
    /// Nothing known.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The estimate in nanoseconds, once there were enough samples. Of few it may be half of the truth, and good backends
    /// would look slow beside it: so it is told with a margin, which shrinks as its error does, with their square root.
    pub(crate) fn load(&self) -> Option<f32> {
        let (value, samples) = unpack(self.0.load(Ordering::Relaxed));
        (samples >= MIN_SAMPLES).then(|| value * (MAX_SAMPLES as f32 / samples as f32).sqrt())
    }

    /// Adds a sample; says whether the estimate has just become worth something, or as good as it gets.
    #[inline]
    pub(crate) fn add(&self, latency: f32) -> bool {
        let (value, samples) = unpack(self.0.load(Ordering::Relaxed));
        let (up, down) = match samples {
            MAX_SAMPLES.. => (1.095, 0.995),
            16.. => (1.19, 0.99),
            _ => (1.475, 0.975),
        };
        let next = if samples == 0 {
            latency.max(1.0)
        } else if latency > value {
            value * up
        } else {
            value * down
        };
        self.0.store(pack(next, (samples + 1).min(MAX_SAMPLES)), Ordering::Relaxed);
        matches!(samples + 1, MIN_SAMPLES | MAX_SAMPLES)
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "differences are taken modulo 2^32 units, 78 hours")]
fn unit(time: Time) -> u32 {
    (time.as_nanos() >> UNIT_BITS) as u32
}

/// Times that are told in the wrong order lie no further apart than this, in units: 69 s. (Half of all units would make a
/// backend that nobody asked for 39 hours one whose time stands still for as long again.)
const MAX_BACK: u32 = 1 << 20;

/// Units from `stamp` to `now`; none if `now` is a little before it.
#[inline]
fn elapsed(stamp: u32, now: u32) -> u32 {
    let units = now.wrapping_sub(stamp);
    if units > u32::MAX - MAX_BACK { 0 } else { units }
}

#[inline]
fn pack(value: f32, low: u32) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(low)
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the two halves")]
fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::for_each_seed;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_average_jumps_up_and_fades_with_time() {
        let decay = Decay::new(Duration::from_secs(1));
        let ewma = PeakEwma::new();
        let at = |ms: u64| Time::from_nanos(ms * MS);
        ewma.add(1e6, at(10), decay);
        ewma.add(200e6, at(11), decay);
        assert!((ewma.load(at(11), decay) - 200e6).abs() < 1e3);
        ewma.add(1e6, at(11), decay);
        assert!((ewma.load(at(11), decay) - 200e6).abs() < 1e3, "a fast answer in the same instant excuses nothing");
        // One time constant later about exp(-1) of it is left, with samples between or without.
        assert!((ewma.load(at(1_011), decay) / 200e6 - 0.4).abs() < 0.01);
        for ms in 12..=1_011 {
            ewma.add(1e6, at(ms), decay);
        }
        let left = ewma.load(at(1_011), decay) / 200e6;
        assert!((0.35..0.41).contains(&left), "{left}");
    }

    #[test]
    fn time_that_is_told_in_the_wrong_order_does_not_forgive() {
        let decay = Decay::new(Duration::from_secs(1));
        let ewma = PeakEwma::new();
        let at = |ms: u64| Time::from_nanos(ms * MS);
        ewma.add(200e6, at(1_000), decay);
        assert!((ewma.load(at(999), decay) / 200e6 - 1.0).abs() < 0.01, "read a little early");
        assert!(!ewma.add(1e6, at(999), decay), "a sample from before is merged");
        assert!((ewma.load(at(1_000), decay) / 200e6 - 1.0).abs() < 0.01);
        ewma.add(300e6, at(998), decay);
        assert!((ewma.load(at(2_000), decay) / 300e6 - 0.4).abs() < 0.01, "the stamp did not go back");
        // Far ahead is ahead, not a day back.
        let fifty_hours = at(50 * 3_600_000);
        assert!(ewma.load(fifty_hours, decay) < 1e3);
        assert!(ewma.add(1e6, fifty_hours, decay));
    }

    #[test]
    fn the_quantile_is_found_on_any_scale() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            for scale in [1e3_f32, 1e6, 1e9] {
                let quantile = HighQuantile::new();
                let mut late = Vec::new();
                for n in 0..6_000 {
                    // Exponential: 95 of 100 are below 3.0 times the mean.
                    let uniform = (rng.below(1 << 24) as f32 + 1.0) / (1 << 24) as f32;
                    quantile.add(-uniform.ln() * scale);
                    if n >= 1_000 {
                        late.push(quantile.load().unwrap() / scale);
                    }
                }
                let mean = late.iter().sum::<f32>() / late.len() as f32;
                assert!((2.3..3.9).contains(&mean), "{mean} at scale {scale}");
            }
        });
    }
}
