//! What a queue's one short lock guards: the state, who waits, and what is not written yet.
//!
//! Everything here is memory and takes nanoseconds; whoever holds the lock appends to the log, which is memory, too, but
//! never writes, reads or waits. What is to be done without the lock (waking others, dropping bodies) is handed out.
//!
//! # Invariants
//! - **I1** The log has messages and events in the order in which the state took them.
//! - **I2** A message is shown to consumers once the log has confirmed it, not before.
//! - **I3** Whoever stands in a line is there because the state had nothing for it under this lock; whatever gives it
//!   something calls it before the lock is released.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Refusal;
use crate::bodies::Bodies;
use crate::events::EventBuffer;
use crate::log::Lsn;
use crate::state::{Effect, GroupId, Sequence, State, Taken};
use crate::wait::{Calls, Line, Waiter};

/// Whether a queue takes and hands out messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Hands out what is left.
    Draining,
    Closed,
}

/// A group's consumers that wait, and what it did since the queue was opened.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: GroupId,
    pub(crate) line: Line,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) acked: u64,
    pub(crate) ended_leases: u64,
}

impl Seat {
    pub(crate) fn new(id: GroupId) -> Self {
        Self { id, line: Line::default(), delivered: 0, redelivered: 0, acked: 0, ended_leases: 0 }
    }
}

/// The one thread that sleeps until something is due; the others need no timeout.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) waiter: Arc<Waiter>,
    /// `None`: until it is called.
    pub(crate) until: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) state: State,
    pub(crate) phase: Phase,
    /// Without a log, the messages.
    pub(crate) bodies: Option<Bodies>,
    /// What is out of the state and not in the log.
    pub(crate) events: EventBuffer,
    /// Up to where in the log which messages lie that are not confirmed yet.
    pub(crate) unconfirmed: VecDeque<(Lsn, Sequence)>,
    pub(crate) seats: Vec<Seat>,
    /// Those who waited in a group that was removed.
    pub(crate) orphans: Line,
    /// Senders that wait for room.
    pub(crate) room: Line,
    /// Not after the first of their times that is over: tasks cannot look at the clock themselves.
    pub(crate) room_until: Option<u64>,
    /// Those that wait for the queue to be empty.
    pub(crate) drainers: Line,
    pub(crate) keeper: Option<Keeper>,
    /// Set by whoever joins a line; while it is not, there is nobody to call but the keeper.
    pub(crate) is_watched: bool,
    pub(crate) max_messages: u64,
    pub(crate) max_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    /// Settled since somebody looked whether something can be let go.
    pub(crate) settled_since: u32,
    /// Used again for each take.
    pub(crate) taken: Vec<Taken>,
    /// Used again for each append: the head of a record, and where the records are.
    pub(crate) scratch: (Vec<u8>, Vec<(u32, u32)>),
    /// The latest time at which the state was asked what is due.
    ticked: u64,
    /// Something was due, and nobody has been called for it.
    is_due_uncalled: bool,
    effects: Vec<Effect>,
}

impl Core {
    pub(crate) fn new(state: State, bodies: Option<Bodies>, max_messages: u64, max_bytes: u64) -> Self {
        let seats = state.groups().map(|(id, _)| Seat::new(id)).collect();
        Self {
            state,
            phase: Phase::Open,
            bodies,
            events: EventBuffer::default(),
            unconfirmed: VecDeque::new(),
            seats,
            orphans: Line::default(),
            room: Line::default(),
            room_until: None,
            drainers: Line::default(),
            keeper: None,
            is_watched: false,
            max_messages,
            max_bytes,
            sent: 0,
            duplicates: 0,
            refused: 0,
            settled_since: 0,
            taken: Vec::new(),
            scratch: Default::default(),
            ticked: 0,
            is_due_uncalled: false,
            effects: Vec::new(),
        }
    }

