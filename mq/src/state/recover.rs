//! A restart: the state from what is in the log.
//!
//! Every record is believed only as far as it fits: an event about a message or a group that is not there changes
//! nothing. At the beginning of a log whose oldest segments were released, that is normal: the events there speak of
//! messages and groups whose records are gone, and the checkpoint that allowed the release comes later and says how
//! all of that ended.

use thiserror::Error;

use super::bits::BLOCK;
use super::block::UNDUE;
use super::dead_letter::bounded;
use super::flight::{Flight, Phase};
use super::index::{Index, split};
use super::journal::Journal;
use super::{Address, Dead, Entry, Event, GroupId, Limits, Sequence, State, UnknownGroup, find_mut};

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ApplyError {
    /// No such group. Before the first checkpoint, that is normal.
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// The group's place is taken, or is not the next one. Before the first checkpoint, that is normal.
    #[error("the group does not fit")]
    Misplaced,
}

/// A message that cannot be where it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("message number {0} is too far from the others")]
pub(crate) struct RestoreError(pub(crate) u64);

/// What an import found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Messages that the checkpoint says are kept and whose record was not seen. If the last checkpoint of a log has
    /// some, the log lost them; those of earlier ones may have been moved, and their first record released, since.
    pub(crate) missing: u64,
}

/// Numbers that may lie between messages. What is between costs 8 bytes per 4096.
const MAX_GAP: u64 = 1 << 36;

/// A state in the making.
///
/// Give it everything in the order of the log; then [`Recovery::finish`].
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    pub(super) state: State,
}

impl Recovery {
    /// Nothing yet.
    pub(crate) fn new(limits: Limits) -> Self {
        let mut state = State::new(limits);
        state.journal = Journal::new(false);
        state.index = Index::holding();
        Self { state }
    }

    /// As [`restore`](Self::restore), of a message that is a body and nothing else.
    ///
    /// # Errors
    /// As of `restore`.
    #[inline]
    pub(crate) fn restore_plain(
        &mut self,
        sequence: Sequence,
        address: Address,
        size: u32,
        sent_ms: u64,
    ) -> Result<(), RestoreError> {
        let entry = Entry { address, size, priority: 0, key: None, sent_ms, due_ms: 0, expires_ms: 0 };
        let State { index, groups, times, .. } = &mut self.state;
        let is_next = sequence.0 == index.next() && index.is_going_on();
        if !is_next || groups.iter().flatten().any(|group| sequence.0 < group.floor) {
            return self.restore(sequence, &entry);
        }
        index.insert(&entry, groups.len());
        times.note(sequence.0, sent_ms);
        Ok(())
    }

    /// A message's record: the first, or another one, because it was moved.
    ///
    /// # Errors
    /// If its number is so far from the others that it must be wrong.
    pub(crate) fn restore(&mut self, sequence: Sequence, entry: &Entry) -> Result<(), RestoreError> {
        if sequence.0 != self.state.index.next() {
            self.check_gap(sequence.0)?;
        }
        let State { index, groups, times, .. } = &mut self.state;
        index.restore(sequence.0, entry, groups.len());
        times.note(sequence.0, entry.sent_ms);
        let (number, at) = split(sequence.0);
        for group in groups.iter().flatten().filter(|group| sequence.0 < group.floor) {
            if let Some(block) = index.block_mut(number) {
                block.settled[group.slot()].set(at);
            }
        }
        Ok(())
    }

    pub(super) fn check_gap(&self, sequence: u64) -> Result<(), RestoreError> {
        let index = &self.state.index;
        let is_near = index.kept() == 0 && sequence < 1 << 63
            || sequence < index.next().saturating_add(MAX_GAP) && sequence.saturating_add(MAX_GAP) > index.first();
        if is_near { Ok(()) } else { Err(RestoreError(sequence)) }
    }

