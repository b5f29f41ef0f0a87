//! How many requests went well and how many did not, in the last while: exact, and cheap to add to.
//!
//! Averages that fade, weighted by the time between requests, hide a burst of failures between two successes; ten
//! buckets of fixed length do not. The bucket that time is in is one atomic word, successes in its low half and failures
//! in its high half, so that a success costs one addition and no lock. Who finds that the bucket's time is over moves it
//! into the ring behind it, under the ring's lock. What else may be the open bucket says [`Open`]: a backend counts its fast
//! successes in a word that it writes anyway.
//!
//! # Invariants
//! - **W1** Every request is counted in exactly one bucket: the one that was open when it was added.
//! - **W2** `sum` is the sum of the ring's buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Time;

/// Buckets in a window: nine that are closed and the open one.
pub(crate) const BUCKETS: u32 = 10;
const CLOSED: usize = BUCKETS as usize - 1;

const FAILURE: u64 = 1 << 32;

/// Requests that went well and that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

impl Counts {
    fn of_word(word: u64) -> Self {
        Self { successes: word % FAILURE, failures: word / FAILURE }
    }

    pub(crate) fn total(self) -> u64 {
        self.successes + self.failures
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { successes: self.successes + other.successes, failures: self.failures + other.failures }
    }
}

/// The open bucket, as a ring sees it.
pub(crate) trait Open {
    /// What is counted in it so far.
    fn counts(&self) -> Counts;

    /// The same, which is not in it any more.
    fn take(&self) -> Counts;

    /// When it is full, in nanoseconds.
    fn until(&self) -> &AtomicU64;
}

/// The open bucket, which every request adds to.
#[derive(Debug)]
pub(crate) struct Tally {
    open: AtomicU64,
    until: AtomicU64,
}

impl Open for Tally {
    fn counts(&self) -> Counts {
        Counts::of_word(self.open.load(Ordering::Relaxed))
    }

    fn take(&self) -> Counts {
        Counts::of_word(self.open.swap(0, Ordering::Relaxed))
    }

    fn until(&self) -> &AtomicU64 {
        &self.until
    }
}

/// The closed buckets. Kept apart from the open one so that its owner's lock covers it.
#[derive(Debug)]
pub(crate) struct Ring {
    bucket: Duration,
    closed: [Counts; CLOSED],
    next: usize,
    sum: Counts,
    /// All that was ever counted in buckets that are closed.
    total: Counts,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { open: AtomicU64::new(0), until: AtomicU64::new(0) }
    }

    /// Counts one success.
    #[inline]
    pub(crate) fn succeeded(&self) {
        // Ordering: a count; whoever closes the bucket takes all of it in one exchange (W1).
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one failure.
    pub(crate) fn failed(&self) {
        self.open.fetch_add(FAILURE, Ordering::Relaxed);
    }

    /// Whether it is time for [`Ring::turn`].
    #[inline]
    pub(crate) fn is_over(&self, now: Time) -> bool {
        now.as_nanos() >= self.until.load(Ordering::Relaxed)
    }
}

impl Ring {
    /// An empty ring for windows of this length.
    pub(crate) fn new(window: Duration) -> Self {
        let bucket = (window / BUCKETS).max(Duration::from_nanos(1));
        Self { bucket, closed: [Counts::default(); CLOSED], next: 0, sum: Counts::default(), total: Counts::default() }
    }

    /// Closes the open bucket if its time is over, and forgets what is older than the window.
    pub(crate) fn turn(&mut self, tally: &impl Open, now: Time) {
        let until = tally.until().load(Ordering::Relaxed);
        if now.as_nanos() < until {
            return;
        }
        let bucket = u64::try_from(self.bucket.as_nanos()).unwrap_or(u64::MAX);
        let over = if until == 0 { 0 } else { (now.as_nanos() - until) / bucket };
        let counts = tally.take();
        self.total = self.total.plus(counts);
        self.push(counts);
        for _ in 0..over.min(CLOSED as u64) {
            self.push(Counts::default());
        }
        let start = if until == 0 { now.as_nanos() } else { until.saturating_add(over.saturating_mul(bucket)) };
        tally.until().store(start.saturating_add(bucket), Ordering::Relaxed);
    }

    fn push(&mut self, counts: Counts) {
        let old = std::mem::replace(&mut self.closed[self.next], counts);
        self.next = (self.next + 1) % CLOSED;
        self.sum.successes += counts.successes;
        self.sum.failures += counts.failures;
        self.sum.successes -= old.successes;
        self.sum.failures -= old.failures;
    }

    /// The counts of the window up to now.
    pub(crate) fn counts(&mut self, tally: &impl Open, now: Time) -> Counts {
        self.turn(tally, now);
        self.latest(tally)
    }

    /// The counts of the window as it was when somebody last looked at the time.
    pub(crate) fn latest(&self, tally: &impl Open) -> Counts {
        let open = tally.counts();
        Counts { successes: self.sum.successes + open.successes, failures: self.sum.failures + open.failures }
    }

    /// All that was ever counted, whatever was forgotten of it.
    pub(crate) fn total(&self, tally: &impl Open) -> Counts {
        self.total.plus(tally.counts())
    }

    /// Forgets everything but the total.
    pub(crate) fn clear(&mut self, tally: &impl Open) {
        self.total = self.total.plus(tally.take());
        (self.closed, self.sum) = ([Counts::default(); CLOSED], Counts::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::for_each_seed;
    use crate::{Rng, window};

    /// The window beside a list of all requests with their times.
    #[test]
    fn counts_what_a_list_counts() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            let (tally, mut ring) = (Tally::new(), Ring::new(Duration::from_nanos(1_000)));
            let mut list: Vec<(u64, bool)> = Vec::new();
            let origin = 1 + rng.below(500);
            let mut now = origin;
            for step in 0..2_000 {
                let gap = if rng.below(40) == 0 { rng.below(2_500) } else { rng.below(30) };
                // The first request opens the first bucket.
                now += if step == 0 { 0 } else { gap };
                let at = Time::from_nanos(now);
                if tally.is_over(at) {
                    ring.turn(&tally, at);
                }
                let is_failure = rng.below(3) == 0;
                if is_failure {
                    tally.failed()
                } else {
                    tally.succeeded()
                }
                list.push((now, is_failure));
                // The window begins with a whole bucket: ten buckets back from the end of the one that is open.
                let open = (now - origin) / 100;
                let in_window = |time: u64| (time - origin) / 100 + u64::from(window::BUCKETS) > open;
                let count = |failure| list.iter().filter(|(t, f)| in_window(*t) && *f == failure).count() as u64;
                let expected = Counts { successes: count(false), failures: count(true) };
                assert_eq!(ring.counts(&tally, at), expected, "at {now}");
                assert_eq!(ring.total(&tally).total(), list.len() as u64);
            }
            ring.clear(&tally);
            assert_eq!((ring.latest(&tally).total(), ring.total(&tally).total()), (0, 2_000));
        });
    }
}
