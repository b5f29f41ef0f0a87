//! Flights moved by hand, one step at a time, and a model test over random steps.

mod random;
mod threads;

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::staged::{Bell, Impatient, Ledger, Settle, Stage, poll};
use super::{Failure, Flight, Joined, Outcome, WaitError};

fn start(stage: &Stage, ledger: &Ledger) -> Joined<u64, Settle> {
    Flight::led_by_future(stage.load(), ledger.settle())
}

fn value(polled: Poll<Result<Outcome<u64>, WaitError>>) -> Option<u64> {
    match polled {
        Poll::Ready(Ok(Ok(value))) => value,
        other => panic!("no value: {other:?}"),
    }
}

fn failure(polled: Poll<Result<Outcome<u64>, WaitError>>) -> Failure {
    match polled {
        Poll::Ready(Ok(Err(failure))) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

#[test]
fn a_thousand_tasks_share_one_load() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let leader = start(&stage, &ledger);
    let flight = Arc::clone(leader.flight());
    let others = (0..999).map(|_| Arc::clone(&flight).join(ledger.settle()));
    let mut tasks: Vec<_> =
        std::iter::once(leader).chain(others).map(|task| (task, Arc::new(Bell::default()))).collect();
    for (task, bell) in &mut tasks {
        assert!(poll(task, bell).is_pending());
    }
    assert_eq!(stage.polls(), 1, "a load that is not due is not polled");
    flight.check_invariants();

    stage.open(Ok(Some(7)));
    flight.check_invariants();
    for (task, bell) in tasks.iter_mut().rev() {
        assert_eq!(bell.rung(), 1);
        assert_eq!(value(poll(task, bell)), Some(7));
        assert_eq!(value(poll(task, bell)), Some(7), "asked again, it answers again");
    }
    assert_eq!((stage.polls(), stage.drops()), (2, 1));
    assert!(matches!(ledger.entries()[..], [Ok(Some(7))]));
    flight.check_invariants();
}

#[test]
fn a_load_that_is_ready_at_once_needs_no_wake() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    stage.open(Ok(None));
    let (mut task, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    assert_eq!(value(poll(&mut task, &bell)), None);
    assert_eq!((bell.rung(), stage.polls()), (0, 1));
}

#[test]
fn an_error_is_the_same_for_everybody() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut first, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    let mut second = Arc::clone(first.flight()).join(ledger.settle());
    assert!(poll(&mut first, &bell).is_pending());
    assert!(poll(&mut second, &bell).is_pending());
    stage.open(Err(Failure::Error(Arc::new("no route"))));
    let (Failure::Error(a), Failure::Error(b)) = (failure(poll(&mut first, &bell)), failure(poll(&mut second, &bell)))
    else {
        panic!("not errors");
    };
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!(a.downcast_ref::<&str>(), Some(&"no route"));
}

#[test]
fn a_panic_of_the_load_is_an_outcome() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut first, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    let mut second = Arc::clone(first.flight()).join(ledger.settle());
    assert!(poll(&mut first, &bell).is_pending());
    assert!(poll(&mut second, &bell).is_pending());
    stage.sabotage();
    assert!(matches!(failure(poll(&mut second, &bell)), Failure::Panicked));
    assert!(matches!(failure(poll(&mut first, &bell)), Failure::Panicked));
    assert_eq!(stage.drops(), 1);
    assert!(matches!(ledger.entries()[..], [Err(Failure::Panicked)]));
}

#[test]
fn a_load_that_panics_when_dropped_hangs_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new("staged"));
        }
    }
    impl Future for Bomb {
        type Output = Outcome<u64>;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Outcome<u64>> {
            Poll::Ready(Ok(Some(1)))
        }
    }
    let ledger = Ledger::default();
    let mut task = Flight::led_by_future(Box::pin(Bomb), ledger.settle());
    assert!(matches!(failure(poll(&mut task, &Arc::default())), Failure::Panicked));

    let task = Flight::led_by_future(Box::pin(Bomb), ledger.settle());
    let flight = Arc::clone(task.flight());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err(), "the panic is the host's to see");
    assert!(flight.is_finished());
}

