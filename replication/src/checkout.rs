//! A connection in the hands of the caller's closure.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::driver::Driver;

/// A connection to the node that was chosen, for as long as one read, write or transaction takes.
///
/// It goes back when it is dropped: do not keep it beyond the closure that it was given to.
pub struct Checkout<D: Driver> {
    /// There until the drop.
    connection: Option<D::Connection>,
    slot: Arc<Slot<D::Connection>>,
}

/// Where it comes back.
pub(crate) struct Slot<C> {
    returned: Mutex<Option<C>>,
    is_rollback_only: AtomicBool,
}

impl<D: Driver> Checkout<D> {
    pub(crate) fn lend(connection: D::Connection) -> (Self, Arc<Slot<D::Connection>>) {
        let slot = Arc::new(Slot { returned: Mutex::new(None), is_rollback_only: AtomicBool::new(false) });
        (Self { connection: Some(connection), slot: Arc::clone(&slot) }, slot)
    }

    /// The transaction is rolled back when the closure has ended, whatever its result, which the caller still gets. Means
    /// nothing outside of transactions.
    pub fn set_rollback_only(&self) {
        self.slot.is_rollback_only.store(true, Ordering::Relaxed);
    }
}

impl<C> Slot<C> {
    pub(crate) fn take(&self) -> Option<C> {
        self.returned.lock().take()
    }

    pub(crate) fn is_rollback_only(&self) -> bool {
        self.is_rollback_only.load(Ordering::Relaxed)
    }
}

impl<D: Driver> Drop for Checkout<D> {
    fn drop(&mut self) {
        *self.slot.returned.lock() = self.connection.take();
    }
}

impl<D: Driver> Deref for Checkout<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        self.connection.as_ref().expect("it is taken by the drop alone")
    }
}

impl<D: Driver> DerefMut for Checkout<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        self.connection.as_mut().expect("it is taken by the drop alone")
    }
}

impl<D: Driver> fmt::Debug for Checkout<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout").finish_non_exhaustive()
    }
}
