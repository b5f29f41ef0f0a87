//! A backend that was picked, as long as the request is with it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use crate::endpoint::Endpoint;
use crate::sync::Arc;
use crate::{BackendId, Outcome};

/// The backend that a request goes to; in flight there while this lives.
///
/// Owned, `Send` and free of lifetimes, so it may travel with the request. Say how the request ended with
/// [`finish`](Self::finish): health and latency live on it. A pick that is dropped instead counts as cancelled: neither
/// good nor bad, and never as fast.
///
/// # Complexity
/// One atomic addition when picked and one subtraction when dropped, in a cache line of this backend; no allocation.
#[must_use = "a pick counts as in flight while it lives"]
pub struct Pick<T = ()> {
    /// Taken when it is dropped, nowhere else.
    endpoint: Option<Arc<Endpoint<T>>>,
    started: Instant,
}

impl<T> Pick<T> {
    #[inline]
    pub(crate) fn new(endpoint: Arc<Endpoint<T>>, started: Instant) -> Self {
        if endpoint.pool().is_bounded() {
            endpoint.pool().began();
        }
        Self { endpoint: Some(endpoint), started }
    }

    /// The backend.
    #[inline]
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint<T> {
        self.endpoint.as_ref().expect("it is taken by drop alone")
    }

    /// Who it is.
    #[inline]
    #[must_use]
    pub fn id(&self) -> BackendId {
        self.endpoint().id()
    }

    /// Where it is.
    #[inline]
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint().address()
    }

    /// What the host keeps beside it.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &T {
        self.endpoint().data()
    }

    /// When it was picked, as the picker was told.
    #[inline]
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Says that the request has taken longer than most do; it goes on. A sign that the backend may hang, long before
    /// anything times out.
    pub fn overdue(&self, now: Instant) {
        let _ = now;
    }

    /// Ends the request and says how it went.
    pub fn finish(self, outcome: Outcome, now: Instant) {
        let _ = (outcome, now);
    }
}

impl<T> Drop for Pick<T> {
    #[inline]
    fn drop(&mut self) {
        let Some(endpoint) = self.endpoint.take() else { return };
        if endpoint.pool().is_bounded() {
            endpoint.pool().ended();
        }
        if endpoint.is_watched() {
            release_watched(endpoint);
        }
    }
}

#[cold]
fn release_watched<T>(endpoint: Arc<Endpoint<T>>) {
    let pool = Arc::clone(endpoint.pool());
    drop(endpoint);
    pool.wake();
}

impl<T> fmt::Debug for Pick<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick").field("endpoint", self.endpoint()).field("started", &self.started).finish()
    }
}
