//! The one place of the rig that reads a clock.
//!
//! Elapsed time is tokio's, so that a test with paused time sees every wait of the station and of the load generator on
//! virtual time. Wall time serves only as a mark in a report.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// The present instant, monotonic; virtual in a test with paused time.
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970 by the machine's wall clock, 0 if it is set before that.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits until `deadline`; the runtime rounds it up to its next millisecond.
///
/// # Cancel safety
/// Safe: nothing is lost when the future is dropped.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}

/// Waits for `duration`, rounded up to the runtime's next millisecond.
///
/// # Cancel safety
/// Safe: nothing is lost when the future is dropped.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
