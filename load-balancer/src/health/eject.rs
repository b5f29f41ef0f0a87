//! How long a backend stays out, and how many may be out at once.
//!
//! # How long
//! What costs is trying too early (a request is risked) and trying too late (a healed backend idles). Neither side can
//! know how long a fault will last, but a fault that has lasted long is likely to last longer. So the time to the next
//! try is a share of the time that the trouble has lasted: with 25 percent, a backend is tried at most a quarter of its
//! trouble too late, and the number of tries grows with the logarithm of it:
//!
//! ```text
//! out   0                                                             tries after 0.5 1 1.5 2 2.5 3.1 3.9 4.9 6.1 … s
//! ```
//!
//! A spell of trouble goes on if the backend is ejected again before it was good for as long as the spell had lasted
//! (and for five base times): what flaps stays out for longer and longer.

use std::time::Duration;

use super::OutlierConfig;
use crate::time::Time;

/// Times out, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    base: Duration,
    growth_percent: u32,
    max: Duration,
    max_percent: usize,
}

impl Terms {
    /// The settings were checked.
    pub(crate) fn new(config: &OutlierConfig) -> Self {
        Self {
            base: config.base_ejection,
            growth_percent: config.ejection_growth_percent,
            max: config.max_ejection,
            max_percent: usize::from(config.max_ejection_percent),
        }
    }

    /// Whether one more backend may be ejected by suspicion.
    ///
    /// Where more than an eighth of the others are out, or were until just now, those who are left have so much more to do
    /// that failing at it is no defect of theirs. One that is down counts for the time of a window only: what the others
    /// still suffer from after that is how they are, and a pool with a dead member must not go without ejection for ever.
    pub(crate) fn have_room(&self, group: Group) -> bool {
        if 8 * group.missed > group.up {
            return false;
        }
        let allowed = (group.up * self.max_percent / 100).max(1);
        // The last one that serves is never ejected: somebody bad is better than nobody.
        self.max_percent > 0 && group.ejected < allowed && group.up - group.ejected >= 2
    }
}

/// The backends of one priority that would take requests if all were well, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// All that are not down.
    pub(crate) up: usize,
    /// Those of them that are out by suspicion.
    pub(crate) ejected: usize,
    /// Other backends whose work the others did for a while, and do still or did until just now; those that are down, only
    /// in the first window.
    pub(crate) missed: usize,
}

/// Until then what others suffer from is not that one is out: queues take longer to fill.
const MISSED_AFTER: Duration = Duration::from_millis(250);

/// The trouble of one backend: when it was first ejected, and whether that is forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spell {
    /// `None` if it never was.
    began: Option<Time>,
    /// When it got its requests back.
    ended: Time,
    /// How many times it was ejected in it.
    count: u32,
}

impl Spell {
    /// Notes an ejection and says when it ends. `was_serving` is false for one that failed its trial.
    pub(crate) fn eject(&mut self, was_serving: bool, now: Time, terms: &Terms) -> Time {
        let began = self.began.filter(|began| !was_serving || !self.is_forgotten(*began, now, terms));
        self.count = if began.is_some() { self.count.saturating_add(1) } else { 1 };
        let began = began.unwrap_or(now);
        self.began = Some(began);
        let share = now.since(began).saturating_mul(terms.growth_percent) / 100;
        now.after(share.clamp(terms.base, terms.max))
    }

    /// Notes that it serves again.
    pub(crate) fn end(&mut self, now: Time) {
        self.ended = now;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Whether others may still have more to do for it: it was out long enough to be missed, and is, or was within this
    /// time.
    pub(crate) fn is_felt(&self, is_out: bool, window: Duration, now: Time) -> bool {
        let was_missed = self.began.is_some_and(|began| now.since(began) >= MISSED_AFTER);
        was_missed && (is_out || now.since(self.ended) < window)
    }

    /// Whether the trouble is younger than this.
    pub(crate) fn has_begun_within(&self, time: Duration, now: Time) -> bool {
        self.began.is_some_and(|began| now.since(began) < time)
    }

    fn is_forgotten(&self, began: Time, now: Time, terms: &Terms) -> bool {
        now.since(self.ended) >= self.ended.since(began).max(5 * terms.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn tries_follow_the_length_of_the_trouble() {
        let terms = Terms::new(&OutlierConfig::default());
        let mut spell = Spell::default();
        let mut tries = vec![spell.eject(true, at(1_000), &terms)];
        while tries.len() < 40 {
            let now = *tries.last().unwrap();
            tries.push(spell.eject(false, now, &terms));
        }
        assert_eq!(tries[..5], [1_500, 2_000, 2_500, 3_000, 3_500].map(at));
        for pair in tries.windows(2) {
            let (trouble, wait) = (pair[0].since(at(1_000)), pair[1].since(pair[0]));
            let expected = (trouble / 4).clamp(Duration::from_millis(500), Duration::from_secs(30));
            assert_eq!(wait, expected, "after {trouble:?}");
        }
        assert_eq!(spell.count(), 40);
    }

    #[test]
    fn good_times_as_long_as_the_bad_ones_are_forgiven() {
        let terms = Terms::new(&OutlierConfig::default());
        let mut spell = Spell::default();
        spell.eject(true, at(0), &terms);
        spell.eject(false, at(10_000), &terms);
        spell.end(at(12_500));
        let mut again = spell;
        assert_eq!(again.eject(true, at(24_000), &terms), at(24_000 + 6_000), "the spell goes on");
        assert_eq!(spell.eject(true, at(25_000), &terms), at(25_500), "a new one");
        assert_eq!(spell.count(), 1);
    }

    #[test]
    fn the_cap_leaves_one() {
        let terms = |max_ejection_percent| Terms::new(&OutlierConfig { max_ejection_percent, ..Default::default() });
        let out = |percent, up| {
            (0..=up).find(|&ejected| !terms(percent).have_room(Group { up, ejected, missed: 0 })).unwrap_or_default()
        };
        assert_eq!([0, 1, 2, 3, 4, 10, 11].map(|up| out(50, up)), [0, 0, 1, 1, 2, 5, 5]);
        assert_eq!([2, 3, 10].map(|up| out(1, up)), [1, 1, 1]);
        assert_eq!([2, 3, 10].map(|up| out(0, up)), [0, 0, 0]);
        assert_eq!([2, 3, 10].map(|up| out(100, up)), [1, 2, 9]);
    }
}
