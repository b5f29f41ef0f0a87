//! Flights under shuttle, which picks the thread that runs next at every lock, park and atomic.
//!
//! A lost wake-up shows as a deadlock, for nothing here wakes by itself. A failure prints the seed that replays it:
//! set `SHUTTLE_RANDOM_SEED` to it. Run with
//! `RUSTFLAGS="--cfg shuttle" cargo test -p tenfold-cache-core --lib shuttle`.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};

use super::staged::{Bell, Impatient, Ledger, Settle, Stage, block_on, poll};
use super::{Failure, Flight, Joined, Outcome, WaitError};
use crate::sync::Arc;
use crate::sync::thread::{self, JoinHandle};

const ITERATIONS: usize = 1000;

/// Random schedules find most faults; PCT (Burckhardt et al. 2010) those that need few but certain preemptions.
fn check(scenario: fn()) {
    shuttle::check_random(scenario, ITERATIONS);
    for depth in [2, 3, 5] {
        shuttle::check_pct(scenario, ITERATIONS / 4, depth);
    }
}

fn start(stage: &Stage, ledger: &Ledger) -> Joined<u64, Settle> {
    Flight::led_by_future(stage.load(), ledger.settle())
}

fn spawn_thread(flight: &Arc<Flight<u64>>, ledger: &Ledger) -> JoinHandle<Result<Outcome<u64>, WaitError>> {
    let (flight, settle) = (Arc::clone(flight), ledger.settle());
    thread::spawn(move || flight.wait(None, settle))
}

fn spawn_task(flight: &Arc<Flight<u64>>, ledger: &Ledger) -> JoinHandle<Result<Outcome<u64>, WaitError>> {
    let joined = Arc::clone(flight).join(ledger.settle());
    thread::spawn(move || block_on(joined))
}

/// A task that is polled some times, whether woken or not, and then dropped. Returns its bell.
fn spawn_cancelled(mut joined: Joined<u64, Settle>, polls: usize) -> JoinHandle<Arc<Bell>> {
    thread::spawn(move || {
        let bell = Arc::new(Bell::default());
        for _ in 0..polls {
            if poll(&mut joined, &bell).is_ready() {
                break;
            }
        }
        bell
    })
}

/// To be asked when no wake is on its way any more.
fn assert_left_no_waker(cancelled: JoinHandle<Arc<Bell>>) {
    let bell = cancelled.join().unwrap();
    assert_eq!(Arc::strong_count(&bell), 1, "a cancelled waiter left its waker");
}

fn assert_over(flight: &Flight<u64>, stage: &Stage, ledger: &Ledger) {
    flight.check_invariants();
    assert!(flight.is_finished());
    assert_eq!((stage.drops(), ledger.entries().len()), (1, 1));
}

#[test]
fn shuttle_threads_and_tasks_drive_one_load() {
    check(|| {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let leader = start(&stage, &ledger);
        let flight = Arc::clone(leader.flight());
        let waiters =
            [spawn_thread(&flight, &ledger), spawn_task(&flight, &ledger), thread::spawn(move || block_on(leader))];
        let opener = {
            let stage = stage.clone();
            thread::spawn(move || {
                stage.wake();
                stage.open(Ok(Some(7)));
            })
        };
        for waiter in waiters {
            let waited = waiter.join().unwrap();
            // Who comes when the others have gone (they cannot have, before it is over) would see an abandonment.
            assert!(matches!(waited, Ok(Ok(Some(7)))), "{waited:?}");
        }
        opener.join().unwrap();
        assert_over(&flight, &stage, &ledger);
    });
}

#[test]
fn shuttle_tasks_alone_lose_no_wake() {
    check(|| {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let leader = start(&stage, &ledger);
        let flight = Arc::clone(leader.flight());
        let tasks =
            [spawn_task(&flight, &ledger), spawn_task(&flight, &ledger), thread::spawn(move || block_on(leader))];
        stage.wake();
        stage.open(Ok(Some(7)));
        for task in tasks {
            assert!(matches!(task.join().unwrap(), Ok(Ok(Some(7)))));
        }
        assert_over(&flight, &stage, &ledger);
    });
}

