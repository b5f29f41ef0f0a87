//! Which message is due: a hierarchical timer wheel of runs of messages.
//!
//! A lease begins with every delivery and is almost always over (acked) before its deadline. So a timer must cost
//! next to nothing to begin and nothing to cancel. Here it is never cancelled: whoever takes it out looks whether
//! the message still waits for it. And deliveries of one millisecond have one deadline and mostly numbers in a row:
//! they are one timer, a [`Run`]. A million messages delayed to the same second are one timer, too; delayed to a
//! million different milliseconds they are a million timers of 24 bytes, which nobody looks at before their time.
//!
//! Time is read as digits of six bits; a deadline waits in the bucket of the highest digit in which it differs from
//! `sorted`, and moves to a lower one when time has come there. Bitmaps find the next bucket that is not empty.
//!
//! # Source
//! G. Varghese, A. Lauck, "Hashed and hierarchical timing wheels: data structures for the efficient implementation
//! of a timer facility", SOSP 1987, scheme 7. Differences: buckets are vectors of runs, cancelling is left to the
//! owner (who builds the wheel anew once most of it is stale), empty buckets are skipped by bitmaps, no tick.

const DIGIT_BITS: u32 = 6;
const BUCKETS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// The bucket, behind those of the levels, of what was due when it was put in.
const PAST: usize = LEVELS * BUCKETS;
/// Stale timers that are not worth a new wheel.
const STALE: usize = 1024;
/// An emptied bucket keeps room for this many runs.
const KEEP: usize = 32;

/// Messages in a row with one deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) deadline: u64,
    pub(super) first: u64,
    pub(super) count: u32,
}

/// Runs by deadline.
///
/// # Invariants
/// - **W1** A run in level `l`, bucket `b` has a deadline whose highest digit that differs from `sorted` is digit
///   `l`, larger than that of `sorted` and equal to `b`; a run in `PAST` has a deadline not after `sorted`.
/// - **W2** The bit of a bucket is set if and only if it has a run.
/// - **W3** `wake` is not after the smallest deadline, or 0.
/// - **W4** `len` counts the runs.
///
/// # Complexity
/// `arm` O(1) amortised; `advance` moves a run at most ten times in its life. 24 bytes a run, up to twice that in a
/// bucket that grows; 17 KiB once something was armed.
#[derive(Clone, Debug, Default)]
pub(super) struct Wheel {
    buckets: Vec<Vec<Run>>,
    occupied: [u64; LEVELS],
    sorted: u64,
    wake: u64,
    len: usize,
    /// The bucket that was put into last.
    last: usize,
}

impl Wheel {
    /// Lets `sequence` come out once it is `deadline`.
    #[inline]
    pub(super) fn arm(&mut self, deadline: u64, sequence: u64) {
        self.arm_run(deadline, sequence, 1);
    }

    /// The same for `count` messages from this one on.
    #[inline]
    pub(super) fn arm_run(&mut self, deadline: u64, first: u64, count: u32) {
        if let Some(run) = self.buckets.get_mut(self.last).and_then(|bucket| bucket.last_mut()) {
            let is_next = run.deadline == deadline && run.first + u64::from(run.count) == first;
            if let Some(count) = run.count.checked_add(count).filter(|_| is_next) {
                run.count = count;
                return;
            }
        }
        self.put(Run { deadline, first, count });
    }

    fn put(&mut self, run: Run) {
        if self.buckets.is_empty() {
            self.buckets.resize_with(PAST + 1, Vec::new);
        }
        self.wake = if self.len == 0 { run.deadline } else { self.wake.min(run.deadline) };
        self.len += 1;
        self.place(run);
    }

    fn place(&mut self, run: Run) {
        let bucket = if run.deadline <= self.sorted {
            PAST
        } else {
            let level = ((run.deadline ^ self.sorted).ilog2() / DIGIT_BITS) as usize;
            let digit = (run.deadline >> (level as u32 * DIGIT_BITS)) as usize % BUCKETS;
            self.occupied[level] |= 1 << digit;
            level * BUCKETS + digit
        };
        self.buckets[bucket].push(run);
        self.last = bucket;
    }

