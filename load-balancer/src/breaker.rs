//! A circuit breaker: after too many failures nothing is tried for a while, then a little.
//!
//! For what is not one of many backends: a database, a service of somebody else's, a whole pool (`Balance::with_breaker`,
//! feature `tower`). Among backends of a pool the balancer's own ejection does better, since it compares them: an ejected
//! backend is an open breaker, its trial a half-open one, and its times out grow likewise. While a breaker is open its callers fail at
//! once, which costs them nothing, and spares the other side what it cannot do anyway.
//!
//! | state | lets through | leaves it |
//! |---|---|---|
//! | closed | all | to open, after some failures in a row or with a share of failures in the window |
//! | open | none | to half-open, when its time is over |
//! | half-open | a few | to closed, when all of these went well; to open, for longer, when one did not |
//!
//! # Source
//! M. Nygard, "Release It!", 2007, chapter 5.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::range::{ConfigError, DAY, lasts, within};
use crate::time::{Time, nanos};
use crate::window::{Ring, Tally};
use crate::{Outcome, Rng};

#[cfg(test)]
mod tests;

/// When a breaker opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct BreakerConfig {
    /// Failures in a row that open it. 1 to 1,000,000, default 5. Lower: chance opens it. Higher: more requests fail.
    pub consecutive_failures: u32,
    /// The share of failures in the window that opens it. 1 to 100 percent, default 50. Lower: smaller defects close the
    /// way for the requests that would have gone well.
    pub failure_percent: u8,
    /// Requests in the window below which its share means nothing. At least 1, default 20.
    pub min_requests: u32,
    /// How far back the window goes, counted in ten buckets. 10 ms to 1 h, default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub window: Duration,
    /// How long it is open the first time. 1 ms to 1 h, default 1 s. Longer: less load on what is broken, and it is
    /// noticed later that it is not any more.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub open_time: Duration,
    /// Each further time it is open for this much of the time before, in percent. 100 to 1,000, default 200. It begins
    /// anew once it was closed for as long as it was open last.
    pub growth_percent: u32,
    /// The longest time open. At least `open_time`, default 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max_open_time: Duration,
    /// Each time open is longer or shorter by up to this share, at random, so that many breakers do not open the way at
    /// one moment. 0 to 90 percent, default 10.
    pub jitter_percent: u8,
    /// Requests let through while half-open, all of which must go well. 1 to 1,000, default 3.
    pub half_open_requests: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_percent: 50,
            min_requests: 20,
            window: Duration::from_secs(10),
            open_time: Duration::from_secs(1),
            growth_percent: 200,
            max_open_time: Duration::from_secs(30),
            jitter_percent: 10,
            half_open_requests: 3,
        }
    }
}

impl BreakerConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let hour = Duration::from_secs(3600);
        within("consecutive_failures", self.consecutive_failures, 1..=1_000_000)?;
        within("failure_percent", u32::from(self.failure_percent), 1..=100)?;
        within("min_requests", self.min_requests, 1..=u32::MAX)?;
        lasts("window", self.window, Duration::from_millis(10)..=hour)?;
        lasts("open_time", self.open_time, Duration::from_millis(1)..=hour)?;
        within("growth_percent", self.growth_percent, 100..=1_000)?;
        lasts("max_open_time", self.max_open_time, self.open_time..=DAY)?;
        within("jitter_percent", u32::from(self.jitter_percent), 0..=90)?;
        within("half_open_requests", self.half_open_requests, 1..=1_000)
    }
}

/// Whether a breaker lets requests through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// All.
    Closed,
    /// None.
    Open,
    /// A few.
    HalfOpen,
}

/// A request was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open")]
#[non_exhaustive]
pub struct BreakerOpen {
    /// When it is worth trying again, at the earliest.
    pub retry_after: Duration,
}

/// A request was let through: hand it back with the [outcome](Breaker::record). One that is dropped was cancelled, and
/// says nothing.
#[derive(Debug)]
#[must_use = "the outcome is recorded with it"]
pub struct Pass(u64);

/// Lets requests through, or not.
///
/// # Invariants
/// - **B1** `word` is the state in its two low bits and the number of changes above; it changes under the lock only.
/// - **B2** What was let through before a change counts for nothing after it.
///
/// # Complexity
/// Closed: `allow` is one load, `record` of a success one atomic addition; no lock. Otherwise a lock, for a moment.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// use tenfold_load_balancer::{Breaker, BreakerConfig, Failure, Outcome};
///
/// let now = Instant::now();
/// let breaker = Breaker::new(BreakerConfig::default(), now)?;
/// for _ in 0..5 {
///     let pass = breaker.allow(now)?;
///     breaker.record(pass, Outcome::Failure(Failure::TimedOut), now);
/// }
/// assert!(breaker.allow(now).is_err());
/// assert!(breaker.allow(now + Duration::from_secs(2)).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Breaker {
    word: AtomicU64,
    in_a_row: AtomicU32,
    tally: Tally,
    inner: Mutex<Inner>,
    config: BreakerConfig,
    origin: Instant,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    rng: Rng,
    /// Open until then; half-open since then.
    at: Time,
    /// How long it was open last, before jitter, and when it closed.
    last_open: Duration,
    closed_at: Time,
    let_through: u32,
    went_well: u32,
}

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const STATES: u64 = 3;

impl Breaker {
    /// A closed breaker, at an instant no later than any that it will be told.
    ///
    /// # Errors
    /// [`ConfigError`], for a setting out of its range.
    pub fn new(config: BreakerConfig, now: Instant) -> Result<Self, ConfigError> {
        Self::with_seed(config, crate::rng::seed_from_os(), now)
    }

