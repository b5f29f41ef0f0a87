//! Flights led by threads, and threads that help.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::super::staged::{Bell, Ledger, Stage, block_on, poll};
use super::super::{Failure, Flight, Outcome, Phase, WaitError};
use super::{failure, start, value};
use crate::testing::steps;

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(600);

fn unused(_: &Flight<u64>, _: &Outcome<u64>) {
    panic!("a waiter of a thread-led flight settles nothing");
}

/// Spins until so many threads are seated.
fn until_threads_wait(flight: &Flight<u64>, count: usize) {
    while flight.state.lock().threads.len() < count {
        thread::yield_now();
    }
}

fn seated(flight: &Flight<u64>) -> usize {
    let state = flight.state.lock();
    state.tasks.len() + state.threads.len()
}

#[test]
fn threads_and_tasks_get_what_the_leading_thread_brings() {
    let ledger = Ledger::default();
    let leader = Flight::led_by_thread(ledger.settle());
    let flight = Arc::clone(leader.flight());
    let (mut task, bell) = (Arc::clone(&flight).join(unused), Arc::new(Bell::default()));
    thread::scope(|scope| {
        // A task on another thread: on the leader's it would count as a recursion.
        scope.spawn(|| assert!(poll(&mut task, &bell).is_pending())).join().unwrap();
        for timeout in [None, Some(LONG), Some(Duration::MAX), None] {
            let flight = &flight;
            scope.spawn(move || assert!(matches!(flight.wait(timeout, unused), Ok(Ok(Some(7))))));
        }
        until_threads_wait(&flight, 4);
        flight.check_invariants();
        leader.finish(Ok(Some(7)));
    });
    assert_eq!(bell.rung(), 1);
    assert_eq!(value(poll(&mut task, &bell)), Some(7));
    assert_eq!(ledger.entries().len(), 1);
    flight.check_invariants();
}

#[test]
fn a_leader_that_lets_go_or_panics_hangs_nobody() {
    for panics in [false, true] {
        let ledger = Ledger::default();
        let leader = Flight::led_by_thread(ledger.settle());
        let flight = Arc::clone(leader.flight());
        thread::scope(|scope| {
            let waiter = scope.spawn(|| flight.wait(None, unused));
            until_threads_wait(&flight, 1);
            let led = catch_unwind(AssertUnwindSafe(|| {
                let _leader = leader;
                if panics {
                    resume_unwind(Box::new("staged"));
                }
            }));
            assert_eq!(led.is_err(), panics);
            let Ok(Err(failure)) = waiter.join().unwrap() else { panic!("no failure") };
            assert_eq!(matches!(failure, Failure::Panicked), panics);
            assert_eq!(matches!(failure, Failure::Abandoned), !panics);
        });
        assert_eq!(ledger.entries().len(), 1, "settled though it failed");
    }
}

#[test]
fn a_thread_alone_drives_the_load() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let leader = start(&stage, &ledger);
    let flight = Arc::clone(leader.flight());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| flight.wait(None, ledger.settle()));
        until_threads_wait(&flight, 1);
        // The leader was never polled and never will be.
        for _ in 0..100 {
            stage.wake();
        }
        stage.open(Ok(Some(2)));
        assert!(matches!(waiter.join().unwrap(), Ok(Ok(Some(2)))));
    });
    assert_eq!((ledger.entries().len(), stage.drops()), (1, 1));
}

#[test]
fn one_waiting_thread_is_woken_and_no_task() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut task, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    assert!(poll(&mut task, &bell).is_pending());
    let flight = Arc::clone(task.flight());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| flight.wait(Some(LONG), ledger.settle()));
        until_threads_wait(&flight, 1);
        let polls = stage.polls();
        stage.wake();
        while stage.polls() == polls {
            thread::yield_now();
        }
        assert_eq!(bell.rung(), 0, "the thread is sure to come by");
        stage.open(Ok(Some(2)));
        assert!(waiter.join().unwrap().is_ok());
    });
    assert_eq!(bell.rung(), 1);
    assert_eq!(value(poll(&mut task, &bell)), Some(2));
}

#[test]
fn a_woken_thread_that_leaves_passes_the_wake_on() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut task, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    assert!(poll(&mut task, &bell).is_pending());
    let flight = Arc::clone(task.flight());
    // By hand, for no test can hold a thread between its wake and its next look.
    let seat = flight.state.lock().threads.insert(thread::current());
    let seat = Some(super::super::waiter::Seat::Thread(seat));
    let waiter = super::super::waiter::Waiter::new(Arc::clone(&flight), seat, ledger.settle());
    stage.wake();
    assert_eq!(bell.rung(), 0);
    drop(waiter);
    assert_eq!(bell.rung(), 1);
    stage.open(Ok(Some(1)));
    assert_eq!(value(poll(&mut task, &bell)), Some(1));
}

