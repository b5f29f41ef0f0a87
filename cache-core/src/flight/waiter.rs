//! What waiting threads and waiting tasks have in common: a seat, the duty to poll the load, and how to leave.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::{Context, Poll, Waker};
use std::thread::panicking;

use super::{Failure, Flight, Load, Outcome, Phase, Wakes};
use crate::sync::Arc;

/// One who waits. Dropped, it leaves its seat; the last one to leave takes the load along.
pub(super) struct Waiter<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    pub(super) flight: Arc<Flight<V>>,
    pub(super) seat: Option<Seat>,
    settle: Option<S>,
}

/// Where a waiter sits.
#[derive(Clone, Copy)]
pub(super) enum Seat {
    Task(usize),
    Thread(usize),
}

impl<V, S> Waiter<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    pub(super) fn new(flight: Arc<Flight<V>>, seat: Option<Seat>, settle: S) -> Self {
        Self { flight, seat, settle: Some(settle) }
    }

    /// Polls the load once. If it is ready, or panics, the flight is concluded and `None` is returned.
    pub(super) fn poll_load(&mut self, mut load: Load<V>) -> Option<Load<V>> {
        let mut cx = Context::from_waker(self.flight.waker.as_ref().unwrap_or(Waker::noop()));
        let polled = catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(&mut cx)));
        if let Ok(Poll::Pending) = polled {
            return Some(load);
        }
        // Whatever the load holds (a connection, a permit) is free again before anybody hears of the outcome.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(load)));
        // What cannot be used is dropped last: should a panic's payload panic in turn, the outcome is out by then.
        let (outcome, _remains) = match (polled, dropped) {
            (Ok(Poll::Ready(outcome)), Ok(())) => (outcome, None),
            remains => (Err(Failure::Panicked), Some(remains)),
        };
        if let Err(panic) = self.conclude(outcome) {
            resume_unwind(panic);
        }
        None
    }

    fn conclude(&mut self, outcome: Outcome<V>) -> std::thread::Result<()> {
        match self.settle.take() {
            Some(settle) => self.flight.conclude(outcome, settle),
            None => {
                self.flight.publish(outcome);
                Ok(())
            }
        }
    }

    fn leave(&mut self) -> std::thread::Result<()> {
        let Some(seat) = self.seat.take() else {
            return Ok(());
        };
        if self.flight.is_finished() {
            return Ok(());
        }
        let mut state = self.flight.state.lock();
        let (waker, thread) = match seat {
            Seat::Task(index) => (state.tasks.remove(index).flatten(), None),
            Seat::Thread(index) => (None, state.threads.remove(index)),
        };
        let deserted = state.tasks.is_empty() && state.threads.is_empty();
        let mut wakes = Wakes::None;
        let mut abandoned = None;
        match std::mem::replace(&mut state.phase, Phase::Over) {
            Phase::Resting { load, .. } if deserted => {
                let failure = Err(Failure::Abandoned);
                let _ = self.flight.outcome.set(failure);
                abandoned = Some(load);
            }
            phase => {
                let due = matches!(phase, Phase::Resting { due: true, .. });
                state.phase = phase;
                if due {
                    wakes = state.wakes();
                }
            }
        }
        drop(state);
        // Dropping a waker may drop a task, and with it another waiter of this flight: never under the lock.
        drop((waker, thread));
        wakes.deliver();
        match (abandoned, self.settle.take()) {
            (Some(load), Some(settle)) => {
                let settled = catch_unwind(AssertUnwindSafe(|| settle(&self.flight, &Err(Failure::Abandoned))));
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(load)));
                settled.and(dropped)
            }
            _ => Ok(()),
        }
    }
}

impl<V, S> Drop for Waiter<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    fn drop(&mut self) {
        let unwinding = panicking();
        if let Err(panic) = self.leave() {
            // A second panic while unwinding would end the process.
            if !unwinding {
                resume_unwind(panic);
            }
        }
    }
}
