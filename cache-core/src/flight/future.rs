//! Flights led by a future, and tasks that wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use super::waiter::{Seat, Waiter};
use super::{Flight, Load, Outcome, Phase, Turn, WaitError, Wakes};
use crate::sync::{Arc, Weak, thread};

/// How often a load that asks at once to be polled again is, before its task goes back to its executor.
const MAX_POLLS_IN_A_ROW: usize = 3;

impl<V: Send + Sync + 'static> Flight<V> {
    /// Begins a flight whose load is a future, driven by whoever waits; the first to wait is the caller's.
    ///
    /// The load is not polled yet. The returned waiter counts from now on, so nobody can take the load away before it
    /// is polled; dropped unpolled, it leaves like any other.
    pub(crate) fn led_by_future<S>(load: Load<V>, settle: S) -> Joined<V, S>
    where
        S: FnOnce(&Flight<V>, &Outcome<V>),
    {
        let mut seat = 0;
        let flight = Arc::new_cyclic(|flight| {
            let waker = Waker::from(Arc::new(Due(Weak::clone(flight))));
            let mut flight = Self::new(Phase::Resting { load, due: true }, Some(waker));
            seat = flight.state.get_mut().tasks.insert(None);
            flight
        });
        Joined(Waiter::new(flight, Some(Seat::Task(seat)), settle))
    }
}

impl<V> Flight<V> {
    /// Waits as a task: a future for the outcome, of either kind of flight.
    ///
    /// The waiter counts once it is polled. If the flight is abandoned before that it sees
    /// [`Failure::Abandoned`](super::Failure::Abandoned), and starts anew.
    pub(crate) fn join<S>(self: Arc<Self>, settle: S) -> Joined<V, S>
    where
        S: FnOnce(&Flight<V>, &Outcome<V>),
    {
        Joined(Waiter::new(self, None, settle))
    }
}

/// A task's wait for a flight.
///
/// Resolves to [`WaitError::Recursive`] if it is polled from inside the load, which is known by the thread: whatever is
/// polled on the thread that runs or polls the load right now is inside it. (Hence a load that in turn runs an executor
/// with unrelated tasks has those refused, too; a load that spawns a task elsewhere and waits for it is not found out.)
///
/// `settle` fills the cache and forgets the flight. Of all the waiters of a future-led flight one calls it, once:
/// whoever drives the load to its end, before the outcome is published, or the last one to leave, with
/// [`Failure::Abandoned`](super::Failure::Abandoned), just after. If it panics the outcome is published all the same,
/// and the panic goes on in that waiter. It is never called for a flight that a thread leads.
///
/// # Cancel safety
/// Dropping it leaves nothing behind: no waker, and of the last waiter no load either. It must not be dropped under a
/// lock of the cache: `settle`, wakers and the drop of the load may be called.
#[must_use = "a future does nothing unless it is polled"]
pub(crate) struct Joined<V, S>(Waiter<V, S>)
where
    S: FnOnce(&Flight<V>, &Outcome<V>);

impl<V, S> Joined<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    /// The flight, for the others to find.
    pub(crate) fn flight(&self) -> &Arc<Flight<V>> {
        &self.0.flight
    }
}

// Nothing is pinned in place: the load is boxed, and `settle` is moved out before it is called.
impl<V, S> Unpin for Joined<V, S> where S: FnOnce(&Flight<V>, &Outcome<V>) {}

impl<V: Clone, S> Future for Joined<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    type Output = Result<Outcome<V>, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waiter = &mut self.get_mut().0;
        if !waiter.flight.is_finished() {
            // Cloned before the lock is taken and dropped after: a waker is foreign code.
            match waiter.come_by(cx.waker().clone()) {
                Progress::Over => {}
                Progress::Pending => return Poll::Pending,
                Progress::Recursive => return Poll::Ready(Err(WaitError::Recursive)),
            }
        }
        match waiter.flight.outcome.get() {
            Some(outcome) => Poll::Ready(Ok(outcome.clone())),
            None => Poll::Pending,
        }
    }
}

enum Progress {
    Over,
    Recursive,
    Pending,
}

impl<V, S> Waiter<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    /// One poll of a waiting task: looks, polls the load if that is due, else leaves the waker.
    fn come_by(&mut self, waker: Waker) -> Progress {
        let me = thread::current().id();
        let mut state = self.flight.state.lock();
        let turn = state.turn(me);
        if !matches!(turn, Turn::Wait | Turn::Poll(_)) {
            drop(state);
            return if let Turn::Over = turn { Progress::Over } else { Progress::Recursive };
        }
        let index = match self.seat {
            Some(Seat::Task(index)) => index,
            _ => state.tasks.insert(None),
        };
        self.seat = Some(Seat::Task(index));
        let Turn::Poll(load) = turn else {
            let old = state.tasks.get_mut(index).and_then(|seat| seat.replace(waker));
            drop(state);
            drop(old);
            return Progress::Pending;
        };
        drop(state);
        self.drive(load, index, waker)
    }

    /// Polls the load until it is over or rests.
    fn drive(&mut self, mut load: Load<V>, index: usize, waker: Waker) -> Progress {
        for round in 1.. {
            match self.poll_load(load) {
                None => return Progress::Over,
                Some(pending) => load = pending,
            }
            let mut state = self.flight.state.lock();
            if let Phase::Polling { due, .. } = &mut state.phase {
                if *due && round < MAX_POLLS_IN_A_ROW {
                    *due = false;
                    continue;
                }
            }
            let due = state.rest(load);
            let old = state.tasks.get_mut(index).and_then(|seat| seat.replace(waker));
            let wakes = if due { state.wakes() } else { Wakes::None };
            drop(state);
            drop(old);
            wakes.deliver();
            break;
        }
        Progress::Pending
    }
}

/// The waker that the load is polled with.
struct Due<V>(Weak<Flight<V>>);

impl<V: Send + Sync + 'static> Wake for Due<V> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(flight) = self.0.upgrade() {
            flight.load_is_due();
        }
    }
}
