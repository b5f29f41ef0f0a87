//! When a message is needed no more: every group is done with it, and replay does not want it.

use super::State;
use super::bits::BLOCK;
use super::group::Group;
use super::index::{Index, split};

/// Messages kept only for replay, and from where on they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retained {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Below it, nothing is kept for replay.
    pub(super) trim: u64,
}

/// Whether there is a group, every group is done with the message, and none has it among its dead letters.
#[inline]
pub(super) fn is_done(groups: &[Option<Box<Group>>], index: &Index, sequence: u64) -> bool {
    let mut some = false;
    for group in groups.iter().flatten() {
        if !group.is_settled(index, sequence) || group.dead.contains(sequence) {
            return false;
        }
        some = true;
    }
    some
}

impl State {
    /// Releases a message that a group has just become done with, if it was the last one.
    #[inline]
    pub(super) fn let_go(&mut self, sequence: u64) {
        if !is_done(&self.groups, &self.index, sequence) {
            return;
        }
        if self.limits.retention.is_off() || sequence < self.retained.trim {
            self.index.release(sequence);
        } else if let Some(slot) = self.index.slot(sequence) {
            self.retained.messages += 1;
            self.retained.bytes += u64::from(slot.size);
            self.trim_excess();
        }
    }

    fn trim_excess(&mut self) {
        // While a restart goes on, the log says what was let go of, and not all is counted.
        if self.index.is_holding() {
            return;
        }
        let retention = self.limits.retention;
        let before = self.retained.trim;
        while self.retained.messages > retention.messages || self.retained.bytes > retention.bytes {
            self.trim_next(self.index.next());
        }
        if self.retained.trim != before {
            self.journal.trimmed(self.retained.trim);
        }
    }

    /// Keeps nothing for replay below this message.
    pub(super) fn trim_to(&mut self, below: u64) {
        let below = below.min(self.index.next());
        if below <= self.retained.trim {
            return;
        }
        while self.retained.trim < below {
            self.trim_next(below);
        }
        self.journal.trimmed(below);
    }

    /// Moves `trim` past the next kept message below `end`, and releases that if it is kept only for replay; or to
    /// `end`.
    fn trim_next(&mut self, end: u64) {
        let from = self.retained.trim.max(self.index.first());
        let (number, at) = split(from);
        let start = number * BLOCK as u64;
        let next = self.index.block(number).map_or(BLOCK, |block| block.kept.next_set(at));
        let sequence = start + next as u64;
        self.retained.trim = (sequence + u64::from(next < BLOCK)).min(end);
        if sequence < self.retained.trim && is_done(&self.groups, &self.index, sequence) {
            if !self.index.is_holding() {
                self.retained.messages -= 1;
                self.retained.bytes -= self.index.slot(sequence).map_or(0, |slot| u64::from(slot.size));
            }
            self.index.release(sequence);
        }
    }

    /// Lets go of what is too old for replay.
    pub(super) fn trim_old(&mut self, now: u64) {
        let retention = self.limits.retention;
        if !retention.is_off() && self.retained.messages > 0 {
            if let Some(time) = now.checked_sub(retention.age_ms) {
                self.trim_to(self.times.first_after(time, self.index.next()));
            }
        }
        self.times.forget_below(self.index.first());
    }

    /// When something will be too old for replay.
    pub(super) fn next_trim(&self) -> Option<u64> {
        if self.limits.retention.is_off() || self.retained.messages == 0 {
            return None;
        }
        let oldest = self.retained.trim.max(self.index.first());
        self.times.end_of(oldest).map(|time| time.saturating_add(self.limits.retention.age_ms))
    }

    /// Looks at every kept message anew, after a change to what a group is done with as a whole.
    ///
    /// # Complexity
    /// Linear in the messages that are done with, and in the others divided by 64.
    pub(super) fn sweep(&mut self) {
        (self.retained.messages, self.retained.bytes) = (0, 0);
        let keep_done = !self.limits.retention.is_off();
        let mut done = Vec::new();
        for (number, block) in self.index.blocks_from(0) {
            let start = number * BLOCK as u64;
            let mut settled = block.kept.clone();
            for group in self.groups.iter().flatten() {
                settled.retain(&group.settled_in(block, start));
            }
            let settled = settled.iter().map(|at| start + at as u64);
            done.extend(settled.filter(|&sequence| is_done(&self.groups, &self.index, sequence)));
        }
        for sequence in done {
            if keep_done && sequence >= self.retained.trim {
                self.retained.messages += 1;
                self.retained.bytes += self.index.slot(sequence).map_or(0, |slot| u64::from(slot.size));
            } else {
                self.index.release(sequence);
            }
        }
        if keep_done {
            self.trim_excess();
        }
    }
}
