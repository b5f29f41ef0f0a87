//! One group: what it is done with, what it may have next.
//!
//! A group takes messages in order, so most of what it has to remember is a number: the *cursor*, before which it
//! has looked at every message. Whatever it passed without settling it is known by name: it is with a consumer or
//! delayed (a [`Flight`]), waits for its key ([`Keys`]) or can be delivered at once ([`Lanes`]). What is settled is a
//! bit a message in the block, and the *floor*, below which all are.
//!
//! ```text
//!            floor              cursor            shown         next
//!   settled ───┼── settled and ───┼── nobody has ───┼── not yet ───┤
//!              │   known by name  │   looked        │   confirmed
//! ```

use super::bits::{BLOCK, Bits};
use super::block::{Block, KEYED, Slot, UNDUE};
use super::dead_letter::DeadLetters;
use super::flight::{Flight, Flights, Phase};
use super::index::{Index, split};
use super::key::{Keys, Left, Turn};
use super::limits::Limits;
use super::ready::{Lanes, Source};
use super::wheel::Wheel;
use super::{GroupId, Sequence, Taken};

/// What is first in a lane or at the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Ready(u64, Slot),
    Empty,
    /// There is one, but no more keys may be held, or no more messages wait for one.
    Blocked,
}

/// How a delivery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As many as asked for, or as many as there were.
    Done,
    /// The limit of deliveries or of keys was in the way.
    Leases,
    Keys,
}

/// # Invariants
/// - **G1** `pending` counts the messages below `shown` that are not settled.
/// - **G2** All messages below `floor` are settled, the one at `floor` is not or is not there.
/// - **G3** A message that is not kept is settled.
/// - **G4** `leased` and `delayed` count the flights in these phases, `undue` the pending messages whose time has not
///   come; no flight is of a settled message.
/// - **G5** A pending message is exactly one of: leased, delayed, undue, waiting for a key, in a lane, or left to the
///   cursor (level 0, not below the cursor).
/// - **G6** A message in the lane `again` holds its key if it has one, and so does a leased or delayed one.
/// - **G7** A leased or delayed message has a timer that is not after its deadline.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) name: String,
    pub(super) floor: u64,
    cursor: u64,
    /// Below it, the cursor may meet messages that were delivered before.
    replayed: u64,
    pub(super) pending: u64,
    pub(super) leased: u64,
    pub(super) delayed: u64,
    pub(super) undue: u64,
    pub(super) flights: Flights,
    pub(super) wheel: Wheel,
    lanes: Lanes,
    pub(super) keys: Keys,
    pub(super) dead: DeadLetters,
    pub(super) paused: bool,
    /// A message that has no flight was delivered at most this often.
    pub(super) delivery_base: u32,
    pub(super) delivery_max: u32,
}

impl Group {
    pub(super) fn new(id: GroupId, name: String, floor: u64) -> Self {
        Self {
            id,
            name,
            floor,
            cursor: floor,
            replayed: 0,
            pending: 0,
            leased: 0,
            delayed: 0,
            undue: 0,
            flights: Flights::default(),
            wheel: Wheel::default(),
            lanes: Lanes::default(),
            keys: Keys::default(),
            dead: DeadLetters::default(),
            paused: false,
            delivery_base: 0,
            delivery_max: 0,
        }
    }

    #[inline]
    pub(super) fn slot(&self) -> usize {
        self.id.slot()
    }

    /// Whether the group is done with the message.
    #[inline]
    pub(super) fn is_settled(&self, index: &Index, sequence: u64) -> bool {
        let (number, at) = split(sequence);
        sequence < self.floor || index.block(number).is_none_or(|block| block.settled[self.slot()].get(at))
    }

    /// Which messages of a block that begins with this one the group is done with.
    pub(super) fn settled_in(&self, block: &Block, start: u64) -> Bits {
        let mut settled = block.settled[self.slot()].clone();
        settled.set_below(self.floor.saturating_sub(start).min(BLOCK as u64) as usize);
        settled
    }

