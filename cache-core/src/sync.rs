//! The locks, threads and atomics that the crate rests on, so that all of it can be modelled.
//!
//! Everywhere else the crate says `crate::sync::Mutex`. Ordinarily that is parking_lot's and the standard library's.
//! Unit tests built with `--cfg shuttle` get shuttle's instead: shuttle then decides at each of these operations
//! which thread runs next, and searches the interleavings for one that fails. Integration tests and dependents see
//! the ordinary types whatever the flag, hence shuttle stays a dependency of tests alone.

#[cfg(not(all(test, shuttle)))]
#[allow(unused_imports, reason = "one face for two builds; not each part is needed in both")]
mod imp {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::hint;
    pub(crate) use std::sync::{Arc, Weak, atomic};
    pub(crate) use std::thread;
    use std::time::Duration;

    /// Waits until notified, or for `limit`.
    pub(crate) fn wait_for<'a, T>(
        condvar: &Condvar,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> MutexGuard<'a, T> {
        condvar.wait_for(&mut guard, limit);
        guard
    }
}

#[cfg(all(test, shuttle))]
#[allow(unused_imports, dead_code, reason = "one face for two builds; not each part is needed in both")]
mod imp {
    use std::sync::{PoisonError, TryLockError, TryLockResult};
    use std::time::Duration;

    pub(crate) use shuttle::sync::{Arc, Condvar, MutexGuard, Weak, atomic};
    pub(crate) use shuttle::{hint, thread};

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

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            taken(self.0.try_lock())
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Waits until notified. No wait times out under shuttle: what only a time-out would wake is a deadlock.
    pub(crate) fn wait_for<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, _: Duration) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    fn taken<G>(attempt: TryLockResult<G>) -> Option<G> {
        match attempt {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[allow(unused_imports, reason = "one face for two builds; not each part is needed in both")]
pub(crate) use imp::*;