    /// A time before which nothing is due: not after the smallest deadline. `None` if nothing is armed.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        (self.len > 0).then_some(self.wake)
    }

    /// Takes out all runs with a deadline not after `now`, in no particular order.
    pub(super) fn advance(&mut self, now: u64, out: &mut Vec<Run>) {
        if self.len == 0 || now < self.wake {
            return;
        }
        self.len -= self.buckets[PAST].len();
        out.append(&mut self.buckets[PAST]);
        while let Some((level, digit)) = self.earliest() {
            let shift = level as u32 * DIGIT_BITS;
            let low = (1_u64 << shift) - 1;
            let start = (((self.sorted >> shift) & !(BUCKETS as u64 - 1)) | digit as u64) << shift;
            if start > now {
                self.sorted = self.sorted.max(now);
                self.wake = start;
                return;
            }
            // Lower levels are empty, so the time may go up to the bucket's end without disordering any run.
            self.sorted = self.sorted.max(now.min(start | low));
            self.empty(level, digit, now, out);
        }
        self.sorted = self.sorted.max(now);
        self.wake = self.sorted;
    }

    fn empty(&mut self, level: usize, digit: usize, now: u64, out: &mut Vec<Run>) {
        let bucket = level * BUCKETS + digit;
        self.occupied[level] &= !(1 << digit);
        let mut runs = std::mem::take(&mut self.buckets[bucket]);
        for run in runs.drain(..) {
            if run.deadline <= now {
                self.len -= 1;
                out.push(run);
            } else {
                self.place(run);
            }
        }
        if runs.capacity() <= KEEP && self.buckets[bucket].is_empty() {
            self.buckets[bucket] = runs;
        }
    }

    /// The first bucket that is not empty.
    fn earliest(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// Whether so many of the runs are stale, with `live` messages waiting, that a new wheel costs less than they do.
    #[inline]
    pub(super) fn is_stale(&self, live: u64) -> bool {
        self.len as u64 > 2 * live + STALE as u64
    }

    /// Takes out everything and stays at its time.
    pub(super) fn clear(&mut self) {
        *self = Self { sorted: self.sorted, ..Self::default() };
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let runs: usize = self.buckets.iter().map(Vec::capacity).sum();
        runs * size_of::<Run>() + self.buckets.capacity() * size_of::<Vec<Run>>()
    }

    /// All timers: deadline and message.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn armed(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets
            .iter()
            .flatten()
            .flat_map(|run| (run.first..run.first + u64::from(run.count)).map(move |sequence| (run.deadline, sequence)))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_invariants(&self) {
        let mut len = 0;
        for (bucket, runs) in self.buckets.iter().enumerate() {
            let (level, digit) = (bucket / BUCKETS, bucket % BUCKETS);
            if bucket != PAST {
                assert_eq!(self.occupied[level] >> digit & 1 == 1, !runs.is_empty(), "W2: bucket {bucket}");
            }
            for run in runs {
                len += 1;
                assert!(self.wake <= run.deadline, "W3: wake {} is after {run:?}", self.wake);
                if bucket == PAST {
                    assert!(run.deadline <= self.sorted, "W1: {run:?} is not past {}", self.sorted);
                    continue;
                }
                assert!(run.deadline > self.sorted, "W1: {run:?} is past {}", self.sorted);
                assert_eq!(((run.deadline ^ self.sorted).ilog2() / DIGIT_BITS) as usize, level, "W1: level of {run:?}");
                assert_eq!((run.deadline >> (level as u32 * DIGIT_BITS)) as usize % BUCKETS, digit, "W1: {run:?}");
            }
        }
        assert_eq!(len, self.len, "W4");
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, Wheel};
    use crate::state::tests::{Rng, for_each_seed};

    /// A wheel beside a list.
    #[test]
    fn what_comes_out_is_what_is_due() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            let (mut wheel, mut model, mut now) = (Wheel::default(), Vec::<(u64, u64)>::new(), rng.below(1 << 40));
            for sequence in 0..600 {
                let spread = rng.below(34);
                match rng.below(4) {
                    0 => {
                        let jump = rng.below(36);
                        now += rng.below(1 << jump);
                        let (mut out, mut expected) = (Vec::new(), Vec::new());
                        wheel.advance(now, &mut out);
                        let mut got: Vec<_> = out.iter().flat_map(flatten).collect();
                        model.retain(|&timer| {
                            timer.0 > now || {
                                expected.push(timer);
                                false
                            }
                        });
                        got.sort_unstable();
                        expected.sort_unstable();
                        assert_eq!(got, expected, "at {now}");
                        assert!(wheel.next_deadline().is_none_or(|next| next > now), "sleeping would not advance");
                    }
                    1 => {
                        let deadline = model.last().map_or(now, |timer| timer.0);
                        wheel.arm(deadline, sequence);
                        model.push((deadline, sequence));
                    }
                    _ => {
                        let deadline = (now + rng.below(1 << spread)).saturating_sub(rng.below(3));
                        wheel.arm(deadline, sequence);
                        model.push((deadline, sequence));
                    }
                }
                wheel.check_invariants();
                let smallest = model.iter().map(|timer| timer.0).min();
                assert_eq!(wheel.next_deadline().is_some(), smallest.is_some());
                assert!(wheel.next_deadline() <= smallest, "a deadline would be missed");
            }
        });
    }

    fn flatten(run: &Run) -> impl Iterator<Item = (u64, u64)> + use<> {
        let run = *run;
        (run.first..run.first + u64::from(run.count)).map(move |sequence| (run.deadline, sequence))
    }

    #[test]
    fn messages_in_a_row_are_one_timer() {
        let mut wheel = Wheel::default();
        for sequence in 0..1_000_000 {
            wheel.arm(30_000, sequence);
        }
        assert_eq!(wheel.len, 1);
        let mut out = Vec::new();
        wheel.advance(29_999, &mut out);
        assert!(out.is_empty());
        wheel.advance(30_000, &mut out);
        assert_eq!(out, [Run { deadline: 30_000, first: 0, count: 1_000_000 }]);
    }
}