    /// Messages that could be delivered now, as far as known: those of a held key that the cursor has not reached
    /// count, too.
    #[inline]
    pub(super) fn ready(&self) -> u64 {
        self.pending - self.leased - self.delayed - self.undue - self.keys.waiting()
    }

    /// Delivers up to `max` messages, to be back by `until`.
    pub(super) fn take(
        &mut self,
        index: &Index,
        shown: u64,
        until: u64,
        max: usize,
        limits: &Limits,
        out: &mut Vec<Taken>,
    ) -> Outcome {
        let room = limits.max_leased.saturating_sub(self.leased);
        let end = out.len() + max.min(usize::try_from(room).unwrap_or(usize::MAX));
        while out.len() < end {
            if self.lanes.are_empty() {
                self.take_run(index, shown, until, end, out);
                if out.len() == end {
                    break;
                }
            }
            let (sequence, slot) = match self.next(index, shown, limits) {
                Front::Ready(sequence, slot) => (sequence, slot),
                Front::Empty => return Outcome::Done,
                Front::Blocked => return Outcome::Keys,
            };
            if let Some(key) = index.key(sequence, slot) {
                self.keys.hold(key, sequence);
            }
            let flight = self.deliver(sequence, until);
            out.push(Self::taken(index, slot, &flight));
        }
        if room < max as u64 { Outcome::Leases } else { Outcome::Done }
    }

    /// Delivers what lies at the cursor as long as it is plain and nothing else could come first.
    fn take_run(&mut self, index: &Index, shown: u64, until: u64, end: usize, out: &mut Vec<Taken>) {
        while out.len() < end && self.cursor < shown && self.cursor >= self.replayed {
            let (number, from) = split(self.cursor);
            let Some(block) = index.block(number) else { return };
            let settled = &block.settled[self.slot()];
            let start = number * BLOCK as u64;
            let stop = (shown - start).min(BLOCK as u64) as usize;
            let stop = stop.min(from + (end - out.len())).min(settled.next_set(from)).min(block.special.next_set(from));
            if stop <= from {
                return;
            }
            let first = self.lease_run(self.cursor, stop - from, until);
            out.extend(
                (from..stop)
                    .zip(first.sequence..)
                    .map(|(at, sequence)| Self::taken(index, block.slot(at), &Flight { sequence, ..first })),
            );
            self.cursor = start + stop as u64;
        }
        self.rearm_if_stale();
    }

    /// Leases messages that were never delivered; the flight of the first.
    #[inline]
    fn lease_run(&mut self, first: u64, count: usize, until: u64) -> Flight {
        let delivery = self.delivery_base.saturating_add(1);
        let flight = Flight { until, phase: Phase::Leased, ..Flight::ready(first, delivery, 1) };
        self.flights.insert_run(flight, count);
        self.wheel.arm_run(until, first, count as u32);
        self.delivery_max = self.delivery_max.max(delivery);
        self.leased += count as u64;
        self.lanes.note_served();
        flight
    }

    /// Delivers the message at the cursor if it is plain and nothing else could come first.
    #[inline]
    pub(super) fn take_plain(&mut self, index: &Index, shown: u64, until: u64, limits: &Limits) -> Option<Taken> {
        let (number, at) = split(self.cursor);
        if !self.lanes.are_empty()
            || self.cursor >= shown
            || self.cursor < self.replayed
            || self.leased >= limits.max_leased
        {
            return None;
        }
        let block = index.block(number)?;
        if block.settled[self.slot()].get(at) || block.special.get(at) {
            return None;
        }
        let flight = self.lease_run(self.cursor, 1, until);
        self.cursor += 1;
        self.rearm_if_stale();
        Some(Self::taken(index, block.slot(at), &flight))
    }

