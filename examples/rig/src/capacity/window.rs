//! A stretch of load at one rate, and what is known of its requests at any moment.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::load::{Book, Failure, Times};

/// Requests of one copy that belong to one stretch.
#[derive(Debug)]
pub(super) struct Window {
    begin: Instant,
    entries: Mutex<Vec<Entry>>,
}

/// One request; its times are microseconds.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// From the beginning of the window; a late generator may still owe requests from before it.
    intended_us: i64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    UnderWay,
    Ok { latency_us: u32, late_us: u32 },
    Failed,
}

/// Counts of requests whose verdict is certain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    /// Requests counted.
    pub(super) requests: u64,
    /// Those slower than the limit, failed, or under way for longer than the limit.
    pub(super) above: u64,
    /// Those failed.
    pub(super) failed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.above += other.above;
        self.failed += other.failed;
    }
}

impl Window {
    pub(super) fn new(begin: Instant) -> Self {
        Self { begin, entries: Mutex::default() }
    }

    /// Counts the requests that were to leave from `settle` after the beginning until one `limit` before `now`: by now
    /// each of them has either ended or exceeded the limit.
    pub(super) fn tally(&self, settle: Duration, limit: Duration, now: Instant) -> Tally {
        let limit_us = micros(limit);
        let last_us = micros(now.saturating_duration_since(self.begin)).saturating_sub(limit_us);
        let counted = micros(settle)..=last_us;
        let mut tally = Tally::default();
        for entry in self.entries().iter().filter(|entry| counted.contains(&entry.intended_us)) {
            tally.requests += 1;
            match entry.state {
                State::Ok { latency_us, .. } => tally.above += u64::from(i64::from(latency_us) > limit_us),
                State::UnderWay => tally.above += 1,
                State::Failed => {
                    tally.above += 1;
                    tally.failed += 1;
                }
            }
        }
        tally
    }

    /// Requests that have left and not ended.
    pub(super) fn under_way(&self) -> usize {
        self.entries().iter().filter(|entry| matches!(entry.state, State::UnderWay)).count()
    }

    /// Hands each request after `settle` to `see`: its latency and lateness in microseconds if it was answered well,
    /// none if it failed. What is still under way is left out.
    pub(super) fn each(&self, settle: Duration, mut see: impl FnMut(Option<(u32, u32)>)) {
        for entry in self.entries().iter().filter(|entry| entry.intended_us >= micros(settle)) {
            match entry.state {
                State::Ok { latency_us, late_us } => see(Some((latency_us, late_us))),
                State::Failed => see(None),
                State::UnderWay => {}
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book for Window {
    fn leave(&self, intended: Instant) -> usize {
        let intended_us = match intended.checked_duration_since(self.begin) {
            Some(after) => micros(after),
            None => -micros(self.begin - intended),
        };
        let mut entries = self.entries();
        entries.push(Entry { intended_us, state: State::UnderWay });
        entries.len() - 1
    }

    fn is_measured(&self, intended: Instant) -> bool {
        intended >= self.begin
    }

    fn finish(&self, ticket: usize, times: Times, verdict: Result<(), Failure>) {
        let clamp = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        let state = match verdict {
            Ok(()) => State::Ok {
                latency_us: clamp(times.finished - times.intended),
                late_us: clamp(times.sent - times.intended),
            },
            Err(_) => State::Failed,
        };
        if let Some(entry) = self.entries().get_mut(ticket) {
            entry.state = state;
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
