//! Which message may be delivered to which group now: pure, no bytes, no disk, no clock.
//!
//! A [`State`] knows of every message where its record lies, and of every group what it is done with. Callers say what
//! happened and what time it is (milliseconds on one line that never goes back; a smaller `now` counts as the largest
//! seen); the state says what may be delivered, what ran out, when to ask again, and which segments of the log hold
//! messages that somebody still needs. The same calls give the same answers.
//!
//! # A message's way
//! ```text
//!  insert      show               take                ack
//! ───────► hidden ──────► ready ─────────► leased ─────────► settled ──► released, or kept for replay
//!                 └► undue ─┘ ▲  nack, release,  │ │ limit, dead_letter
//!                             ├── lease ended ◄──┘ └──► dead ──► requeued (ready), discarded (released)
//!                             └── delayed ◄── nack with a delay
//! ```
//! in each group by itself; released once every group is done with it and none has it among its dead letters.
//!
//! # What it costs
//! A waiting message takes 12 bytes and three bits, in blocks of 4096 ([`block`]). A group passes a cursor over them
//! and remembers by name only what it passed without settling it ([`group`]). An ack sets one bit. Priorities, keys,
//! delays and times to live cost those messages that have them 8 to 32 bytes more.
//!
//! # What survives a restart
//! Every change that must is an [`Event`] ([`State::drain_events`]), to be appended to the log under the lock under
//! which it was made, so that the log has the order of the state. A restart reads the log from its oldest segment on
//! and gives a [`Recovery`] all that it finds: messages, events, and checkpoints ([`State::export`]), each of which
//! stands for all events before it. A segment may be released if no message in it is live *and* a checkpoint taken
//! since it was filled, and since messages were moved out of it, is on disk. Leases do not survive: what was leased is
//! ready again; deliveries are counted all the same.

use thiserror::Error;

use crate::log::Address;

mod bits;
mod block;
mod checkpoint;
mod dead_letter;
mod dedup;
mod event;
mod flight;
mod group;
mod groups;
mod index;
#[cfg(any(test, feature = "testing"))]
mod invariants;
mod journal;
mod key;
mod limits;
mod ready;
mod recover;
mod release;
mod segments;
mod settle;
#[cfg(test)]
mod tests;
mod tick;
mod times;
mod view;
mod wheel;

pub(crate) use dead_letter::Dead;
#[cfg(feature = "nats")]
pub(crate) use dead_letter::kept_part;
pub(crate) use event::Event;
pub(crate) use groups::{AddGroupError, Start};
pub(crate) use limits::{Limits, Retention};
pub(crate) use recover::Recovery;
pub(crate) use segments::Live;
pub(crate) use settle::{DeadError, Fate, ReceiptError};
pub(crate) use tick::Effect;
pub(crate) use view::{Counts, Phase};

use block::{EXPIRES, UNDUE};
use dedup::Window;
use group::{Group, Outcome};
use index::Index;
use journal::Journal;
use release::Retained;
use times::Times;
use wheel::Wheel;

/// A message: its place in the order of sending, from 0 on. Numbers are dense and never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sequence(pub(crate) u64);

/// A group. Not used twice: a receipt of a group that was removed finds no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u32);

impl GroupId {
    const SLOT_BITS: u32 = 16;

    fn new(slot: usize, generation: u16) -> Self {
        Self(u32::from(generation) << Self::SLOT_BITS | slot as u32)
    }

    #[inline]
    fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    fn generation(self) -> u16 {
        (self.0 >> Self::SLOT_BITS) as u16
    }
}

/// The hash of a key. Two keys with the same hash are delivered as if they were one: in order, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash(pub(crate) u64);

/// A message as the state sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) address: Address,
    /// What it counts for in sums of bytes.
    pub(crate) size: u32,
    /// 0 to 7, higher first; of larger numbers the last three bits count.
    pub(crate) priority: u8,
    pub(crate) key: Option<KeyHash>,
    /// When it was sent.
    pub(crate) sent_ms: u64,
    /// Not to be delivered before; 0: at once.
    pub(crate) due_ms: u64,
    /// Not to be delivered from then on; 0: never expires.
    pub(crate) expires_ms: u64,
}

/// A delivery, as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Receipt {
    pub(crate) group: GroupId,
    pub(crate) sequence: Sequence,
    /// Which delivery of the message in the group: a fencing token, never used twice.
    pub(crate) delivery: u32,
}

/// A message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) sequence: Sequence,
    pub(crate) address: Address,
    pub(crate) size: u32,
    /// For the [`Receipt`].
    pub(crate) delivery: u32,
    /// How often it was delivered, this time included, and not given back uncounted; 1 is the first.
    pub(crate) attempt: u32,
}

/// There is no such group, or no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such group")]
pub(crate) struct UnknownGroup;