#[test]
fn a_timeout_leaves_the_flight_as_it_is() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut task, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    assert!(poll(&mut task, &bell).is_pending());
    let flight = Arc::clone(task.flight());
    for timeout in [Duration::ZERO, SHORT] {
        let waited = flight.wait(Some(timeout), ledger.settle());
        assert!(matches!(waited, Err(WaitError::TimedOut)));
        assert_eq!(flight.state.lock().threads.len(), 0);
        assert!(!flight.is_finished());
        flight.check_invariants();
    }
    stage.open(Ok(Some(1)));
    assert_eq!(value(poll(&mut task, &bell)), Some(1));
    assert!(matches!(flight.wait(Some(Duration::ZERO), ledger.settle()), Ok(Ok(Some(1)))), "what is there is taken");
    assert_eq!(ledger.entries().len(), 1);

    let leader = Flight::led_by_thread(ledger.settle());
    let flight = Arc::clone(leader.flight());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| flight.wait(Some(SHORT), unused));
        assert!(matches!(waiter.join().unwrap(), Err(WaitError::TimedOut)));
    });
    leader.finish(Ok(None));
    assert!(flight.is_finished());
}

#[test]
fn the_last_thread_to_time_out_takes_the_load_along() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let leader = start(&stage, &ledger);
    let flight = Arc::clone(leader.flight());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| flight.wait(Some(Duration::from_millis(100)), ledger.settle()));
        until_threads_wait(&flight, 1);
        drop(leader);
        assert!(matches!(waiter.join().unwrap(), Err(WaitError::TimedOut)));
    });
    assert!(flight.is_finished());
    assert_eq!(stage.drops(), 1);
    assert!(matches!(ledger.entries()[..], [Err(Failure::Abandoned)]));
}

#[test]
fn a_thread_that_waits_for_itself_is_told() {
    let leader = Flight::led_by_thread(|_, _| ());
    let flight = Arc::clone(leader.flight());
    assert!(matches!(flight.wait(None, unused), Err(WaitError::Recursive)));
    assert!(matches!(block_on(Arc::clone(&flight).join(unused)), Err(WaitError::Recursive)));
    assert!(matches!(flight.state.lock().phase, Phase::Led(_)), "and the flight goes on");
    leader.finish(Ok(Some(1)));
    assert!(matches!(flight.wait(None, unused), Ok(Ok(Some(1)))));
}

#[test]
fn many_threads_and_tasks_share_one_load_round_after_round() {
    for round in 0..steps(200) {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let leader = start(&stage, &ledger);
        let flight = Arc::clone(leader.flight());
        let barrier = Barrier::new(6);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    barrier.wait();
                    assert!(matches!(flight.wait(None, ledger.settle()), Ok(Ok(Some(7)))));
                });
                scope.spawn(|| {
                    barrier.wait();
                    let joined = block_on(Arc::clone(&flight).join(ledger.settle()));
                    assert!(matches!(joined, Ok(Ok(Some(7)))));
                });
            }
            scope.spawn(|| {
                barrier.wait();
                if round % 2 == 0 {
                    stage.wake();
                }
                stage.open(Ok(Some(7)));
            });
            barrier.wait();
            if round % 3 == 0 {
                assert!(matches!(block_on(leader), Ok(Ok(Some(7)))));
            } else {
                // Not before somebody else is seated: the last to leave would take the load along.
                while !flight.is_finished() && seated(&flight) < 2 {
                    thread::yield_now();
                }
                drop(leader);
            }
        });
        assert_eq!((ledger.entries().len(), stage.drops()), (1, 1));
        flight.check_invariants();
    }
}

#[test]
fn a_failure_can_be_cloned_out_of_a_finished_flight() {
    let leader = Flight::<u64>::led_by_thread(|_, _| ());
    let flight = Arc::clone(leader.flight());
    leader.finish(Err(Failure::Error(Arc::new(404_u16))));
    let polled = poll(&mut flight.join(unused), &Arc::default());
    let Failure::Error(error) = failure(polled) else { panic!("no error") };
    assert_eq!(error.downcast_ref::<u16>(), Some(&404));
}
