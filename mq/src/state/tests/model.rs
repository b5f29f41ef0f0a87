//! The naive state: lists that are searched from end to end, sets instead of bits, nothing lazy but the cursor, whose
//! laziness can be seen from outside.

use std::collections::{BTreeMap, BTreeSet};

use super::super::times::Times;
use super::super::{Effect, Entry, Fate, GroupId, Limits, Receipt, ReceiptError, Sequence, TakeError};
use crate::dead_letter::DeadReason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Leased,
    Delayed,
    Ready,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) phase: Phase,
    pub(super) until: u64,
    pub(super) delivery: u32,
    pub(super) attempt: u32,
    pub(super) timeless: bool,
}

#[derive(Clone, Debug, Default)]
struct Level {
    again: Vec<u64>,
    fresh: Vec<u64>,
    passed: u32,
    fresh_turn: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) paused: bool,
    /// Everything that is not settled, shown or not.
    pub(super) pending: BTreeSet<u64>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) dead: BTreeMap<u64, (DeadReason, u32, u32)>,
    held: BTreeMap<u64, (u64, Vec<u64>)>,
    levels: Vec<Level>,
    cursor: u64,
    base: u32,
    max: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) limits: Limits,
    pub(super) kept: BTreeMap<u64, Entry>,
    /// Messages whose time has not come.
    pub(super) undue: BTreeSet<u64>,
    pub(super) groups: Vec<Option<Group>>,
    pub(super) generations: Vec<u16>,
    pub(super) next: u64,
    pub(super) shown: u64,
    pub(super) now: u64,
    pub(super) trim: u64,
    pub(super) times: Times,
    pub(super) ids: Vec<(u128, u64, u64)>,
}

