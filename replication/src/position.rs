//! Where in a cluster's log something is, and whether that place is still part of the log.
//!
//! A primary numbers its writes; whoever is promoted goes on from the last number it holds, in a new epoch. What an old
//! primary wrote beyond that point is in no log any more. So a position names its epoch, and a [`History`] knows at
//! which number each epoch was left: this tells a write that is late from one that is lost.

use std::fmt;

use thiserror::Error;

/// Which cluster: no two share one. PostgreSQL's system identifier, a random number made with the first database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// Which shard of a cluster; 0 where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// The reign of one primary, counted up by promotions: PostgreSQL's timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Log sequence number: how far a log reaches. Goes on over epochs: the first write of one is beyond the last of the
/// one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// A place in the log of a cluster.
///
/// Ordered by epoch first. That is the order of time among positions of one [`History`]; a position that was lost
/// compares with others, but has no place among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Whose reign wrote it.
    pub epoch: Epoch,
    /// How far.
    pub lsn: Lsn,
}

impl Position {
    /// The place `lsn`, as written in `epoch`.
    #[must_use]
    pub const fn new(epoch: Epoch, lsn: Lsn) -> Self {
        Self { epoch, lsn }
    }
}

/// The end of an epoch: its log up to and with `at` lives on in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The epoch that ended.
    pub epoch: Epoch,
    /// The last of its writes that lives on.
    pub at: Lsn,
}

/// The epochs that a log came through, and where it left each.
///
/// # Invariants
/// - I1: the epochs of the switches rise, and the current one is beyond them.
/// - I2: the places of the switches do not fall.
///
/// # Examples
/// ```
/// use tenfold_replication::{Epoch, History, Lsn, Position, Standing};
///
/// let history = History::new(Epoch(1)).promoted(Epoch(2), Lsn(100))?;
/// assert_eq!(history.standing(Position::new(Epoch(1), Lsn(100))), Standing::Kept);
/// let lost = history.standing(Position::new(Epoch(1), Lsn(101)));
/// assert_eq!(lost, Standing::Lost { kept: Position::new(Epoch(1), Lsn(100)) });
/// # Ok::<(), tenfold_replication::HistoryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    switches: Vec<Switch>,
    current: Epoch,
}

/// What became of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is of the current epoch, or of one before whose log lives on that far.
    Kept,
    /// The log went on without it.
    Lost {
        /// The last place before it that lives on.
        kept: Position,
    },
    /// It is of an epoch that this history does not know yet.
    Unknown,
}

/// Epochs that do not rise, or logs that shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("epoch {} does not follow epoch {}, or its log begins before that of the other", next.0, previous.0)]
#[non_exhaustive]
pub struct HistoryError {
    /// The epoch before.
    pub previous: Epoch,
    /// The one that was to follow.
    pub next: Epoch,
}

impl History {
    /// A log that has seen no promotion that it knows of.
    #[must_use]
    pub const fn new(epoch: Epoch) -> Self {
        Self { switches: Vec::new(), current: epoch }
    }

    /// A log that came through these epochs to the current one.
    ///
    /// # Errors
    /// [`HistoryError`], if epochs do not rise or places fall.
    pub fn of(switches: impl IntoIterator<Item = Switch>, current: Epoch) -> Result<Self, HistoryError> {
        let mut switches = switches.into_iter();
        let Some(first) = switches.next() else { return Ok(Self::new(current)) };
        let mut history = Self::new(first.epoch);
        let mut at = first.at;
        for switch in switches {
            history = history.promoted(switch.epoch, at)?;
            at = switch.at;
        }
        history.promoted(current, at)
    }

    /// The history after a promotion in which the log was left at `at`.
    ///
    /// # Errors
    /// [`HistoryError`], if the epoch is not beyond the current one, or an earlier switch is beyond `at`.
    pub fn promoted(mut self, next: Epoch, at: Lsn) -> Result<Self, HistoryError> {
        if next <= self.current || self.switches.last().is_some_and(|last| last.at > at) {
            return Err(HistoryError { previous: self.current, next });
        }
        self.switches.push(Switch { epoch: self.current, at });
        self.current = next;
        Ok(self)
    }

