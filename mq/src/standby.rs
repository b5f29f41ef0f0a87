//! A driver that sleeps and can be woken, to write what senders pile up while they go on.
//!
//! Whoever waits for a confirmation writes the log itself, which is the quickest way for it alone. One who submits many
//! messages and waits for some of them later would write in the time in which it could send. So once enough is
//! piled up, a driver that happens to sleep is woken to write it on its own core. It is a help and no promise: without a
//! driver, or with one that is busy, all is as before.

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use crate::wait::Waiter;

/// So many bytes are worth waking a driver: a few hundred small messages, which take longer to write than it to wake.
pub(crate) const PILE_BYTES: usize = 32 << 10;

/// Where a driver sleeps.
///
/// # Invariants
/// - **I1** While `is_there` is set, `sleeper` sleeps or is about to, and looks at the pile before it does.
#[derive(Debug, Default)]
pub(crate) struct Standby {
    /// What is looked at for each message; the lock is taken for each pile.
    is_there: AtomicBool,
    sleeper: Mutex<Option<Arc<Waiter>>>,
}

/// The place of a driver that sleeps, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Post<'a> {
    standby: &'a Standby,
    waiter: Arc<Waiter>,
}

impl Standby {
    /// A driver is about to sleep, in place of another one if there is one. It looks at the pile afterwards, for whoever
    /// piled up before found nobody.
    pub(crate) fn join(&self, waiter: Arc<Waiter>) -> Post<'_> {
        let mut sleeper = self.sleeper.lock();
        *sleeper = Some(Arc::clone(&waiter));
        self.is_there.store(true, Ordering::Release);
        drop(sleeper);
        Post { standby: self, waiter }
    }

    /// Wakes a driver if one sleeps.
    #[inline]
    pub(crate) fn call(&self) {
        if self.is_there.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let mut sleeper = self.sleeper.lock();
        let called = sleeper.take();
        self.is_there.store(false, Ordering::Release);
        drop(sleeper);
        if let Some(called) = called {
            called.wake();
        }
    }
}

impl Post<'_> {
    pub(crate) fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// Whether it was called, or another driver took its place.
    pub(crate) fn is_called(&self) -> bool {
        !self.standby.sleeper.lock().as_ref().is_some_and(|sleeper| Arc::ptr_eq(sleeper, &self.waiter))
    }
}

impl Drop for Post<'_> {
    fn drop(&mut self) {
        let mut sleeper = self.standby.sleeper.lock();
        if sleeper.take_if(|sleeper| Arc::ptr_eq(sleeper, &self.waiter)).is_some() {
            self.standby.is_there.store(false, Ordering::Release);
        }
    }
}
