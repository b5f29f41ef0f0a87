//! What clients saw, and whether a cluster may behave like that.
//!
//! Clients append unique numbers to lists and read them: a list that was read tells in which order all its numbers were
//! written (Kingsbury and Alvaro, "Elle", VLDB 2020, section 3, on list append). Each session's operations run one after
//! the other. The check is over when all faults have ended and each session has read once more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::{Epoch, History as Epochs, Lost, NodeId, Position, Standing};

/// Names a session of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// How fresh a read was to be: with all that was acknowledged before a moment, as far as its process knew of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// The moment: the beginning of the read, less its staleness bound.
    pub since: Instant,
    /// The epochs that the process knew, from before the read to its end: what is of a later one, or lost to them, it could
    /// not know.
    pub known: Epochs,
}

/// What clients did, in the order in which it ended.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<Event>,
    invoked: BTreeMap<u64, SessionId>,
    /// Numbers whose append has surely had no effect.
    failed: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Event {
    Acknowledged { session: SessionId, key: u64, number: u64, position: Position, by: NodeId, at: Instant },
    Read { session: SessionId, key: u64, list: Vec<u64>, fresh: Option<Fresh>, is_noted: bool },
    Lost { session: SessionId, lost: Lost },
}

/// What a cluster must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// An acknowledged write is gone, and its session was not told; or where nothing may be lost, it is gone.
    LostWrite {
        /// Whose it was.
        session: SessionId,
        /// What was written.
        number: u64,
    },
    /// A session did not see what it wrote.
    StaleRead {
        /// Whose read.
        session: SessionId,
        /// What it had written.
        number: u64,
    },
    /// A read did not see what was acknowledged before its staleness bound.
    TooStale {
        /// Whose read.
        session: SessionId,
        /// What it should have seen.
        number: u64,
    },
    /// A session saw less than before, or something else.
    WentBack {
        /// Whose read.
        session: SessionId,
        /// Of which list.
        key: u64,
    },
    /// Something was read that is no part of the list in the end, and the session was not told.
    Vanished {
        /// Whose read.
        session: SessionId,
        /// Of which list.
        key: u64,
    },
    /// A number that nobody wrote, or whose write surely failed.
    Phantom(u64),
    /// A number is in a list twice.
    Doubled(u64),
    /// Two nodes acknowledged writes in one epoch.
    TwoPrimaries(Epoch),
    /// Two writes were acknowledged at one place.
    SamePlace(Position),
}

/// What a history was, beside its violations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Of those, such that are gone and were told.
    pub lost: usize,
    /// Reads.
    pub reads: usize,
}

/// What one session may expect.
#[derive(Default)]
struct Expected {
    /// Its own writes: what, in which list, where.
    own: Vec<(u64, u64, Position)>,
    /// The longest list that it saw, by key.
    seen: BTreeMap<u64, Vec<u64>>,
}

impl History {
    /// A session is about to append this number, which nobody else appends.
    pub fn invoke(&mut self, session: SessionId, number: u64) {
        self.invoked.insert(number, session);
    }

    /// The append was acknowledged, at this position, by this node, and the client knew it at this moment.
    pub fn acknowledge(
        &mut self,
        session: SessionId,
        key: u64,
        number: u64,
        position: Position,
        by: NodeId,
        at: Instant,
    ) {
        self.events.push(Event::Acknowledged { session, key, number, position, by, at });
    }

    /// The append failed, and surely had no effect. One of which that is not known needs no word.
    pub fn fail(&mut self, number: u64) {
        self.failed.insert(number);
    }

    /// A session read a list.
    pub fn read(&mut self, session: SessionId, key: u64, list: Vec<u64>) {
        self.events.push(Event::Read { session, key, list, fresh: None, is_noted: true });
    }

    /// A session read a list with a staleness bound.
    pub fn read_fresh(&mut self, session: SessionId, key: u64, list: Vec<u64>, fresh: Fresh) {
        self.events.push(Event::Read { session, key, list, fresh: Some(fresh), is_noted: true });
    }