    /// The epoch that writes now.
    #[must_use]
    pub const fn current(&self) -> Epoch {
        self.current
    }

    /// The epochs before, oldest first.
    #[must_use]
    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// The history of a log that goes no further than `lsn`: epochs that begin there or beyond are not in it yet.
    #[must_use]
    pub fn until(&self, lsn: Lsn) -> Self {
        let count = self.switches.partition_point(|switch| switch.at < lsn);
        let current = self.switches.get(count).map_or(self.current, |switch| switch.epoch);
        Self { switches: self.switches[..count].to_vec(), current }
    }

    /// What became of this position.
    ///
    /// # Complexity
    /// O(1) for the current epoch, else O(log n) in the number of epochs.
    #[must_use]
    pub fn standing(&self, position: Position) -> Standing {
        if position.epoch == self.current {
            return Standing::Kept;
        }
        if position.epoch > self.current {
            return Standing::Unknown;
        }
        let kept = match self.switches.binary_search_by_key(&position.epoch, |switch| switch.epoch) {
            Ok(index) if position.lsn <= self.switches[index].at => return Standing::Kept,
            Ok(index) => self.switches[index],
            // An epoch that this log never went through: nothing of it lives.
            Err(0) => Switch { epoch: Epoch(0), at: Lsn(0) },
            Err(index) => self.switches[index - 1],
        };
        Standing::Lost { kept: Position::new(kept.epoch, kept.at) }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch.0, self.lsn.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, lsn: u64) -> Position {
        Position::new(Epoch(epoch), Lsn(lsn))
    }

    fn switch(epoch: u64, lsn: u64) -> Switch {
        Switch { epoch: Epoch(epoch), at: Lsn(lsn) }
    }

    #[test]
    fn tells_late_from_lost() {
        // Epoch 2 was promoted beside 3 and came to nothing.
        let history = History::of([switch(1, 100), switch(3, 150)], Epoch(4)).unwrap();
        for (position, standing) in [
            (at(1, 100), Standing::Kept),
            (at(1, 101), Standing::Lost { kept: at(1, 100) }),
            (at(2, 101), Standing::Lost { kept: at(1, 100) }),
            (at(3, 150), Standing::Kept),
            (at(3, 151), Standing::Lost { kept: at(3, 150) }),
            (at(4, 1_000_000), Standing::Kept),
            (at(5, 0), Standing::Unknown),
            (at(0, 1), Standing::Lost { kept: at(0, 0) }),
        ] {
            assert_eq!(history.standing(position), standing, "{position}");
        }
    }

    #[test]
    fn refuses_epochs_that_do_not_rise_and_logs_that_shrink() {
        assert!(History::of([switch(1, 5), switch(1, 6)], Epoch(2)).is_err());
        assert!(History::of([switch(1, 5), switch(2, 4)], Epoch(3)).is_err());
        assert!(History::of([switch(1, 5)], Epoch(1)).is_err());
        assert!(History::of([switch(1, 5), switch(2, 5)], Epoch(3)).is_ok(), "a reign may write nothing");
        assert_eq!(History::of([], Epoch(7)).unwrap(), History::new(Epoch(7)));
    }

    #[test]
    fn a_shorter_log_has_a_shorter_history() {
        let history = History::of([switch(1, 100), switch(2, 150)], Epoch(3)).unwrap();
        assert_eq!(history.until(Lsn(100)), History::new(Epoch(1)));
        assert_eq!(history.until(Lsn(101)), History::of([switch(1, 100)], Epoch(2)).unwrap());
        assert_eq!(history.until(Lsn(151)), history);
    }

    #[test]
    fn positions_of_later_epochs_are_later() {
        assert!(at(2, 1) > at(1, 9) && at(2, 2) > at(2, 1));
    }
}