    #[inline]
    fn taken(index: &Index, slot: Slot, flight: &Flight) -> Taken {
        Taken {
            sequence: Sequence(flight.sequence),
            address: index.address(slot),
            size: slot.size,
            delivery: flight.delivery,
            attempt: u32::from(flight.attempt),
        }
    }

    fn deliver(&mut self, sequence: u64, until: u64) -> Flight {
        let flight = match self.flights.get_mut(sequence) {
            Some(flight) => {
                debug_assert_eq!(flight.phase, Phase::Ready, "G5: {sequence} is elsewhere");
                flight.delivery = flight.delivery.saturating_add(1);
                flight.attempt = flight.attempt.saturating_add(1);
                (flight.phase, flight.until) = (Phase::Leased, until);
                *flight
            }
            None => {
                let delivery = self.delivery_base.saturating_add(1);
                let flight = Flight { until, phase: Phase::Leased, ..Flight::ready(sequence, delivery, 1) };
                self.flights.insert(flight);
                flight
            }
        };
        self.delivery_max = self.delivery_max.max(flight.delivery);
        self.leased += 1;
        self.wheel.arm(until, sequence);
        self.rearm_if_stale();
        flight
    }

    /// Takes the message whose turn it is out of its lane or past the cursor.
    fn next(&mut self, index: &Index, shown: u64, limits: &Limits) -> Front {
        let (mut again, mut fresh, mut blocked) = (0_u8, 0_u8, false);
        // Level 0 is also where the cursor is.
        let mut levels = self.lanes.used() | 1;
        while levels != 0 {
            let level = levels.trailing_zeros() as usize;
            levels &= levels - 1;
            again |= u8::from(self.has_again(index, level)) << level;
            match self.front_fresh(index, level, shown, limits) {
                Front::Ready(..) => fresh |= 1 << level,
                Front::Blocked => blocked = true,
                Front::Empty => {}
            }
            self.lanes.note_empty(level);
        }
        if again | fresh == 0 {
            return if blocked { Front::Blocked } else { Front::Empty };
        }
        let level = self.lanes.choose(again | fresh, limits.ageing);
        let source = self.lanes.turn(level, again >> level & 1 == 1, fresh >> level & 1 == 1);
        let sequence = self.lanes.lane(level, source).pop_front().unwrap_or_else(|| {
            self.cursor += 1;
            self.cursor - 1
        });
        self.lanes.note_empty(level);
        index.slot(sequence).map_or(Front::Empty, |slot| Front::Ready(sequence, slot))
    }

    /// Whether a message that came back waits in this level. Drops what expired.
    fn has_again(&mut self, index: &Index, level: usize) -> bool {
        while let Some(&sequence) = self.lanes.lane(level, Source::Again).front() {
            if !self.is_settled(index, sequence) {
                return true;
            }
            self.drop_stale(level, Source::Again);
        }
        false
    }

    fn drop_stale(&mut self, level: usize, source: Source) {
        self.lanes.lane(level, source).pop_front();
        self.lanes.stale -= 1;
    }

    /// The first message of this level that comes for the first time. Drops what expired, and lets those wait whose
    /// key is held.
    fn front_fresh(&mut self, index: &Index, level: usize, shown: u64, limits: &Limits) -> Front {
        while let Some(&sequence) = self.lanes.lane(level, Source::Fresh).front() {
            let slot = match index.slot(sequence) {
                Some(slot) if !self.is_settled(index, sequence) => slot,
                _ => {
                    self.drop_stale(level, Source::Fresh);
                    continue;
                }
            };
            match self.look_at_key(index, sequence, slot, limits) {
                Some(front) => return front,
                None => self.lanes.lane(level, Source::Fresh).pop_front(),
            };
        }
        if level == 0 { self.front_at_cursor(index, shown, limits) } else { Front::Empty }
    }