    /// A session read a list [untracked](crate::ReadOptions::untracked): later reads may be older, and nobody tells it if what
    /// it saw is lost.
    pub fn read_untracked(&mut self, session: SessionId, key: u64, list: Vec<u64>) {
        self.events.push(Event::Read { session, key, list, fresh: None, is_noted: false });
    }

    /// A session was told that something is lost.
    pub fn lose(&mut self, session: SessionId, lost: Lost) {
        self.events.push(Event::Lost { session, lost });
    }

    /// Whether all of it may be, with these lists in the end.
    ///
    /// # Errors
    /// All violations, if there are any. `may_lose` says whether the mode may lose acknowledged writes at all.
    ///
    /// # Complexity
    /// O(n) in the length of all lists that were read, and for each read with a staleness bound in the writes to its list.
    pub fn check(&self, lists: &[(u64, Vec<u64>)], may_lose: bool) -> Result<Summary, Vec<Violation>> {
        let lists: BTreeMap<u64, &[u64]> = lists.iter().map(|(key, list)| (*key, &list[..])).collect();
        let mut violations = Vec::new();
        self.check_contents(&lists, &mut violations);
        self.check_epochs(&mut violations);
        self.check_staleness(&lists, &mut violations);
        let mut summary = self.check_losses(&lists, may_lose, &mut violations);
        let sessions: BTreeSet<_> = self.events.iter().map(Event::session).collect();
        for session in sessions {
            summary.reads += self.check_session(session, &lists, &mut violations);
        }
        if violations.is_empty() { Ok(summary) } else { Err(violations) }
    }

    fn check_contents(&self, lists: &BTreeMap<u64, &[u64]>, violations: &mut Vec<Violation>) {
        let reads = self.events.iter().filter_map(|event| match event {
            Event::Read { list, .. } => Some(&list[..]),
            _ => None,
        });
        let mut phantoms = BTreeSet::new();
        for list in reads.chain(lists.values().copied()) {
            let mut numbers = BTreeSet::new();
            for number in list {
                if !numbers.insert(number) {
                    violations.push(Violation::Doubled(*number));
                }
                let is_real = self.invoked.contains_key(number) && !self.failed.contains(number);
                if !is_real && phantoms.insert(*number) {
                    violations.push(Violation::Phantom(*number));
                }
            }
        }
    }

    fn check_epochs(&self, violations: &mut Vec<Violation>) {
        let mut reigns: BTreeMap<Epoch, NodeId> = BTreeMap::new();
        let mut places: BTreeSet<Position> = BTreeSet::new();
        for event in &self.events {
            let Event::Acknowledged { position, by, .. } = event else { continue };
            if *reigns.entry(position.epoch).or_insert(*by) != *by {
                violations.push(Violation::TwoPrimaries(position.epoch));
            }
            if !places.insert(*position) {
                violations.push(Violation::SamePlace(*position));
            }
        }
    }

    /// What is lost is found elsewhere.
    fn check_staleness(&self, lists: &BTreeMap<u64, &[u64]>, violations: &mut Vec<Violation>) {
        let mut writes: BTreeMap<u64, Vec<(u64, Position, Instant)>> = BTreeMap::new();
        for event in &self.events {
            let Event::Acknowledged { key, number, position, at, .. } = event else { continue };
            if lists.get(key).is_some_and(|list| list.contains(number)) {
                writes.entry(*key).or_default().push((*number, *position, *at));
            }
        }
        for event in &self.events {
            let Event::Read { session, key, list, fresh: Some(fresh), .. } = event else { continue };
            let read: BTreeSet<u64> = list.iter().copied().collect();
            let mut due = writes
                .get(key)
                .into_iter()
                .flatten()
                .filter(|(_, position, at)| *at < fresh.since && fresh.known.standing(*position) == Standing::Kept);
            let missing = due.find(|(number, ..)| !read.contains(number));
            if let Some((number, ..)) = missing {
                violations.push(Violation::TooStale { session: *session, number: *number });
            }
        }
    }

