//! When a waiting thread gives up.
//!
//! This is real time whatever clock the cache was given: a thread that sleeps in the operating system wakes by the
//! operating system's clock. Under the model checker time is a coin: a deadline may be over each time it is asked.

use std::time::Duration;
#[cfg(not(all(test, shuttle)))]
use std::time::Instant;

use crate::sync::thread;

/// The end of one wait, or no end.
#[cfg(not(all(test, shuttle)))]
pub(super) struct Deadline(Option<Instant>);

#[cfg(not(all(test, shuttle)))]
impl Deadline {
    /// The end of a wait that begins now. A timeout beyond what the clock can express never comes.
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Whether the wait is over.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Parks the calling thread until it is unparked or the deadline comes; may return early.
    pub(super) fn park(&self) {
        match self.0 {
            None => thread::park(),
            Some(deadline) => thread::park_timeout(deadline.saturating_duration_since(Instant::now())),
        }
    }
}

/// The end of one wait, or no end.
#[cfg(all(test, shuttle))]
pub(super) struct Deadline {
    ends: bool,
}

#[cfg(all(test, shuttle))]
impl Deadline {
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        Self { ends: timeout.is_some() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ends && shuttle::rand::Rng::gen_bool(&mut shuttle::rand::thread_rng(), 0.25)
    }

    pub(super) fn park(&self) {
        if self.ends {
            thread::yield_now();
        } else {
            thread::park();
        }
    }
}