impl Model {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            kept: BTreeMap::new(),
            undue: BTreeSet::new(),
            groups: Vec::new(),
            generations: Vec::new(),
            next: 0,
            shown: 0,
            now: 0,
            trim: 0,
            times: Times::default(),
            ids: Vec::new(),
        }
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.iter().flatten().find(|group| group.id == id)
    }

    pub(super) fn insert(&mut self, entry: &Entry) -> u64 {
        let sequence = self.next;
        self.kept.insert(sequence, *entry);
        if entry.due_ms != 0 {
            self.undue.insert(sequence);
        }
        self.times.note(sequence, entry.sent_ms);
        self.groups.iter_mut().flatten().for_each(|group| assert!(group.pending.insert(sequence)));
        self.next += 1;
        sequence
    }

    pub(super) fn show(&mut self, end: u64) {
        for sequence in self.shown..end.min(self.next) {
            let Some(entry) = self.kept.get(&sequence).copied() else { continue };
            if self.undue.contains(&sequence) && entry.due_ms <= self.now {
                self.undue.remove(&sequence);
            }
            if !self.undue.contains(&sequence) {
                for group in self.groups.iter_mut().flatten().filter(|group| group.pending.contains(&sequence)) {
                    group.ready_first(sequence, &entry);
                }
            }
        }
        self.shown = self.shown.max(end.min(self.next));
    }

    /// The messages that every group is done with, if there is a group.
    fn is_done(&self, sequence: u64) -> bool {
        let mut groups = self.groups.iter().flatten().peekable();
        groups.peek().is_some()
            && groups.all(|group| !group.pending.contains(&sequence) && !group.dead.contains_key(&sequence))
    }

    pub(super) fn retained(&self) -> (u64, u64) {
        let done = self.kept.iter().filter(|&(&sequence, _)| self.is_done(sequence));
        done.fold((0, 0), |(count, bytes), (_, entry)| (count + 1, bytes + u64::from(entry.size)))
    }

    /// Releases what nobody needs. `looked_at` is what a group may just have become done with.
    pub(super) fn sweep(&mut self) {
        let retention = self.limits.retention;
        let off = retention.age_ms == 0 || retention.bytes == 0 || retention.messages == 0;
        let done: Vec<u64> = self.kept.keys().copied().filter(|&sequence| self.is_done(sequence)).collect();
        for sequence in done {
            if off || sequence < self.trim {
                self.kept.remove(&sequence);
            }
        }
        while !off && (self.retained().0 > retention.messages || self.retained().1 > retention.bytes) {
            self.trim += 1;
            if self.is_done(self.trim - 1) {
                self.kept.remove(&(self.trim - 1));
            }
        }
    }

    pub(super) fn take(&mut self, id: GroupId, lease: u64, max: usize) -> Result<Vec<(u64, u32, u32)>, TakeError> {
        let until = self.now + lease;
        let (kept, undue, shown, limits) = (&self.kept, &self.undue, self.shown, &self.limits);
        let group = self.groups.iter_mut().flatten().find(|group| group.id == id).expect("the driver knows the groups");
        let mut taken = Vec::new();
        while taken.len() < max && !group.paused {
            if group.flights.values().filter(|flight| flight.phase == Phase::Leased).count() as u64 == limits.max_leased
            {
                return if taken.is_empty() { Err(TakeError::TooManyLeased) } else { Ok(taken) };
            }
            match group.next(kept, undue, shown, limits) {
                Ok(Some(sequence)) => taken.push(group.deliver(sequence, &kept[&sequence], until)),
                Err(()) if taken.is_empty() => return Err(TakeError::TooManyKeys),
                _ => break,
            }
        }
        Ok(taken)
    }

    fn take_back(&mut self, receipt: Receipt) -> Result<(&mut Group, Flight), ReceiptError> {
        let sequence = receipt.sequence.0;
        let group = self.groups.iter_mut().flatten().find(|group| group.id == receipt.group);
        let group = group.ok_or(ReceiptError::UnknownGroup(super::super::UnknownGroup))?;
        match group.flights.get(&sequence).copied() {
            Some(flight) if flight.phase == Phase::Leased && flight.delivery == receipt.delivery => Ok((group, flight)),
            _ => Err(ReceiptError::Stale),
        }
    }

    pub(super) fn ack(&mut self, receipt: Receipt) -> Result<(), ReceiptError> {
        self.take_back(receipt)?;
        self.settle(receipt.group, receipt.sequence.0);
        self.sweep();
        Ok(())
    }

    pub(super) fn give_back(&mut self, receipt: Receipt, delay: u64, counts: bool) -> Result<Fate, ReceiptError> {
        let (group, flight) = self.take_back(receipt)?;
        let attempt = flight.attempt - u32::from(!counts);
        let flight = Flight { attempt, ..flight };
        group.flights.insert(receipt.sequence.0, flight);
        let due = if delay == 0 { 0 } else { self.now + delay };
        Ok(self.come_back(receipt.group, receipt.sequence.0, due))
    }

    pub(super) fn extend(&mut self, receipt: Receipt, lease: u64) -> Result<(), ReceiptError> {
        let until = self.now + lease;
        let (group, flight) = self.take_back(receipt)?;
        group.flights.insert(receipt.sequence.0, Flight { until, ..flight });
        Ok(())
    }

    pub(super) fn dead_letter(&mut self, receipt: Receipt, reason: DeadReason) -> Result<(), ReceiptError> {
        self.take_back(receipt)?;
        self.die(receipt.group, receipt.sequence.0, reason);
        Ok(())
    }

    fn find(&mut self, id: GroupId) -> &mut Group {
        self.groups.iter_mut().flatten().find(|group| group.id == id).expect("the driver knows the groups")
    }

    fn settle(&mut self, id: GroupId, sequence: u64) {
        let kept = std::mem::take(&mut self.kept);
        self.find(id).settle(sequence, &kept);
        self.kept = kept;
    }

    fn die(&mut self, id: GroupId, sequence: u64, reason: DeadReason) {
        let group = self.find(id);
        let base = group.base;
        let flight = group.flights.get(&sequence).copied();
        let (attempt, delivery) = flight.map_or((0, base), |flight| (flight.attempt, flight.delivery));
        self.settle(id, sequence);
        let max = self.limits.max_dead_letters as usize;
        let group = self.find(id);
        group.dead.insert(sequence, (reason, attempt, delivery));
        if group.dead.len() > max {
            group.dead.pop_first();
        }
        self.sweep();
    }

    fn come_back(&mut self, id: GroupId, sequence: u64, due: u64) -> Fate {
        let (now, entry, max) = (self.now, self.kept[&sequence], self.limits.max_attempts);
        let flight = self.find(id).flights[&sequence];
        if flight.attempt >= max {
            self.die(id, sequence, DeadReason::Attempts);
            return Fate::Dead;
        }
        if entry.expires_ms != 0 && entry.expires_ms <= now && !flight.timeless {
            self.expire_in(id, sequence);
            return Fate::Expired;
        }
        let group = self.find(id);
        if due > now {
            group.flights.insert(sequence, Flight { phase: Phase::Delayed, until: due, ..flight });
            return Fate::Delayed;
        }
        group.ready_again(sequence, &entry);
        Fate::Again
    }

    fn expire_in(&mut self, id: GroupId, sequence: u64) {
        if self.limits.expired_are_dead {
            self.die(id, sequence, DeadReason::Expired);
        } else {
            self.settle(id, sequence);
            self.sweep();
        }
    }

    pub(super) fn tick(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let shown = self.kept.iter().filter(|&(&sequence, _)| sequence < self.shown);
        let mut timed = BTreeSet::new();
        for (&sequence, entry) in shown {
            if self.undue.contains(&sequence) && entry.due_ms <= self.now {
                timed.insert((entry.due_ms, sequence));
            }
            if entry.expires_ms != 0 && entry.expires_ms <= self.now {
                timed.insert((entry.expires_ms, sequence));
            }
        }
        for (time, sequence) in timed {
            self.message_due(sequence, time, &mut effects);
        }
        for slot in 0..self.groups.len() {
            let Some(group) = &self.groups[slot] else { continue };
            let id = group.id;
            let over = group.flights.iter().filter(|(_, flight)| flight.phase != Phase::Ready);
            let over = over.filter(|(_, flight)| flight.until <= self.now);
            let over: BTreeSet<_> = over.map(|(&sequence, flight)| (flight.until, sequence)).collect();
            for (_, sequence) in over {
                if self.find(id).flights[&sequence].phase == Phase::Delayed {
                    let entry = self.kept[&sequence];
                    self.find(id).ready_again(sequence, &entry);
                } else {
                    let fate = self.come_back(id, sequence, 0);
                    effects.push(Effect::LeaseEnded { group: id, sequence: Sequence(sequence), fate });
                }
            }
        }
        self.trim_old();
        effects
    }

    /// What is too old is not kept for replay.
    pub(super) fn trim_old(&mut self) {
        let age = self.limits.retention.age_ms;
        if age > 0 && self.retained().0 > 0 && self.now >= age {
            self.trim = self.trim.max(self.times.first_after(self.now - age, self.next));
            self.sweep();
        }
    }

    fn message_due(&mut self, sequence: u64, time: u64, effects: &mut Vec<Effect>) {
        let Some(entry) = self.kept.get(&sequence).copied() else { return };
        if entry.expires_ms != 0 && entry.expires_ms <= time {
            let ids: Vec<GroupId> = self.groups.iter().flatten().map(|group| group.id).collect();
            for id in ids {
                let group = self.find(id);
                let flight = group.flights.get(&sequence);
                let spared = flight.is_some_and(|flight| flight.phase == Phase::Leased || flight.timeless);
                if group.pending.contains(&sequence) && !spared {
                    self.expire_in(id, sequence);
                    effects.push(Effect::Expired { group: id, sequence: Sequence(sequence) });
                }
            }
        }
        if self.kept.contains_key(&sequence) && entry.due_ms <= time && self.undue.remove(&sequence) {
            for group in self.groups.iter_mut().flatten().filter(|group| group.pending.contains(&sequence)) {
                group.ready_first(sequence, &entry);
            }
        }
    }

    pub(super) fn requeue(&mut self, id: GroupId, sequence: u64) -> bool {
        let (entry, is_undue) = (self.kept.get(&sequence).copied(), self.undue.contains(&sequence));
        let group = self.find(id);
        let Some((_, _, delivery)) = group.dead.remove(&sequence) else { return false };
        let entry = entry.expect("a dead letter is kept");
        group.pending.insert(sequence);
        let flight = Flight { phase: Phase::Ready, until: 0, delivery, attempt: 0, timeless: true };
        group.flights.insert(sequence, flight);
        if !is_undue {
            group.ready_first(sequence, &entry);
        }
        true
    }

    pub(super) fn discard(&mut self, id: GroupId, sequence: u64) -> bool {
        let was_dead = self.find(id).dead.remove(&sequence).is_some();
        self.sweep();
        was_dead
    }

    pub(super) fn add_group(&mut self, floor: u64) -> GroupId {
        let slot = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        if slot == self.groups.len() {
            self.groups.push(None);
            self.generations.push(0);
        }
        let group = Group {
            id: GroupId::new(slot, self.generations[slot]),
            paused: false,
            pending: self.kept.range(floor..).map(|(&sequence, _)| sequence).collect(),
            flights: BTreeMap::new(),
            dead: BTreeMap::new(),
            held: BTreeMap::new(),
            levels: vec![Level::default(); 8],
            cursor: 0,
            base: 0,
            max: 0,
        };
        let id = group.id;
        self.groups[slot] = Some(group);
        self.rebuild(id);
        self.sweep();
        id
    }

    pub(super) fn remove_group(&mut self, id: GroupId) {
        self.groups[id.slot()] = None;
        self.generations[id.slot()] += 1;
        self.sweep();
    }

    pub(super) fn seek(&mut self, id: GroupId, to: u64) {
        let kept: BTreeSet<u64> = self.kept.range(to..).map(|(&sequence, _)| sequence).collect();
        let group = self.find(id);
        group.pending = kept.into_iter().filter(|sequence| !group.dead.contains_key(sequence)).collect();
        group.flights.clear();
        group.base = group.max;
        self.sweep();
        self.rebuild(id);
    }

    fn rebuild(&mut self, id: GroupId) {
        let (now, shown, kept, undue) = (self.now, self.shown, self.kept.clone(), self.undue.clone());
        self.find(id).rebuild(now, shown, &kept, &undue);
    }

    /// A restart: everything is confirmed, nothing is leased, the order starts anew.
    pub(super) fn restart(&mut self) {
        self.shown = self.next;
        let delivered = self.groups.iter().flatten().flat_map(|group| &group.flights);
        let due: Vec<u64> = delivered.filter(|(_, flight)| flight.attempt > 0).map(|(&sequence, _)| sequence).collect();
        let (kept, now) = (&self.kept, self.now);
        let is_later = |sequence: &u64| kept.get(sequence).is_some_and(|entry| entry.due_ms > now);
        self.undue.retain(|sequence| !due.contains(sequence) && is_later(sequence));
        let ids: Vec<GroupId> = self.groups.iter().flatten().map(|group| group.id).collect();
        ids.iter().for_each(|&id| self.rebuild(id));
        self.trim_old();
        for id in ids {
            let max = self.limits.max_attempts;
            let flights = self.find(id).flights.clone();
            for (sequence, _) in flights.into_iter().filter(|(_, flight)| flight.attempt >= max) {
                self.die(id, sequence, DeadReason::Attempts);
            }
        }
    }
}

