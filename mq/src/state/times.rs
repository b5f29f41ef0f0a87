//! When messages were sent, roughly: enough to find a position by its time and to let go of what is old.

use std::collections::VecDeque;

/// A sample is taken when this much time passed since the last one ...
const EVERY_MS: u64 = 1000;
/// ... or this many messages.
const EVERY_MESSAGES: u64 = 4096;

/// Samples of (time, message), in order of both: 16 bytes a second or 4096 messages.
///
/// A clock that goes back is taken to stand still.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    samples: VecDeque<(u64, u64)>,
}

impl Times {
    /// Notes when a message was sent. Messages older than the last one noted are not, unless they are older than all: a
    /// restart meets such, because they were moved behind later ones.
    #[inline]
    pub(super) fn note(&mut self, sequence: u64, sent_ms: u64) {
        if let Some(&(time, first)) = self.samples.back() {
            let is_new = sent_ms >= time.saturating_add(EVERY_MS) || sequence >= first + EVERY_MESSAGES;
            if sequence <= first || !is_new {
                self.note_older(sequence, sent_ms);
                return;
            }
            self.samples.push_back((sent_ms.max(time), sequence));
            return;
        }
        self.samples.push_back((sent_ms, sequence));
    }

    fn note_older(&mut self, sequence: u64, sent_ms: u64) {
        if let Some(&(time, first)) = self.samples.front() {
            if sequence < first {
                self.samples.push_front((sent_ms.min(time), sequence));
            }
        }
    }

    /// The same for `count` messages from this one on.
    #[inline]
    pub(super) fn note_run(&mut self, first: u64, count: u64, sent_ms: u64) {
        let mut sequence = first;
        while sequence < first + count {
            self.note(sequence, sent_ms);
            // The next of them that may be a sample.
            sequence = self.samples.back().map_or(sequence, |&(_, sample)| sample) + EVERY_MESSAGES;
        }
    }

    /// A message such that all from `time_ms` on come at or after it: the first of them, or one sent less than a second
    /// or 4096 messages before.
    pub(super) fn find(&self, time_ms: u64) -> Option<u64> {
        let later = self.samples.partition_point(|&(time, _)| time < time_ms);
        self.samples.get(later.saturating_sub(1)).map(|&(_, sequence)| sequence)
    }

    /// The first message that may have been sent after `time_ms`: all before are not younger than that.
    pub(super) fn first_after(&self, time_ms: u64, next: u64) -> u64 {
        let later = self.samples.partition_point(|&(time, _)| time <= time_ms);
        // What comes before the sample `later` was sent by its time, of which we only know that it is after `time_ms`.
        match later.checked_sub(1) {
            None => 0,
            Some(at) if later == self.samples.len() && self.samples[at].0.saturating_add(EVERY_MS) <= time_ms => next,
            Some(at) => self.samples[at].1,
        }
    }

    /// When the sample that this message belongs to ends, so that it is certainly as old as that.
    pub(super) fn end_of(&self, sequence: u64) -> Option<u64> {
        let later = self.samples.partition_point(|&(_, first)| first <= sequence);
        match self.samples.get(later) {
            Some(&(time, _)) => Some(time),
            None => self.samples.back().map(|&(time, _)| time.saturating_add(EVERY_MS)),
        }
    }

    /// Forgets what is only about messages before this one.
    pub(super) fn forget_below(&mut self, sequence: u64) {
        while self.samples.get(1).is_some_and(|&(_, first)| first <= sequence) {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn a_time_is_found_early_rather_than_late() {
        let mut times = Times::default();
        for (sequence, sent) in [(0, 5_000), (1, 5_999), (2, 6_000), (3, 9_000), (4, 8_000), (5, 10_000)] {
            times.note(sequence, sent);
        }
        assert_eq!([0, 5_000, 5_001, 6_000, 6_001, 20_000].map(|time| times.find(time)), [0, 0, 0, 0, 2, 5].map(Some));
        // Message 1 was sent by 6,000, and 2 by 9,000.
        assert_eq!([4_999, 5_000, 6_000, 8_999, 9_000].map(|time| times.first_after(time, 6)), [0, 0, 2, 2, 3]);
        assert_eq!([10_999, 11_000].map(|time| times.first_after(time, 6)), [5, 6]);
        assert_eq!(
            [0, 1, 2, 5, 9].map(|sequence| times.end_of(sequence)),
            [6_000, 6_000, 9_000, 11_000, 11_000].map(Some)
        );
        // One that a restart finds late.
        let mut moved = Times::default();
        for (sequence, sent) in [(7, 9_000), (3, 2_000), (5, 4_000)] {
            moved.note(sequence, sent);
        }
        assert_eq!([0, 2_000, 4_000, 9_000, 9_001].map(|time| moved.find(time)), [3, 3, 3, 3, 7].map(Some));
        times.forget_below(4);
        assert_eq!((times.find(0), times.find(9_000)), (Some(3), Some(3)));
    }
}