    pub(crate) fn seat(&mut self, id: GroupId) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.id == id)
    }

    /// Whether so many more messages of so many bytes have no room.
    #[inline]
    pub(crate) fn is_full(&self, count: u64, bytes: u64) -> bool {
        let (kept, kept_bytes) = self.state.retained();
        self.state.len() - kept + count > self.max_messages || self.state.bytes() - kept_bytes + bytes > self.max_bytes
    }

    /// Why so many messages of so many bytes have no room even in an empty queue, if that is so.
    pub(crate) fn never(&self, count: usize, bytes: u64) -> Option<Refusal> {
        let saturated = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        if bytes > self.max_bytes {
            return Some(Refusal::TooLarge { size: saturated(bytes), max: saturated(self.max_bytes) });
        }
        (count as u64 > self.max_messages).then_some(Refusal::TooMany { count, max: self.max_messages })
    }

    /// For how many more messages, and bytes, there is room.
    fn room_left(&self) -> (u64, u64) {
        let (kept, kept_bytes) = self.state.retained();
        let (len, bytes) = (self.state.len() - kept, self.state.bytes() - kept_bytes);
        (self.max_messages.saturating_sub(len), self.max_bytes.saturating_sub(bytes))
    }

    /// Shows what the log has confirmed.
    #[inline]
    pub(crate) fn confirmed(&mut self, upto: Lsn, now: u64) {
        let mut end = None;
        while let Some(&(_, sequence)) = self.unconfirmed.front().filter(|(lsn, _)| *lsn <= upto) {
            end = Some(sequence);
            self.unconfirmed.pop_front();
        }
        if let Some(end) = end {
            self.state.show(end, now);
        }
    }

    /// Lets happen what is due by now.
    #[inline]
    pub(crate) fn tick(&mut self, now: u64) {
        if now > self.ticked {
            self.ticked = now;
            if self.state.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.run_due(now);
            }
        }
    }

    /// When there is something to do, if nothing happens before.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.state.next_deadline().into_iter().chain(self.room_until).min()
    }

    /// Calls the tasks that have waited for room as long as they may.
    pub(crate) fn call_overdue(&mut self, calls: &mut Calls) {
        if self.room_until.is_some_and(|until| until <= self.ticked) {
            self.room_until = self.room.call_overdue(self.ticked, calls);
        }
    }

    fn run_due(&mut self, now: u64) {
        self.is_due_uncalled = true;
        let mut effects = std::mem::take(&mut self.effects);
        self.state.tick(now, &mut effects);
        for effect in effects.drain(..) {
            if let Effect::LeaseEnded { group, .. } = effect {
                if let Some(seat) = self.seat(group) {
                    seat.ended_leases += 1;
                }
            }
        }
        self.effects = effects;
    }

    /// Moves what happened from the state to `events`.
    #[inline]
    pub(crate) fn gather_events(&mut self) {
        self.events.gather(&mut self.state);
    }

    /// Whether something happened that is not in the log.
    pub(crate) fn has_events(&self) -> bool {
        self.state.has_events() || !self.events.is_empty()
    }

    /// Calls whoever has something to do after a change: consumers for which there is a message, a sender for which
    /// there is room, the keeper if something is due before it wakes up, those that wait for the end.
    #[inline]
    pub(crate) fn call(&mut self, calls: &mut Calls) {
        if self.is_watched || self.phase != Phase::Open {
            self.call_some(calls);
        } else {
            self.call_keeper(calls);
        }
    }

    /// The same if something came due: that may be another group's, and whoever looked at the clock has nothing of it.
    #[inline]
    pub(crate) fn call_due(&mut self, calls: &mut Calls) {
        if self.is_due_uncalled {
            self.call(calls);
        }
    }

    fn call_some(&mut self, calls: &mut Calls) {
        self.is_due_uncalled = false;
        self.is_watched = self.is_anybody_there();
        let state = &self.state;
        for seat in self.seats.iter_mut().filter(|seat| !seat.line.is_empty()) {
            let ready = usize::try_from(state.ready(seat.id)).unwrap_or(usize::MAX);
            seat.line.call(ready, calls);
        }
        // The first sender for whom there is room; it calls the next if there still is.
        if !self.room.is_empty() {
            let (messages, bytes) = self.room_left();
            self.room.call_first(|wish| wish.messages <= messages && wish.bytes <= bytes, calls);
        }
        self.call_overdue(calls);
        self.call_keeper(calls);
        self.orphans.call(usize::MAX, calls);
        if self.phase == Phase::Draining && self.is_drained() {
            self.call_all(calls);
        }
    }

    /// Wakes one who waits for a message; it looks again, finds that some are not confirmed, and confirms them.
    pub(crate) fn call_writer(&self, calls: &mut Calls) {
        if self.unconfirmed.is_empty() {
            return;
        }
        if let Some(waiter) = self.seats.iter().find_map(|seat| seat.line.first()) {
            calls.nudge(waiter);
        }
    }

    /// Wakes the keeper if something is due before it would wake up by itself.
    #[inline]
    pub(crate) fn call_keeper(&self, calls: &mut Calls) {
        if let (Some(keeper), Some(deadline)) = (&self.keeper, self.next_deadline()) {
            if keeper.until.is_none_or(|until| deadline < until) {
                calls.nudge(&keeper.waiter);
            }
        }
    }

    fn is_anybody_there(&self) -> bool {
        !self.room.is_empty() || !self.orphans.is_empty() || self.seats.iter().any(|seat| !seat.line.is_empty())
    }

    /// Calls everybody: nothing will be as it was.
    pub(crate) fn call_all(&mut self, calls: &mut Calls) {
        let lines = self.seats.iter_mut().map(|seat| &mut seat.line);
        for line in lines.chain([&mut self.room, &mut self.drainers, &mut self.orphans]) {
            line.call(usize::MAX, calls);
        }
        if let Some(keeper) = &self.keeper {
            calls.nudge(&keeper.waiter);
        }
    }

    /// Whether every group is done with everything, but for dead letters.
    pub(crate) fn is_drained(&self) -> bool {
        self.unconfirmed.is_empty()
            && self.seats.iter().all(|seat| {
                let counts = self.state.counts(seat.id).unwrap_or_default();
                counts.ready + counts.delayed + counts.leased + counts.waiting == 0
            })
    }

    /// Lets go of messages of a queue without a log that nobody needs, now and then.
    #[inline]
    pub(crate) fn release_bodies(&mut self, settled: u32) {
        let before = self.settled_since;
        self.settled_since += settled;
        if self.settled_since / RELEASE_EVERY != before / RELEASE_EVERY {
            self.release_front();
            if self.settled_since >= RELEASE_EVERY * 64 {
                self.settled_since = 0;
                self.release_all();
            }
        }
    }

    fn release_front(&mut self) {
        let Some(bodies) = &mut self.bodies else { return };
        while let Some(chunk) = bodies.oldest().filter(|chunk| self.state.live(*chunk).messages == 0) {
            bodies.release(chunk);
        }
    }

    /// The same for every chunk, and moves the last few messages out of the oldest ones.
    pub(crate) fn release_all(&mut self) {
        let Self { state, bodies, .. } = self;
        let Some(bodies) = bodies else { return };
        let chunks: Vec<u32> = bodies.closed().collect();
        let mut moved = 0;
        for chunk in chunks {
            let live = state.live(chunk).messages;
            if live > 0 && live <= NEARLY_DEAD && moved < MAX_MOVED {
                moved += 1;
                for (sequence, from) in state.survivors(chunk, Sequence(0), NEARLY_DEAD as usize) {
                    let Some(message) = bodies.get(from).cloned() else { continue };
                    state.relocate(sequence, from, bodies.next());
                    bodies.push(message);
                }
            }
            if state.live(chunk).messages == 0 {
                bodies.release(chunk);
            }
        }
    }
}

/// Messages settled before a look at what can be let go.
const RELEASE_EVERY: u32 = 256;
/// A chunk with so few messages is emptied by moving them, and so many chunks at a time, for finding them takes a walk.
const NEARLY_DEAD: u64 = 100;
const MAX_MOVED: usize = 4;