impl Group {
    /// Ready, delayed, leased, waiting.
    pub(super) fn counts(&self, model: &Model) -> (u64, u64, u64, u64) {
        let shown: Vec<u64> = self.pending.range(..model.shown).copied().collect();
        let phase = |sequence: &u64| self.flights.get(sequence).map(|flight| flight.phase);
        let leased = shown.iter().filter(|sequence| phase(sequence) == Some(Phase::Leased)).count();
        let delayed = shown.iter().filter(|sequence| phase(sequence) == Some(Phase::Delayed)).count();
        let undue = shown.iter().filter(|sequence| model.undue.contains(sequence)).count();
        let waiting: usize = self.held.values().map(|(_, waiting)| waiting.len()).sum();
        let ready = shown.len() - leased - delayed - undue - waiting;
        (ready as u64, (delayed + undue) as u64, leased as u64, waiting as u64)
    }

    fn holds(&self, sequence: u64, entry: &Entry) -> bool {
        entry.key.is_some_and(|key| self.held.get(&key.0).is_some_and(|(holder, _)| *holder == sequence))
    }

    fn ready_first(&mut self, sequence: u64, entry: &Entry) {
        if entry.priority > 0 || sequence < self.cursor {
            self.levels[usize::from(entry.priority)].fresh.push(sequence);
        }
    }

