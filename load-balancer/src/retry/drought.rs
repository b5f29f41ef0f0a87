//! Whether trying again can help at all: not while nothing succeeds.
//!
//! A budget lets a pool spend what it earned while it was well. If all of it fails at once, that is ten seconds' credits,
//! spent within one: twice and three times the load, on a pool that answers none of it. A retry helps because *another*
//! backend does better, so what tells whether one is worth its load is whether anything does: after many failures in a
//! row, of the pool and not of a backend, with no success between them for a while, all but a few tries are in vain. The
//! few find out when that ends, though any first try that succeeds ends it as well.
//!
//! One backend among others that are well never makes a drought, however many requests of it fail at once: those of the
//! others succeed meanwhile. Neither does a stall of this process, which finds many failures in one moment.
//!
//! # Source
//! The client throttling of gRPC (proposal A6, "Throttling retry attempts and hedged RPCs") stops retries by counting
//! failures against successes; here the count begins again with each success, and time has to pass, so that retries stop
//! only where there is nothing left to hide.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Failures in a row, of all backends together.
const MIN_FAILURES: u32 = 20;
/// How long they have to go on.
const MIN_TIME: Duration = Duration::from_millis(100);
/// Of so many tries that would be in vain, one is made.
const PROBE_PERIOD: u32 = 16;

/// Watches for a time in which everything fails.
///
/// # Complexity
/// A success costs a load, and a store if it is the first after a failure; a failure one compare-and-swap.
#[derive(Debug)]
pub(crate) struct Drought {
    origin: Instant,
    /// The failures since the last success in the low half, and in the high half when the first of them came, in
    /// milliseconds since the origin. 0 if there was none.
    streak: AtomicU64,
}

impl Drought {
    /// None so far.
    pub(crate) fn new(now: Instant) -> Self {
        Self { origin: now, streak: AtomicU64::new(0) }
    }

    /// A try succeeded.
    #[inline]
    pub(crate) fn end(&self) {
        // Ordering: an estimate. Nearly always nothing is written, and the cache line stays with every reader.
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// A try failed.
    #[cold]
    pub(crate) fn failure(&self, now: Instant) {
        let more = |streak: u64| match failures(streak) {
            0 => Some(u64::from(self.millis(now)) << 32 | 1),
            u32::MAX => None,
            _ => Some(streak + 1),
        };
        let _ = self.streak.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether one more try would be in vain. `random` chooses the few that are made all the same.
    pub(crate) fn forbids(&self, random: u64, now: Instant) -> bool {
        let streak = self.streak.load(Ordering::Relaxed);
        let lasted = self.millis(now).wrapping_sub((streak >> 32) as u32);
        failures(streak) >= MIN_FAILURES
            && u128::from(lasted) >= MIN_TIME.as_millis()
            && random % u64::from(PROBE_PERIOD) != 0
    }

    /// The time, modulo 49 days.
    fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.origin).as_millis() as u32
    }
}

const fn failures(streak: u64) -> u32 {
    streak as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A drought's numbers, and when its first failure comes.
    fn failed(count: u32, origin: Instant) -> (Drought, Instant) {
        let (drought, first) = (Drought::new(origin), origin + 5 * MS);
        (0..count).for_each(|_| drought.failure(first));
        (drought, first)
    }

    #[test]
    fn takes_many_failures_and_time() {
        let origin = crate::clock::now();
        let (drought, first) = failed(MIN_FAILURES, origin);
        assert!(!drought.forbids(1, first) && !drought.forbids(1, first + 99 * MS), "a stall is none");
        assert!(drought.forbids(1, first + 100 * MS));
        let (drought, first) = failed(MIN_FAILURES - 1, origin);
        assert!(!drought.forbids(1, first + 100 * MS));
        drought.failure(first + 100 * MS);
        assert!(drought.forbids(1, first + 100 * MS), "the time counts from the first failure");
    }

    #[test]
    fn one_success_ends_it() {
        let (drought, first) = failed(1_000, crate::clock::now());
        drought.end();
        assert!(!drought.forbids(1, first + 1_000 * MS));
        drought.failure(first + 1_000 * MS);
        assert!(!drought.forbids(1, first + 2_000 * MS), "it counts from the beginning");
    }

    #[test]
    fn some_try_finds_out() {
        let (drought, first) = failed(MIN_FAILURES, crate::clock::now());
        let allowed = (0..1_600).filter(|&random| !drought.forbids(random, first + 100 * MS)).count();
        assert_eq!(allowed, 100);
    }

    #[test]
    fn the_time_may_pass_its_modulus() {
        let origin = crate::clock::now();
        let drought = Drought::new(origin);
        let first = origin + u32::MAX * MS;
        (0..MIN_FAILURES).for_each(|_| drought.failure(first));
        assert!(!drought.forbids(1, first + 99 * MS) && drought.forbids(1, first + 100 * MS));
    }
}
