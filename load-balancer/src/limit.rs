//! How many requests a pool can have in flight before more of them only wait: learnt, not configured.
//!
//! A pool that is offered more than it can do queues the difference, until every answer comes after its client has given
//! up: all work is done and none is of use. A limit on the requests in flight keeps the queue short and refuses the rest
//! at once, which costs next to nothing. The right limit is throughput times latency (Little's law) and changes with
//! every deployment, so it is measured: while answers take about as long as they do without a queue, the limit grows;
//! when they take longer, or requests fail for want of room, it shrinks.
//!
//! ```text
//! every 100 ms:    gradient = clamp(tolerance x base / latency, 1/2, 1)
//!                  target   = limit x gradient + 3 x sqrt(limit)      a short queue is kept, to see whether there is room
//!                  limit    = 0.8 x limit + 0.2 x target
//!                  target   = 0.5 x limit                             if more than one in twenty was dropped
//! ```
//!
//! `base` is the latency of normal days: a mean over the periods in which nothing was refused, of some seconds. While the
//! pool is saturated its latency is mostly the queue's and the base stands almost still; it drifts up, by a
//! factor of two in two minutes at most, so that work which has become slower is not taken for a queue for ever.
//!
//! # What it is worth
//! In simulation, ten backends at 75 % of what they can do, for ten seconds at half as much again, then as before; callers
//! give up after a second (nine seeds, of whose requests the pool could answer 89 % meanwhile; `tests/sim/storm.rs`):
//!
//! | limit | answered | refused | median | 99 % |
//! |---|--:|--:|--:|--:|
//! | none | 15 to 33 % | 0 | 300 to 670 ms | 950 to 1,000 ms |
//! | by drops alone (`tolerance_percent` 1,000) | 78 to 84 % | 16 to 22 % | 200 to 270 ms | 660 to 850 ms |
//! | by latency and drops (the defaults) | 75 to 82 % | 18 to 25 % | 47 to 68 ms | 180 to 270 ms |
//!
//! So latency is the signal to have, and drops alone are for those who would rather wait than be refused. Without a limit the
//! pool is well again 11 to 21 seconds after the overload, with one at once, but for chance: in one of the nine runs more
//! than one request in a hundred of a second found no room, 16 s later.
//!
//! # Why none is set by default
//! A limit is only as good as what it takes for normal. It refuses what the pool could bear where latency rises for another
//! reason than load, and after a quiet time until it has learnt. Every request writes a cache line that all threads share. And
//! the room for a request is the host's to take and to give back, which a default could not do for it. Whoever can be offered
//! more than they can do should set one.
//!
//! # Source
//! Netflix concurrency-limits (2018), `Gradient2Limit`. Difference: the base there is a long-term average, which an
//! overload that lasts draws up within a minute. L. Brakmo, L. Peterson, "TCP Vegas", IEEE JSAC 1995, for the short queue
//! that is kept; D.-M. Chiu, R. Jain, 1989, for the multiplicative decrease.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::exchange::nanos;
use crate::range::{ConfigError, within};

#[cfg(test)]
mod tests;

/// How the limit of requests in flight is learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LimitConfig {
    /// The limit before anything is learnt. Default 500, from `min` to `max`. It grows by three fifths of its square root each 100 ms at best, and
    /// shrinks by a tenth: rather too high than too low.
    pub initial: u32,
    /// The lowest limit. Default 4, from 1 to `max`. It bounds the harm of a latency that rose for another reason than load.
    pub min: u32,
    /// The highest limit. Default 10,000, from 1 to 1,000,000.
    pub max: u32,
    /// The latency that is still taken for one without a queue, in per cent of the base. Default 200, from 100 to 1,000.
    /// Higher bears latencies that vary, and lets a longer queue stand.
    pub tolerance_percent: u32,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self { initial: 500, min: 4, max: 10_000, tolerance_percent: 200 }
    }
}

impl LimitConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        within("limit.max", self.max, 1..=1_000_000)?;
        within("limit.min", self.min, 1..=self.max)?;
        within("limit.initial", self.initial, self.min..=self.max)?;
        within("limit.tolerance_percent", self.tolerance_percent, 100..=1_000)
    }
}

/// What is refused first when there is not room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Priority {
    /// May be done later or not at all (prefetching, batch work): refused from 80 % of the limit on.
    Sheddable,
    /// What a user waits for: refused from 95 % of the limit on.
    #[default]
    Default,
    /// What must not fail for the sake of others (health checks, payments): takes the whole limit.
    Critical,
}

