//! The locks, threads and atomics that the log rests on, so that its waiting can be modelled.
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
    pub(crate) use shuttle::thread;

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
