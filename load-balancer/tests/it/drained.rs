//! Waiting for the last request of a backend that leaves.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use tenfold_load_balancer::{Pick, Policy, Request};

use crate::{balancer, id};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    /// How often it was woken since the last look.
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn picks(balancer: &tenfold_load_balancer::Balancer, count: usize) -> Vec<Pick> {
    (0..count).map(|_| balancer.pick(&Request::default(), Instant::now()).unwrap()).collect()
}

#[test]
fn the_last_request_wakes_who_waits_and_no_other_does() {
    let balancer = balancer(Policy::RoundRobin, 1);
    let mut picks = picks(&balancer, 3);
    balancer.drain(id(0));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(balancer.drained(id(0)));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert_eq!(wakes.take(), 1, "it looks once more, since a request may just have ended");
    for _ in 0..2 {
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(picks.pop());
        assert_eq!(wakes.take(), 0, "others are in flight");
    }
    drop(picks.pop());
    assert_eq!(wakes.take(), 1);
    assert!(waiting.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_backend_that_is_removed_wakes_who_waits() {
    let balancer = balancer(Policy::RoundRobin, 2);
    let picks = picks(&balancer, 2);
    balancer.drain(id(0));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(balancer.drained(id(0)));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    wakes.take();
    balancer.remove(id(0));
    assert!(wakes.take() > 0);
    assert!(waiting.as_mut().poll(&mut context).is_ready());
    drop(picks);
}

#[test]
fn who_no_longer_waits_is_not_woken() {
    let balancer = balancer(Policy::RoundRobin, 1);
    let picks = picks(&balancer, 1);
    balancer.drain(id(0));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut waiting = Box::pin(balancer.drained(id(0)));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waiting);
    drop(waker);
    assert_eq!(Arc::strong_count(&wakes), 1, "its waker is given back");
    wakes.take();
    drop(picks);
    assert_eq!(wakes.take(), 0);
}

/// Threads end requests while others begin to wait for them; no tick helps. The end of a request that just missed the waiter is
/// made up for by whatever ends next, at any backend.
#[test]
fn nobody_waits_for_ever_while_requests_go_on() {
    let balancer = balancer(Policy::RoundRobin, 2);
    std::thread::scope(|scope| {
        for round in 0..2_000 {
            let held = picks(&balancer, 2);
            balancer.drain(id(round % 2));
            let ends = scope.spawn(move || drop(held));
            let wakes = Arc::new(Wakes::default());
            let waker = Waker::from(Arc::clone(&wakes));
            let mut waiting = pin!(balancer.drained(id(round % 2)));
            while waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                while wakes.take() == 0 {
                    // Another backend's requests go on.
                    drop(balancer.pick(&Request::default(), Instant::now()));
                    std::thread::yield_now();
                }
            }
            ends.join().unwrap();
            balancer.insert(crate::backend(round % 2)).unwrap();
        }
    });
}

#[test]
fn nothing_in_flight_and_nobody_there_are_ready_at_once() {
    let balancer = balancer(Policy::RoundRobin, 1);
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(balancer.drained(id(0))).poll(&mut context).is_ready());
    assert!(pin!(balancer.drained(id(9))).poll(&mut context).is_ready());
}
