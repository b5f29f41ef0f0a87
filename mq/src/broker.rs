//! One face for several backends: an application names its queue in its configuration, and the code stays as it is.
//!
//! [`Queue`](crate::Queue) is the backend in this process (feature `tokio`), `Nats` the one over JetStream (feature
//! `nats`). They do not do the same in everything, so a backend says what it does: [`Capabilities`]. What it cannot do it
//! refuses with an error that says so ([`Refusal::Unsupported`](crate::Refusal::Unsupported)); it does not pretend.
//!
//! The trait speaks of plain data: a delivery is a [`Received`] and is settled by its [`Receipt`], which may go to another
//! thread or into a log line. So nothing is given back by dropping it: an unsettled delivery ends with its lease.

mod capabilities;
#[cfg(feature = "tokio")]
mod local;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use capabilities::{Capabilities, Delay, DurableAck, Extension, Fencing, KeyOrder};

use crate::{
    DeadLetter, GroupError, Message, MessageId, QueueError, Receipt, ReceiveError, Received, SendError, SettleError,
    Stats,
};

/// What a call of a [`Broker`] gives: a future that may go to any thread.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A queue somewhere.
///
/// # Cancel safety
/// Dropping a future leaves open whether the call was carried out. No message is lost by it: one that was being received
/// comes back, at the latest after its lease.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use tenfold_mq::{Broker, Message};
///
/// async fn work(broker: Arc<dyn Broker>) -> Result<(), Box<dyn std::error::Error>> {
///     broker.send(Message::new("resize 7.jpg")).await?;
///     for received in broker.receive("default", 10, Duration::from_secs(1)).await? {
///         println!("{:?}, attempt {}", received.body(), received.attempt());
///         broker.ack(received.receipt()).await?;
///     }
///     Ok(())
/// }
/// ```
pub trait Broker: Send + Sync + fmt::Debug {
    /// What this backend does, and how.
    fn capabilities(&self) -> Capabilities;

    /// Sends a message; it is confirmed when this returns. A message that was sent before
    /// ([`Message::with_deduplication_id`]) is not queued again, and the id is that of the first.
    ///
    /// # Errors
    /// Why not, with the message. [`Refusal::Failed`](crate::Refusal::Failed) says that it is unknown whether it was
    /// queued; with a deduplication id it may be sent again without harm.
    fn send(&self, message: Message) -> Answer<'_, Result<MessageId, SendError<Message>>>;

    /// Sends several, in this order. All or none if [`Capabilities::has_atomic_batches`]; otherwise some may have been
    /// queued when the call fails, and all are handed back.
    ///
    /// # Errors
    /// As of [`Broker::send`].
    fn send_batch(&self, messages: Vec<Message>) -> Answer<'_, Result<Vec<MessageId>, SendError<Vec<Message>>>>;

    /// Waits until there is a message for this group, at most for `wait`, and takes up to `max` of those that there are;
    /// none once the time is over. They are on lease until they are settled.
    ///
    /// # Errors
    /// [`ReceiveError::NoGroup`], [`ReceiveError::Closed`], or if the backend failed.
    fn receive<'a>(
        &'a self,
        group: &'a str,
        max: usize,
        wait: Duration,
    ) -> Answer<'a, Result<Vec<Received>, ReceiveError>>;

    /// Done: not delivered to this group again, unless a crash comes before the ack was written.
    ///
    /// # Errors
    /// [`SettleError::Stale`] if the delivery is not the caller's any more, [`SettleError::OtherQueue`] if it never was.
    fn ack(&self, receipt: Receipt) -> Answer<'_, Result<(), SettleError>>;

    /// Done, and known to be; [`Capabilities::durable_ack`] says by whom.
    ///
    /// # Errors
    /// As of [`Broker::ack`]; after [`SettleError::Failed`] it may be tried again.
    fn ack_durable(&self, receipt: Receipt) -> Answer<'_, Result<(), SettleError>>;

    /// Not done: to be delivered again after this much time; after the last attempt, to the dead letters.
    ///
    /// # Errors
    /// As of [`Broker::ack`].
    fn nack(&self, receipt: Receipt, delay: Duration) -> Answer<'_, Result<(), SettleError>>;

    /// Makes the lease end this much time from now.
    ///
    /// # Errors
    /// As of [`Broker::ack`]; [`SettleError::Unsupported`] if [`Capabilities::extension`] allows no such lease.
    fn extend(&self, receipt: Receipt, lease: Duration) -> Answer<'_, Result<(), SettleError>>;

    /// Gives the message up: it goes to the dead letters of the group, for this reason.
    ///
    /// # Errors
    /// As of [`Broker::ack`].
    fn dead_letter<'a>(&'a self, receipt: Receipt, reason: &'a str) -> Answer<'a, Result<(), SettleError>>;

    /// Up to `max` of the dead letters of a group, the oldest first.
    ///
    /// # Errors
    /// [`GroupError::Unknown`], or if the backend failed.
    fn dead_letters<'a>(&'a self, group: &'a str, max: usize) -> Answer<'a, Result<Vec<DeadLetter>, GroupError>>;

    /// Delivers a dead letter to its group again, its attempts counted anew. `false` if it is none.
    ///
    /// # Errors
    /// As of [`Broker::dead_letters`].
    fn requeue<'a>(&'a self, group: &'a str, id: MessageId) -> Answer<'a, Result<bool, GroupError>>;

    /// Makes a group, which gets every message that is still there and all later ones. Nothing if there is one of this
    /// name. [`DEFAULT_GROUP`](crate::DEFAULT_GROUP) is always there.
    ///
    /// # Errors
    /// [`GroupError::Name`], [`GroupError::TooMany`], or if the backend failed.
    fn create_group<'a>(&'a self, group: &'a str) -> Answer<'a, Result<(), GroupError>>;

    /// Removes a group. Messages that only it was not done with are gone.
    ///
    /// # Errors
    /// [`GroupError::Unknown`], or if the backend failed.
    fn remove_group<'a>(&'a self, group: &'a str) -> Answer<'a, Result<(), GroupError>>;

    /// The names of the groups.
    ///
    /// # Errors
    /// If the backend failed.
    fn groups(&self) -> Answer<'_, Result<Vec<String>, GroupError>>;

    /// Every group is done with everything sent so far, delayed messages included; dead letters stay. Returns how many
    /// messages went.
    ///
    /// # Errors
    /// If the queue is closed or the backend failed.
    fn purge(&self) -> Answer<'_, Result<u64, QueueError>>;

    /// What the queue holds. A backend fills in what it knows.
    ///
    /// # Errors
    /// If the queue is closed or the backend failed.
    fn stats(&self) -> Answer<'_, Result<Stats, QueueError>>;

    /// Stops: later calls, and those that wait, are told that the queue is closed.
    ///
    /// # Errors
    /// If something could not be written; it is closed all the same.
    fn close(&self) -> Answer<'_, Result<(), QueueError>>;
}
