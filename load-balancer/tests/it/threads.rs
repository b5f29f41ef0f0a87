//! Threads that pick while the pool changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tenfold_load_balancer::{Balancer, Outcome, Pick, Picker, Policy, Request};

use crate::{backend, balancer, id, number};

const fn is_shared<T: Send + Sync>() {}
const fn travels<T: Send + 'static>() {}
const _: () = {
    is_shared::<Balancer>();
    travels::<Picker>();
    is_shared::<Pick>();
    travels::<Pick>();
};

/// Backends 0 and 1 are always there, 2 to 5 come and go: no pick fails, and when all threads have stopped nothing is
/// in flight.
#[test]
fn no_pick_fails_while_backends_come_and_go() {
    for policy in Policy::all() {
        let balancer = balancer(policy, 2);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (balancer, stop) = (&balancer, &stop);
                scope.spawn(move || {
                    let mut picker = balancer.picker();
                    while !stop.load(Ordering::Relaxed) {
                        let now = Instant::now();
                        let request = Request::default();
                        let pick = if thread == 0 { balancer.pick(&request, now) } else { picker.pick(&request, now) };
                        let pick = pick.expect("two are always there");
                        assert!(number(pick.address()) < 6);
                        pick.finish(Outcome::Success, now);
                    }
                });
            }
            for round in 0..300_u16 {
                let number = 2 + round % 4;
                match round % 3 {
                    0 => drop(balancer.insert(backend(number))),
                    1 => drop(balancer.drain(id(number))),
                    _ => drop(balancer.remove(id(number))),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(balancer.backends().iter().all(|backend| backend.in_flight == 0));
    }
}

/// After a change has returned, no pick that begins later goes by the pool from before.
#[test]
fn a_removed_backend_is_never_picked_again() {
    let balancer = balancer(Policy::P2c, 4);
    let mut pickers: Vec<_> = (0..4).map(|_| balancer.picker()).collect();
    for gone in 0..3 {
        balancer.remove(id(gone));
        for picker in &mut pickers {
            for _ in 0..50 {
                assert!(number(picker.next(&Request::default(), Instant::now()).unwrap().address()) > gone);
            }
        }
    }
}
