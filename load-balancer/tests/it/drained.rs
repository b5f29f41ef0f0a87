//! Waiting for the last request of a backend that leaves.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use tenfold_load_balancer::{Policy, Request};

use crate::{balancer, id};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_last_request_wakes_who_waits() {
    let balancer = balancer(Policy::RoundRobin, 1);
    let picks: Vec<_> = (0..3).map(|_| balancer.pick(&Request::default(), Instant::now()).unwrap()).collect();
    balancer.drain(id(0));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(balancer.drained(id(0)));
    for pick in picks {
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let before = wakes.0.load(Ordering::Relaxed);
        drop(pick);
        assert!(wakes.0.load(Ordering::Relaxed) > before, "the end of a request wakes");
    }
    assert!(waiting.as_mut().poll(&mut context).is_ready());
}

#[test]
fn nothing_in_flight_and_nobody_there_are_ready_at_once() {
    let balancer = balancer(Policy::RoundRobin, 1);
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(balancer.drained(id(0))).poll(&mut context).is_ready());
    assert!(pin!(balancer.drained(id(9))).poll(&mut context).is_ready());
}
