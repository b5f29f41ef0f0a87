//! What this process holds on lease.
//!
//! JetStream takes an ack by the place of the message alone: that of a worker whose lease ran out acks what somebody else
//! works on. So the receiver remembers what it has and until when, and sends no settlement for what is not its any more.
//! A receipt is good in the process that received, as with the embedded queue.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::Subject;

use crate::{MessageId, Receipt, SettleError};

/// One delivery.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) delivery: u32,
    pub(super) attempt: u32,
    /// On the monotonic clock.
    pub(super) until: Duration,
    /// Where its ack goes.
    pub(super) reply: Subject,
    /// Its number in the stream.
    pub(super) sequence: u64,
}

/// Leases by group and message.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: HashMap<(u32, MessageId), Lease>,
    /// The number of the last delivery. Those of the server begin anew for a message that is sent on.
    last: u32,
    /// At so many, those that ended are looked for and forgotten.
    sweep_at: usize,
}

const MIN_SWEEP: usize = 1024;

impl Leases {
    /// A delivery that came; gives it its number.
    pub(super) fn insert(&mut self, group: u32, id: MessageId, mut lease: Lease, now: Duration) -> u32 {
        if self.leases.len() >= self.sweep_at.max(MIN_SWEEP) {
            self.leases.retain(|_, lease| lease.until > now);
            self.sweep_at = self.leases.len() * 2;
        }
        self.last = self.last.wrapping_add(1);
        lease.delivery = self.last;
        self.leases.insert((group, id), lease);
        self.last
    }

    /// Ends a lease, to settle it.
    pub(super) fn take(&mut self, receipt: Receipt, now: Duration) -> Result<Lease, SettleError> {
        self.find(receipt, now)?;
        self.leases.remove(&(receipt.group, receipt.id)).ok_or(SettleError::Stale)
    }

    /// A settlement that may not have reached the server can be tried again.
    pub(super) fn put_back(&mut self, receipt: Receipt, lease: Lease) {
        self.leases.entry((receipt.group, receipt.id)).or_insert(lease);
    }

    /// The lease, if it is the receipt's.
    pub(super) fn find(&mut self, receipt: Receipt, now: Duration) -> Result<&mut Lease, SettleError> {
        let lease = self.leases.get_mut(&(receipt.group, receipt.id));
        lease.filter(|lease| lease.delivery == receipt.delivery && lease.until > now).ok_or(SettleError::Stale)
    }

    pub(super) fn clear(&mut self) {
        self.leases.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId::new(7);

    fn lease(attempt: u32, until_s: u64) -> Lease {
        Lease { delivery: 0, attempt, until: Duration::from_secs(until_s), reply: "r".into(), sequence: 7 }
    }

    fn receipt(delivery: u32) -> Receipt {
        Receipt { queue: 0, group: 1, id: ID, delivery }
    }

    #[test]
    fn only_the_last_delivery_counts_and_only_once_and_in_time() {
        let now = Duration::from_secs(10);
        let mut leases = Leases::default();
        assert_eq!(leases.insert(1, ID, lease(1, 11), now), 1);
        assert_eq!(leases.insert(1, ID, lease(2, 12), now), 2);
        assert_eq!(leases.take(receipt(1), now).err(), Some(SettleError::Stale));
        assert!(leases.find(receipt(2), now).is_ok());
        assert_eq!(leases.take(receipt(2), Duration::from_secs(12)).err(), Some(SettleError::Stale));
        assert!(leases.take(receipt(2), now).is_ok());
        assert_eq!(leases.take(receipt(2), now).err(), Some(SettleError::Stale));
    }

    #[test]
    fn ended_leases_are_forgotten() {
        let mut leases = Leases::default();
        for id in 0..10_000 {
            leases.insert(1, MessageId::new(id), lease(1, id + 1), Duration::from_secs(id));
        }
        assert!(leases.leases.len() <= MIN_SWEEP + 1, "{}", leases.leases.len());
    }
}