/// Why nothing was taken although there may be messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TakeError {
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// [`Limits::max_leased`] is reached: an ack makes room.
    #[error("too many messages are out")]
    TooManyLeased,
    /// [`Limits::max_keys`] or [`Limits::max_waiting`] is reached: an ack of a message with a key makes room.
    #[error("too many keys are in flight")]
    TooManyKeys,
}

/// All messages and groups of a queue.
///
/// # Invariants
/// - **T1** `shown <= next`; what is not shown is in no lane, counted nowhere but in the index, and not timed.
/// - **T2** A message that every group is done with (if there is a group) and none has among its dead letters is not
///   kept, or it is kept for replay: it is not below `trim`, and counted in `retained`.
/// - **T3** A shown message that is undue has a timer, and so has one that expires, until it has done so in every group
///   that could have it.
///
/// and those of its parts: see [`check_invariants`](State::check_invariants).
#[derive(Clone, Debug)]
pub(crate) struct State {
    limits: Limits,
    index: Index,
    /// By slot.
    groups: Vec<Option<Box<Group>>>,
    /// How often the group of each slot was removed.
    generations: Vec<u16>,
    shown: u64,
    /// Messages not shown that need a closer look when they are.
    hidden_specials: u64,
    /// A group may be done with some messages that are not shown: it was set to a position while there were such.
    hidden_holes: bool,
    /// When undue messages come due and when those that expire do.
    timers: Wheel,
    retained: Retained,
    times: Times,
    window: Window,
    journal: Journal,
    now: u64,
}