    /// Moves the cursor to the first message that is its to deliver.
    fn front_at_cursor(&mut self, index: &Index, shown: u64, limits: &Limits) -> Front {
        while self.cursor < shown {
            let (number, at) = split(self.cursor);
            let start = number * BLOCK as u64;
            let Some(block) = index.block(number) else {
                self.cursor = (start + BLOCK as u64).max(index.first()).min(shown);
                continue;
            };
            let at = block.settled[self.slot()].next_clear(at);
            self.cursor = (start + at as u64).min(shown);
            if self.cursor == shown || at == BLOCK {
                continue;
            }
            let slot = block.slot(at);
            if slot.priority() > 0 || slot.has(UNDUE) || self.is_delayed(self.cursor) {
                self.cursor += 1;
                continue;
            }
            match self.look_at_key(index, self.cursor, slot, limits) {
                Some(front) => return front,
                None => self.cursor += 1,
            }
        }
        Front::Empty
    }

    /// Whether the cursor met a message that waits for a time, which is only possible after a restart.
    fn is_delayed(&self, sequence: u64) -> bool {
        sequence < self.replayed && self.flights.get(sequence).is_some_and(|flight| flight.phase == Phase::Delayed)
    }

    /// `None` if the message is taken care of: it waits for its key, or, as the holder, has its own way.
    fn look_at_key(&mut self, index: &Index, sequence: u64, slot: Slot, limits: &Limits) -> Option<Front> {
        let Some(key) = index.key(sequence, slot) else { return Some(Front::Ready(sequence, slot)) };
        match self.keys.turn(key, sequence, limits.max_keys as usize) {
            Turn::Free => Some(Front::Ready(sequence, slot)),
            Turn::Holder => None,
            Turn::Held if self.keys.waiting() < limits.max_waiting => {
                self.keys.wait(key, sequence);
                None
            }
            Turn::Held | Turn::TooMany => Some(Front::Blocked),
        }
    }

    /// Takes the flight out, if this is the delivery that is out.
    #[inline]
    pub(super) fn take_back(&mut self, sequence: u64, delivery: u32) -> Option<Flight> {
        let flight = self.take_back_of_many(sequence, delivery);
        self.flights.shrink_if_empty();
        flight
    }

    /// The same for one of many, after which somebody looks whether memory is to be given back.
    #[inline]
    pub(super) fn take_back_of_many(&mut self, sequence: u64, delivery: u32) -> Option<Flight> {
        let flight = self.flights.remove_leased(sequence, delivery)?;
        self.leased -= 1;
        Some(flight)
    }

    /// Whether this is the delivery that is out.
    pub(super) fn is_out(&self, sequence: u64, delivery: u32) -> bool {
        let flight = self.flights.get(sequence);
        flight.is_some_and(|flight| flight.phase == Phase::Leased && flight.delivery == delivery)
    }

    /// Gives the lease of the delivery this end, if it is the one that is out.
    pub(super) fn extend(&mut self, sequence: u64, delivery: u32, until: u64) -> bool {
        let flight = self.flights.get_mut(sequence);
        let Some(flight) = flight.filter(|flight| flight.phase == Phase::Leased && flight.delivery == delivery) else {
            return false;
        };
        let earlier = until < flight.until;
        flight.until = until;
        // A later end needs no timer: the one that is armed finds it.
        if earlier {
            self.wheel.arm(until, sequence);
            self.rearm_if_stale();
        }
        true
    }

    /// Lets a message that was given back wait until then.
    pub(super) fn delay(&mut self, flight: Flight, until: u64) {
        self.flights.insert(Flight { until, phase: Phase::Delayed, ..flight });
        self.delayed += 1;
        self.wheel.arm(until, flight.sequence);
        self.rearm_if_stale();
    }

    /// Lets a message that was given back be delivered again.
    pub(super) fn ready_again(&mut self, flight: Flight, slot: Slot) {
        self.flights.insert(Flight { until: 0, phase: Phase::Ready, ..flight });
        if self.is_left_to_cursor(flight.sequence, slot) && !slot.has(KEYED) {
            return;
        }
        self.lanes.push(slot.priority(), Source::Again, flight.sequence);
    }

