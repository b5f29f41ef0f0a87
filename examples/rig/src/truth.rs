//! The generator's own book of what was written, so that stale and lost data are counted from outside.
//!
//! Every write carries a version that this book gives out, ascending for each key. When a write is acknowledged, every
//! read that begins later must see that version or a newer one; a read that sees an older one is stale, and its age is
//! the time since the first acknowledgement that it missed. A version that is acknowledged and not there at the end is a
//! lost write. A write whose answer never came may or may not have happened, so it raises no expectation.
//!
//! The store must keep the greater version when two writes of a key cross (`... where version < ?`), or else a write
//! that was delayed on its way undoes a newer one, and is reported here as what it is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::Instant;

/// Acknowledgements kept for each key to tell the age of a stale read; older ones are known by the oldest kept.
const KEPT_ACKNOWLEDGEMENTS: usize = 64;

/// The book. Share it by `Arc` between the source and the observer of a load.
#[derive(Debug, Default)]
pub struct Truth {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    keys: HashMap<u64, History>,
    counts: TruthCounts,
}

#[derive(Debug, Default)]
struct History {
    issued: u64,
    acknowledged: u64,
    /// Acknowledged versions that raised the newest one, with their times; ascending in both.
    recent: VecDeque<(u64, Instant)>,
}

/// What a read turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// At least as new as what was acknowledged before the read began.
    Fresh,
    /// Older than that.
    Stale {
        /// Time from the first acknowledgement it missed to the read's end.
        age: Duration,
    },
    /// A version that was never given out.
    Impossible,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TruthCounts {
    /// Writes acknowledged.
    pub writes_acknowledged: u64,
    /// Reads checked.
    pub reads_checked: u64,
    /// Reads that missed an acknowledged write.
    pub stale_reads: u64,
    /// The greatest age of a stale read in milliseconds.
    pub max_stale_ms: f64,
    /// Reads of a version that was never given out.
    pub impossible_reads: u64,
}

impl Truth {
    /// An empty book: every key is at version 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The version for the next write of `key`: 1, 2 and so on.
    pub fn begin_write(&self, key: u64) -> u64 {
        let mut book = self.book();
        let history = book.keys.entry(key).or_default();
        history.issued += 1;
        history.issued
    }

    /// Notes that the write of `version` was acknowledged at `now`.
    pub fn acknowledge(&self, key: u64, version: u64, now: Instant) {
        let mut book = self.book();
        book.counts.writes_acknowledged += 1;
        let history = book.keys.entry(key).or_default();
        history.issued = history.issued.max(version);
        if version > history.acknowledged {
            history.acknowledged = version;
            history.recent.push_back((version, now));
            if history.recent.len() > KEPT_ACKNOWLEDGEMENTS {
                history.recent.pop_front();
            }
        }
    }

    /// The oldest version that a read of `key` which begins now may see; keep it as the request's tag.
    pub fn begin_read(&self, key: u64) -> u64 {
        self.book().keys.get(&key).map_or(0, |history| history.acknowledged)
    }

    /// Judges a read that began when `expected` was the newest acknowledged version, and that saw `seen` at `now`.
    pub fn check_read(&self, key: u64, expected: u64, seen: u64, now: Instant) -> ReadVerdict {
        let mut book = self.book();
        let verdict = match book.keys.get(&key) {
            Some(history) => history.judge(expected, seen, now),
            None if seen == 0 => ReadVerdict::Fresh,
            None => ReadVerdict::Impossible,
        };
        let counts = &mut book.counts;
        counts.reads_checked += 1;
        match verdict {
            ReadVerdict::Fresh => {}
            ReadVerdict::Impossible => counts.impossible_reads += 1,
            ReadVerdict::Stale { age } => {
                counts.stale_reads += 1;
                counts.max_stale_ms = counts.max_stale_ms.max(age.as_secs_f64() * 1000.0);
            }
        }
        verdict
    }

    /// The newest acknowledged version of each written key, by ascending key.
    pub fn acknowledged(&self) -> Vec<(u64, u64)> {
        let book = self.book();
        let mut all: Vec<_> =
            book.keys.iter().filter(|(_, h)| h.acknowledged > 0).map(|(key, h)| (*key, h.acknowledged)).collect();
        all.sort_unstable();
        all
    }

