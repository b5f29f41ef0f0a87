//! The one place that asks the system for the time: when a balancer is made and its host named no instant.
//!
//! Everything else is told the time.

use std::time::Instant;

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The runtime's time, which its tests stop and move.
#[cfg(all(test, feature = "tokio", feature = "tower"))]
pub(crate) fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
