//! The locks, threads and atomics that the queue and its log rest on, so that their waiting can be modelled.
//!
//! Ordinarily parking_lot's and the standard library's. Unit tests built with `--cfg shuttle` get shuttle's instead:
//! shuttle then decides at each of these operations which thread runs next, and searches the interleavings for one that
//! fails. Integration tests and dependents see the ordinary types whatever the flag, hence shuttle stays a dependency of
//! tests alone.

#[cfg(not(all(test, shuttle)))]
#[allow(unused_imports, reason = "one face for two builds; not each part is needed in both")]
mod imp {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::{Arc, atomic};
    pub(crate) use std::thread;
}

#[cfg(all(test, shuttle))]
#[allow(unused_imports, dead_code, reason = "one face for two builds; not each part is needed in both")]
mod imp {
    use std::sync::{PoisonError, TryLockError};

    pub(crate) use shuttle::sync::{Arc, MutexGuard, atomic};

    /// Threads as shuttle schedules them, and time that passes when one of them sleeps for a while.
    ///
    /// A sleep with a timeout may be over whenever shuttle likes, and then it is as late as that: whoever does not sleep
    /// took as long. So time jumps from one thing that is due to the next, and nobody waits for it.
    pub(crate) mod thread {
        use std::cell::Cell;
        use std::time::Duration;

        pub(crate) use shuttle::thread::*;

        std::thread_local! {
            /// One thread of the system runs all threads of a model.
            static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        }

        /// A model begins.
        pub(crate) fn start_time() {
            SLEPT.set(Duration::ZERO);
        }

        /// The time that has passed.
        pub(crate) fn slept() -> Duration {
            SLEPT.get()
        }

        pub(crate) fn park_timeout(timeout: Duration) {
            let end = slept().saturating_add(timeout);
            yield_now();
            SLEPT.set(slept().max(end));
        }
    }

    /// A lock that is not poisoned by a panic, as parking_lot's is not.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }
}

#[allow(unused_imports, reason = "one face for two builds; not each part is needed in both")]
pub(crate) use imp::*;
