//! Messages that may be delivered and are not where the cursor goes: by priority, without starvation.
//!
//! Of two levels with a message to deliver, the higher goes first (strict priority). A level that waits meanwhile
//! counts how often it was passed over; at [`Limits::ageing`](super::Limits::ageing) it is served once. So a level
//! with a message waits for at most `ageing` deliveries and one for each other level that has waited as long.
//!
//! Within a level, messages that come back (nacked, lease ended, the next of a key) and those that come for the
//! first time take turns: neither a storm of failing messages nor a flood of new ones holds up the other.

use std::collections::VecDeque;

/// Levels of priority; a higher one is served first.
pub(super) const LEVELS: usize = 8;

/// Where in a level a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Again,
    Fresh,
}

/// What waits in one level.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// Messages that come back. Those with a key hold it, so any of them can be delivered at once.
    pub(super) again: VecDeque<u64>,
    /// Messages that come for the first time, and not by the cursor.
    pub(super) fresh: VecDeque<u64>,
    /// How often in a row a higher level was served while this one had a message.
    passed: u32,
    /// Whose turn it is if both have a message.
    fresh_turn: bool,
}

/// The levels of a group.
///
/// # Invariants
/// - **R1** The bit of a level in `used` is set if it has a message in a lane (it may be set if not).
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes {
    pub(super) levels: [Level; LEVELS],
    used: u8,
    /// Messages in lanes that expired since.
    pub(super) stale: u64,
}

impl Lanes {
    /// Whether no lane has a message, so that the cursor is all there is.
    #[inline]
    pub(super) fn are_empty(&self) -> bool {
        self.used == 0
    }

    /// Levels that may have a message in a lane.
    pub(super) fn used(&self) -> u8 {
        self.used
    }

    pub(super) fn push(&mut self, level: usize, source: Source, sequence: u64) {
        self.used |= 1 << level;
        self.lane(level, source).push_back(sequence);
    }

    pub(super) fn lane(&mut self, level: usize, source: Source) -> &mut VecDeque<u64> {
        match source {
            Source::Again => &mut self.levels[level].again,
            Source::Fresh => &mut self.levels[level].fresh,
        }
    }

    /// Notes that a level turned out to have nothing in its lanes.
    pub(super) fn note_empty(&mut self, level: usize) {
        if self.levels[level].again.is_empty() && self.levels[level].fresh.is_empty() {
            self.used &= !(1 << level);
        }
    }

    /// Chooses among the levels of the mask, of which one at least is set, and counts the turn.
    pub(super) fn choose(&mut self, ready: u8, ageing: u32) -> usize {
        debug_assert!(ready != 0, "nothing to choose from");
        let highest = (u8::BITS - 1 - ready.leading_zeros()) as usize;
        let mut chosen = highest;
        if ageing > 0 {
            for level in (0..highest).rev().filter(|level| ready >> level & 1 == 1) {
                let passed = self.levels[level].passed;
                if passed >= ageing && (chosen == highest || passed > self.levels[chosen].passed) {
                    chosen = level;
                }
            }
        }
        for level in (0..chosen).filter(|level| ready >> level & 1 == 1) {
            self.levels[level].passed = self.levels[level].passed.saturating_add(1);
        }
        self.levels[chosen].passed = 0;
        chosen
    }

    /// Notes that level 0 was served without a choice, because no other has a message.
    pub(super) fn note_served(&mut self) {
        self.levels[0].passed = 0;
    }

    /// Chooses between the sources of a level that have a message.
    pub(super) fn turn(&mut self, level: usize, again: bool, fresh: bool) -> Source {
        let level = &mut self.levels[level];
        if again && fresh {
            level.fresh_turn = !level.fresh_turn;
            return if level.fresh_turn { Source::Again } else { Source::Fresh };
        }
        if again { Source::Again } else { Source::Fresh }
    }

    /// Takes a message out of wherever it is.
    pub(super) fn remove(&mut self, sequence: u64) {
        for level in &mut self.levels {
            for lane in [&mut level.again, &mut level.fresh] {
                let before = lane.len();
                lane.retain(|&other| other != sequence);
                self.stale = self.stale.saturating_sub((before - lane.len()) as u64);
            }
        }
    }

    /// Forgets all messages; whose turn it is and who was passed over, too.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All messages in lanes, and whether they came back.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, bool)> + '_ {
        self.levels.iter().flat_map(|level| {
            let again = level.again.iter().map(|&sequence| (sequence, true));
            again.chain(level.fresh.iter().map(|&sequence| (sequence, false)))
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let held: usize = self.levels.iter().map(|level| level.again.capacity() + level.fresh.capacity()).sum();
        held * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::{Lanes, Source};

    #[test]
    fn a_low_level_is_passed_over_no_more_often_than_agreed() {
        let mut lanes = Lanes::default();
        let order: Vec<usize> = (0..12).map(|_| lanes.choose(0b1000_0101, 3)).collect();
        assert_eq!(order, [7, 7, 7, 2, 0, 7, 7, 7, 2, 0, 7, 7]);
    }

    #[test]
    fn strict_without_ageing() {
        let mut lanes = Lanes::default();
        assert!((0..1000).all(|_| lanes.choose(0b11, 0) == 1));
    }

    #[test]
    fn sources_take_turns() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.turn(0, true, true), Source::Again);
        assert_eq!(lanes.turn(0, true, true), Source::Fresh);
        assert_eq!(lanes.turn(0, false, true), Source::Fresh);
        assert_eq!(lanes.turn(0, true, true), Source::Again);
    }
}