    /// Lets a pending message that no delivery waits for be delivered: it came due, or was requeued.
    pub(super) fn ready_first(&mut self, sequence: u64, slot: Slot) {
        if !self.is_left_to_cursor(sequence, slot) {
            self.lanes.push(slot.priority(), Source::Fresh, sequence);
        }
    }

    fn is_left_to_cursor(&self, sequence: u64, slot: Slot) -> bool {
        slot.priority() == 0 && sequence >= self.cursor
    }

    /// Notes that the group is done with a message that has no flight.
    #[inline]
    pub(super) fn settle(&mut self, index: &mut Index, sequence: u64) {
        let (number, at) = split(sequence);
        let slot = self.slot();
        if let Some(block) = index.block_mut(number) {
            let was_pending = block.settled[slot].set(at);
            debug_assert!(was_pending, "G1: {sequence} was settled already");
        }
        self.pending -= 1;
        if sequence == self.floor {
            self.floor = self.first_pending(index, sequence);
        }
    }

    /// Notes that the group is done with `first..end`, which are of one block and have no flights.
    #[inline]
    pub(super) fn settle_run(&mut self, index: &mut Index, first: u64, end: u64) {
        let (number, at) = split(first);
        let (slot, count) = (self.slot(), (end - first) as usize);
        if let Some(block) = index.block_mut(number) {
            block.settled[slot].set_range(at, at + count);
        }
        self.pending -= count as u64;
        if (first..end).contains(&self.floor) {
            self.floor = self.first_pending(index, end);
        }
    }

    /// How many messages of the range are not settled.
    pub(super) fn count_pending(&self, index: &Index, from: u64, end: u64) -> u64 {
        let (mut count, mut sequence) = (0, self.first_pending(index, from));
        while sequence < end {
            count += 1;
            sequence = self.first_pending(index, sequence + 1);
        }
        count
    }

    /// The first message from this one on that is not settled.
    #[inline]
    fn first_pending(&self, index: &Index, from: u64) -> u64 {
        let mut sequence = from;
        while sequence < index.next() {
            let (number, at) = split(sequence);
            let start = number * BLOCK as u64;
            let at = match index.block(number) {
                Some(block) => block.settled[self.slot()].next_clear(at),
                None => BLOCK,
            };
            sequence = (start + at as u64).min(index.next());
            if at < BLOCK {
                break;
            }
        }
        sequence
    }

