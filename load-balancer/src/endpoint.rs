//! What lives as long as a backend is in the pool, across every rebuilding of the tables: who it is, what the host keeps
//! beside it, what is known of it, and how many requests it has in flight.
//!
//! # The count of requests in flight
//! A [`Pick`](crate::Pick) must keep its endpoint alive and must be counted. Both are one reference count here: a pick
//! holds the `Arc` of the endpoint, everybody else holds the [`Slot`] around it, which holds exactly one. So a pick
//! costs one atomic addition and its end one subtraction, where a count beside the reference would cost two of each,
//! and no path can forget to count down.
//!
//! # Invariants
//! - **E1** Beside picks, the slot is the only holder of an endpoint: requests in flight = strong count - 1.
//! - **E2** Whoever waits for the last request of an endpoint is woken after that request's pick has let go: by the pick,
//!   or at the next tick where the two just missed each other. (A pick cannot look for waiters after it has let go of
//!   the endpoint, and before it, somebody may still come.)

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crate::health::Vitals;
use crate::pool::Pool;
use crate::report::Reported;
use crate::sync::Arc;
use crate::{Backend, BackendId};

/// One backend while it is in the pool: who, where, and the host's data beside it.
///
/// Weight, zone and priority are not here, because they may change while requests are in flight;
/// [`Balancer::backends`](crate::Balancer::backends) lists them.
//
// On cache lines of its own: the reference count in the line before it is written by every pick.
#[repr(align(128))]
pub struct Endpoint<T = ()> {
    id: BackendId,
    address: SocketAddr,
    /// Whether new requests may go to it, for tables that are not rebuilt when health changes.
    open: AtomicBool,
    /// Whether somebody waits for its last request.
    watched: AtomicBool,
    pool: Arc<Pool<T>>,
    data: T,
    vitals: Vitals,
    report: Reported,
}

impl<T> Endpoint<T> {
    /// Who it is.
    #[inline]
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// Where it is.
    #[inline]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the host keeps beside it.
    #[inline]
    pub fn data(&self) -> &T {
        &self.data
    }

    #[inline]
    pub(crate) fn pool(&self) -> &Arc<Pool<T>> {
        &self.pool
    }

    #[inline]
    pub(crate) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        // Ordering: advice; a request that just misses a change is a request that was picked just before it.
        self.open.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn report(&self) -> &Reported {
        &self.report
    }

    pub(crate) fn set_open(&self, to: bool) {
        self.open.store(to, Ordering::Relaxed);
    }

    /// Whether the end of a pick must wake somebody.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }
}

impl<T> fmt::Debug for Endpoint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

/// The one holder of an endpoint beside its picks (E1); tables share it.
pub(crate) struct Slot<T>(Arc<Endpoint<T>>);

impl<T> Slot<T> {
    pub(crate) fn new(backend: Backend<T>, pool: Arc<Pool<T>>) -> Self {
        let (id, address, data) = backend.into_parts();
        let (open, watched) = (AtomicBool::new(true), AtomicBool::new(false));
        let vitals = Vitals::new(pool.norm());
        Self(Arc::new(Endpoint { id, address, open, watched, pool, data, vitals, report: Reported::default() }))
    }

    #[inline]
    pub(crate) fn endpoint(&self) -> &Endpoint<T> {
        &self.0
    }

    /// One more request in flight, while what is returned lives.
    #[inline]
    pub(crate) fn hold(&self) -> Arc<Endpoint<T>> {
        Arc::clone(&self.0)
    }

    /// Requests in flight now. Others may be picked or end meanwhile.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Asks for a wake-up at each end of a request from now on.
    pub(crate) fn watch(&self, waker: &Waker) {
        self.0.watched.store(true, Ordering::Relaxed);
        self.0.pool.wait(waker);
    }
}

/// Those who wait for the last requests of endpoints that leave; at most one waker a waiting task.
#[derive(Debug, Default)]
pub(crate) struct Waiters(parking_lot::Mutex<Vec<Waker>>);

impl Waiters {
    pub(crate) fn add(&self, waker: &Waker) {
        let mut wakers = self.0.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Wakes all; they look again and come back if they must.
    pub(crate) fn wake(&self) {
        let wakers = std::mem::take(&mut *self.0.lock());
        for waker in wakers {
            waker.wake();
        }
    }
}

#[cfg(all(test, tenfold_loom))]
mod loom_tests {
    use super::*;

    /// E1 in every interleaving: a thread that picks and lets go, beside one that reads the count.
    #[test]
    fn loom_what_is_in_flight_is_counted() {
        loom::model(|| {
            let pool = Arc::new(Pool::new(crate::clock::now(), true, &crate::OutlierConfig::default()));
            let backend = Backend::new(SocketAddr::from(([127, 0, 0, 1], 80)));
            let slot = Arc::new(Slot::new(backend, Arc::clone(&pool)));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let slot = Arc::clone(&slot);
                    loom::thread::spawn(move || {
                        let held = slot.hold();
                        assert!((1..=2).contains(&slot.in_flight()), "E1: mine and at most one other's");
                        drop(held);
                    })
                })
                .collect();
            assert!(slot.in_flight() <= 2, "E1: two others'");
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(slot.in_flight(), 0, "E1");
        });
    }
}
