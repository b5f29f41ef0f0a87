//! Outlier detection: which backend does worse than its peers, found from the requests it serves.
//!
//! # Evidence
//! Two scores a backend, one for failures and one for slowness. Each bad sign adds points, each good answer takes one
//! back, down to zero; at its limit the score makes the backend a suspect:
//!
//! | sign | failing | slow |
//! |---|---|---|
//! | failed, timed out, broke off | + 5 | |
//! | could not be sent | + 2 | |
//! | rejected | + 1 | |
//! | answered slower than [`Norm::slow_after`], or waits longer | | + 4 |
//! | overdue: waits longer than most answers take, or lost to a hedge | | + 2 |
//! | succeeded, succeeded fast | - 1 | - 1 |
//!
//! Such a sum is the quickest way to notice that a rate has changed, for a given rate of false alarms: it needs a few
//! signs when all are bad, a few more when half are, and forgets single ones. It needs no window, so old successes do
//! not hide a new fault. What is steady but below one in six is found by the share of failures in a window
//! ([`Ring`](crate::window::Ring)).
//!
//! What counts is when something is *noticed*: a request that waits is reported by
//! [`Vitals::overdue`](super::Vitals::overdue) while it waits, so a backend that hangs is found before it has answered
//! or failed anything.
//!
//! # Comparison
//! A suspect is ejected only if its peers do better at the same time. If not, the trouble is theirs together: of what is
//! behind all of them, of the network before them, or of this process.
//! - Failing: it failed more than twice as often in the window as its median peer, by some failures more. While half of
//!   the peers fail, too, by thrice as many more, and of two middle peers it is the worse one that counts.
//! - Slow: more peers than are half suspects themselves are fast while it is slow. A peer is, if its latest request was
//!   answered fast and began after the last one that this backend was slow with; or after a moment at which this backend was
//!   *seen* to be slow, and since which it was asked again and was slow again ([`Turns`]). The first is what shows where
//!   requests go on side by side; the second where one at a time is sent, or hedges win, and nothing of the peers goes on
//!   while this backend is waited for. A delay that all share lets nobody pass either; in a good pool every answer does.
//!
//! Those who just came back from an ejection are always well beside those who did their work meanwhile. So where a pool has
//! too much to do, one good peer is no evidence: the backends would be ejected in turn, each time for what the others'
//! absence did to them, and the overload would never end (a metastable failure: Bronson and others, HotOS 2021).
//!
//! What is slow, is measured at the pool: the 95th percentile of the median backend, times a factor, and never below a
//! floor. A pool that gets slow as a whole moves its own measure.
//!
//! # Source
//! Page, "Continuous inspection schemes", Biometrika 1954 (the score: CUSUM); optimal in delay by Moustakides, "Optimal
//! stopping times for detecting changes in distributions", Annals of Statistics 1986. Points are the rounded ratios of
//! the logarithms of likelihood for a share of bad signs of 2 to 5 in 100 against one half.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::latency::Decay;
use super::{OutlierConfig, Vitals};
use crate::Failure;
use crate::time::{Time, nanos};
use crate::window::Counts;

/// Points of an ordinary failure; a success takes back one.
pub(crate) const FAILED: u32 = 5;
/// Points of an answer that was slow; a fast one takes back one.
pub(crate) const SLOW: u32 = 4;
/// Points of a request that is overdue.
pub(crate) const OVERDUE: u32 = 2;

/// The measure is taken again after this time, if somebody asks.
const REFRESH: Duration = Duration::from_millis(50);

/// Peers that are looked at in a comparison: enough for a median, few enough for a pool of thousands.
pub(crate) const MAX_PEERS: usize = 64;

/// Requests in a peer's window below which its share of failures says nothing.
pub(super) const MIN_PEER_REQUESTS: u64 = 5;

/// The points of a failure; none for one that is judged at once.
pub(crate) const fn points(failure: Failure) -> u32 {
    match failure {
        Failure::Refused => 0,
        Failure::Rejected => 1,
        Failure::NotSent => 2,
        Failure::Broken | Failure::TimedOut | Failure::Answered => FAILED,
    }
}

