//! Time as the core keeps it: one word, so that it fits an atomic.

use std::time::Duration;

/// Nanoseconds since the balancer (or whatever keeps it) was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    #[inline]
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This much later.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[inline]
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The nanoseconds of a duration; of one above 584 years, the largest number.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
