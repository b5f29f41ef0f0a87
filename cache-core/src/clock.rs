//! Where the time comes from.
//!
//! Deadlines are checked against a clock that the host may replace, so that tests and simulations run on virtual
//! time. A cache that uses no time (no time to live, no leases) never asks its clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A source of monotonic time.
///
/// Any closure that returns an [`Instant`] is a clock. Time that goes backwards is tolerated: nothing comes back to
/// life, and nothing panics.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Instant;
}

impl<F: Fn() -> Instant + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Instant {
        self()
    }
}

/// The operating system's monotonic clock, the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is told to advance. Clones share one time.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # use tenfold_cache_core as tenfold_lru_cache;
/// use tenfold_lru_cache::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now() - before, Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    origin: Instant,
    elapsed_nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands at an arbitrary instant.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now(), elapsed_nanos: Arc::new(AtomicU64::new(0)) }
    }

    /// Moves the time forward. Saturates after some 584 years.
    pub fn advance(&self, by: Duration) {
        let by = saturating_nanos(by);
        // Ordering: a clock orders nothing but itself.
        let _ = self
            .elapsed_nanos
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |elapsed| Some(elapsed.saturating_add(by)));
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        let elapsed = Duration::from_nanos(self.elapsed_nanos.load(Ordering::Relaxed));
        self.origin.checked_add(elapsed).unwrap_or(self.origin)
    }
}

/// Nanoseconds since a cache was made: how the engine stores instants, in eight bytes.
#[derive(Clone)]
pub(crate) struct Timeline {
    clock: Option<Arc<dyn Clock>>,
    origin: Instant,
    /// The latest time that the host's clock gave. It may go back; what has expired must not come back with it.
    latest: Arc<AtomicU64>,
}

impl Timeline {
    pub(crate) fn new(clock: Option<Arc<dyn Clock>>) -> Self {
        let origin = clock.as_ref().map_or_else(Instant::now, |clock| clock.now());
        Self { clock, origin, latest: Arc::default() }
    }

    /// Nanoseconds since the origin; never less than before.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        // The last instant of all stands for "never", and does not come.
        let since_origin =
            |now: Instant| saturating_nanos(now.saturating_duration_since(self.origin)).min(u64::MAX - 1);
        match &self.clock {
            None => since_origin(Instant::now()),
            Some(clock) => self.not_before(since_origin(clock.now())),
        }
    }

    fn not_before(&self, now: u64) -> u64 {
        // Ordering: nothing but this number is published. A clock that stands still costs no write.
        let latest = self.latest.load(Ordering::Relaxed);
        if now <= latest { latest } else { self.latest.fetch_max(now, Ordering::Relaxed).max(now) }
    }

    /// The instant that lies `nanos` after the origin, if the platform can express it.
    pub(crate) fn instant(&self, nanos: u64) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(nanos))
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A duration in nanoseconds, `u64::MAX` if it does not fit.
#[inline]
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