#[test]
fn shuttle_a_cancelled_or_silent_leader_hangs_nobody() {
    check(|| {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let mut leader = start(&stage, &ledger);
        let flight = Arc::clone(leader.flight());
        // One waiter is seated for good; it is woken for every wake, and never answers.
        let silent_bell = Arc::new(Bell::default());
        let mut silent = Arc::clone(&flight).join(ledger.settle());
        assert!(poll(&mut leader, &silent_bell).is_pending());
        assert!(poll(&mut silent, &silent_bell).is_pending());
        let cancelled = spawn_cancelled(leader, thread_rng().gen_range(0..3));
        let waiter =
            if thread_rng().gen_bool(0.5) { spawn_task(&flight, &ledger) } else { spawn_thread(&flight, &ledger) };
        let opener = stage.clone();
        let opener = thread::spawn(move || opener.open(Ok(Some(7))));
        assert!(matches!(waiter.join().unwrap(), Ok(Ok(Some(7)))));
        opener.join().unwrap();
        assert_left_no_waker(cancelled);
        drop(silent);
        assert_over(&flight, &stage, &ledger);
    });
}

#[test]
fn shuttle_the_last_to_leave_takes_the_load_along() {
    check(|| {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let leader = start(&stage, &ledger);
        let flight = Arc::clone(leader.flight());
        let mut leaving = vec![spawn_cancelled(leader, 1)];
        for polls in [0, 2] {
            leaving.push(spawn_cancelled(Arc::clone(&flight).join(ledger.settle()), polls));
        }
        let timed = {
            let (flight, settle) = (Arc::clone(&flight), ledger.settle());
            thread::spawn(move || flight.wait(Some(Duration::from_secs(1)), settle))
        };
        let waker = stage.clone();
        thread::spawn(move || waker.wake()).join().unwrap();
        let waited = timed.join().unwrap();
        assert!(matches!(waited, Err(WaitError::TimedOut) | Ok(Err(Failure::Abandoned))), "{waited:?}");
        leaving.into_iter().for_each(assert_left_no_waker);
        assert_over(&flight, &stage, &ledger);
        assert!(matches!(ledger.entries()[..], [Err(Failure::Abandoned)]));
    });
}

#[test]
fn shuttle_a_thread_that_times_out_hangs_nobody() {
    check(|| {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let leader = start(&stage, &ledger);
        let flight = Arc::clone(leader.flight());
        let timed = {
            let (flight, settle) = (Arc::clone(&flight), ledger.settle());
            thread::spawn(move || flight.wait(Some(Duration::from_secs(1)), settle))
        };
        let task = thread::spawn(move || block_on(leader));
        stage.wake();
        stage.open(Ok(None));
        assert!(matches!(task.join().unwrap(), Ok(Ok(None))));
        assert!(matches!(timed.join().unwrap(), Ok(Ok(None)) | Err(WaitError::TimedOut)));
        assert_over(&flight, &stage, &ledger);
    });
}

#[test]
fn shuttle_a_leading_thread_finishes_or_goes_before_all_eyes() {
    check(|| {
        let ledger = Ledger::default();
        let leader = Flight::led_by_thread(ledger.settle());
        let flight = Arc::clone(leader.flight());
        let waiters = [spawn_thread(&flight, &ledger), spawn_task(&flight, &ledger)];
        let cancelled = spawn_cancelled(Arc::clone(&flight).join(ledger.settle()), 2);
        let timed = {
            let (flight, settle) = (Arc::clone(&flight), ledger.settle());
            thread::spawn(move || flight.wait(Some(Duration::from_secs(1)), settle))
        };
        assert!(matches!(flight.wait(None, ledger.settle()), Err(WaitError::Recursive)));
        let error: Arc<dyn std::any::Any + Send + Sync> = Arc::new(404);
        let (way, sent) = (thread_rng().gen_range(0..4), Arc::clone(&error));
        match way {
            0 => leader.finish(Ok(Some(7))),
            1 => leader.finish(Err(Failure::Error(sent))),
            2 => leader.finish(Err(Failure::Panicked)),
            _ => drop(leader),
        }
        for waiter in waiters {
            match (way, waiter.join().unwrap()) {
                (0, Ok(Ok(Some(7)))) | (2, Ok(Err(Failure::Panicked))) | (3, Ok(Err(Failure::Abandoned))) => {}
                (1, Ok(Err(Failure::Error(got)))) => assert!(Arc::ptr_eq(&got, &error)),
                (_, other) => panic!("way {way}: {other:?}"),
            }
        }
        let _ = timed.join().unwrap();
        assert_left_no_waker(cancelled);
        flight.check_invariants();
        assert_eq!(ledger.entries().len(), 1);
    });
}

