//! The invariants, recounted from scratch.

use std::collections::BTreeSet;

use super::bits::BLOCK;
use super::block::{EXPIRES, UNDUE};
use super::flight::Phase;
use super::group::Group;
use super::index::Index;
use super::release::is_done;
use super::{State, bits};

impl State {
    /// Walks everything and panics, naming the invariant, if something is wrong.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(crate) fn check_invariants(&self) {
        self.index.check_invariants();
        self.timers.check_invariants();
        self.window.check_invariants();
        assert!(self.shown <= self.index.next(), "T1: shown {} of {}", self.shown, self.index.next());
        let (mut messages, mut bytes) = (0, 0);
        for (number, block) in self.index.blocks_from(0) {
            for at in block.kept.iter() {
                let sequence = number * bits::BLOCK as u64 + at as u64;
                if is_done(&self.groups, &self.index, sequence) {
                    assert!(!self.limits.retention.is_off(), "T2: {sequence} is kept for nothing");
                    assert!(sequence >= self.retained.trim, "T2: {sequence} is kept below {}", self.retained.trim);
                    messages += 1;
                    bytes += u64::from(block.slot(at).size);
                }
            }
        }
        assert_eq!((messages, bytes), (self.retained.messages, self.retained.bytes), "T2: retained");
        self.check_timers();
        for group in self.groups.iter().flatten() {
            group.check_invariants(&self.index, self.shown);
        }
    }

    fn check_timers(&self) {
        let armed: BTreeSet<(u64, u64)> = self.timers.armed().collect();
        for (number, block) in self.index.blocks_from(0) {
            let start = number * BLOCK as u64;
            for at in block.kept.iter().filter(|&at| start + (at as u64) < self.shown) {
                let (sequence, slot) = (start + at as u64, block.slot(at));
                let due = armed.contains(&(block.due(at), sequence));
                assert!(!slot.has(UNDUE) || due, "T3: {sequence} would not come due");
                let expires = armed.contains(&(block.expires(at), sequence));
                let may_be_over = block.expires(at) <= self.now && !self.could_expire(sequence);
                assert!(!slot.has(EXPIRES) || expires || may_be_over, "T3: {sequence} would not expire");
            }
        }
    }
}

impl State {
    /// Whether a group could have the message that must not.
    fn could_expire(&self, sequence: u64) -> bool {
        self.groups.iter().flatten().any(|group| {
            let flight = group.flights.get(sequence);
            let is_spared = flight.is_some_and(|flight| flight.phase == Phase::Leased || flight.timeless);
            !group.is_settled(&self.index, sequence) && !is_spared
        })
    }
}

impl Group {
    fn check_invariants(&self, index: &Index, shown: u64) {
        self.flights.check_invariants();
        self.wheel.check_invariants();
        self.keys.check_invariants();
        let mut pending = BTreeSet::new();
        for (number, block) in index.blocks_from(0) {
            let start = number * BLOCK as u64;
            for at in (0..block.filled()).filter(|&at| start + (at as u64) < shown) {
                let is_settled = block.settled[self.slot()].get(at);
                assert!(is_settled || block.kept.get(at), "G3: {} is not kept and not settled", start + at as u64);
                if !is_settled {
                    pending.insert(start + at as u64);
                }
            }
        }
        assert_eq!(pending.len() as u64, self.pending, "G1: pending");
        let first = pending.first().copied();
        assert!(first.is_none_or(|first| first == self.floor), "G2: floor {} of {first:?}", self.floor);
        assert!(first.is_some() || self.floor >= shown, "G2: floor {} of {shown}", self.floor);
        self.check_flights(&pending);
        self.check_places(index, &pending);
    }

    fn check_flights(&self, pending: &BTreeSet<u64>) {
        let flights = self.flights.sorted();
        let count = |phase| flights.iter().filter(|flight| flight.phase == phase).count() as u64;
        assert_eq!((count(Phase::Leased), count(Phase::Delayed)), (self.leased, self.delayed), "G4");
        let mut armed = std::collections::BTreeMap::<u64, u64>::new();
        for (deadline, sequence) in self.wheel.armed() {
            let first = armed.entry(sequence).or_insert(deadline);
            *first = deadline.min(*first);
        }
        for flight in flights {
            assert!(pending.contains(&flight.sequence), "G4: {flight:?} is settled");
            assert!(flight.delivery <= self.delivery_max, "G4: {flight:?} has a number not given out");
            if flight.phase != Phase::Ready {
                let first = armed.get(&flight.sequence);
                assert!(first.is_some_and(|&first| first <= flight.until), "G7: {flight:?} has no timer");
            }
        }
    }

    fn check_places(&self, index: &Index, pending: &BTreeSet<u64>) {
        let mut lanes = BTreeSet::new();
        let mut stale = 0;
        for (sequence, is_again) in self.lanes().iter() {
            if !pending.contains(&sequence) {
                stale += 1;
                continue;
            }
            assert!(lanes.insert(sequence), "G5: {sequence} is in lanes twice");
            let key = index.slot(sequence).and_then(|slot| index.key(sequence, slot));
            if let Some(key) = key.filter(|_| is_again) {
                assert!(self.keys.is_held_by(key, sequence), "G6: {sequence} is back without its key");
            }
        }
        assert_eq!(stale, self.lanes().stale, "G5: stale");
        let mut undue = 0;
        for &sequence in pending {
            let slot = index.slot(sequence).expect("G3: a pending message is kept");
            let key = index.key(sequence, slot);
            let phase = self.flights.get(sequence).map(|flight| flight.phase);
            let is_out = matches!(phase, Some(Phase::Leased | Phase::Delayed));
            let waits = key.is_some_and(|key| self.keys.is_waiting(key, sequence));
            undue += u64::from(slot.has(UNDUE));
            let in_lane = lanes.contains(&sequence);
            let is_left = slot.priority() == 0 && sequence >= self.cursor();
            let places = [is_out, slot.has(UNDUE), waits, in_lane].into_iter().filter(|&is| is).count();
            assert!(places == 1 || places == 0 && is_left, "G5: {sequence} is in {places} places, {phase:?} {slot:?}");
            if let Some(key) = key.filter(|_| is_out) {
                assert!(self.keys.is_held_by(key, sequence), "G6: {sequence} is out without its key");
            }
        }
        assert_eq!(undue, self.undue, "G4: undue");
    }
}