#[test]
fn a_cancelled_waiter_leaves_neither_waker_nor_seat() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut leader, leader_bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    assert!(poll(&mut leader, &leader_bell).is_pending());
    let flight = Arc::clone(leader.flight());
    for _ in 0..100 {
        let bell = Arc::new(Bell::default());
        let mut waiter = Arc::clone(&flight).join(ledger.settle());
        assert!(poll(&mut waiter, &bell).is_pending());
        assert!(poll(&mut waiter, &bell).is_pending());
        assert_eq!(Arc::strong_count(&bell), 2, "one waker, however often it is polled");
        drop(waiter);
        assert_eq!(Arc::strong_count(&bell), 1);
    }
    assert_eq!(flight.state.lock().tasks.places(), 2, "seats are reused");
    assert_eq!(Arc::strong_count(&flight), 2);
    assert!(ledger.entries().is_empty());
}

#[test]
fn a_waker_is_replaced_when_the_task_moves() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut task, old, new) = (start(&stage, &ledger), Arc::new(Bell::default()), Arc::new(Bell::default()));
    assert!(poll(&mut task, &old).is_pending());
    assert!(poll(&mut task, &new).is_pending());
    stage.wake();
    assert_eq!((old.rung(), new.rung()), (0, 1));
    assert_eq!(Arc::strong_count(&old), 1);
}

#[test]
fn another_waiter_drives_on_when_the_leader_is_cancelled() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut leader, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    assert!(poll(&mut leader, &bell).is_pending());
    let mut other = Arc::clone(leader.flight()).join(ledger.settle());
    assert!(poll(&mut other, &bell).is_pending());
    drop(leader);
    stage.open(Ok(Some(3)));
    assert_eq!(bell.rung(), 1);
    assert_eq!(value(poll(&mut other, &bell)), Some(3));
    assert_eq!(ledger.entries().len(), 1);
}

#[test]
fn a_leader_that_is_never_polled_again_hangs_nobody() {
    for leader_is_polled_once in [false, true] {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let (mut leader, dead) = (start(&stage, &ledger), Arc::new(Bell::default()));
        if leader_is_polled_once {
            assert!(poll(&mut leader, &dead).is_pending());
        }
        let (mut other, bell) = (Arc::clone(leader.flight()).join(ledger.settle()), Arc::new(Bell::default()));
        assert!(poll(&mut other, &bell).is_pending());
        for _ in 0..3 {
            stage.wake();
            assert_eq!(bell.rung(), 1, "woken though the leader never answers");
            assert!(poll(&mut other, &bell).is_pending());
        }
        stage.open(Ok(Some(4)));
        assert_eq!(bell.rung(), 1);
        assert_eq!(value(poll(&mut other, &bell)), Some(4));
    }
}