    fn check_losses(&self, lists: &BTreeMap<u64, &[u64]>, may_lose: bool, violations: &mut Vec<Violation>) -> Summary {
        let mut summary = Summary::default();
        let kept: BTreeMap<u64, BTreeSet<u64>> =
            lists.iter().map(|(key, list)| (*key, list.iter().copied().collect())).collect();
        for (at, event) in self.events.iter().enumerate() {
            let Event::Acknowledged { session, key, number, position, .. } = event else { continue };
            summary.acknowledged += 1;
            if kept.get(key).is_some_and(|list| list.contains(number)) {
                continue;
            }
            let is_told = self.events[at..].iter().any(
                |event| matches!(event, Event::Lost { session: to, lost } if to == session && covers(lost, *position)),
            );
            if may_lose && is_told {
                summary.lost += 1;
            } else {
                violations.push(Violation::LostWrite { session: *session, number: *number });
            }
        }
        summary
    }

    /// Gives how many reads it did.
    fn check_session(
        &self,
        session: SessionId,
        lists: &BTreeMap<u64, &[u64]>,
        violations: &mut Vec<Violation>,
    ) -> usize {
        let mut expected = Expected::default();
        let mut reads = 0;
        let events: Vec<_> = self.events.iter().filter(|event| event.session() == session).collect();
        let last_loss = events.iter().rposition(|event| matches!(event, Event::Lost { .. }));
        for (at, event) in events.into_iter().enumerate() {
            match event {
                Event::Acknowledged { key, number, position, .. } => expected.own.push((*number, *key, *position)),
                Event::Lost { lost, .. } => {
                    expected.own.retain(|(_, _, position)| !covers(lost, *position));
                    // Which of the numbers it saw are lost, the position does not say.
                    expected.seen.clear();
                }
                Event::Read { key, list, is_noted, .. } => {
                    reads += 1;
                    let missing = expected.own.iter().find(|(number, of, _)| of == key && !list.contains(number));
                    if let Some((number, ..)) = missing {
                        violations.push(Violation::StaleRead { session, number: *number });
                    }
                    let before = expected.seen.entry(*key).or_default();
                    if !list.starts_with(before) {
                        violations.push(Violation::WentBack { session, key: *key });
                    }
                    if !is_noted {
                        continue;
                    }
                    before.clone_from(list);
                    let is_part = lists.get(key).copied().unwrap_or_default().starts_with(list);
                    if !is_part && last_loss.is_none_or(|loss| loss < at) {
                        violations.push(Violation::Vanished { session, key: *key });
                    }
                }
            }
        }
        reads
    }
}

impl Event {
    fn session(&self) -> SessionId {
        match self {
            Self::Acknowledged { session, .. } | Self::Read { session, .. } | Self::Lost { session, .. } => *session,
        }
    }
}

