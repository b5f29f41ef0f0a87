//! Holds writes back while the primary changes hands: they wait instead of failing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::signal::Signal;

/// Writes that may run, and how many do.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
    inside: AtomicU32,
    changed: Signal,
}

/// A write under way.
pub(crate) struct Inside<'a>(&'a Gate);

/// Holds the writes of one process back, until it is dropped: they wait, within their time.
#[derive(Debug)]
pub struct HeldWrites(Arc<Gate>);

impl Gate {
    /// `None` while it is closed.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        // Counted first and asked then, where closing is first and counting then: one of both sees the other.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let inside = Inside(self);
        (!self.is_closed.load(Ordering::SeqCst)).then_some(inside)
    }

    /// Lets no more in; `None` if somebody else has closed it.
    pub(crate) fn close(self: &Arc<Self>) -> Option<HeldWrites> {
        (!self.is_closed.swap(true, Ordering::SeqCst)).then(|| HeldWrites(Arc::clone(self)))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Until it is open.
    pub(crate) async fn opened(&self) {
        self.changed.until(|| !self.is_closed()).await;
    }

    /// Until nobody is inside.
    pub(crate) async fn emptied(&self) {
        self.changed.until(|| self.inside.load(Ordering::SeqCst) == 0).await;
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.changed.raise();
        }
    }
}

impl Drop for HeldWrites {
    fn drop(&mut self) {
        self.0.is_closed.store(false, Ordering::SeqCst);
        self.0.changed.raise();
    }
}