    /// Counts the keys whose newest acknowledged version is gone: `stored` tells what the system has in the end, none
    /// for a key that it does not know.
    pub fn lost_writes(&self, mut stored: impl FnMut(u64) -> Option<u64>) -> u64 {
        let written = self.acknowledged();
        written.into_iter().filter(|&(key, version)| stored(key).unwrap_or(0) < version).count() as u64
    }

    /// The counts so far.
    pub fn counts(&self) -> TruthCounts {
        self.book().counts
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn judge(&self, expected: u64, seen: u64, now: Instant) -> ReadVerdict {
        if seen > self.issued {
            return ReadVerdict::Impossible;
        }
        if seen >= expected {
            return ReadVerdict::Fresh;
        }
        let missed = self.recent.iter().find(|(version, _)| *version > seen);
        let age = missed.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at));
        ReadVerdict::Stale { age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_read_must_see_what_was_acknowledged_before_it_began() {
        let (truth, t0) = (Truth::new(), clock::now());
        assert_eq!(truth.check_read(7, truth.begin_read(7), 0, t0), ReadVerdict::Fresh);
        assert_eq!((truth.begin_write(7), truth.begin_write(7)), (1, 2));
        let before = truth.begin_read(7);
        truth.acknowledge(7, 1, t0);
        truth.acknowledge(7, 2, t0 + 10 * MS);
        assert_eq!(truth.check_read(7, before, 0, t0 + 20 * MS), ReadVerdict::Fresh, "it began before both");
        let after = truth.begin_read(7);
        assert_eq!(truth.check_read(7, after, 2, t0 + 20 * MS), ReadVerdict::Fresh);
        assert_eq!(truth.check_read(7, after, 1, t0 + 25 * MS), ReadVerdict::Stale { age: 15 * MS });
        assert_eq!(truth.check_read(7, after, 0, t0 + 25 * MS), ReadVerdict::Stale { age: 25 * MS });
        assert_eq!(truth.check_read(7, after, 3, t0 + 25 * MS), ReadVerdict::Impossible);
        assert_eq!(truth.check_read(8, 0, 1, t0), ReadVerdict::Impossible);
        let counts = truth.counts();
        assert_eq!((counts.reads_checked, counts.stale_reads, counts.impossible_reads), (7, 2, 2));
        assert_eq!(counts.max_stale_ms, 25.0);
    }

    #[test]
    fn late_acknowledgements_lower_nothing_and_unanswered_writes_promise_nothing() {
        let (truth, t0) = (Truth::new(), clock::now());
        let (first, second, unanswered) = (truth.begin_write(1), truth.begin_write(1), truth.begin_write(1));
        truth.acknowledge(1, second, t0);
        truth.acknowledge(1, first, t0 + MS);
        assert_eq!(truth.begin_read(1), second);
        assert_eq!(truth.check_read(1, second, unanswered, t0 + MS), ReadVerdict::Fresh, "it may have happened");
        assert_eq!(truth.acknowledged(), [(1, second)]);
    }

    #[test]
    fn lost_writes_are_acknowledged_ones_that_are_gone() {
        let (truth, t0) = (Truth::new(), clock::now());
        for key in 0..4 {
            let version = truth.begin_write(key);
            truth.acknowledge(key, version, t0);
        }
        truth.begin_write(9);
        let stored = HashMap::from([(0, 1), (1, 5), (2, 0)]);
        assert_eq!(truth.lost_writes(|key| stored.get(&key).copied()), 2, "2 fell back, 3 is unknown, 9 never counted");
    }

    #[test]
    fn the_history_of_a_key_is_bounded() {
        let (truth, t0) = (Truth::new(), clock::now());
        for i in 0..1000 {
            let version = truth.begin_write(1);
            truth.acknowledge(1, version, t0 + i * MS);
        }
        let kept = truth.book().keys[&1].recent.len();
        assert_eq!(kept, KEPT_ACKNOWLEDGEMENTS);
        let oldest_kept = 1000 - KEPT_ACKNOWLEDGEMENTS as u32;
        let verdict = truth.check_read(1, 1000, 0, t0 + 1000 * MS);
        assert_eq!(verdict, ReadVerdict::Stale { age: (1000 - oldest_kept) * MS }, "at least so old");
    }
}
