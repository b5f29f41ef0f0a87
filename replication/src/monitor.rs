//! Whether the primary is gone: what several observers saw, weighed.
//!
//! One silent connection says little: the network between two machines, or the observer itself, may be at fault. So the
//! verdict takes a number of observers who each lost the primary for a while, and a replica that still gets the
//! primary's log has a veto, since then the primary lives. Both directions cost: a shorter patience finds a death
//! sooner and takes a pause for one more often. A false verdict costs a failover; fencing keeps it from costing writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For so many times the patience a report of another process counts.
const REPORTS_LAST: u32 = 3;

/// How a death is told from a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DetectConfig {
    /// An observer that has had no answer for so long has lost the primary. Default 1 s. Shorter: hung primaries are found
    /// sooner, and long pauses taken for a death.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub patience: Duration,
    /// Or that was refused a connection so many times in a row, as by a machine on which nobody listens. Default 2.
    pub refusals: u32,
    /// So many observers must have lost it. Default 1: this process. More than there are observers means never.
    pub quorum: usize,
    /// For so long a replica that still gets the log keeps the verdict back. Default 10 s: a primary that serves its
    /// replicas and no clients is of no use either.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max_veto: Duration,
    /// For so long there may be no primary that takes writes, none that is lost either: at the start, or when a planned
    /// change was left half done. Default 3 s; longer than a planned change takes.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub leaderless: Duration,
}

impl Default for DetectConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(1),
            refusals: 2,
            quorum: 1,
            max_veto: Duration::from_secs(10),
            leaderless: Duration::from_secs(3),
        }
    }
}

/// Who looks at the primary: 0 is this process, others are named by their hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObserverId(pub u64);

/// What an observer saw of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It answered.
    Answered,
    /// It answered, and takes no writes.
    Fenced,
    /// It refused the connection.
    Refused,
    /// It did not answer in time, or the connection broke.
    Silent,
}

/// What a replica says of the primary, when it can be reached itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// When it was asked last.
    pub asked_at: Instant,
    /// Whether it got the primary's log then.
    pub hears_primary: bool,
}

/// What is held of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough observers have lost it.
    Alive,
    /// Enough have, and a replica still gets its log, or has not been asked since.
    Vetoed,
    /// It is gone, since then.
    Dead {
        /// When the last observer that counts lost it.
        since: Instant,
    },
}

/// Gathers reports about one primary.
#[derive(Clone, Debug)]
pub struct Monitor {
    config: DetectConfig,
    observers: BTreeMap<ObserverId, Sight>,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    reported_at: Instant,
    answered_at: Instant,
    refusals: u32,
    lost_at: Option<Instant>,
    fenced_at: Option<Instant>,
}

impl Monitor {
    /// A monitor of a primary of which nothing is known yet.
    #[must_use]
    pub fn new(config: DetectConfig) -> Self {
        Self { config, observers: BTreeMap::new() }
    }

    /// Another primary, or the same anew: what was seen counts no more.
    pub fn reset(&mut self) {
        self.observers.clear();
    }

    /// Takes in what one observer saw at `now`; of another process, it counts for three times the patience.
    pub fn report(&mut self, observer: ObserverId, report: Report, now: Instant) {
        let first = Sight { reported_at: now, answered_at: now, refusals: 0, lost_at: None, fenced_at: None };
        let sight = self.observers.entry(observer).or_insert(first);
        sight.reported_at = now;
        match report {
            Report::Answered => *sight = first,
            Report::Fenced => *sight = Sight { fenced_at: sight.fenced_at.or(Some(now)), ..first },
            Report::Refused => {
                sight.refusals = sight.refusals.saturating_add(1);
                if sight.refusals >= self.config.refusals.max(1) {
                    sight.lost_at.get_or_insert(now);
                }
            }
            Report::Silent => {
                sight.refusals = 0;
                if now.saturating_duration_since(sight.answered_at) >= self.config.patience {
                    sight.lost_at.get_or_insert(now);
                }
            }
        }
    }

    /// What is held of it now, and by these replicas.
    #[must_use]
    pub fn verdict(&self, witnesses: &[Witness], now: Instant) -> Verdict {
        let sights = self.observers.iter().filter(|(observer, sight)| self.counts(**observer, sight, now));
        let mut lost: Vec<_> = sights.filter_map(|(_, sight)| self.lost_at(sight, now)).collect();
        lost.sort_unstable();
        let Some(&since) = lost.get(self.config.quorum.max(1) - 1) else { return Verdict::Alive };
        // Who was not asked since may hear it still.
        let may_hear = witnesses.iter().any(|witness| witness.hears_primary || witness.asked_at < since);
        if may_hear && now.saturating_duration_since(since) < self.config.max_veto {
            return Verdict::Vetoed;
        }
        Verdict::Dead { since }
    }