    fn ready_again(&mut self, sequence: u64, entry: &Entry) {
        let flight = self.flights.get_mut(&sequence).expect("it was delivered");
        (flight.phase, flight.until) = (Phase::Ready, 0);
        if entry.priority > 0 || entry.key.is_some() || sequence < self.cursor {
            self.levels[usize::from(entry.priority)].again.push(sequence);
        }
    }

    fn settle(&mut self, sequence: u64, kept: &BTreeMap<u64, Entry>) {
        assert!(self.pending.remove(&sequence), "{sequence} is settled");
        self.flights.remove(&sequence);
        for level in &mut self.levels {
            level.again.retain(|&other| other != sequence);
            level.fresh.retain(|&other| other != sequence);
        }
        let Some(key) = kept[&sequence].key else { return };
        let Some((holder, waiting)) = self.held.get_mut(&key.0) else { return };
        waiting.retain(|&other| other != sequence);
        if *holder != sequence {
            return;
        }
        if waiting.is_empty() {
            self.held.remove(&key.0);
        } else {
            *holder = waiting.remove(0);
            let next = *holder;
            self.levels[usize::from(kept[&next].priority)].again.push(next);
        }
    }

    fn deliver(&mut self, sequence: u64, entry: &Entry, until: u64) -> (u64, u32, u32) {
        let base = self.base;
        let flight = self.flights.entry(sequence).or_insert(Flight {
            phase: Phase::Ready,
            until: 0,
            delivery: base,
            attempt: 0,
            timeless: false,
        });
        assert_eq!(flight.phase, Phase::Ready);
        (flight.phase, flight.until) = (Phase::Leased, until);
        (flight.delivery, flight.attempt) = (flight.delivery + 1, flight.attempt + 1);
        self.max = self.max.max(flight.delivery);
        let delivered = (sequence, flight.delivery, flight.attempt);
        if let Some(key) = entry.key {
            assert_eq!(self.held.entry(key.0).or_insert((sequence, Vec::new())).0, sequence, "one of a key at a time");
        }
        delivered
    }

