//! The one place where the harness reads the time.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The time since the machine was started. Unlike an `Instant` it may be told to other processes, whose clock is the same.
#[must_use]
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Measures the time since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// When it was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Processor time that all threads of this process have had.
///
/// # Panics
///
/// If the system keeps no such account.
#[must_use]
pub fn processor_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Duration::from(time.expect("every Unix of today keeps this account"))
}
