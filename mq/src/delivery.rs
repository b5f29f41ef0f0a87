//! A message in somebody's hands, alone or with others.
//!
//! Whoever receives a message has it on lease: it is nobody else's until the lease runs out, and it must be settled by
//! then: acked, given back, given up, or the lease extended. What is dropped unsettled is given back at once, so that a
//! panic in a worker costs no lease time; each delivery is counted, and [`Config::max_attempts`](crate::Config::max_attempts)
//! keeps a message that kills its workers from doing so for ever.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::shared::{Settlement, Shared};
use crate::{Message, MessageId, Receipt, SettleError, Ticket};

/// A message and which delivery of it this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub(crate) message: Message,
    pub(crate) receipt: Receipt,
    pub(crate) attempt: u32,
}

impl Received {
    /// What was sent.
    #[inline]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Its bytes.
    #[inline]
    pub fn body(&self) -> &Bytes {
        self.message.body()
    }

    /// Its id.
    #[inline]
    pub fn id(&self) -> MessageId {
        self.receipt.id
    }

    /// How often it was delivered to this group, this time included: 1 is the first. Counted anew once it was requeued
    /// from the dead letters or the group was set back.
    #[inline]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The claim to this delivery.
    #[inline]
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }
}

/// One message on lease.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_mq::{Config, Queue};
///
/// let queue = Queue::in_memory(Config::default())?;
/// queue.producer().send("hello")?;
/// let delivery = queue.consumer().receive()?;
/// assert_eq!((delivery.body().as_ref(), delivery.attempt()), (b"hello".as_slice(), 1));
/// delivery.nack(Duration::ZERO)?;
/// let again = queue.consumer().receive()?;
/// assert_eq!(again.attempt(), 2);
/// again.ack()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Delivery {
    shared: Arc<Shared>,
    received: Received,
    is_settled: bool,
}

impl Delivery {
    #[inline]
    pub(crate) fn new(shared: Arc<Shared>, received: Received) -> Self {
        Self { shared, received, is_settled: false }
    }

    /// Done: never delivered to this group again.
    ///
    /// The ack is written with the next messages that are sent, or by [`Queue::flush`](crate::Queue::flush); a crash
    /// before that delivers the message once more. [`Delivery::ack_durable`] says when it cannot.
    ///
    /// # Errors
    /// [`SettleError::Stale`] if the lease ran out and somebody else has or had the message.
    #[inline]
    pub fn ack(self) -> Result<(), SettleError> {
        self.settle(Settlement::Ack)
    }

    /// Done, and the ticket is confirmed once that is as durable as a message that was sent.
    ///
    /// # Errors
    /// As of [`Delivery::ack`].
    pub fn ack_durable(mut self) -> Result<Ticket, SettleError> {
        self.is_settled = true;
        self.shared.ack_durable_one(self.received.receipt)
    }

    /// Not done: to be delivered again after this much time.
    ///
    /// # Errors
    /// As of [`Delivery::ack`].
    pub fn nack(self, delay: Duration) -> Result<(), SettleError> {
        self.settle(Settlement::Nack(delay))
    }

    /// Not done: to be delivered again after the wait that [`Config::backoff`](crate::Config::backoff) gives for this
    /// many attempts.
    ///
    /// # Errors
    /// As of [`Delivery::ack`].
    pub fn retry(self) -> Result<(), SettleError> {
        let delay = self.shared.config.backoff.delay(self.attempt());
        self.nack(delay)
    }

    /// Makes the lease end this much time from now, later or sooner than it would.
    ///
    /// # Errors
    /// As of [`Delivery::ack`].
    pub fn extend(&self, lease: Duration) -> Result<(), SettleError> {
        self.shared.settle(self.receipt, Settlement::Extend(lease))
    }

    /// Given up, for this reason (of which the first 256 bytes are kept): it goes to the dead letters.
    ///
    /// # Errors
    /// As of [`Delivery::ack`].
    pub fn dead_letter(self, reason: &str) -> Result<(), SettleError> {
        self.settle(Settlement::Dead(reason))
    }

    /// Keeps the lease without the delivery: whoever has the receipt may settle it, by [`Queue::ack`](crate::Queue::ack)
    /// and its like.
    pub fn into_receipt(mut self) -> Receipt {
        self.is_settled = true;
        self.received.receipt
    }

    /// The same with the message.
    pub fn into_received(mut self) -> Received {
        self.is_settled = true;
        let message = std::mem::take(&mut self.received.message);
        Received { message, ..self.received }
    }

    #[inline]
    fn settle(mut self, settlement: Settlement<'_>) -> Result<(), SettleError> {
        self.is_settled = true;
        self.shared.settle(self.received.receipt, settlement)
    }
}

impl Deref for Delivery {
    type Target = Received;

    #[inline]
    fn deref(&self) -> &Received {
        &self.received
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_settled {
            // Stale or closed: then there is nothing to give back.
            let _ = self.shared.settle(self.received.receipt, Settlement::Nack(Duration::ZERO));
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("receipt", &self.receipt).field("message", &self.message).finish()
    }
}

/// Several messages on lease, settled together for the price of one: one lock, no allocation for each.
///
/// Iterating over it hands out [`Delivery`]s; iterating over a reference looks at what was received. What is dropped
/// unsettled is given back at once.
pub struct Batch {
    shared: Arc<Shared>,
    received: Vec<Received>,
}

impl Batch {
    pub(crate) fn new(shared: Arc<Shared>, received: Vec<Received>) -> Self {
        Self { shared, received }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// What was received, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Received> {
        self.received.iter()
    }

    /// All done. Says how many acks counted: those whose lease ran out are left out.
    ///
    /// # Errors
    /// If the queue is closed or failed.
    pub fn ack(mut self) -> Result<usize, SettleError> {
        let received = std::mem::take(&mut self.received);
        self.shared.ack_all(&received)
    }

    /// All done, and the ticket is confirmed once that is durable; those whose lease ran out are left out.
    ///
    /// # Errors
    /// As of [`Batch::ack`].
    pub fn ack_durable(mut self) -> Result<Ticket, SettleError> {
        let receipts: Vec<Receipt> = self.received.drain(..).map(|received| received.receipt).collect();
        self.shared.ack_durable(&receipts)
    }

    /// None done: to be delivered again after this much time.
    pub fn nack(mut self, delay: Duration) {
        for received in self.received.drain(..) {
            let _ = self.shared.settle(received.receipt, Settlement::Nack(delay));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for received in self.received.drain(..) {
            let _ = self.shared.settle(received.receipt, Settlement::Nack(Duration::ZERO));
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Received;
    type IntoIter = std::slice::Iter<'a, Received>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Batch {
    type Item = Delivery;
    type IntoIter = Deliveries;

    fn into_iter(mut self) -> Deliveries {
        let received = std::mem::take(&mut self.received).into_iter();
        Deliveries { shared: Arc::clone(&self.shared), received }
    }
}

/// The deliveries of a [`Batch`], one by one. Those that were not taken are given back when it is dropped.
pub struct Deliveries {
    shared: Arc<Shared>,
    received: std::vec::IntoIter<Received>,
}

impl Iterator for Deliveries {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        self.received.next().map(|received| Delivery::new(Arc::clone(&self.shared), received))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.received.size_hint()
    }
}

impl ExactSizeIterator for Deliveries {}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.received).finish()
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.received.as_slice()).finish()
    }
}
