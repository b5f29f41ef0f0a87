//! What lives as long as a backend is in the pool, across every rebuilding of the tables: who it is, what the host keeps
//! beside it, what is known of it, and how many requests it has in flight.
//!
//! # The count of requests in flight
//! A [`Pick`](crate::Pick) must keep its endpoint alive, must be counted, and mostly counts as a success when it ends. All
//! three are one word here ([`counted`](crate::counted)): a pick holds the endpoint, everybody else has the [`Slot`] that owns
//! it. So a pick costs one atomic addition and its end another, and no path can forget to count down.
//!
//! # Invariants
//! - **E1** Picks hold an endpoint, and nothing else does: requests in flight are its holders.
//! - **E2** Whoever waits for the last request of an endpoint is woken after that request's pick has let go: by the pick
//!   itself, or, where the two just missed each other, by whatever pick of the pool ends next, or at the next change or
//!   tick. (A pick looks for waiters before it lets go; after it, there may be no pool to look at any more.)

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crate::counted::{Count, Counted, Held, Owner};
use crate::health::Vitals;
use crate::pool::Pool;
use crate::report::Reported;
use crate::sync::{Arc, Mutex};
use crate::{Backend, BackendId};

/// One backend while it is in the pool: who, where, and the host's data beside it.
///
/// Weight, zone and priority are not here, because they may change while requests are in flight;
/// [`Balancer::backends`](crate::Balancer::backends) lists them.
//
// In this order, and so aligned: what every request writes, the count and the measurements that come first, lies in one cache
// line, so that a core which has taken that line from another has all it needs.
#[repr(C, align(64))]
pub struct Endpoint<T = ()> {
    vitals: Vitals,
    id: BackendId,
    address: SocketAddr,
    /// Whether new requests may go to it, for tables that are not rebuilt when health changes.
    open: AtomicBool,
    pool: Arc<Pool<T>>,
    data: T,
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
}

impl<T> Counted for Endpoint<T> {
    #[inline]
    fn count(&self) -> &Count {
        self.vitals.count()
    }
}

impl<T> fmt::Debug for Endpoint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

/// The owner of an endpoint, beside its picks (E1); tables share it.
pub(crate) struct Slot<T>(Owner<Endpoint<T>>);

impl<T> Slot<T> {
    pub(crate) fn new(backend: Backend<T>, pool: Arc<Pool<T>>) -> Self {
        let (id, address, data) = backend.into_parts();
        let (open, vitals) = (AtomicBool::new(true), Vitals::new(pool.norm()));
        Self(Owner::new(Endpoint { id, address, open, pool, data, vitals, report: Reported::default() }))
    }

    #[inline]
    pub(crate) fn endpoint(&self) -> &Endpoint<T> {
        &self.0
    }

    /// One more request in flight, while what is returned lives.
    #[inline]
    pub(crate) fn hold(&self) -> Held<Endpoint<T>> {
        self.0.hold()
    }

    /// Requests in flight now. Others may be picked or end meanwhile.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.0.count().holders()
    }
}

/// Those who wait for the last requests of endpoints that leave.
pub(crate) struct Waiters<T> {
    /// Whether there is one. Read at the end of every pick, written when the first comes and the last goes.
    any: crate::sync::AtomicBool,
    list: Mutex<Vec<Waiter<T>>>,
}

struct Waiter<T> {
    /// Who waits: the address of what it keeps of its own while it does.
    token: usize,
    slot: Arc<Slot<T>>,
    waker: Waker,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { any: crate::sync::AtomicBool::new(false), list: Mutex::new(Vec::new()) }
    }
}

impl<T> Waiters<T> {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Asks for one wake-up once nothing is in flight there. Says whether it was not asked for before.
    pub(crate) fn add(&self, token: usize, slot: &Arc<Slot<T>>, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut list = self.list.lock();
        let old = match list.iter_mut().find(|waiter| waiter.token == token) {
            Some(known) => Some(std::mem::replace(&mut known.waker, waker)),
            None => {
                list.push(Waiter { token, slot: Arc::clone(slot), waker });
                None
            }
        };
        self.any.store(true, Ordering::SeqCst);
        drop(list);
        old.is_none()
    }

    /// Forgets who waited.
    pub(crate) fn remove(&self, token: usize) {
        drop(self.take(|waiter| waiter.token == token));
    }

    /// Wakes those whose endpoint has nothing in flight.
    #[cold]
    pub(crate) fn wake_drained(&self) {
        self.take(|waiter| waiter.slot.in_flight() == 0).into_iter().for_each(|waiter| waiter.waker.wake());
    }

    /// Wakes all; they look again and come back if they must.
    pub(crate) fn wake_all(&self) {
        if self.any() {
            self.take(|_| true).into_iter().for_each(|waiter| waiter.waker.wake());
        }
    }

    fn take(&self, is_meant: impl Fn(&Waiter<T>) -> bool) -> Vec<Waiter<T>> {
        let mut list = self.list.lock();
        if !list.iter().any(&is_meant) {
            return Vec::new();
        }
        let (taken, left) = std::mem::take(&mut *list).into_iter().partition(is_meant);
        *list = left;
        self.any.store(!list.is_empty(), Ordering::SeqCst);
        taken
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

    fn slot(pool: &Arc<Pool<()>>) -> Arc<Slot<()>> {
        Arc::new(Slot::new(Backend::new(SocketAddr::from(([127, 0, 0, 1], 80))), Arc::clone(pool)))
    }

    fn pool() -> Arc<Pool<()>> {
        Arc::new(Pool::new(crate::clock::now(), true, &crate::OutlierConfig::default()))
    }

    /// Picks that begin and end in two threads: the pool's count, which bounds loads, ends where it began.
    #[test]
    fn loom_picks_are_counted_to_the_end() {
        loom::model(|| {
            let pool = pool();
            let slot = slot(&pool);
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (slot, pool) = (Arc::clone(&slot), Arc::clone(&pool));
                    loom::thread::spawn(move || {
                        let pick = crate::Pick::new(slot.hold(), crate::clock::now());
                        assert!((1..=2).contains(&pool.in_flight()));
                        drop(pick);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!((slot.in_flight(), pool.in_flight()), (0, 0));
        });
    }

    struct Bell(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// E2: whoever begins to wait while the last request ends sees that it has ended, or is woken by it or by whatever ends
    /// next.
    #[test]
    fn loom_nobody_waits_beyond_the_next_end() {
        loom::model(|| {
            let pool = pool();
            let (slot, other) = (slot(&pool), slot(&pool));
            let last = crate::Pick::new(slot.hold(), crate::clock::now());
            let next = crate::Pick::new(other.hold(), crate::clock::now());
            let bell = std::sync::Arc::new(Bell(std::sync::atomic::AtomicBool::new(false)));
            let ends = loom::thread::spawn(move || drop(last));
            pool.waiters().add(1, &slot, &std::sync::Arc::clone(&bell).into());
            let is_ready = slot.in_flight() == 0;
            ends.join().unwrap();
            drop(next);
            assert!(is_ready || bell.0.load(Ordering::SeqCst), "E2");
        });
    }
}
