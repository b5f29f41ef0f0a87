//! Where the time comes from.
//!
//! Everything that decides is told the time. What waits uses tokio's timers, and this clock reads the same time, so a
//! test that pauses the runtime's clock pauses both.

use std::time::Instant;

/// Tells the time; never goes back. A closure is one.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Instant;
}

impl<F: Fn() -> Instant + Send + Sync> Clock for F {
    fn now(&self) -> Instant {
        self()
    }
}

/// The time of the runtime's timers.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

#[cfg(feature = "tokio")]
impl Clock for TokioClock {
    #[inline]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// So far from now, by the runtime's timers: what waits are measured against.
#[cfg(feature = "tokio")]
pub(crate) fn deadline(duration: std::time::Duration) -> tokio::time::Instant {
    after(timer_now(), duration)
}

/// The time of the runtime's timers now.
#[cfg(feature = "tokio")]
#[inline]
pub(crate) fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// So far from then; at most a year where it would be beyond all that can be told.
#[cfg(feature = "tokio")]
pub(crate) fn after(then: tokio::time::Instant, duration: std::time::Duration) -> tokio::time::Instant {
    then.checked_add(duration).unwrap_or_else(|| then + std::time::Duration::from_secs(86_400 * 365))
}

/// What is left until a deadline.
#[cfg(feature = "tokio")]
pub(crate) fn left(deadline: tokio::time::Instant) -> std::time::Duration {
    deadline.saturating_duration_since(tokio::time::Instant::now())
}

/// Some moment, for tests that go on from it.
#[cfg(test)]
pub(crate) fn some_moment() -> Instant {
    Instant::now()
}
