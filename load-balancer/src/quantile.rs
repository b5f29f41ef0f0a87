//! The latency that most requests stay below, as it is now.
//!
//! Hedging needs a quantile of the pool's latency that follows the pool within a second, read by every request and fed
//! by every answer. A histogram with logarithmic buckets gives it in a few nanoseconds: an answer adds one to a counter
//! of its thread's stripe, and every 50 ms one caller moves the counters to a sum that only it touches, lets the old
//! part of the sum fade, and leaves the quantile in one word for all to read.
//!
//! # Source
//! G. Tene, HdrHistogram (2012), for buckets of constant relative width; G. Cormode, F. Korn, S. Tirthapura,
//! "Exponentially decayed aggregates on data streams", ICDE 2008, for the fading.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::exchange::nanos;
use crate::stripes::{stripe_count, thread_number};

#[cfg(test)]
mod tests;

/// Buckets in each doubling: none is wider than an eighth of its latencies.
const STEPS: u64 = 8;
/// The lowest bits of a latency's nanoseconds, which do not matter.
const UNIT_BITS: u32 = 10;
/// Up to 2^40 ns, 18 minutes.
const BUCKETS: usize = 224;

/// How often the counters are moved at most.
const REFRESH: Duration = Duration::from_millis(50);
/// The time in which the weight of a sample halves.
const HALF_LIFE: Duration = Duration::from_secs(1);
/// Samples below which there is no quantile, and down to which old ones do not fade.
const ENOUGH: u64 = 32;
/// The weight of a new sample, which leaves room for fractions.
const WEIGHT: u64 = 1 << 10;

/// A quantile of the latencies of the last seconds.
///
/// # Invariants
/// - **Q1** The quantile is the upper edge of a bucket: at least the true one of the fading samples, and at most an
///   eighth, or 1 us, above it.
///
/// # Complexity
/// [`record`](Self::record): one atomic addition in a stripe of few threads. [`current`](Self::current): two loads; one
/// caller in 50 ms pays a few microseconds. Neither waits. 896 bytes a stripe, of which there is one for each hardware
/// thread, at most 8, and 2 KiB.
#[derive(Debug)]
pub struct LatencyQuantile {
    origin: Instant,
    permille: u64,
    stripes: Box<[Stripe]>,
    sum: Mutex<Sum>,
    /// Nanoseconds; [`UNKNOWN`] until there are enough samples.
    current: AtomicU64,
    /// Nanoseconds since `origin`.
    refresh_at: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
#[repr(align(128))]
struct Stripe([AtomicU32; BUCKETS]);

#[derive(Debug)]
struct Sum {
    weights: Box<[u64; BUCKETS]>,
    total: u64,
    /// Nanoseconds since the origin.
    faded_until: u64,
}

impl LatencyQuantile {
    /// The quantile that this many of a thousand samples stay below, with no sample yet. At most 1,000.
    #[must_use]
    pub fn new(permille: u16, now: Instant) -> Self {
        let stripe = |_| Stripe([const { AtomicU32::new(0) }; BUCKETS]);
        Self {
            origin: now,
            permille: u64::from(permille).min(1_000),
            stripes: (0..stripe_count()).map(stripe).collect(),
            sum: Mutex::new(Sum { weights: Box::new([0; BUCKETS]), total: 0, faded_until: 0 }),
            current: AtomicU64::new(UNKNOWN),
            refresh_at: AtomicU64::new(0),
        }
    }

    /// Adds a sample.
    #[inline]
    pub fn record(&self, latency: Duration) {
        self.record_nanos(nanos(latency));
    }

    #[inline]
    pub(crate) fn record_nanos(&self, latency: u64) {
        let stripe = &self.stripes[thread_number() & (self.stripes.len() - 1)];
        // Ordering: counters that order nothing else.
        stripe.0[bucket(latency)].fetch_add(1, Ordering::Relaxed);
    }

    /// The quantile; `None` as long as there were fewer than 32 samples.
    #[inline]
    pub fn current(&self, now: Instant) -> Option<Duration> {
        self.current_at(nanos(now.saturating_duration_since(self.origin))).map(Duration::from_nanos)
    }

    /// The same in nanoseconds, so many nanoseconds after this was made.
    #[inline]
    pub(crate) fn current_at(&self, now: u64) -> Option<u64> {
        if now >= self.refresh_at.load(Ordering::Relaxed) {
            self.refresh(now);
        }
        let current = self.current.load(Ordering::Relaxed);
        (current != UNKNOWN).then_some(current)
    }

    /// Moves what was counted to the sum, unless another thread is at it.
    #[cold]
    fn refresh(&self, now: u64) {
        let Some(mut sum) = self.sum.try_lock() else { return };
        sum.fade(now);
        for stripe in &self.stripes {
            sum.take(stripe);
        }
        self.current.store(sum.quantile(self.permille).unwrap_or(UNKNOWN), Ordering::Relaxed);
        self.refresh_at.store(now.saturating_add(REFRESH.as_nanos() as u64), Ordering::Relaxed);
    }
}

impl Sum {
    /// Lets the samples fade for the time since they last did, but not to fewer than are enough: a pool that was idle
    /// keeps what it knew.
    fn fade(&mut self, now: u64) {
        let steps = now.saturating_sub(self.faded_until) / REFRESH.as_nanos() as u64;
        self.faded_until += steps * REFRESH.as_nanos() as u64;
        let floor = ENOUGH * WEIGHT;
        if steps == 0 || self.total <= floor {
            return;
        }
        let halvings = steps as f64 * REFRESH.as_secs_f64() / HALF_LIFE.as_secs_f64();
        let kept = (-halvings).exp2().max(floor as f64 / self.total as f64);
        self.total = 0;
        for weight in self.weights.iter_mut() {
            // Rounded up, so that those that are just enough stay so.
            *weight = (*weight as f64 * kept).ceil() as u64;
            self.total += *weight;
        }
    }

    fn take(&mut self, stripe: &Stripe) {
        for (weight, count) in self.weights.iter_mut().zip(&stripe.0) {
            // Most are zero: a look costs less than an exchange.
            if count.load(Ordering::Relaxed) > 0 {
                let added = u64::from(count.swap(0, Ordering::Relaxed)) * WEIGHT;
                *weight += added;
                self.total += added;
            }
        }
    }

    /// In nanoseconds; `None` with too few samples.
    fn quantile(&self, permille: u64) -> Option<u64> {
        if self.total < ENOUGH * WEIGHT {
            return None;
        }
        let rank = (self.total * permille).div_ceil(1_000).max(1);
        let mut below = 0;
        let reached = self.weights.iter().position(|weight| {
            below += weight;
            below >= rank
        });
        reached.map(upper_edge)
    }
}

/// The bucket of a latency; the last one for all that are longer.
#[inline]
fn bucket(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    let index = if units < STEPS {
        units
    } else {
        let power = u64::from(units.ilog2());
        (power - 2) * STEPS + (units >> (power - 3)) % STEPS
    };
    (index as usize).min(BUCKETS - 1)
}

/// The nanoseconds that a bucket's latencies stay below.
fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let units = if bucket < STEPS {
        bucket + 1
    } else {
        let power = bucket / STEPS + 2;
        (STEPS + bucket % STEPS + 1) << (power - 3)
    };
    units << UNIT_BITS
}
