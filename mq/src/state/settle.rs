//! What comes of a delivery: acked, given back, extended, given up; and what becomes of dead letters.

use thiserror::Error;

use super::block::{EXPIRES, Slot};
use super::dead_letter::{Dead, bounded};
use super::flight::Flight;
use super::group::Group;
use super::index::split;
use super::{Event, GroupId, Receipt, Sequence, State, UnknownGroup, find_mut};
use crate::dead_letter::DeadReason;

/// Why a receipt is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ReceiptError {
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// The message is not out under this receipt: it was acked or given back, its lease ended, or another delivery of
    /// it is out.
    #[error("the delivery is over")]
    Stale,
}

/// Why there is no such dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum DeadError {
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    #[error("no such dead letter")]
    UnknownMessage,
}

/// What became of a message that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It can be delivered again.
    Again,
    /// It can be delivered again after its delay.
    Delayed,
    /// It is dead: it was delivered as often as the limit allows.
    Dead,
    /// Its time to live was over.
    Expired,
}

impl State {
    /// The group is done with the message.
    ///
    /// A lease that has run out is as good as another until [`State::tick`] ends it: nobody else has the message.
    ///
    /// # Errors
    /// If the receipt is stale, or its group is gone.
    #[inline]
    pub(crate) fn ack(&mut self, receipt: Receipt) -> Result<(), ReceiptError> {
        let Receipt { group, sequence: Sequence(sequence), delivery } = receipt;
        match self.plain_group(group)? {
            Some(group) => {
                group.take_back(sequence, delivery).ok_or(ReceiptError::Stale)?;
                self.finish_run(receipt.group, sequence, sequence + 1);
                Ok(())
            }
            None => self.ack_with_care(receipt),
        }
    }

    /// Acks deliveries of one group, those that are not stale; how many.
    ///
    /// # Errors
    /// If the group is gone.
    pub(crate) fn ack_all(
        &mut self,
        id: GroupId,
        deliveries: impl Iterator<Item = (Sequence, u32)>,
    ) -> Result<usize, UnknownGroup> {
        if self.plain_group(id)?.is_none() {
            let receipts = deliveries.map(|(sequence, delivery)| Receipt { group: id, sequence, delivery });
            return Ok(receipts.filter(|receipt| self.ack_with_care(*receipt).is_ok()).count());
        }
        let mut acked = 0;
        let (mut first, mut end) = (0, 0);
        for (Sequence(sequence), delivery) in deliveries {
            let group = find_mut(&mut self.groups, id)?;
            if group.take_back_of_many(sequence, delivery).is_none() {
                continue;
            }
            acked += 1;
            if sequence != end || split(sequence).1 == 0 {
                self.finish_run(id, first, end);
                first = sequence;
            }
            end = sequence + 1;
        }
        self.finish_run(id, first, end);
        find_mut(&mut self.groups, id)?.flights.shrink_if_empty();
        Ok(acked)
    }

    /// The group, if whatever it is done with is needed by nobody and held no key.
    #[inline]
    fn plain_group(&mut self, id: GroupId) -> Result<Option<&mut Group>, UnknownGroup> {
        let is_alone = self.groups.len() == 1 && self.limits.retention.is_off();
        let group = find_mut(&mut self.groups, id)?;
        Ok(Some(group).filter(|group| is_alone && group.keys.is_empty() && group.dead.is_empty()))
    }

    /// Settles and releases `first..end`, which are of one block and were taken back from a group that is plain; nothing
    /// if there are none.
    #[inline]
    fn finish_run(&mut self, id: GroupId, first: u64, end: u64) {
        let Ok(group) = find_mut(&mut self.groups, id) else { return };
        if first == end {
            return;
        }
        group.settle_run(&mut self.index, first, end);
        self.journal.settled_run(id, first, end);
        self.index.release_run(first, end);
    }

    fn ack_with_care(&mut self, receipt: Receipt) -> Result<(), ReceiptError> {
        let sequence = receipt.sequence.0;
        let group = find_mut(&mut self.groups, receipt.group)?;
        group.take_back(sequence, receipt.delivery).ok_or(ReceiptError::Stale)?;
        if !group.keys.is_empty() {
            if let Some(slot) = self.index.slot(sequence) {
                group.pass_key(&self.index, sequence, slot);
            }
        }
        group.settle(&mut self.index, sequence);
        self.journal.settled(receipt.group, sequence);
        self.let_go(sequence);
        Ok(())
    }

    /// Gives the message back, to be delivered again after `delay_ms`.
    ///
    /// # Errors
    /// As [`State::ack`].
    pub(crate) fn nack(&mut self, receipt: Receipt, delay_ms: u64, now: u64) -> Result<Fate, ReceiptError> {
        let now = self.advance(now);
        let due = if delay_ms == 0 { 0 } else { now.saturating_add(delay_ms) };
        let flight = self.take_back(receipt)?;
        let fate = self.come_back(receipt.group, flight, due, now);
        self.journal_return(receipt.group, &flight, due, fate);
        Ok(fate)
    }

    /// Gives the message back as if it had not been delivered: nobody has worked on it. The delivery's number is used
    /// up all the same.
    ///
    /// # Errors
    /// As [`State::ack`].
    pub(crate) fn release(&mut self, receipt: Receipt, now: u64) -> Result<Fate, ReceiptError> {
        let now = self.advance(now);
        let mut flight = self.take_back(receipt)?;
        flight.attempt = flight.attempt.saturating_sub(1);
        let fate = self.come_back(receipt.group, flight, 0, now);
        self.journal_return(receipt.group, &flight, 0, fate);
        Ok(fate)
    }

