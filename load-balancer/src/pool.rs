//! What all endpoints of one balancer share, whatever the host's data are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use crate::endpoint::Waiters;

/// Shared by the endpoints of one balancer and their picks.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Times are kept as nanoseconds since this.
    origin: Instant,
    /// Whether the policy bounds the load of a backend by the mean, for which `in_flight` must be exact.
    bounded: bool,
    in_flight: Padded<AtomicU64>,
    waiters: Waiters,
}

/// A value on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<V>(V);

impl Pool {
    pub(crate) fn new(origin: Instant, bounded: bool) -> Self {
        Self { origin, bounded, in_flight: Padded(AtomicU64::new(0)), waiters: Waiters::default() }
    }

    /// Nanoseconds since the balancer was made; 0 for earlier instants.
    #[inline]
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
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

    pub(crate) fn wait(&self, waker: &Waker) {
        self.waiters.add(waker);
    }

    #[cold]
    pub(crate) fn wake(&self) {
        self.waiters.wake();
    }
}
