//! Threads that wait.

use std::time::Duration;

use super::clock::Deadline;
use super::waiter::{Seat, Waiter};
use super::{Flight, Outcome, Turn, WaitError};
use crate::sync::{Arc, thread};

impl<V: Clone> Flight<V> {
    /// Waits on the calling thread until the flight is over.
    ///
    /// If a future leads the flight the thread helps: it polls the load itself whenever that asks for it. A load that
    /// needs the context of a runtime must bring it along, for this thread may have none. If the thread drives the
    /// load to its end it calls `settle`, as it does if it leaves last (see [`Joined`](super::Joined)).
    ///
    /// The timeout counts from the call; `None` waits as long as it takes, and zero only takes what is there. It does
    /// not interrupt a load that blocks while it is polled.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], and the flight goes on for the others. [`WaitError::Recursive`] if this thread runs
    /// or polls the load right now.
    ///
    /// # Panics
    /// If `settle` does, after the outcome is published.
    pub(crate) fn wait<S>(self: &Arc<Self>, timeout: Option<Duration>, settle: S) -> Result<Outcome<V>, WaitError>
    where
        S: FnOnce(&Flight<V>, &Outcome<V>),
    {
        let me = thread::current();
        let deadline = Deadline::after(timeout);
        let mut waiter = Waiter::new(Arc::clone(self), None, settle);
        loop {
            if let Some(outcome) = self.outcome.get() {
                return Ok(outcome.clone());
            }
            if deadline.is_over() {
                return Err(WaitError::TimedOut);
            }
            let mut state = self.state.lock();
            let turn = state.turn(me.id());
            if matches!(turn, Turn::Wait | Turn::Poll(_)) && waiter.seat.is_none() {
                waiter.seat = Some(Seat::Thread(state.threads.insert(me.clone())));
            }
            drop(state);
            match turn {
                Turn::Over => {}
                Turn::Recursive => return Err(WaitError::Recursive),
                Turn::Wait => deadline.park(),
                Turn::Poll(load) => {
                    if let Some(load) = waiter.poll_load(load) {
                        // If it is due again, this thread is the one to come by: at the top of the loop.
                        self.state.lock().rest(load);
                    }
                }
            }
        }
    }
}
