//! What is measured at one backend: written by every request that ends, from any thread.
//!
//! A fast success, which is nearly every request, reads some words and is counted as it lets go of its backend
//! ([`counted`](crate::counted)); the first one in each 65 microseconds writes three words more.
//! Everything else (failures, slow answers, the turn of a window's bucket) takes the backend's own lock for a moment.
//!
//! # How to use it
//! One [`Vitals`] a backend, one [`Norm`] a pool. Report every request that ends with [`Vitals::note`], and one that
//! waits longer than most with [`Vitals::overdue`]; both say by a [`Sign`] when somebody must look closer:
//!
//! | sign | what to do |
//! |---|---|
//! | [`Sign::Fine`] | nothing |
//! | [`Sign::Refresh`] | [`Norm::refresh`] with the vitals of (some of) the pool |
//! | [`Sign::Suspect`] | refresh if stale; if [`is_outlier`](super::is_outlier), give the backend's [`Machine`](super::Machine) the event `Outlier`; else [`Vitals::doubt`] |
//! | [`Sign::Refused`] | give the machine the event `Refused` |
//!
//! # Invariants
//! - **V1** A score is at most its limit.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::latency::{HighQuantile, PeakEwma};
use super::passive::{FAILED, MIN_PEER_REQUESTS, Norm, OVERDUE, SLOW, Suspicion, Turns, points};
use super::trial::Trial;
use crate::counted::Count;
use crate::time::{Time, nanos};
use crate::window::{Counts, Open, Ring, Tally};
use crate::{Failure, Outcome};

/// The measurements of one backend.
//
// In this order, so that what every request that ends writes comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Vitals {
    tally: LiveTally,
    failing: Score,
    slow: Score,
    /// Whether half the points are enough: it was just let in again.
    is_wary: AtomicBool,
    latency: PeakEwma,
    usual: HighQuantile,
    /// When the request began that got the latest fast answer.
    last_fast: AtomicU64,
    /// When the latest request began that was found slow.
    last_struck: AtomicU64,
    trial: Trial,
    chart: Mutex<Chart>,
}

/// The open bucket: fast successes are counted in the word that counts the requests in flight, all else in one of its own.
#[derive(Debug)]
#[repr(C)]
struct LiveTally {
    count: Count,
    others: Tally,
}

impl Open for LiveTally {
    fn counts(&self) -> Counts {
        self.others.counts().plus(Counts { successes: self.count.successes(), failures: 0 })
    }

    fn take(&self) -> Counts {
        self.others.take().plus(Counts { successes: self.count.take_successes(), failures: 0 })
    }

    fn until(&self) -> &AtomicU64 {
        self.others.until()
    }
}

/// What only bad signs need.
#[derive(Debug)]
struct Chart {
    ring: Ring,
    /// When the first request began that was found slow since the score was zero.
    slow_since: Time,
    /// When it was seen to be slow since then.
    turns: Turns,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) started: Time,
    pub(crate) now: Time,
    /// The points that [`Vitals::overdue`] gave for it while it waited.
    pub(crate) points: u32,
}

/// What a request said of its backend, and whether it is a success that is to be counted yet: by the addition that lets go of
/// the backend, or else by [`Vitals::succeeded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Noted {
    pub(crate) sign: Sign,
    pub(crate) is_uncounted: bool,
}

/// What a request said of its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing new.
    Fine,
    /// The pool's measure should be taken again.
    Refresh,
    /// It looks bad, if its peers do not.
    Suspect(Suspicion),
    /// Nobody serves there.
    Refused,
}

impl Vitals {
    /// Of a backend that nothing is known of.
    pub(crate) fn new(norm: &Norm) -> Self {
        Self {
            tally: LiveTally { count: Count::new(), others: Tally::new() },
            failing: Score::default(),
            slow: Score::default(),
            is_wary: AtomicBool::new(false),
            latency: PeakEwma::new(),
            usual: HighQuantile::new(),
            last_fast: AtomicU64::new(0),
            last_struck: AtomicU64::new(0),
            trial: Trial::none(),
            chart: Mutex::new(Chart {
                ring: Ring::new(norm.limits.window),
                slow_since: Time::default(),
                turns: Turns::default(),
            }),
        }
    }

    /// Notes that a request ended, and counts it.
    #[cfg(test)]
    pub(crate) fn finished(&self, norm: &Norm, end: Ended) -> Sign {
        let noted = self.note(norm, end);
        if noted.is_uncounted {
            self.succeeded();
        }
        noted.sign
    }

    /// Counts a success that was noted.
    #[inline]
    pub(crate) fn succeeded(&self) {
        self.tally.count.add_success();
    }

    /// Notes that a request ended.
    #[inline]
    pub(crate) fn note(&self, norm: &Norm, end: Ended) -> Noted {
        let latency = nanos(end.now.since(end.started));
        let is_plain = matches!(end.outcome, Outcome::Success) && end.points == 0;
        let is_time = self.tally.others.is_over(end.now) || norm.is_due(end.now);
        if !is_plain || latency > norm.slow_after_nanos() || is_time {
            return Noted { sign: self.finished_oddly(norm, end), is_uncounted: false };
        }
        Noted { sign: self.succeeded_fast(norm, end, 1), is_uncounted: true }
    }

