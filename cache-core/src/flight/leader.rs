//! Flights led by a thread.

use std::panic::resume_unwind;
use std::thread::panicking;

use super::{Failure, Flight, Outcome, Phase};
use crate::sync::{Arc, thread};

impl<V> Flight<V> {
    /// Begins a flight whose loader the calling thread runs itself, outside all locks.
    ///
    /// `settle` fills the cache and forgets the flight. It is called once, by [`Leader::finish`] or by the drop of the
    /// leader, on its thread, and before the outcome is published. If it panics the outcome is published all the same.
    pub(crate) fn led_by_thread<S>(settle: S) -> Leader<V, S>
    where
        S: FnOnce(&Flight<V>, &Outcome<V>),
    {
        let flight = Arc::new(Self::new(Phase::Led(thread::current().id()), None));
        Leader { flight, settle: Some(settle) }
    }
}

/// The duty to finish a thread-led flight.
///
/// Dropped without [`Leader::finish`], it ends the flight with [`Failure::Panicked`] if the thread is unwinding, else
/// with [`Failure::Abandoned`]. Neither may happen under a lock of the cache: `settle` and wakers are called.
#[must_use = "dropping the leader abandons the flight"]
pub(crate) struct Leader<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    flight: Arc<Flight<V>>,
    settle: Option<S>,
}

impl<V, S> Leader<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    /// The flight, for the others to find.
    pub(crate) fn flight(&self) -> &Arc<Flight<V>> {
        &self.flight
    }

    /// Settles, publishes the outcome and wakes every waiter.
    ///
    /// # Panics
    /// If `settle` does, after the outcome is published.
    pub(crate) fn finish(mut self, outcome: Outcome<V>) {
        if let Some(settle) = self.settle.take() {
            if let Err(panic) = self.flight.conclude(outcome, settle) {
                resume_unwind(panic);
            }
        }
    }
}

impl<V, S> Drop for Leader<V, S>
where
    S: FnOnce(&Flight<V>, &Outcome<V>),
{
    fn drop(&mut self) {
        let Some(settle) = self.settle.take() else {
            return;
        };
        let unwinding = panicking();
        let failure = if unwinding { Failure::Panicked } else { Failure::Abandoned };
        if let Err(panic) = self.flight.conclude(Err(failure), settle) {
            // A second panic while unwinding would end the process.
            if !unwinding {
                resume_unwind(panic);
            }
        }
    }
}
