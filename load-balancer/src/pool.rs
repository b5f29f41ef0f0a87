//! What all endpoints of one balancer share, whatever the host's data are.

use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::OutlierConfig;
use crate::balancer::Shared;
use crate::endpoint::Waiters;
use crate::health::Norm;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Time;

/// Shared by the endpoints of one balancer and their picks.
pub(crate) struct Pool<T> {
    /// Times are kept as nanoseconds since this.
    origin: Instant,
    /// Whether the policy bounds the load of a backend by the mean, for which `in_flight` must be exact.
    bounded: bool,
    in_flight: Padded<AtomicU64>,
    waiters: Waiters<T>,
    norm: Norm,
    /// Where signs of bad health are judged. Empty until the balancer is complete.
    home: OnceLock<Weak<Shared<T>>>,
}

/// A value on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<V>(V);

impl<T> Pool<T> {
    pub(crate) fn new(origin: Instant, bounded: bool, outlier: &OutlierConfig) -> Self {
        let (waiters, norm) = (Waiters::default(), Norm::new(outlier));
        Self { origin, bounded, in_flight: Padded(AtomicU64::new(0)), waiters, norm, home: OnceLock::new() }
    }

    /// Says where signs of bad health go from now on.
    pub(crate) fn settle(&self, home: Weak<Shared<T>>) {
        // It is told once, by the builder.
        let _ = self.home.set(home);
    }

    pub(crate) fn home(&self) -> Option<std::sync::Arc<Shared<T>>> {
        self.home.get()?.upgrade()
    }

    /// The time since the balancer was made; 0 for earlier instants.
    #[inline]
    pub(crate) fn time(&self, now: Instant) -> Time {
        Time::from_nanos(crate::time::nanos(now.saturating_duration_since(self.origin)))
    }

    /// The instant of a time.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(time.as_nanos()))
    }

    #[inline]
    pub(crate) fn norm(&self) -> &Norm {
        &self.norm
    }

    #[inline]
    pub(crate) fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// Requests in flight over all backends; kept only where loads are bounded.
    #[inline]
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn began(&self) {
        self.in_flight.0.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn ended(&self) {
        self.in_flight.0.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn waiters(&self) -> &Waiters<T> {
        &self.waiters
    }
}