impl Priority {
    /// Its part of a limit; at least one request.
    #[inline]
    fn share_of(self, limit: u32) -> u32 {
        let percent = match self {
            Self::Sheddable => 80,
            Self::Default => 95,
            Self::Critical => 100,
        };
        (u64::from(limit) * percent).div_ceil(100) as u32
    }
}

/// A request that was refused because enough are in flight: nothing was sent, and trying at once again is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{in_flight} requests are in flight, of at most {limit} of this priority")]
#[non_exhaustive]
pub struct Overloaded {
    /// How many may be in flight before a request of this priority is refused, at present.
    pub limit: u32,
    /// How many were.
    pub in_flight: u32,
}

/// An adaptive limit of requests in flight, usable alone.
///
/// # Invariants
/// - **L1** The limit stays between its bounds, and no more permits are out than the highest limit since the oldest of
///   them was given, those that [stepped aside](Permit::step_aside) not counted.
///
/// # Complexity
/// [`try_acquire`](Self::try_acquire), the end of a permit and [`record`](Self::record): one atomic addition each, in
/// one cache line that all callers share; none waits. One caller in 100 ms computes the limit, in less than 1 us.
///
/// # Examples
/// ```
/// use std::time::Instant;
/// use tenfold_load_balancer::{ConcurrencyLimit, LimitConfig, Priority};
///
/// let config = LimitConfig { initial: 5, ..LimitConfig::default() };
/// let limit = ConcurrencyLimit::new(config, Instant::now())?;
/// let permits: Vec<_> = (0..5).map_while(|_| limit.try_acquire(Priority::Critical).ok()).collect();
/// assert_eq!(permits.len(), 5);
/// let refused = limit.try_acquire(Priority::Critical).unwrap_err();
/// assert_eq!((refused.limit, refused.in_flight), (5, 5));
/// drop(permits);
/// assert!(limit.try_acquire(Priority::Sheddable).is_ok());
/// # Ok::<(), tenfold_load_balancer::ConfigError>(())
/// ```
#[derive(Debug)]
#[repr(align(128))]
pub struct ConcurrencyLimit {
    in_flight: AtomicU32,
    limit: AtomicU32,
    /// The most in flight since the limit was computed.
    peak: AtomicU32,
    drops: AtomicU32,
    /// Requests refused since the limit was computed.
    refused: AtomicU32,
    /// Requests ever refused.
    sheds: AtomicU64,
    /// Samples since the limit was computed: the sum of their microseconds in the upper bits, their number in the lower.
    samples: AtomicU64,
    /// When the limit is to be computed, in nanoseconds since `origin`.
    update_at: AtomicU64,
    origin: Instant,
    config: LimitConfig,
    learnt: Mutex<Learnt>,
}

#[derive(Debug)]
struct Learnt {
    /// Microseconds; 0 before there is a sample.
    base: f64,
    /// The limit with its fraction.
    limit: f64,
}

/// What the samples of one period say.
struct Period {
    count: f64,
    mean: f64,
    drops: f64,
    peak: f64,
    is_saturated: bool,
}

const PERIOD: Duration = Duration::from_millis(100);
/// Samples and drops below which a period goes on.
const ENOUGH: u64 = 16;
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// A sample counts as no more than this, so that a period's sum has room: 2^40 us are as many.
const LONGEST: Duration = Duration::from_secs(60);