    #[inline]
    fn succeeded_fast(&self, norm: &Norm, end: Ended, points: u32) -> Sign {
        let latency = nanos(end.now.since(end.started)) as f32;
        self.failing.take_back(1);
        self.slow.take_back(points);
        if !self.latency.add(latency, end.now, norm.limits.decay) {
            return Sign::Fine;
        }
        // Ordering, here and below: measurements; nothing else is read by way of them.
        self.last_fast.store(end.started.as_nanos(), Ordering::Relaxed);
        if self.usual.add(latency) { Sign::Refresh } else { Sign::Fine }
    }

    #[cold]
    fn finished_oddly(&self, norm: &Norm, end: Ended) -> Sign {
        let mut chart = self.chart.lock();
        let is_time = self.tally.others.is_over(end.now) || norm.is_due(end.now);
        chart.ring.turn(&self.tally, end.now);
        let latency = end.now.since(end.started);
        let is_slow = nanos(latency) > norm.slow_after_nanos();
        let slow =
            if is_slow { self.strike(norm, &mut chart, end, SLOW.saturating_sub(end.points)) } else { Sign::Fine };
        let sign = match end.outcome {
            Outcome::Failure(failure) => self.failed(norm, &mut chart, failure, end),
            // What was overdue and came in time after all takes its points back.
            Outcome::Success if !is_slow => {
                self.succeeded();
                self.succeeded_fast(norm, end, 1 + end.points)
            }
            Outcome::Success => {
                self.succeeded();
                self.failing.take_back(1);
                self.latency.add(nanos(latency) as f32, end.now, norm.limits.decay);
                self.usual.add(nanos(latency) as f32);
                slow
            }
        };
        match (sign, slow) {
            (Sign::Fine, Sign::Fine) if is_time || is_slow && norm.is_stale(end.now) => Sign::Refresh,
            (Sign::Fine, slow) => slow,
            (sign, _) => sign,
        }
    }

    fn failed(&self, norm: &Norm, chart: &mut Chart, failure: Failure, end: Ended) -> Sign {
        self.tally.others.failed();
        self.latency.add(self.penalty(norm, end), end.now, norm.limits.decay);
        if failure == Failure::Refused {
            return Sign::Refused;
        }
        let limit = self.failing_limit(norm);
        let is_over = self.failing.give(points(failure), limit) >= limit;
        let counts = chart.ring.counts(&self.tally, end.now);
        let limits = &norm.limits;
        let is_share_high = limits.max_failure_percent < 100
            && counts.total() >= limits.min_requests
            && counts.failures * 100 > counts.total() * limits.max_failure_percent;
        if is_over || is_share_high { Sign::Suspect(Suspicion::Failing) } else { Sign::Fine }
    }

    /// What a failure counts as in the average of latencies: at least twice the average, or else a backend that fails
    /// at once would look like the fastest of all. A single failure costs little so, and a series drives everything away.
    fn penalty(&self, norm: &Norm, end: Ended) -> f32 {
        const MAX_NANOS: f32 = 5e9;
        let before = self.latency.load(end.now, norm.limits.decay).max(1e5);
        (nanos(end.now.since(end.started)) as f32).max((2.0 * before).min(MAX_NANOS))
    }

    /// Notes that a request which began at `started` has waited longer than most and still waits. `points` is what it
    /// gave before; what it has given now comes back, and is no more than for an answer that was slow.
    #[cold]
    pub(crate) fn overdue(&self, norm: &Norm, started: Time, now: Time, points: u32) -> (u32, Sign) {
        if norm.slow_after().is_none() {
            return (points, if norm.is_stale(now) { Sign::Refresh } else { Sign::Fine });
        }
        let waited = now.since(started);
        self.latency.add(nanos(waited) as f32, now, norm.limits.decay);
        let due = if nanos(waited) > norm.slow_after_nanos() { SLOW } else { OVERDUE };
        let more = due.saturating_sub(points);
        let end = Ended { outcome: Outcome::Success, started, now, points };
        let sign = self.strike(norm, &mut self.chart.lock(), end, more);
        let sign = if sign == Sign::Fine && norm.is_stale(now) { Sign::Refresh } else { sign };
        (points + more, sign)
    }

    /// Adds points for slowness.
    fn strike(&self, norm: &Norm, chart: &mut Chart, end: Ended, points: u32) -> Sign {
        if points == 0 {
            return Sign::Fine;
        }
        if self.slow.load() == 0 {
            (chart.slow_since, chart.turns) = (end.started, Turns::default());
        }
        chart.turns.note(end.started, end.now);
        self.last_struck.fetch_max(end.started.as_nanos(), Ordering::Relaxed);
        let limit = self.slow_limit(norm);
        let is_over = self.slow.give(points, limit) >= limit;
        // A stall of this process or of the backend's is over before the floor is reached, however many requests it met.
        let has_lasted = end.now.since(chart.slow_since) >= norm.limits.floor;
        if is_over && has_lasted { Sign::Suspect(Suspicion::Slow) } else { Sign::Fine }
    }