    /// Lets the next message of the key have its turn, once this one is settled; whether this one waited for the key.
    pub(super) fn pass_key(&mut self, index: &Index, sequence: u64, slot: Slot) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        let Some(key) = index.key(sequence, slot) else { return false };
        match self.keys.settle(key, sequence) {
            Left::Nothing => false,
            Left::Waiting => true,
            Left::Holder(next) => {
                if let Some((next, slot)) = next.and_then(|next| Some((next, index.slot(next)?))) {
                    self.lanes.push(slot.priority(), Source::Again, next);
                }
                false
            }
        }
    }

    /// Takes a message that nobody has out of wherever it waits, and settles it; its deliveries so far.
    pub(super) fn withdraw(&mut self, index: &mut Index, sequence: u64, slot: Slot) -> Option<Flight> {
        let flight = self.flights.remove(sequence);
        debug_assert!(flight.is_none_or(|flight| flight.phase != Phase::Leased), "G4: {sequence} is out");
        let left_to_cursor = self.is_left_to_cursor(sequence, slot);
        let holds = index.key(sequence, slot).is_some_and(|key| self.keys.turn(key, sequence, 0) == Turn::Holder);
        let waited = self.pass_key(index, sequence, slot);
        if flight.is_some_and(|flight| flight.phase == Phase::Delayed) {
            self.delayed -= 1;
        } else if slot.has(UNDUE) {
            self.undue -= 1;
        } else if !waited && (holds || !left_to_cursor) {
            self.lanes.stale += 1;
        }
        self.settle(index, sequence);
        flight
    }

    /// Takes back that the group is done with a message.
    pub(super) fn unsettle(&mut self, index: &mut Index, flight: Flight, slot: Slot) {
        let sequence = flight.sequence;
        let (number, at) = split(sequence);
        if self.lanes.stale > 0 {
            self.lanes.remove(sequence);
        }
        if let Some(block) = index.block_mut(number) {
            block.settled[self.id.slot()].clear(at);
        }
        self.pending += 1;
        self.floor = self.floor.min(sequence);
        self.flights.insert(flight);
        if slot.has(UNDUE) {
            self.undue += 1;
        } else {
            self.ready_first(sequence, slot);
        }
        if self.is_left_to_cursor(sequence, slot) {
            self.replayed = self.replayed.max(sequence + 1);
        }
    }

    /// Builds the wheel anew when most of it is stale.
    #[inline]
    fn rearm_if_stale(&mut self) {
        if self.wheel.is_stale(self.leased + self.delayed) {
            self.rearm();
        }
    }

    fn rearm(&mut self) {
        self.wheel.clear();
        for flight in self.flights.sorted().into_iter().filter(|flight| flight.phase != Phase::Ready) {
            self.wheel.arm(flight.until, flight.sequence);
        }
    }

    /// Works out anew, from what is settled and from the flights, where every message waits. What is leased is so no
    /// longer; messages come in order of priority and number.
    pub(super) fn rebuild(&mut self, index: &Index, shown: u64, now: u64) {
        self.floor = self.first_pending(index, index.first());
        self.cursor = self.floor.min(shown);
        (self.pending, self.leased, self.delayed, self.undue, self.replayed) = (0, 0, 0, 0, 0);
        self.lanes.clear();
        self.keys.clear();
        self.wheel.clear();
        for mut flight in self.flights.sorted() {
            if self.is_settled(index, flight.sequence) {
                self.flights.remove(flight.sequence);
                continue;
            }
            self.replayed = flight.sequence + 1;
            if flight.phase == Phase::Delayed && flight.until > now {
                self.delayed += 1;
                self.wheel.arm(flight.until, flight.sequence);
                let key = index.slot(flight.sequence).and_then(|slot| index.key(flight.sequence, slot));
                if let Some(key) = key.filter(|&key| self.keys.turn(key, flight.sequence, usize::MAX) == Turn::Free) {
                    self.keys.hold(key, flight.sequence);
                }
                continue;
            }
            (flight.phase, flight.until) = (Phase::Ready, 0);
            self.flights.remove(flight.sequence);
            self.flights.insert(flight);
        }
        self.rebuild_lanes(index, shown);
    }

    fn rebuild_lanes(&mut self, index: &Index, shown: u64) {
        let slot_of_group = self.slot();
        for (number, block) in index.blocks_from(split(self.floor).0) {
            let start = number * BLOCK as u64;
            let stop = shown.saturating_sub(start).min(BLOCK as u64) as usize;
            let settled = &block.settled[slot_of_group];
            self.pending += settled.count_clear_below(stop) as u64;
            for at in block.special.iter().take_while(|&at| at < stop).filter(|&at| !settled.get(at)) {
                let (sequence, slot) = (start + at as u64, block.slot(at));
                if self.flights.get(sequence).is_some_and(|flight| flight.phase == Phase::Delayed) {
                    // Its timer knows it.
                } else if slot.has(UNDUE) {
                    self.undue += 1;
                } else if slot.priority() > 0 {
                    self.lanes.push(slot.priority(), Source::Fresh, sequence);
                }
            }
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.flights.memory_bytes()
            + self.wheel.memory_bytes()
            + self.lanes.memory_bytes()
            + self.keys.memory_bytes()
            + self.dead.memory_bytes()
    }
}