/// What a backend is suspected of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Suspicion {
    /// Its requests fail more than others'.
    Failing,
    /// Its answers come later than others', or not at all.
    Slow,
}

/// What is ordinary in a pool, and how far a backend may be from it. Shared by the backends of one pool.
#[derive(Debug)]
pub(crate) struct Norm {
    /// In nanoseconds; the largest number as long as nothing is known.
    slow_after: AtomicU64,
    refreshed: AtomicU64,
    /// When some backend's machine waits for time to pass, in nanoseconds.
    wake_at: AtomicU64,
    /// Until when nobody is ejected by suspicion, in nanoseconds.
    quiet_until: AtomicU64,
    pub(crate) limits: Limits,
}

/// The settings as the hot path needs them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) failing: u32,
    pub(crate) slow: u32,
    pub(crate) max_failure_percent: u64,
    pub(crate) min_requests: u64,
    pub(crate) window: Duration,
    pub(crate) floor: Duration,
    pub(crate) decay: Decay,
    by_latency: bool,
    slow_factor: f32,
}

impl Norm {
    /// Of a pool that nothing is known of. The settings were checked.
    pub(crate) fn new(config: &OutlierConfig) -> Self {
        let limits = Limits {
            failing: config.consecutive_failures * FAILED,
            slow: config.consecutive_slow * SLOW,
            max_failure_percent: u64::from(config.max_failure_percent),
            min_requests: u64::from(config.min_requests),
            window: config.window,
            floor: config.latency_floor,
            decay: Decay::new(config.latency_decay),
            by_latency: config.by_latency,
            slow_factor: config.slow_percent as f32 / 100.0,
        };
        Self {
            slow_after: AtomicU64::new(u64::MAX),
            refreshed: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            quiet_until: AtomicU64::new(0),
            limits,
        }
    }