    /// The suspicion was not borne out by the comparison with the peers: halves the scores, so that it is not raised
    /// again by the next sign.
    pub(crate) fn doubt(&self) {
        self.failing.halve();
        self.slow.halve();
    }

    /// A new beginning after an ejection: the scores and counts of before are forgotten, what it usually takes is not.
    pub(crate) fn begin_anew(&self, is_wary: bool) {
        let mut chart = self.chart.lock();
        self.failing.clear();
        self.slow.clear();
        self.is_wary.store(is_wary, Ordering::Relaxed);
        self.latency.clear();
        chart.ring.clear(&self.tally);
    }

    /// Ends the time in which half the points are enough.
    pub(crate) fn trust(&self) {
        self.is_wary.store(false, Ordering::Relaxed);
    }

    /// The place of the one request that tries it.
    pub(crate) fn trial(&self) -> &Trial {
        &self.trial
    }

    // ---- what is known ----

    /// Who has requests in flight there, and the successes that are not in a closed bucket yet.
    #[inline]
    pub(crate) fn count(&self) -> &Count {
        &self.tally.count
    }

    /// The latency to expect, in nanoseconds; 0 if nothing is known.
    #[inline]
    pub(crate) fn latency_nanos(&self, norm: &Norm, now: Time) -> f32 {
        self.latency.load(now, norm.limits.decay)
    }

    pub(crate) fn usual_latency(&self) -> Option<f32> {
        self.usual.load()
    }

    /// Successes and failures in the window.
    pub(crate) fn counts(&self, now: Time) -> Counts {
        self.chart.lock().ring.counts(&self.tally, now)
    }

    /// The same, as of the last request.
    pub(crate) fn latest_counts(&self) -> Counts {
        self.chart.lock().ring.latest(&self.tally)
    }

    /// Successes and failures since the backend joined.
    pub(crate) fn total_counts(&self) -> Counts {
        self.chart.lock().ring.total(&self.tally)
    }

    /// Whether there is no reason to suspect it: either score is below half its limit.
    pub(crate) fn is_calm(&self, norm: &Norm) -> bool {
        2 * self.failing.load() < self.failing_limit(norm) && !self.is_half_slow(norm)
    }

    pub(crate) fn is_half_slow(&self, norm: &Norm) -> bool {
        2 * self.slow.load() >= self.slow_limit(norm)
    }

    /// Whether it has been slow more than once of late, if not often enough to be suspected of anything.
    pub(crate) fn is_rather_slow(&self, norm: &Norm) -> bool {
        4 * self.slow.load() >= self.slow_limit(norm).max(2 * SLOW)
    }

    /// Whether its window alone would make it a suspect, however few requests there were.
    pub(crate) fn fails_often(&self, norm: &Norm, now: Time) -> bool {
        let counts = self.counts(now);
        counts.total() >= MIN_PEER_REQUESTS && counts.failures * 100 >= counts.total() * norm.limits.max_failure_percent
    }

    /// Whether it is in trouble itself, so that others look no worse beside it.
    pub(crate) fn is_bad(&self, norm: &Norm, now: Time) -> bool {
        self.is_half_slow(norm) || self.fails_often(norm, now)
    }

    pub(crate) fn has_failed_lately(&self) -> bool {
        self.failing.load() > 0
    }

    pub(crate) fn last_fast(&self) -> Time {
        Time::from_nanos(self.last_fast.load(Ordering::Relaxed))
    }

    pub(crate) fn last_struck(&self) -> Time {
        Time::from_nanos(self.last_struck.load(Ordering::Relaxed))
    }

    /// Since when it has been slow in each of its [`Turns`], if there was more than one.
    pub(crate) fn slow_in_turn_since(&self) -> Option<Time> {
        self.chart.lock().turns.since()
    }

    fn slow_limit(&self, norm: &Norm) -> u32 {
        if self.is_wary.load(Ordering::Relaxed) { (norm.limits.slow / 2).max(SLOW) } else { norm.limits.slow }
    }

    pub(crate) fn failing_limit(&self, norm: &Norm) -> u32 {
        if self.is_wary.load(Ordering::Relaxed) { (norm.limits.failing / 2).max(FAILED) } else { norm.limits.failing }
    }
}

/// A sum of points that is zero nearly always.
#[derive(Debug, Default)]
struct Score(AtomicU32);

impl Score {
    #[inline]
    fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds points, up to the limit (V1); returns what it is then.
    fn give(&self, points: u32, limit: u32) -> u32 {
        self.update(|score| (score + points).min(limit.max(score)))
    }

    #[inline]
    fn take_back(&self, points: u32) {
        if self.load() != 0 {
            self.update(|score| score.saturating_sub(points));
        }
    }

    fn halve(&self) {
        self.update(|score| score / 2);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    #[cold]
    fn update(&self, next: impl Fn(u32) -> u32) -> u32 {
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |score| Some(next(score)));
        // It cannot fail, as the closure always gives a value.
        before.map_or(0, next)
    }
}