#[test]
fn the_last_waiter_takes_the_load_along() {
    for polled in [false, true] {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let (mut leader, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
        let flight = Arc::clone(leader.flight());
        let mut late = Arc::clone(&flight).join(ledger.settle());
        let mut other = None;
        if polled {
            assert!(poll(&mut leader, &bell).is_pending());
            let mut waiter = Arc::clone(&flight).join(ledger.settle());
            assert!(poll(&mut waiter, &bell).is_pending());
            other = Some(waiter);
        }
        drop(leader);
        assert_eq!(flight.is_finished(), !polled);
        drop(other);
        assert!(flight.is_finished());
        assert_eq!(stage.drops(), 1);
        assert!(matches!(ledger.entries()[..], [Err(Failure::Abandoned)]));
        // A waiter that had found the flight but not yet been polled learns to start anew.
        assert!(matches!(failure(poll(&mut late, &bell)), Failure::Abandoned));
        stage.wake();
        flight.check_invariants();
    }
}

#[test]
fn many_wakes_between_two_polls_wake_once() {
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut task, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    assert!(poll(&mut task, &bell).is_pending());
    for _ in 0..10 {
        stage.wake();
    }
    assert_eq!(bell.rung(), 1);
    assert!(poll(&mut task, &bell).is_pending());
    assert_eq!(stage.polls(), 2);
}

#[test]
fn a_wake_during_the_poll_is_not_lost() {
    let ledger = Ledger::default();
    let bell = Arc::new(Bell::default());
    let mut task = Flight::led_by_future(Box::pin(Impatient(2)), ledger.settle());
    assert_eq!(value(poll(&mut task, &bell)), Some(9), "a few times it is polled on the spot");
    assert_eq!(bell.rung(), 0);

    let mut leader = Flight::led_by_future(Box::pin(Impatient(1000)), ledger.settle());
    let mut polls = 0;
    while poll(&mut leader, &bell).is_pending() {
        polls += 1;
        assert_eq!(bell.rung(), 1, "then the task goes back to its executor, woken");
        leader.flight().check_invariants();
    }
    assert!(polls < 1000);
}

#[test]
fn a_load_that_awaits_itself_is_told() {
    type Slot = Arc<Mutex<Option<Arc<Flight<u64>>>>>;
    let slot = Slot::default();
    let seen = Arc::clone(&slot);
    let load = Box::pin(async move {
        let flight = seen.lock().unwrap().take().unwrap();
        assert!(matches!(flight.wait(None, |_, _| ()), Err(WaitError::Recursive)));
        assert!(matches!(flight.join(|_, _| ()).await, Err(WaitError::Recursive)));
        Ok(Some(5))
    });
    let ledger = Ledger::default();
    let mut task = Flight::led_by_future(load, ledger.settle());
    *slot.lock().unwrap() = Some(Arc::clone(task.flight()));
    assert_eq!(value(poll(&mut task, &Arc::default())), Some(5));
    assert_eq!(ledger.entries().len(), 1);
}

#[test]
fn the_outcome_is_published_though_settling_panics() {
    let stage = Stage::default();
    stage.open(Ok(Some(6)));
    let mut first = Flight::led_by_future(stage.load(), |_, _| resume_unwind(Box::new("staged")));
    let mut second = Arc::clone(first.flight()).join(|_, _| panic!("settled twice"));
    let bell = Arc::new(Bell::default());
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first, &bell))).is_err());
    assert_eq!(value(poll(&mut first, &bell)), Some(6));
    assert_eq!(value(poll(&mut second, &bell)), Some(6));

    let leader = Flight::led_by_thread(|_, _| resume_unwind(Box::new("staged")));
    let flight = Arc::clone(leader.flight());
    assert!(catch_unwind(AssertUnwindSafe(|| leader.finish(Ok(Some(6))))).is_err());
    assert_eq!(value(poll(&mut flight.join(|_, _| ()), &bell)), Some(6));
}

#[test]
fn foreign_code_in_wakers_is_not_run_under_the_lock() {
    /// A task that owns another waiter of the flight, and dies with its last waker; its wake panics.
    struct Nasty(Mutex<Option<Box<dyn Send>>>);
    impl Wake for Nasty {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("staged"));
        }
    }
    impl Drop for Nasty {
        fn drop(&mut self) {
            drop(self.0.get_mut().unwrap().take());
        }
    }
    let (stage, ledger) = (Stage::default(), Ledger::default());
    let (mut leader, bell) = (start(&stage, &ledger), Arc::new(Bell::default()));
    let flight = Arc::clone(leader.flight());
    let nasty = || {
        let mut inner = Arc::clone(&flight).join(ledger.settle());
        assert!(poll(&mut inner, &bell).is_pending());
        Waker::from(Arc::new(Nasty(Mutex::new(Some(Box::new(inner))))))
    };
    assert!(poll(&mut leader, &bell).is_pending());
    let mut waiter = Arc::clone(&flight).join(ledger.settle());
    for _ in 0..3 {
        // Each replaces the waker before, which thereby dies.
        let polled = Pin::new(&mut waiter).poll(&mut Context::from_waker(&nasty()));
        assert!(polled.is_pending());
    }
    let mut last = Arc::clone(&flight).join(ledger.settle());
    assert!(poll(&mut last, &bell).is_pending());
    bell.rung();
    stage.open(Ok(Some(8)));
    assert_eq!(bell.rung(), 3, "leader, last, and the waiter inside the nasty one");
    assert_eq!(value(poll(&mut last, &bell)), Some(8));
    drop(waiter);
    flight.check_invariants();
}

#[test]
fn values_of_borrowing_types_and_settlements_that_borrow_will_do() {
    let text = String::from("borrowed");
    let seen = Rc::new(RefCell::new(None));
    let leader = Flight::<&str>::led_by_thread(|_, outcome| *seen.borrow_mut() = outcome.clone().ok().flatten());
    let mut task = Arc::clone(leader.flight()).join(|_, _| ());
    leader.finish(Ok(Some(&text)));
    assert_eq!(*seen.borrow(), Some("borrowed"));
    assert!(matches!(poll(&mut task, &Arc::default()), Poll::Ready(Ok(Ok(Some("borrowed"))))));
}
