//! What becomes of deliveries.

use crate::core::{Core, Phase};
use crate::delivery::Received;
use crate::log::{AppendError, Lsn, Room};
use crate::shared::{QUEUE_MARK, Settlement, Shared};
use crate::state::{GroupId, ReceiptError, Sequence, UnknownGroup};
use crate::{DeadReason, Receipt, Refusal, SettleError, Ticket};

/// Deliveries settled before events are appended without waiting for the next message.
const APPEND_EVERY: u32 = 4096;

impl Shared {
    #[inline]
    pub(crate) fn settle(&self, receipt: Receipt, settlement: Settlement<'_>) -> Result<(), SettleError> {
        self.with_core(|core| {
            self.settle_locked(core, receipt, settlement)?;
            self.note_settled(core, 1);
            Ok(())
        })
    }

    #[inline]
    fn settle_locked(&self, core: &mut Core, receipt: Receipt, settlement: Settlement<'_>) -> Result<(), SettleError> {
        if receipt.queue != self.mark {
            let is_ours = (receipt.queue ^ self.mark) & QUEUE_MARK == 0;
            return Err(if is_ours { SettleError::Stale } else { SettleError::OtherQueue });
        }
        if core.phase == Phase::Closed {
            return Err(SettleError::Closed);
        }
        let (state, known) = (&mut core.state, receipt.into());
        match settlement {
            Settlement::Ack => {
                state.ack(known)?;
                if let Some(seat) = core.seat(GroupId(receipt.group)) {
                    seat.acked += 1;
                }
            }
            Settlement::Nack(delay) => {
                let now = self.now();
                // A delay is kept to the millisecond, whatever the coarse clock says.
                let delay = self.hub.timeline.after(delay).saturating_sub(now);
                state.nack(known, if delay <= 1 { 0 } else { delay }, now)?;
            }
            Settlement::Extend(lease) => state.extend(known, crate::clock::millis(lease), self.now())?,
            Settlement::Dead(reason) => {
                state.dead_letter(known, DeadReason::Rejected(reason.to_owned()), self.now())?;
            }
            Settlement::Release => {
                state.release(known, self.now())?;
            }
        }
        Ok(())
    }

    /// Acks what is still its receiver's; how many.
    pub(crate) fn ack_all(&self, received: &[Received]) -> Result<usize, SettleError> {
        self.with_core(|core| {
            if core.phase == Phase::Closed {
                return Err(SettleError::Closed);
            }
            // All of a batch are of this queue and of one group.
            let Some(group) = received.first().map(|first| GroupId(first.receipt.group)) else { return Ok(0) };
            let deliveries = received.iter().map(|received| received.receipt);
            let deliveries = deliveries.map(|receipt| (Sequence(receipt.id.get()), receipt.delivery));
            // A group that is gone has none out.
            let acked = core.state.ack_all(group, deliveries).unwrap_or(0);
            if let Some(seat) = core.seat(group) {
                seat.acked += acked as u64;
            }
            self.note_settled(core, acked as u32);
            Ok(acked)
        })
    }

    pub(crate) fn ack_durable_one(self: &std::sync::Arc<Self>, receipt: Receipt) -> Result<Ticket, SettleError> {
        self.with_core(|core| {
            self.settle_locked(core, receipt, Settlement::Ack)?;
            self.note_settled(core, 1);
            Ok::<_, SettleError>(())
        })?;
        self.ticket_for_acks(receipt.id)
    }

    /// Those that are nobody's any more are left out.
    pub(crate) fn ack_durable(self: &std::sync::Arc<Self>, receipts: &[Receipt]) -> Result<Ticket, SettleError> {
        self.with_core(|core| {
            let mut acked = 0;
            for receipt in receipts {
                match self.settle_locked(core, *receipt, Settlement::Ack) {
                    Ok(()) => acked += 1,
                    Err(SettleError::Stale | SettleError::NoGroup) => {}
                    Err(error) => return Err(error),
                }
            }
            self.note_settled(core, acked);
            Ok(())
        })?;
        self.ticket_for_acks(receipts.last().map_or_else(Default::default, |receipt| receipt.id))
    }

    fn ticket_for_acks(self: &std::sync::Arc<Self>, id: crate::MessageId) -> Result<Ticket, SettleError> {
        let lsn = self.append_events().map_err(|refusal| match refusal {
            Refusal::Failed(failure) => SettleError::Failed(failure),
            Refusal::Closed => SettleError::Closed,
            _ => SettleError::DiskFull,
        })?;
        Ok(Ticket::new(std::sync::Arc::clone(self), id, lsn, false))
    }

    pub(crate) fn release(&self, receipt: Receipt) {
        // Stale or closed: then there is nothing to give back.
        let _ = self.settle(receipt, Settlement::Release);
    }

    /// Lets go of what nobody needs, and of events if they are many.
    #[inline]
    fn note_settled(&self, core: &mut Core, settled: u32) {
        match &self.disk {
            None => core.release_bodies(settled),
            Some(disk) => {
                core.settled_since += settled;
                if core.settled_since >= APPEND_EVERY {
                    core.settled_since = 0;
                    core.gather_events();
                    // What does not fit now stays where it is.
                    let _ = core.events.append(&disk.log, Room::Ordinary);
                }
            }
        }
    }

    /// Appends what happened and is not in the log; up to where the log must be confirmed for it to be safe.
    pub(crate) fn append_events(&self) -> Result<Lsn, Refusal> {
        let Some(disk) = &self.disk else { return Ok(Lsn(0)) };
        loop {
            let mut core = self.hub.core.lock();
            core.gather_events();
            match core.events.append(&disk.log, Room::Reserve) {
                Ok(end) => return Ok(end.unwrap_or_else(|| disk.log.appended())),
                Err(AppendError::Busy) => drop(core),
                Err(AppendError::Poisoned(_)) if disk.log.is_closed() => return Err(Refusal::Closed),
                Err(AppendError::Poisoned(poisoned)) => return Err(Refusal::Failed(poisoned.into())),
                // Chunks are smaller than the smallest segment.
                Err(AppendError::TooLarge { .. }) => return Err(Refusal::DiskFull),
            }
            self.make_room(Room::Reserve)?;
        }
    }
}

impl From<ReceiptError> for SettleError {
    fn from(error: ReceiptError) -> Self {
        match error {
            ReceiptError::UnknownGroup(UnknownGroup) => Self::NoGroup,
            ReceiptError::Stale => Self::Stale,
        }
    }
}
