//! How a node fares with the reads of this process: how long they take, how many are under way, whether it is ejected.
//!
//! A node that fails or hangs is ejected after a few failures in a row, a slow one when it is far slower than the best of
//! its peers; for longer each time, and tried again after. Ejected nodes are a last resort, not a taboo: when none else
//! can serve a read, they are asked.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When nodes are left out of the choice for reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct EjectConfig {
    /// Failures in a row. Default 3, at least 1. Fewer: chance ejects; more: more reads have to be repeated.
    pub failures: u32,
    /// How many times as slow as the fastest peer. Default 8, at least 2.
    pub slow_factor: u32,
    /// Never for being slow below this latency. Default 20 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub slow_floor: Duration,
    /// How long, the first time; each time in a row twice as long. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub base: Duration,
    /// How long at most. Default 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max: Duration,
}

impl Default for EjectConfig {
    fn default() -> Self {
        Self {
            failures: 3,
            slow_factor: 8,
            slow_floor: Duration::from_millis(20),
            base: Duration::from_secs(1),
            max: Duration::from_secs(30),
        }
    }
}

/// What one process knows of a node's speed.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    in_flight: AtomicU32,
    /// Smoothed, in microseconds; 0 while unknown.
    latency_us: AtomicU64,
    /// Whether an ejection may be in force, to be looked up under the lock.
    is_suspect: AtomicU32,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    failures: u32,
    ejections: u32,
    until: Option<Instant>,
    total: u64,
}

impl Vitals {
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn latency_us(&self) -> u64 {
        self.latency_us.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        if self.is_suspect.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut record = self.record.lock();
        match record.until {
            Some(until) if now < until => true,
            _ => {
                // Its trial: what it did before is forgotten, but not how often it was ejected.
                record.until = None;
                self.is_suspect.store(0, Ordering::Relaxed);
                self.latency_us.store(0, Ordering::Relaxed);
                false
            }
        }
    }

    pub(crate) fn ejections(&self) -> u64 {
        self.record.lock().total
    }

    /// One more statement is under way, until the guard is dropped.
    pub(crate) fn count(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// A statement was answered. `best_us` is the latency of the fastest peer, 0 if there is none. If that ejects the node: for
    /// how long.
    pub(crate) fn succeed(&self, took: Duration, best_us: u64, config: &EjectConfig, now: Instant) -> Option<Duration> {
        let sample = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let held = self.latency_us();
        // One eighth of the newest: some ten statements until it is known again. Racing updates lose a sample.
        let smoothed = if held == 0 { sample } else { held - held / 8 + sample / 8 };
        self.latency_us.store(smoothed.max(1), Ordering::Relaxed);
        let floor = u64::try_from(config.slow_floor.as_micros()).unwrap_or(u64::MAX);
        let is_slow = best_us > 0 && smoothed > floor && smoothed / u64::from(config.slow_factor.max(2)) > best_us;
        let mut record = self.record.lock();
        record.failures = 0;
        if is_slow {
            return self.eject(&mut record, config, now);
        }
        if record.until.is_none() && smoothed <= floor {
            record.ejections = 0;
        }
        None
    }

    /// A statement had not been answered after so long, when another node had answered it.
    pub(crate) fn lose(&self, waited: Duration, config: &EjectConfig, now: Instant) -> Option<Duration> {
        self.latency_us.fetch_max(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.fail(config, now)
    }

    /// A statement was not answered, or the connection failed.
    pub(crate) fn fail(&self, config: &EjectConfig, now: Instant) -> Option<Duration> {
        let mut record = self.record.lock();
        record.failures += 1;
        if record.failures >= config.failures.max(1) { self.eject(&mut record, config, now) } else { None }
    }

    fn eject(&self, record: &mut Record, config: &EjectConfig, now: Instant) -> Option<Duration> {
        if record.until.is_some_and(|until| now < until) {
            return None;
        }
        let length = config.base.saturating_mul(1 << record.ejections.min(16)).min(config.max);
        record.until = now.checked_add(length);
        record.ejections = record.ejections.saturating_add(1);
        record.total += 1;
        // One failure in its trial sends it off again.
        record.failures = config.failures.max(1) - 1;
        self.is_suspect.store(1, Ordering::Relaxed);
        Some(length)
    }
}

/// A statement under way.
pub(crate) struct InFlight<'a>(&'a Vitals);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let (vitals, config, start) = (Vitals::default(), EjectConfig::default(), crate::clock::some_moment());
        vitals.fail(&config, start);
        vitals.fail(&config, start);
        vitals.succeed(Duration::from_millis(1), 0, &config, start);
        vitals.fail(&config, start);
        vitals.fail(&config, start);
        assert!(!vitals.is_ejected(start));
        vitals.fail(&config, start);
        assert!(vitals.is_ejected(start) && !vitals.is_ejected(start + config.base));
        let trial = start + config.base;
        vitals.fail(&config, trial);
        assert!(vitals.is_ejected(trial + config.base) && !vitals.is_ejected(trial + config.base * 2));
        assert_eq!(vitals.ejections(), 2);
    }

    #[test]
    fn a_node_far_slower_than_the_best_is_ejected() {
        let (vitals, config, start) = (Vitals::default(), EjectConfig::default(), crate::clock::some_moment());
        vitals.succeed(Duration::from_millis(19), 100, &config, start);
        assert!(!vitals.is_ejected(start), "below the floor nobody is slow");
        for _ in 0..20 {
            vitals.succeed(Duration::from_millis(200), 100_000, &config, start);
        }
        assert!(!vitals.is_ejected(start), "its peers are as slow");
        vitals.succeed(Duration::from_millis(200), 1_000, &config, start);
        assert!(vitals.is_ejected(start));
    }
}
