//! When requests are meant to leave, and when something breaks and is mended.

use std::time::Duration;

/// The moments of a run with a fault, each from the start of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Load that does not count, so that connections are open and code is warm.
    pub warm_up: Duration,
    /// When the fault begins, after the warm-up.
    pub fault: Duration,
    /// When it is mended.
    pub heal: Duration,
    /// When the load ends.
    pub end: Duration,
}

impl Timeline {
    /// A second of warm-up, then twelve that count: the fault after three of them, mended after seven.
    pub const FULL: Self = Self::after_warm_up(1_000, 3_000, 7_000, 12_000);
    /// The same within four seconds and a half.
    pub const QUICK: Self = Self::after_warm_up(500, 1_000, 2_500, 4_000);

    const fn after_warm_up(warm_up: u64, fault: u64, heal: u64, end: u64) -> Self {
        assert!(fault < heal && heal < end);
        Self {
            warm_up: Duration::from_millis(warm_up),
            fault: Duration::from_millis(warm_up + fault),
            heal: Duration::from_millis(warm_up + heal),
            end: Duration::from_millis(warm_up + end),
        }
    }

    /// The same with a longer calm before the fault.
    #[must_use]
    pub fn after_calm(self, calm: Duration) -> Self {
        Self { fault: self.fault + calm, heal: self.heal + calm, end: self.end + calm, ..self }
    }

    /// Whether a request meant to leave then counts.
    #[must_use]
    pub fn counts(&self, at: Duration) -> bool {
        at >= self.warm_up && at < self.end
    }

    /// Whether the fault is there at that moment.
    #[must_use]
    pub fn is_faulty(&self, at: Duration) -> bool {
        at >= self.fault && at < self.heal
    }
}

/// Evenly spaced departures.
///
/// The n-th request is meant to leave at n times the gap, whatever became of those before it: a stall delays no departure on
/// paper, so that the latency of each request that waited counts from when it should have left.
///
/// # Source
///
/// Gil Tene, "How not to measure latency", 2013 (coordinated omission).
#[derive(Clone, Debug)]
pub struct Departures {
    gap: Duration,
    next: u32,
    count: u32,
}

impl Departures {
    /// Departures at `per_s` a second, at least 1, for as long as `span`.
    #[must_use]
    pub fn new(per_s: u32, span: Duration) -> Self {
        let gap = Duration::from_secs(1) / per_s.max(1);
        let count = span.as_nanos().div_ceil(gap.as_nanos().max(1));
        Self { gap, next: 0, count: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// How many there are in all.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When the n-th is meant to leave.
    #[must_use]
    pub fn intended(&self, index: u32) -> Duration {
        self.gap * index
    }

    /// The next one if it is due by now.
    pub fn due(&mut self, now: Duration) -> Option<u32> {
        let index = self.next;
        let is_due = index < self.count && self.intended(index) <= now;
        is_due.then(|| {
            self.next += 1;
            index
        })
    }

    /// Whether all have left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.next == self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_timeline_starts_after_the_warm_up() {
        let line = Timeline::FULL;
        assert_eq!((line.fault - line.warm_up, line.heal - line.warm_up), (3_000 * MS, 7_000 * MS));
        assert!(!line.counts(999 * MS) && line.counts(1_000 * MS) && !line.counts(13_000 * MS));
        assert!(!line.is_faulty(3_999 * MS) && line.is_faulty(4_000 * MS) && !line.is_faulty(8_000 * MS));
    }

    #[test]
    fn a_calm_comes_before_the_fault() {
        let line = Timeline::FULL.after_calm(10_000 * MS);
        assert_eq!((line.fault - line.warm_up, line.heal - line.fault), (13_000 * MS, 4_000 * MS));
        assert_eq!((line.end - line.heal, line.warm_up), (5_000 * MS, 1_000 * MS));
    }

    #[test]
    fn a_late_look_finds_all_that_were_due() {
        let mut departures = Departures::new(1_000, 10 * MS);
        assert_eq!(departures.count(), 10);
        let due = |departures: &mut Departures, now| std::iter::from_fn(|| departures.due(now)).collect::<Vec<_>>();
        assert_eq!(due(&mut departures, Duration::ZERO), [0]);
        assert!(due(&mut departures, Duration::from_micros(999)).is_empty());
        assert_eq!(due(&mut departures, 4 * MS), [1, 2, 3, 4]);
        assert!(!departures.is_over());
        assert_eq!(due(&mut departures, 99 * MS), [5, 6, 7, 8, 9]);
        assert!(departures.is_over());
        assert_eq!(departures.intended(7), 7 * MS);
    }

    #[test]
    fn a_span_begun_is_a_departure() {
        assert_eq!(
            Departures::new(300, Duration::from_secs(1)).count(),
            301,
            "the gap is rounded down to a nanosecond"
        );
        assert_eq!(Departures::new(1_000, Duration::ZERO).count(), 0);
        assert_eq!(Departures::new(0, MS).count(), 1);
    }
}