    /// Lets the lease end `lease_ms` from now, be that later or earlier than it would.
    ///
    /// # Errors
    /// As [`State::ack`].
    pub(crate) fn extend(&mut self, receipt: Receipt, lease_ms: u64, now: u64) -> Result<(), ReceiptError> {
        let until = self.advance(now).saturating_add(lease_ms);
        let group = find_mut(&mut self.groups, receipt.group)?;
        let is_out = group.extend(receipt.sequence.0, receipt.delivery, until);
        if is_out { Ok(()) } else { Err(ReceiptError::Stale) }
    }

    /// Whether the message is out under this receipt.
    ///
    /// # Errors
    /// As [`State::ack`].
    pub(crate) fn check(&self, receipt: Receipt) -> Result<(), ReceiptError> {
        let group = super::find(&self.groups, receipt.group)?;
        let is_out = group.is_out(receipt.sequence.0, receipt.delivery);
        if is_out { Ok(()) } else { Err(ReceiptError::Stale) }
    }

    /// Gives the message up: it becomes a dead letter. A reason longer than 256 bytes is cut.
    ///
    /// # Errors
    /// As [`State::ack`].
    pub(crate) fn dead_letter(&mut self, receipt: Receipt, reason: DeadReason, now: u64) -> Result<(), ReceiptError> {
        self.advance(now);
        let flight = self.take_back(receipt)?;
        if let Some(slot) = self.index.slot(flight.sequence) {
            self.finish(receipt.group, flight.sequence, slot);
            self.die(receipt.group, flight, reason);
        }
        Ok(())
    }

    /// Delivers a dead letter again, as if for the first time; it no longer expires.
    ///
    /// # Errors
    /// If there is no such dead letter.
    pub(crate) fn requeue(&mut self, group: GroupId, sequence: Sequence) -> Result<(), DeadError> {
        let found = find_mut(&mut self.groups, group)?;
        let dead = found.dead.remove(sequence.0).ok_or(DeadError::UnknownMessage)?;
        if let Some(slot) = self.index.slot(sequence.0) {
            let flight = Flight { timeless: true, ..Flight::ready(sequence.0, dead.delivery, 0) };
            found.unsettle(&mut self.index, flight, slot);
        }
        self.journal.push(Event::Requeued { group, sequence: sequence.0 });
        Ok(())
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// If there is no such dead letter.
    pub(crate) fn discard(&mut self, group: GroupId, sequence: Sequence) -> Result<(), DeadError> {
        let found = find_mut(&mut self.groups, group)?;
        found.dead.remove(sequence.0).ok_or(DeadError::UnknownMessage)?;
        self.journal.push(Event::Discarded { group, sequence: sequence.0 });
        self.let_go(sequence.0);
        Ok(())
    }

    fn take_back(&mut self, receipt: Receipt) -> Result<Flight, ReceiptError> {
        let group = find_mut(&mut self.groups, receipt.group)?;
        group.take_back(receipt.sequence.0, receipt.delivery).ok_or(ReceiptError::Stale)
    }

    fn journal_return(&mut self, group: GroupId, flight: &Flight, due_ms: u64, fate: Fate) {
        if matches!(fate, Fate::Again | Fate::Delayed) {
            let Flight { sequence, delivery, attempt, .. } = *flight;
            self.journal.push(Event::GivenBack { group, sequence, delivery, attempt, due_ms });
        }
    }

    /// Decides what becomes of a message that is out no longer.
    pub(super) fn come_back(&mut self, id: GroupId, flight: Flight, due: u64, now: u64) -> Fate {
        let sequence = flight.sequence;
        let Some(slot) = self.index.slot(sequence) else { return Fate::Expired };
        let max_attempts = self.limits.max_attempts.min(u32::from(u16::MAX));
        if max_attempts > 0 && u32::from(flight.attempt) >= max_attempts {
            self.finish(id, sequence, slot);
            self.die(id, flight, DeadReason::Attempts);
            return Fate::Dead;
        }
        if slot.has(EXPIRES) && !flight.timeless && self.index.expires(sequence) <= now {
            self.finish(id, sequence, slot);
            self.expired(id, flight);
            return Fate::Expired;
        }
        let Ok(group) = find_mut(&mut self.groups, id) else { return Fate::Expired };
        if due > now {
            group.delay(flight, due);
            Fate::Delayed
        } else {
            group.ready_again(flight, slot);
            Fate::Again
        }
    }

    /// Settles a message that is out no longer, and passes its key on.
    fn finish(&mut self, id: GroupId, sequence: u64, slot: Slot) {
        if let Ok(group) = find_mut(&mut self.groups, id) {
            group.pass_key(&self.index, sequence, slot);
            group.settle(&mut self.index, sequence);
        }
    }

    /// Decides what becomes of a settled message whose time to live was over.
    pub(super) fn expired(&mut self, id: GroupId, flight: Flight) {
        if self.limits.expired_are_dead {
            self.die(id, flight, DeadReason::Expired);
        } else {
            self.journal.settled(id, flight.sequence);
            self.let_go(flight.sequence);
        }
    }

    /// Notes a settled message as dead.
    pub(super) fn die(&mut self, id: GroupId, flight: Flight, reason: DeadReason) {
        let Flight { sequence, delivery, attempt, .. } = flight;
        let at_ms = self.now;
        let reason = bounded(reason);
        let max = self.limits.max_dead_letters;
        let Ok(group) = find_mut(&mut self.groups, id) else { return };
        group.dead.insert(sequence, Dead { reason: reason.clone(), attempts: attempt.into(), at_ms, delivery });
        let dropped = group.dead.pop_beyond(max);
        self.journal.push(Event::Died { group: id, sequence, delivery, attempt, at_ms, reason });
        if let Some(sequence) = dropped {
            self.journal.push(Event::Discarded { group: id, sequence });
            self.let_go(sequence);
        }
    }
}