/// Whether the loss takes what was written at this position.
fn covers(lost: &Lost, position: Position) -> bool {
    position > lost.kept && position.epoch <= lost.position.epoch
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Lsn;
    use crate::clock::some_moment;

    const ME: SessionId = SessionId(1);
    const OTHER: SessionId = SessionId(2);

    fn at(epoch: u64, lsn: u64) -> Position {
        Position::new(Epoch(epoch), Lsn(lsn))
    }

    /// Numbers 1 and 2 were appended to list 7, and read.
    fn sound() -> History {
        let mut history = History::default();
        for number in [1, 2] {
            history.invoke(ME, number);
            history.acknowledge(ME, 7, number, at(1, number), NodeId(0), some_moment());
            history.read(ME, 7, (1..=number).collect());
        }
        history.read(OTHER, 7, vec![1]);
        history
    }

    fn violations(history: &History, list: &[u64], may_lose: bool) -> Vec<Violation> {
        history.check(&[(7, list.to_vec())], may_lose).err().unwrap_or_default()
    }

    #[test]
    fn a_sound_history_passes() {
        let summary = sound().check(&[(7, vec![1, 2])], false).unwrap();
        assert_eq!(summary, Summary { acknowledged: 2, lost: 0, reads: 3 });
    }

    #[test]
    fn each_violation_is_found() {
        let mut history = sound();
        history.read(ME, 7, vec![1]);
        assert_eq!(
            violations(&history, &[1, 2], false),
            [Violation::StaleRead { session: ME, number: 2 }, Violation::WentBack { session: ME, key: 7 }]
        );
        let mut history = sound();
        history.read(OTHER, 7, vec![]);
        assert_eq!(violations(&history, &[1, 2], false), [Violation::WentBack { session: OTHER, key: 7 }]);
        let mut history = sound();
        history.read(OTHER, 7, vec![1, 9]);
        assert_eq!(
            violations(&history, &[1, 2], false),
            [Violation::Phantom(9), Violation::Vanished { session: OTHER, key: 7 }]
        );
        assert_eq!(violations(&sound(), &[1, 2, 2], false), [Violation::Doubled(2)]);
        let mut history = sound();
        history.invoke(ME, 3);
        history.fail(3);
        assert_eq!(violations(&history, &[1, 2, 3], false), [Violation::Phantom(3)]);
        let mut history = sound();
        history.invoke(ME, 3);
        history.acknowledge(ME, 7, 3, at(1, 3), NodeId(1), some_moment());
        assert_eq!(violations(&history, &[1, 2, 3], false), [Violation::TwoPrimaries(Epoch(1))]);
        let mut history = sound();
        history.invoke(OTHER, 3);
        history.acknowledge(OTHER, 7, 3, at(1, 2), NodeId(0), some_moment());
        assert_eq!(violations(&history, &[1, 2, 3], false), [Violation::SamePlace(at(1, 2))]);
    }

    #[test]
    fn a_read_is_as_fresh_as_its_bound_asks_for() {
        let written = some_moment();
        let read = |list: &[u64], since, known| {
            let mut history = History::default();
            for number in [1, 2] {
                history.invoke(ME, number);
                history.acknowledge(ME, 7, number, at(number, number), NodeId(number as u16), written);
            }
            history.read_fresh(OTHER, 7, list.to_vec(), Fresh { since, known });
            let mut found = violations(&history, &[1, 2], false);
            found.retain(|violation| matches!(violation, Violation::TooStale { .. }));
            found
        };
        let later = written + Duration::from_millis(1);
        let stale = |number| [Violation::TooStale { session: OTHER, number }];
        let first = Epochs::new(Epoch(1));
        let both = first.clone().promoted(Epoch(2), Lsn(1)).unwrap();
        let parted = first.clone().promoted(Epoch(2), Lsn(0)).unwrap();
        assert_eq!(read(&[], later, both.clone()), stale(1));
        assert_eq!(read(&[1], later, both.clone()), stale(2));
        assert_eq!(read(&[1], later, first), [], "it had not heard of the second epoch");
        assert_eq!(read(&[2], later, parted), [], "it was lost to those that it had heard of");
        assert_eq!(read(&[], written, both.clone()), [], "no more is asked for");
        assert_eq!(read(&[1, 2], later, both), []);
    }

    #[test]
    fn a_loss_must_be_told_and_be_allowed() {
        let lost = Violation::LostWrite { session: ME, number: 2 };
        let vanished = Violation::Vanished { session: ME, key: 7 };
        assert_eq!(violations(&sound(), &[1], true), [lost.clone(), vanished.clone()]);
        let mut history = sound();
        history.lose(ME, Lost { own_write: true, position: at(1, 2), kept: at(1, 1) });
        assert!(violations(&history, &[1], true).is_empty());
        assert_eq!(violations(&history, &[1], false), [lost]);
        // A loss of something earlier tells nothing of this one.
        let mut history = History::default();
        history.lose(ME, Lost { own_write: true, position: at(1, 2), kept: at(1, 1) });
        history.invoke(ME, 5);
        history.acknowledge(ME, 7, 5, at(1, 5), NodeId(0), some_moment());
        assert_eq!(violations(&history, &[], true), [Violation::LostWrite { session: ME, number: 5 }]);
    }
}