    /// The latency above which an answer is slow; `None` as long as it is unknown what is ordinary.
    pub(crate) fn slow_after(&self) -> Option<Duration> {
        let nanos = self.slow_after_nanos();
        (nanos < u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    #[inline]
    pub(crate) fn slow_after_nanos(&self) -> u64 {
        // Ordering: advice; a sample that is judged by the last measure is judged well enough.
        self.slow_after.load(Ordering::Relaxed)
    }

    /// Asks for a sign at or after this time, whatever ends then: where there are requests, no timer is needed.
    pub(crate) fn wake_at(&self, time: Option<Time>) {
        self.wake_at.store(time.map_or(u64::MAX, Time::as_nanos), Ordering::Relaxed);
    }

    /// Ejects nobody by suspicion for the time of two windows: until what happened is no longer in them.
    pub(crate) fn keep_quiet(&self, now: Time) {
        self.quiet_until.store(now.after(2 * self.limits.window).as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn is_quiet(&self, now: Time) -> bool {
        now.as_nanos() < self.quiet_until.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_due(&self, now: Time) -> bool {
        now.as_nanos() >= self.wake_at.load(Ordering::Relaxed)
    }

    /// Whether the measure is old enough to be taken again.
    pub(crate) fn is_stale(&self, now: Time) -> bool {
        let refreshed = Time::from_nanos(self.refreshed.load(Ordering::Relaxed));
        self.limits.by_latency && (self.slow_after().is_none() || now.since(refreshed) >= REFRESH)
    }

    /// Takes the measure from these backends of the pool.
    pub(crate) fn refresh<'a>(&self, pool: impl Iterator<Item = &'a Vitals>, now: Time) {
        if !self.limits.by_latency {
            return;
        }
        self.refreshed.store(now.as_nanos(), Ordering::Relaxed);
        let usual = pool.filter_map(Vitals::usual_latency).collect();
        let Some(usual) = lower_median(usual, f32::total_cmp) else { return };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
        let slow = (usual * self.limits.slow_factor) as u64;
        self.slow_after.store(slow.max(nanos(self.limits.floor)).min(u64::MAX - 1), Ordering::Relaxed);
    }
}

/// When a backend was seen to be slow, each time by a request that began after it had been seen before.
///
/// Of requests that are late together only the first to be noticed counts: what stops all of them at once, as a pause of
/// this process does, is one event and no reason to compare what comes after it.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// The newest first.
    seen: [Option<Time>; TURNS],
}

/// One to begin with, and three more that bear it out: by then the peers have mostly been asked, too, even where chance
/// says who is.
const TURNS: usize = 4;

impl Turns {
    /// A request that began at `started` is slow, and is seen to be `now`.
    pub(crate) fn note(&mut self, started: Time, now: Time) {
        if self.seen[0].is_none_or(|last| started >= last) {
            self.seen.rotate_right(1);
            self.seen[0] = Some(now);
        }
    }

    /// The earliest moment that is remembered, if the backend was slow again with what began after it.
    pub(crate) fn since(&self) -> Option<Time> {
        self.seen[1..].iter().rev().find_map(|seen| *seen)
    }
}

/// Whether a suspect is an outlier beside its peers: others of its pool that take requests, at most [`MAX_PEERS`] of
/// them. See the module's documentation for the rules.
pub(crate) fn is_outlier(suspicion: Suspicion, suspect: &Vitals, peers: &[&Vitals], norm: &Norm, now: Time) -> bool {
    match suspicion {
        Suspicion::Slow => {
            let since = suspect.slow_in_turn_since().unwrap_or(suspect.last_struck());
            let is_bad = |peer: &&Vitals| peer.is_rather_slow(norm) || peer.fails_often(norm, now);
            let is_fast = |peer: &&Vitals| peer.last_fast() >= since.max(peer.last_struck());
            let bad = peers.iter().filter(|peer| is_bad(peer)).count();
            let good = peers.iter().filter(|peer| is_fast(peer) && !is_bad(peer)).count();
            good > bad
        }
        Suspicion::Failing => {
            let own = suspect.counts(now);
            let shares = peers.iter().map(|peer| peer.counts(now));
            let shares: Vec<_> = shares.filter(|counts| counts.total() >= MIN_PEER_REQUESTS).collect();
            // Trouble that has just begun shows in the peers' scores before it does in their windows.
            let failing = |peer: &&&Vitals| peer.has_failed_lately() || peer.fails_often(norm, now);
            let is_shared = 2 * peers.iter().filter(failing).count() >= peers.len().max(1);
            let usual = if is_shared { upper_median(shares, by_share) } else { lower_median(shares, by_share) };
            let usual = usual.unwrap_or_default();
            let expected = own.total() as f64 * usual.failures as f64 / usual.total().max(1) as f64;
            let surplus = f64::from(suspect.failing_limit(norm) / FAILED);
            own.failures as f64 >= 2.0 * expected + if is_shared { 3.0 * surplus } else { surplus }
        }
    }
}

/// By the share of failures.
fn by_share(a: &Counts, b: &Counts) -> std::cmp::Ordering {
    (a.failures * b.total()).cmp(&(b.failures * a.total()))
}

fn lower_median<V: Copy>(mut values: Vec<V>, order: impl Fn(&V, &V) -> std::cmp::Ordering) -> Option<V> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, order).1)
}

fn upper_median<V: Copy>(values: Vec<V>, order: impl Fn(&V, &V) -> std::cmp::Ordering) -> Option<V> {
    lower_median(values, |a, b| order(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_after_it_was_seen_is_another_turn() {
        let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
        let mut turns = Turns::default();
        turns.note(at(0), at(30));
        turns.note(at(10), at(40));
        turns.note(at(29), at(50));
        assert_eq!(turns.since(), None, "all were on their way when it was first seen");
        turns.note(at(30), at(60));
        assert_eq!(turns.since(), Some(at(30)));
        turns.note(at(60), at(90));
        turns.note(at(90), at(120));
        assert_eq!(turns.since(), Some(at(30)));
        turns.note(at(120), at(150));
        assert_eq!(turns.since(), Some(at(60)), "three turns ago");
    }

    #[test]
    fn the_median_of_an_even_number_is_the_lower_one() {
        assert_eq!(lower_median(vec![3, 1, 2], i32::cmp), Some(2));
        assert_eq!(lower_median(vec![3, 1], i32::cmp), Some(1));
        assert_eq!(lower_median(Vec::<i32>::new(), i32::cmp), None);
    }
}