impl ConcurrencyLimit {
    /// A limit that has learnt nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] for a setting outside its range.
    pub fn new(config: LimitConfig, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(config.initial),
            peak: AtomicU32::new(0),
            drops: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            sheds: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            update_at: AtomicU64::new(PERIOD.as_nanos() as u64),
            origin: now,
            learnt: Mutex::new(Learnt { base: 0.0, limit: config.initial.into() }),
            config,
        })
    }

    /// Room for one request, as long as the permit lives.
    ///
    /// # Errors
    /// [`Overloaded`], if there is none for this priority.
    #[inline]
    pub fn try_acquire(&self, priority: Priority) -> Result<Permit<&Self>, Overloaded> {
        Permit::of(self, priority)
    }

    /// Tells how long an answer took. Failures that say nothing of the load are not told.
    #[inline]
    pub fn record(&self, latency: Duration, now: Instant) {
        let micros = latency.min(LONGEST).as_micros() as u64;
        self.samples.fetch_add(micros << COUNT_BITS | 1, Ordering::Relaxed);
        self.update_if_due(now);
    }

    /// Tells that a request was refused or not answered for want of room: a time-out, an answer that says "overloaded".
    pub fn record_drop(&self, now: Instant) {
        self.drops.fetch_add(1, Ordering::Relaxed);
        self.update_if_due(now);
    }

    /// How many may be in flight at present.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many were refused so far.
    #[must_use]
    pub fn sheds(&self) -> u64 {
        self.sheds.load(Ordering::Relaxed)
    }

    #[inline]
    fn enter(&self, priority: Priority) -> Result<(), Overloaded> {
        let limit = priority.share_of(self.limit());
        // Ordering: a count that orders nothing else. An addition sees all before it, so no two take the last place.
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if in_flight >= limit {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.sheds.fetch_add(1, Ordering::Relaxed);
            return Err(Overloaded { limit, in_flight });
        }
        if in_flight >= self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    #[inline]
    fn update_if_due(&self, now: Instant) {
        let now = nanos(now.saturating_duration_since(self.origin));
        if now >= self.update_at.load(Ordering::Relaxed) {
            self.update(now);
        }
    }

    #[cold]
    fn update(&self, now: u64) {
        let Some(mut learnt) = self.learnt.try_lock() else { return };
        let seen = (self.samples.load(Ordering::Relaxed) & COUNT_MASK) + u64::from(self.drops.load(Ordering::Relaxed));
        if seen < ENOUGH || now < self.update_at.load(Ordering::Relaxed) {
            return;
        }
        let samples = self.samples.swap(0, Ordering::Relaxed);
        let count = (samples & COUNT_MASK) as f64;
        let period = Period {
            count,
            mean: (samples >> COUNT_BITS) as f64 / count.max(1.0),
            drops: self.drops.swap(0, Ordering::Relaxed).into(),
            peak: self.peak.swap(self.in_flight(), Ordering::Relaxed).into(),
            is_saturated: self.refused.swap(0, Ordering::Relaxed) > 0,
        };
        self.limit.store(learnt.after(&period, &self.config), Ordering::Relaxed);
        self.update_at.store(now.saturating_add(PERIOD.as_nanos() as u64), Ordering::Relaxed);
    }
}

impl Learnt {
    /// The limit after one more period.
    fn after(&mut self, period: &Period, config: &LimitConfig) -> u32 {
        const SMOOTHING: f64 = 0.2;
        // With 1 the median of an overload is a third shorter, and for as long as half a minute after it chance bursts find
        // no room.
        const QUEUE: f64 = 3.0;
        let mut target = self.limit;
        if period.count > 0.0 {
            let mean = period.mean.max(1.0);
            self.learn_base(mean, period.is_saturated);
            let tolerated = f64::from(config.tolerance_percent) / 100.0 * self.base;
            target = self.limit * (tolerated / mean).clamp(0.5, 1.0) + QUEUE * self.limit.sqrt();
        }
        if period.drops * 20.0 > period.drops + period.count {
            target = target.min(self.limit * 0.5);
        }
        // A limit that is not used is not known to be too low.
        if period.peak < self.limit / 2.0 {
            target = target.min(self.limit);
        }
        let limit = self.limit * (1.0 - SMOOTHING) + target * SMOOTHING;
        self.limit = limit.clamp(config.min.into(), config.max.into());
        self.limit as u32
    }

    fn learn_base(&mut self, mean: f64, is_saturated: bool) {
        if self.base == 0.0 {
            self.base = mean;
        } else if !is_saturated {
            self.base += (mean - self.base) / 64.0;
        } else if mean > self.base {
            self.base += (mean - self.base).min(self.base) / 2048.0;
        }
    }
}

/// Room for one request in flight; given back when it is dropped.
#[derive(Debug)]
#[must_use = "the room is given back when the permit is dropped"]
pub struct Permit<L: Deref<Target = ConcurrencyLimit>> {
    limit: L,
    is_aside: bool,
}

impl<L: Deref<Target = ConcurrencyLimit>> Permit<L> {
    /// As [`ConcurrencyLimit::try_acquire`], for a limit behind any pointer: with an `Arc` the permit may travel.
    ///
    /// # Errors
    /// [`Overloaded`], if there is no room for this priority.
    #[inline]
    pub fn of(limit: L, priority: Priority) -> Result<Self, Overloaded> {
        limit.enter(priority)?;
        Ok(Self { limit, is_aside: false })
    }

    /// Leaves its room to others while the request waits for whoever sends it. A client that is slow with its body costs
    /// the pool nothing meanwhile, and some such clients would take all the room there is.
    pub fn step_aside(&mut self) {
        if !std::mem::replace(&mut self.is_aside, true) {
            self.limit.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes room again, whether or not there is any: what has begun is not refused.
    pub fn step_back(&mut self) {
        if std::mem::replace(&mut self.is_aside, false) {
            self.limit.in_flight.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<L: Deref<Target = ConcurrencyLimit>> Drop for Permit<L> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_aside {
            self.limit.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