    /// A change.
    ///
    /// # Errors
    /// If it does not fit. The recovery can go on.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), ApplyError> {
        match event {
            Event::GroupAdded { group, name, floor } => self.add(*group, name, *floor)?,
            Event::GroupRemoved { group } => self.state.uninstall(*group)?,
            Event::Sought { group, to, delivery_base } => self.state.set_position(*group, *to, *delivery_base)?,
            Event::Settled { group, first, count } => self.settle(*group, *first, *count)?,
            Event::Delivered { group, first, count, delivery, attempt } => {
                self.delivered(*group, *first, *count, Flight::ready(0, *delivery, *attempt))?;
            }
            Event::GivenBack { group, sequence, delivery, attempt, due_ms } => {
                let flight = Flight::ready(*sequence, *delivery, *attempt);
                let phase = if *due_ms > 0 { Phase::Delayed } else { Phase::Ready };
                self.delivered(*group, *sequence, 1, Flight { phase, until: *due_ms, ..flight })?;
            }
            Event::Died { group, sequence, delivery, attempt, at_ms, reason } => {
                let (attempts, at_ms, delivery) = (u32::from(*attempt), *at_ms, *delivery);
                self.bury(*group, *sequence, Dead { reason: bounded(reason.clone()), attempts, at_ms, delivery })?;
            }
            Event::Requeued { group, sequence } => self.requeue(*group, *sequence)?,
            Event::Discarded { group, sequence } => {
                if find_mut(&mut self.state.groups, *group)?.dead.remove(*sequence).is_some() {
                    self.state.let_go(*sequence);
                }
            }
            Event::Paused { group, paused } => find_mut(&mut self.state.groups, *group)?.paused = *paused,
            Event::Remembered { id, sequence, until_ms } => {
                let max = self.state.limits.max_ids;
                self.state.window.put(*id, *sequence, *until_ms, max);
            }
            Event::Trimmed { below } => self.state.trim_to(*below),
        }
        Ok(())
    }

    fn add(&mut self, group: GroupId, name: &str, floor: u64) -> Result<(), ApplyError> {
        let slot = group.slot();
        let is_free = self.state.groups.get(slot).is_none_or(Option::is_none);
        if slot > self.state.groups.len() || !is_free || self.state.group(name).is_some() {
            return Err(ApplyError::Misplaced);
        }
        self.state.install(group, name.to_owned(), floor);
        self.state.sweep();
        Ok(())
    }

    fn settle(&mut self, group: GroupId, first: u64, count: u64) -> Result<(), UnknownGroup> {
        let found = find_mut(&mut self.state.groups, group)?;
        let settled: Vec<u64> = kept_in(&self.state.index, first, count).collect();
        for &sequence in &settled {
            found.flights.remove(sequence);
            mark(found.slot(), &mut self.state.index, sequence);
        }
        for sequence in settled {
            self.state.let_go(sequence);
        }
        Ok(())
    }

    fn delivered(&mut self, group: GroupId, first: u64, count: u64, like: Flight) -> Result<(), UnknownGroup> {
        let State { index, groups, .. } = &mut self.state;
        let group = find_mut(groups, group)?;
        for sequence in kept_in(index, first, count) {
            if group.is_settled(index, sequence) {
                continue;
            }
            let timeless = group.flights.remove(sequence).is_some_and(|flight| flight.timeless);
            group.flights.insert(Flight { sequence, timeless, ..like });
            group.delivery_max = group.delivery_max.max(like.delivery);
        }
        Ok(())
    }

    fn bury(&mut self, group: GroupId, sequence: u64, dead: Dead) -> Result<(), UnknownGroup> {
        let State { index, groups, .. } = &mut self.state;
        let group = find_mut(groups, group)?;
        if index.slot(sequence).is_some() {
            group.flights.remove(sequence);
            group.delivery_max = group.delivery_max.max(dead.delivery);
            group.dead.insert(sequence, dead);
            mark(group.slot(), index, sequence);
        }
        Ok(())
    }

    fn requeue(&mut self, group: GroupId, sequence: u64) -> Result<(), UnknownGroup> {
        let State { index, groups, .. } = &mut self.state;
        let group = find_mut(groups, group)?;
        let Some(dead) = group.dead.remove(sequence) else { return Ok(()) };
        let (number, at) = split(sequence);
        if let Some(block) = index.block_mut(number) {
            block.settled[group.slot()].clear(at);
            group.floor = group.floor.min(sequence);
            group.flights.remove(sequence);
            group.flights.insert(Flight { timeless: true, ..Flight::ready(sequence, dead.delivery, 0) });
        }
        Ok(())
    }

    /// The state that the log led to. All messages are confirmed, nothing is leased.
    pub(crate) fn finish(mut self, now: u64) -> State {
        let state = &mut self.state;
        state.now = now;
        state.shown = state.index.next();
        let columns = state.groups.len();
        for (_, block) in state.index.blocks_mut() {
            block.widen(columns);
            for group in state.groups.iter().flatten() {
                block.settle_missing_too(group.slot());
            }
        }
        state.index.stop_holding();
        state.sweep();
        self.forget_delays_of_delivered();
        let mut state = self.state;
        for sequence in state.shown_timed() {
            state.make_due_by(sequence, now);
        }
        state.arm_all();
        for slot in 0..state.groups.len() {
            state.rebuild(slot);
        }
        // What the log said is in the log. What is found only now is new to it, and a group that is added later at the
        // oldest message must not find more after the next restart.
        state.journal = Journal::new(state.limits.journal);
        state.trim_old(now);
        state.bury_exhausted();
        state
    }

    /// What was delivered once had come due, whatever the clock says now.
    fn forget_delays_of_delivered(&mut self) {
        let State { index, groups, .. } = &mut self.state;
        for flight in groups.iter().flatten().flat_map(|group| group.flights.sorted()) {
            let is_undue = index.slot(flight.sequence).is_some_and(|slot| slot.has(UNDUE));
            if is_undue && flight.attempt > 0 {
                index.make_due(flight.sequence);
            }
        }
    }
}

/// The kept messages of a range.
fn kept_in(index: &Index, first: u64, count: u64) -> impl Iterator<Item = u64> + '_ {
    let end = first.saturating_add(count);
    index.blocks_from(split(first).0).take_while(move |(number, _)| number * (BLOCK as u64) < end).flat_map(
        move |(number, block)| {
            let start = number * BLOCK as u64;
            let from = block.kept.next_set(first.saturating_sub(start) as usize);
            let all = std::iter::successors(Some(from), |&at| Some(block.kept.next_set(at + 1)));
            all.take_while(|&at| at < BLOCK).map(move |at| start + at as u64).take_while(move |&at| at < end)
        },
    )
}

/// Settles a message for the group in this slot.
fn mark(slot: usize, index: &mut Index, sequence: u64) {
    let (number, at) = split(sequence);
    if let Some(block) = index.block_mut(number) {
        block.settled[slot].set(at);
    }
}