    /// Whether the message is ready (`Some(true)`), must stay where it is (`Some(false)`), or is taken care of.
    fn look_at_key(&mut self, sequence: u64, entry: &Entry, limits: &Limits) -> Option<bool> {
        let Some(key) = entry.key else { return Some(true) };
        let waiting: usize = self.held.values().map(|(_, waiting)| waiting.len()).sum();
        let held = self.held.len();
        match self.held.get_mut(&key.0) {
            None => Some(held < limits.max_keys as usize),
            Some((holder, _)) if *holder == sequence => None,
            Some(_) if waiting as u64 >= limits.max_waiting => Some(false),
            Some((_, waiting)) => {
                waiting.push(sequence);
                None
            }
        }
    }

    /// The first message of a level that comes for the first time.
    fn fresh(
        &mut self,
        level: usize,
        kept: &BTreeMap<u64, Entry>,
        undue: &BTreeSet<u64>,
        shown: u64,
        limits: &Limits,
    ) -> Option<(u64, bool)> {
        while let Some(&sequence) = self.levels[level].fresh.first() {
            match self.look_at_key(sequence, &kept[&sequence], limits) {
                Some(is_ready) => return Some((sequence, is_ready)),
                None => self.levels[level].fresh.remove(0),
            };
        }
        while level == 0 && self.cursor < shown {
            let sequence = self.cursor;
            let is_delayed = self.flights.get(&sequence).is_some_and(|flight| flight.phase != Phase::Ready);
            let is_its = self.pending.contains(&sequence) && !undue.contains(&sequence) && !is_delayed;
            if is_its && kept[&sequence].priority == 0 {
                if let Some(is_ready) = self.look_at_key(sequence, &kept[&sequence], limits) {
                    return Some((sequence, is_ready));
                }
            }
            self.cursor += 1;
        }
        None
    }