#[test]
fn shuttle_a_load_that_panics_fails_for_everybody() {
    check(|| {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let leader = start(&stage, &ledger);
        let flight = Arc::clone(leader.flight());
        let waiters =
            [spawn_thread(&flight, &ledger), spawn_task(&flight, &ledger), thread::spawn(move || block_on(leader))];
        stage.sabotage();
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), Ok(Err(Failure::Panicked))));
        }
        assert_over(&flight, &stage, &ledger);
    });
}

#[test]
fn shuttle_a_load_that_wakes_itself_goes_from_hand_to_hand() {
    check(|| {
        let ledger = Ledger::default();
        let leader = Flight::led_by_future(Box::pin(Impatient(8)), ledger.settle());
        let flight = Arc::clone(leader.flight());
        let cancelled = spawn_cancelled(leader, 2);
        for task in [spawn_task(&flight, &ledger), spawn_task(&flight, &ledger)] {
            // The leader may have left before anybody else came.
            assert!(matches!(task.join().unwrap(), Ok(Ok(Some(9)) | Err(Failure::Abandoned))));
        }
        assert_left_no_waker(cancelled);
        flight.check_invariants();
        assert_eq!(ledger.entries().len(), 1);
    });
}

/// A load that waits for another flight, and so wakes one flight from within the other.
struct Chained(Joined<u64, Settle>);

impl Future for Chained {
    type Output = Outcome<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<u64>> {
        Pin::new(&mut self.0).poll(cx).map(|waited| waited.unwrap_or(Err(Failure::Recursive)))
    }
}

#[test]
fn shuttle_flights_that_share_another_flight_all_land() {
    check(|| {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let shared = start(&stage, &ledger);
        let ledgers = [Ledger::default(), Ledger::default()];
        let parts: Vec<_> = ledgers
            .iter()
            .map(|own| {
                let part = Chained(Arc::clone(shared.flight()).join(ledger.settle()));
                let leader = Flight::led_by_future(Box::pin(part), own.settle());
                let other = spawn_thread(leader.flight(), own);
                [thread::spawn(move || block_on(leader)), other]
            })
            .collect();
        stage.wake();
        stage.open(Ok(Some(7)));
        for waiter in parts.into_iter().flatten() {
            assert!(matches!(waiter.join().unwrap(), Ok(Ok(Some(7)))));
        }
        assert!(ledgers.iter().all(|own| own.entries().len() == 1));
        assert_over(shared.flight(), &stage, &ledger);
    });
}

#[test]
fn shuttle_a_load_that_waits_for_itself_is_told_among_others() {
    check(|| {
        let own: Arc<OnceLock<Arc<Flight<u64>>>> = Arc::default();
        let seen = Arc::clone(&own);
        let load = Box::pin(async move {
            let flight = Arc::clone(seen.get().expect("set before the first poll"));
            assert!(matches!(flight.wait(None, |_, _| ()), Err(WaitError::Recursive)));
            Ok(Some(5))
        });
        let ledger = Ledger::default();
        let leader = Flight::led_by_future(load, ledger.settle());
        let flight = Arc::clone(leader.flight());
        assert!(own.set(Arc::clone(&flight)).is_ok());
        let waiters = [spawn_thread(&flight, &ledger), thread::spawn(move || block_on(leader))];
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), Ok(Ok(Some(5)))));
        }
        assert_eq!(ledger.entries().len(), 1);
    });
}
