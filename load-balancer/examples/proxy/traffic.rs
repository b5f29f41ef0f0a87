//! What went to one backend, counted beside it in the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one backend. A handle: clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    attempts: AtomicU64,
    failures: AtomicU64,
}

impl Traffic {
    /// A request, or a connection in TCP mode, was sent there.
    #[inline]
    pub(crate) fn attempt(&self) {
        self.counts.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// It did not do it.
    pub(crate) fn failure(&self) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were sent there.
    pub(crate) fn attempts(&self) -> u64 {
        self.counts.attempts.load(Ordering::Relaxed)
    }

    /// How many of them failed.
    pub(crate) fn failures(&self) -> u64 {
        self.counts.failures.load(Ordering::Relaxed)
    }
}