    fn next(
        &mut self,
        kept: &BTreeMap<u64, Entry>,
        undue: &BTreeSet<u64>,
        shown: u64,
        limits: &Limits,
    ) -> Result<Option<u64>, ()> {
        let fronts: Vec<_> = (0..8).map(|level| self.fresh(level, kept, undue, shown, limits)).collect();
        let fresh = |level: usize| fronts[level].filter(|&(_, is_ready)| is_ready).map(|(sequence, _)| sequence);
        let ready: Vec<usize> =
            (0..8).filter(|&level| fresh(level).is_some() || !self.levels[level].again.is_empty()).collect();
        let Some(&highest) = ready.last() else {
            return if fronts.iter().flatten().next().is_some() { Err(()) } else { Ok(None) };
        };
        // The one that was passed over most, of those passed over too often; of equals the highest.
        let aged = ready.iter().filter(|&&level| level < highest && self.levels[level].passed >= limits.ageing);
        let aged = aged.filter(|_| limits.ageing > 0).max_by_key(|&&level| (self.levels[level].passed, level));
        let chosen = aged.copied().unwrap_or(highest);
        ready.iter().filter(|&&level| level < chosen).for_each(|&level| self.levels[level].passed += 1);
        let level = &mut self.levels[chosen];
        level.passed = 0;
        let again = match fresh(chosen) {
            None => true,
            Some(_) if level.again.is_empty() => false,
            Some(_) => {
                level.fresh_turn = !level.fresh_turn;
                level.fresh_turn
            }
        };
        Ok(Some(if again {
            level.again.remove(0)
        } else if level.fresh.is_empty() {
            self.cursor += 1;
            self.cursor - 1
        } else {
            level.fresh.remove(0)
        }))
    }

    fn rebuild(&mut self, now: u64, shown: u64, kept: &BTreeMap<u64, Entry>, undue: &BTreeSet<u64>) {
        self.levels = vec![Level::default(); 8];
        self.held.clear();
        self.cursor = self.pending.first().copied().unwrap_or(shown).min(shown);
        for (&sequence, flight) in &mut self.flights {
            if flight.phase == Phase::Delayed && flight.until > now {
                if let Some(key) = kept[&sequence].key {
                    self.held.insert(key.0, (sequence, Vec::new()));
                }
            } else {
                (flight.phase, flight.until) = (Phase::Ready, 0);
            }
        }
        for &sequence in self.pending.range(..shown) {
            let is_delayed = self.flights.get(&sequence).is_some_and(|flight| flight.phase == Phase::Delayed);
            let priority = usize::from(kept[&sequence].priority);
            if !is_delayed && !undue.contains(&sequence) && priority > 0 {
                self.levels[priority].fresh.push(sequence);
            }
        }
    }

    /// Whether the message holds its key, if it has one and is out.
    pub(super) fn check(&self, kept: &BTreeMap<u64, Entry>) {
        for (sequence, flight) in &self.flights {
            assert!(
                flight.phase == Phase::Ready || kept[sequence].key.is_none() || self.holds(*sequence, &kept[sequence])
            );
        }
    }
}