impl State {
    /// No messages and no groups.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            journal: Journal::new(limits.journal),
            limits,
            index: Index::default(),
            groups: Vec::new(),
            generations: Vec::new(),
            shown: 0,
            hidden_specials: 0,
            hidden_holes: false,
            timers: Wheel::default(),
            retained: Retained::default(),
            times: Times::default(),
            window: Window::default(),
            now: 0,
        }
    }

    /// The number that the next message gets.
    #[inline]
    pub(crate) fn next_sequence(&self) -> Sequence {
        Sequence(self.index.next())
    }

    /// Takes in a message; not to be delivered before it is shown.
    #[inline]
    pub(crate) fn insert(&mut self, entry: &Entry) -> Sequence {
        let sequence = self.index.insert(entry, self.groups.len());
        self.times.note(sequence, entry.sent_ms);
        let is_special = entry.priority != 0 || entry.due_ms != 0 || entry.expires_ms != 0;
        if is_special {
            self.hidden_specials += 1;
        }
        Sequence(sequence)
    }

    /// Takes in messages that are an offset and a size in this segment and nothing else; not to be delivered before they
    /// are shown.
    #[inline]
    pub(crate) fn insert_run(&mut self, segment: u32, spots: impl ExactSizeIterator<Item = (u32, u32)>, sent_ms: u64) {
        self.times.note_run(self.index.next(), spots.len() as u64, sent_ms);
        self.index.insert_run(segment, spots, self.groups.len());
    }

    /// Notes that all messages before `end` are confirmed: they may be delivered.
    #[inline]
    pub(crate) fn show(&mut self, end: Sequence, now: u64) {
        let now = self.advance(now);
        let (from, end) = (self.shown, end.0.min(self.index.next()));
        if end <= from {
            return;
        }
        for group in self.groups.iter_mut().flatten() {
            group.pending += if self.hidden_holes { group.count_pending(&self.index, from, end) } else { end - from };
        }
        self.shown = end;
        self.hidden_holes &= end < self.index.next();
        if self.hidden_specials > 0 {
            self.show_specials(from, end, now);
        }
    }

    fn show_specials(&mut self, from: u64, end: u64, now: u64) {
        let first = index::split(from).0;
        let mut specials = Vec::new();
        for (number, block) in self.index.blocks_from(first) {
            let start = number * bits::BLOCK as u64;
            if start >= end {
                break;
            }
            let mut at = block.special.next_set(from.saturating_sub(start) as usize);
            while at < bits::BLOCK && start + (at as u64) < end {
                if block.kept.get(at) {
                    specials.push(start + at as u64);
                }
                at = block.special.next_set(at + 1);
            }
        }
        for sequence in specials {
            self.show_special(sequence, now);
        }
        // A message has up to two timers.
        if self.timers.is_stale(2 * self.index.timed()) {
            self.arm_all();
        }
        if end == self.index.next() {
            self.hidden_specials = 0;
        }
    }

    fn show_special(&mut self, sequence: u64, now: u64) {
        self.make_due_by(sequence, now);
        self.arm(sequence);
        let Some(slot) = self.index.slot(sequence) else { return };
        for group in self.groups.iter_mut().flatten() {
            if group.is_settled(&self.index, sequence) {
                continue;
            }
            if slot.has(UNDUE) {
                group.undue += 1;
            } else {
                group.ready_first(sequence, slot);
            }
        }
    }

    /// Notes that the message is due, if it is and no group has looked at it.
    fn make_due_by(&mut self, sequence: u64, now: u64) {
        let is_undue = self.index.slot(sequence).is_some_and(|slot| slot.has(UNDUE));
        if is_undue && self.index.due(sequence) <= now {
            self.index.make_due(sequence);
        }
    }

    /// Arms the timers of a message.
    fn arm(&mut self, sequence: u64) {
        let Some(slot) = self.index.slot(sequence) else { return };
        if slot.has(UNDUE) {
            self.timers.arm(self.index.due(sequence), sequence);
        }
        if slot.has(EXPIRES) {
            self.timers.arm(self.index.expires(sequence), sequence);
        }
    }

    /// Arms anew the timers of all shown messages: also of those whose time has passed, because a group that is set
    /// back to them must not have what expired.
    fn arm_all(&mut self) {
        self.timers.clear();
        for sequence in self.shown_timed() {
            self.arm(sequence);
        }
    }

    /// The shown messages that are undue or expire.
    fn shown_timed(&self) -> Vec<u64> {
        let mut timed = Vec::new();
        for (number, block) in self.index.blocks_from(0) {
            let start = number * bits::BLOCK as u64;
            let specials = block.special.iter().filter(|&at| block.kept.get(at) && block.slot(at).is_timed());
            timed.extend(specials.map(|at| start + at as u64).filter(|&sequence| sequence < self.shown));
        }
        timed
    }

    /// Leases up to `max` messages of the group for `lease_ms`; how many. 0 if there are none, or the group is paused.
    ///
    /// # Errors
    /// If nothing was taken because of a limit.
    #[inline]
    pub(crate) fn take(
        &mut self,
        group: GroupId,
        now: u64,
        lease_ms: u64,
        max: usize,
        out: &mut Vec<Taken>,
    ) -> Result<usize, TakeError> {
        let until = self.advance(now).saturating_add(lease_ms);
        let group = find_mut(&mut self.groups, group)?;
        if group.paused || max == 0 {
            return Ok(0);
        }
        let before = out.len();
        let outcome = group.take(&self.index, self.shown, until, max, &self.limits, out);
        let taken = &out[before..];
        if self.journal.is_on() {
            for taken in taken {
                let attempt = taken.attempt.min(u32::from(u16::MAX)) as u16;
                self.journal.delivered(group.id, taken.sequence.0, taken.delivery, attempt);
            }
        }
        match outcome {
            Outcome::Leases if taken.is_empty() => Err(TakeError::TooManyLeased),
            Outcome::Keys if taken.is_empty() => Err(TakeError::TooManyKeys),
            _ => Ok(taken.len()),
        }
    }

    /// As [`State::take`] for one message, if that is the next in the order of sending and needs no closer look. `None` says
    /// nothing: ask [`State::take`].
    #[inline]
    pub(crate) fn take_plain(&mut self, group: GroupId, now: u64, lease_ms: u64) -> Option<Taken> {
        let until = self.advance(now).saturating_add(lease_ms);
        let group = find_mut(&mut self.groups, group).ok().filter(|group| !group.paused)?;
        let taken = group.take_plain(&self.index, self.shown, until, &self.limits)?;
        self.journal.delivered(group.id, taken.sequence.0, taken.delivery, 1);
        Some(taken)
    }

    /// The message that this deduplication id was sent with, if it is remembered. If not, it is remembered from now on
    /// as that of `sequence`, until `until_ms`.
    ///
    /// This is no event of the journal, because the message's record has the id: a restart has it from there, or from
    /// a checkpoint.
    pub(crate) fn remember(&mut self, id: u128, sequence: Sequence, until_ms: u64, now: u64) -> Option<Sequence> {
        let now = self.advance(now);
        self.window.remember(id, sequence.0, until_ms, now, self.limits.max_ids)
    }

    /// Forgets the id of a message that was not confirmed.
    pub(crate) fn forget(&mut self, id: u128, sequence: Sequence) {
        self.window.take_back(id, sequence.0);
    }

    /// Takes out what happened since the last call, in order, for the log.
    pub(crate) fn drain_events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.journal.drain()
    }

    /// Whether there are events to be drained.
    pub(crate) fn has_events(&self) -> bool {
        !self.journal.is_empty()
    }

    /// The time as the state sees it.
    #[inline]
    fn advance(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }
}

#[inline]
fn find(groups: &[Option<Box<Group>>], id: GroupId) -> Result<&Group, UnknownGroup> {
    groups.get(id.slot()).and_then(Option::as_deref).filter(|group| group.id == id).ok_or(UnknownGroup)
}

#[inline]
fn find_mut(groups: &mut [Option<Box<Group>>], id: GroupId) -> Result<&mut Group, UnknownGroup> {
    groups.get_mut(id.slot()).and_then(Option::as_deref_mut).filter(|group| group.id == id).ok_or(UnknownGroup)
}
