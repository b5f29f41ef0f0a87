//! Threads that pick while the pool changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenfold_load_balancer::{Balancer, Config, Outcome, Pick, Picker, Policy, Request, SlowStartConfig};

use crate::{backend, balancer, id, number};

const fn is_shared<T: Send + Sync>() {}
const fn travels<T: Send + 'static>() {}
const _: () = {
    is_shared::<Balancer>();
    travels::<Picker>();
    is_shared::<Pick>();
    travels::<Pick>();
};

/// Backends 0 and 1 are always there, 2 to 5 come and go: no pick fails, those who come are picked, and when all threads have
/// stopped nothing is in flight. The changes wait for the threads, so that they surely meet.
#[test]
fn no_pick_fails_while_backends_come_and_go() {
    for policy in Policy::all() {
        // Those who come take their share at once.
        let slow_start = SlowStartConfig { window: Duration::ZERO, ..Default::default() };
        let config = Config { policy, slow_start, ..Config::default() };
        let balancer: Balancer = Balancer::builder().config(config).seed(1).build().unwrap();
        balancer.replace((0..2).map(backend).collect()).unwrap();
        let stop = AtomicBool::new(false);
        let picks: [AtomicU64; 3] = Default::default();
        let picked: [AtomicU64; 6] = Default::default();
        std::thread::scope(|scope| {
            for (thread, picks) in picks.iter().enumerate() {
                let (balancer, stop, picked) = (&balancer, &stop, &picked);
                scope.spawn(move || {
                    let mut picker = balancer.picker();
                    while !stop.load(Ordering::Relaxed) {
                        let now = Instant::now();
                        let request = Request::default();
                        let pick = if thread == 0 { balancer.pick(&request, now) } else { picker.pick(&request, now) };
                        let pick = pick.expect("two are always there");
                        picked[usize::from(number(pick.address()))].fetch_add(1, Ordering::Relaxed);
                        pick.finish(Outcome::Success, now);
                        picks.fetch_add(1, Ordering::Relaxed);
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
                // Just after one came.
                if round % 30 == 0 {
                    picks.iter().for_each(|picks| wait_for_more(picks, 5));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let picked = picked.map(AtomicU64::into_inner);
        assert!(picked[2..].iter().any(|count| *count > 0), "{policy}: {picked:?}");
        assert!(balancer.backends().iter().all(|backend| backend.in_flight == 0));
    }
}

/// Waits until a thread has done this much more.
fn wait_for_more(count: &AtomicU64, more: u64) {
    let before = count.load(Ordering::Relaxed);
    while count.load(Ordering::Relaxed) < before + more {
        std::thread::yield_now();
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