    /// The same, with what its jitter is drawn from.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_seed(config: BreakerConfig, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        let inner = Inner {
            ring: Ring::new(config.window),
            rng: Rng::new(seed),
            at: Time::default(),
            last_open: Duration::ZERO,
            closed_at: Time::default(),
            let_through: 0,
            went_well: 0,
        };
        let (word, in_a_row) = (AtomicU64::new(CLOSED), AtomicU32::new(0));
        Ok(Self { word, in_a_row, tally: Tally::new(), inner: Mutex::new(inner), config, origin: now })
    }

    /// Lets a request through, or says when to come back.
    ///
    /// # Errors
    /// [`BreakerOpen`], while it is open, and half-open with as many requests under way as are let through.
    #[inline]
    pub fn allow(&self, now: Instant) -> Result<Pass, BreakerOpen> {
        // Ordering: advice; a request that just misses a change is one that was let through just before it.
        let word = self.word.load(Ordering::Relaxed);
        if word & STATES == CLOSED { Ok(Pass(word)) } else { self.allow_with_care(now) }
    }

    #[cold]
    fn allow_with_care(&self, now: Instant) -> Result<Pass, BreakerOpen> {
        let now = self.time(now);
        let inner = &mut *self.inner.lock();
        let state = self.word.load(Ordering::Relaxed) & STATES;
        if state == CLOSED {
            return Ok(Pass(self.word.load(Ordering::Relaxed)));
        }
        if state == OPEN && now < inner.at {
            return Err(BreakerOpen { retry_after: inner.at.since(now) });
        }
        // Those who were let through and never said how it went make room for others after a while.
        let patience = inner.at.after(self.config.open_time);
        if state == OPEN || inner.let_through == self.config.half_open_requests && now >= patience {
            (inner.at, inner.let_through, inner.went_well) = (now, 0, 0);
            self.change(HALF_OPEN);
        }
        if inner.let_through == self.config.half_open_requests {
            return Err(BreakerOpen { retry_after: patience.since(now) });
        }
        inner.let_through += 1;
        Ok(Pass(self.word.load(Ordering::Relaxed)))
    }

    /// Notes how a request went that was let through.
    #[inline]
    pub fn record(&self, pass: Pass, outcome: Outcome, now: Instant) {
        let is_plain = outcome.is_success() && pass.0 & STATES == CLOSED;
        if !is_plain || pass.0 != self.word.load(Ordering::Relaxed) {
            return self.record_with_care(&pass, outcome, now);
        }
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        let now = self.time(now);
        if self.tally.is_over(now) {
            self.inner.lock().ring.turn(&self.tally, now);
        }
        self.tally.succeeded();
    }

    #[cold]
    fn record_with_care(&self, pass: &Pass, outcome: Outcome, now: Instant) {
        let now = self.time(now);
        let inner = &mut *self.inner.lock();
        // B2
        if self.word.load(Ordering::Relaxed) != pass.0 {
            return;
        }
        match (pass.0 & STATES, outcome.is_success()) {
            (CLOSED, false) => self.failed(inner, now),
            (HALF_OPEN, true) => {
                inner.went_well += 1;
                if inner.went_well == self.config.half_open_requests {
                    inner.closed_at = now;
                    inner.ring.clear(&self.tally);
                    self.in_a_row.store(0, Ordering::Relaxed);
                    self.change(CLOSED);
                }
            }
            (HALF_OPEN, false) => self.open(inner, inner.last_open, now),
            _ => {}
        }
    }

    fn failed(&self, inner: &mut Inner, now: Time) {
        inner.ring.turn(&self.tally, now);
        self.tally.failed();
        let in_a_row = self.in_a_row.load(Ordering::Relaxed) + 1;
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        let counts = inner.ring.counts(&self.tally, now);
        let is_share_high = counts.total() >= u64::from(self.config.min_requests)
            && counts.failures * 100 >= counts.total() * u64::from(self.config.failure_percent);
        if in_a_row >= self.config.consecutive_failures || is_share_high {
            let is_forgiven = now.since(inner.closed_at) >= inner.last_open;
            let before = if is_forgiven { Duration::ZERO } else { inner.last_open };
            self.open(inner, before, now);
        }
    }

    /// Opens it, for longer than `before`.
    fn open(&self, inner: &mut Inner, before: Duration, now: Time) {
        let BreakerConfig { open_time, growth_percent, max_open_time, jitter_percent, .. } = self.config;
        let grown = before.saturating_mul(growth_percent) / 100;
        inner.last_open = grown.clamp(open_time, max_open_time);
        let width = nanos(inner.last_open) / 100 * u64::from(jitter_percent);
        let time = nanos(inner.last_open) - width + inner.rng.below(2 * width + 1);
        inner.at = now.after(Duration::from_nanos(time));
        self.change(OPEN);
    }

    /// To be called under the lock (B1).
    fn change(&self, state: u64) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store((word & !STATES) + STATES + 1 + state, Ordering::Relaxed);
    }

    /// Whether it lets requests through. Open until somebody asks to be [let through](Self::allow) after its time.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.word.load(Ordering::Relaxed) & STATES {
            CLOSED => BreakerState::Closed,
            OPEN => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    #[inline]
    fn time(&self, now: Instant) -> Time {
        Time::from_nanos(nanos(now.saturating_duration_since(self.origin)))
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).finish_non_exhaustive()
    }
}