    /// Another process may have ended since; this one reports for as long as it watches.
    fn counts(&self, observer: ObserverId, sight: &Sight, now: Instant) -> bool {
        let age = now.saturating_duration_since(sight.reported_at);
        observer == ObserverId::default() || age <= self.config.patience * REPORTS_LAST
    }

    fn lost_at(&self, sight: &Sight, now: Instant) -> Option<Instant> {
        let is_left = |at: &Instant| now.saturating_duration_since(*at) >= self.config.leaderless;
        sight.lost_at.or(sight.fenced_at.filter(is_left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    const ME: ObserverId = ObserverId(0);

    #[test]
    fn refusals_count_at_once_and_silence_after_patience() {
        let start = crate::clock::some_moment();
        let mut monitor = Monitor::new(DetectConfig::default());
        monitor.report(ME, Report::Answered, start);
        monitor.report(ME, Report::Refused, after(start, 10));
        assert_eq!(monitor.verdict(&[], after(start, 10)), Verdict::Alive);
        monitor.report(ME, Report::Refused, after(start, 20));
        assert_eq!(monitor.verdict(&[], after(start, 20)), Verdict::Dead { since: after(start, 20) });

        monitor.report(ME, Report::Answered, after(start, 30));
        monitor.report(ME, Report::Silent, after(start, 1_000));
        assert_eq!(monitor.verdict(&[], after(start, 1_000)), Verdict::Alive);
        monitor.report(ME, Report::Silent, after(start, 1_050));
        assert_eq!(monitor.verdict(&[], after(start, 1_050)), Verdict::Dead { since: after(start, 1_050) });
    }

    #[test]
    fn a_quorum_must_have_lost_it_and_a_replica_that_hears_it_has_a_veto() {
        let start = crate::clock::some_moment();
        let config = DetectConfig { quorum: 2, refusals: 1, ..DetectConfig::default() };
        let mut monitor = Monitor::new(config.clone());
        monitor.report(ME, Report::Refused, start);
        monitor.report(ObserverId(1), Report::Answered, start);
        assert_eq!(monitor.verdict(&[], start), Verdict::Alive);
        monitor.report(ObserverId(2), Report::Refused, after(start, 5));
        let since = after(start, 5);
        let witness = |ms, hears_primary| Witness { asked_at: after(start, ms), hears_primary };
        assert_eq!(monitor.verdict(&[witness(6, false)], after(start, 9)), Verdict::Dead { since });
        assert_eq!(monitor.verdict(&[witness(6, false), witness(6, true)], after(start, 9)), Verdict::Vetoed);
        assert_eq!(monitor.verdict(&[witness(4, false)], after(start, 9)), Verdict::Vetoed, "it may hear it still");
        let late = since + config.max_veto;
        monitor.report(ObserverId(2), Report::Refused, late);
        assert_eq!(monitor.verdict(&[witness(10_000, true)], late), Verdict::Dead { since });
    }

    #[test]
    fn who_has_not_reported_for_long_counts_no_more() {
        let start = crate::clock::some_moment();
        let config = DetectConfig { quorum: 2, refusals: 1, ..DetectConfig::default() };
        let mut monitor = Monitor::new(config.clone());
        monitor.report(ObserverId(1), Report::Refused, start);
        let late = start + config.patience * REPORTS_LAST;
        monitor.report(ME, Report::Refused, late);
        assert!(matches!(monitor.verdict(&[], late), Verdict::Dead { .. }));
        let later = after(late, 1);
        assert_eq!(monitor.verdict(&[], later), Verdict::Alive, "it may have ended long ago");
        monitor.report(ObserverId(1), Report::Refused, later);
        assert!(matches!(monitor.verdict(&[], later), Verdict::Dead { .. }));
    }

    #[test]
    fn a_fenced_primary_that_nobody_replaces_is_as_good_as_dead() {
        let start = crate::clock::some_moment();
        let mut monitor = Monitor::new(DetectConfig::default());
        monitor.report(ME, Report::Fenced, start);
        monitor.report(ME, Report::Fenced, after(start, 2_999));
        assert_eq!(monitor.verdict(&[], after(start, 2_999)), Verdict::Alive);
        assert!(matches!(monitor.verdict(&[], after(start, 3_000)), Verdict::Dead { .. }));
        monitor.report(ME, Report::Answered, after(start, 3_000));
        assert_eq!(monitor.verdict(&[], after(start, 9_000)), Verdict::Alive);
    }
}
