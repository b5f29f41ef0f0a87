//! Sending.

use std::fmt;
use std::sync::Arc;

use crate::shared::Shared;
use crate::{Message, MessageId, Refusal, SendError, Ticket};

/// Sends messages to a queue. As many as one likes, for as many threads and tasks; clones are the same.
///
/// | | waits for room | waits for the confirmation |
/// |---|---|---|
/// | [`send`](Self::send), [`send_batch`](Self::send_batch), [`send_async`](Self::send_async), [`send_batch_async`](Self::send_batch_async) | yes | yes |
/// | [`submit`](Self::submit), [`submit_batch`](Self::submit_batch), [`submit_async`](Self::submit_async), [`submit_batch_async`](Self::submit_batch_async) | yes | by the ticket |
/// | [`try_send`](Self::try_send) | no | yes |
/// | [`try_submit`](Self::try_submit) | no | by the ticket |
///
/// Whoever waits for room does so no longer than [`Config::send_timeout`](crate::Config::send_timeout). Threads look at the
/// clock themselves; for tasks a [`Driver`](crate::Driver) must, or a thread in [`Consumer::receive`](crate::Consumer::receive),
/// or whoever calls [`Queue::tick`](crate::Queue::tick): without any of them, a task waits until there is room.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

impl Producer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sends a message and blocks until it is confirmed: it will be delivered, whatever happens, as far as
    /// [`Durability`](crate::Durability) says. The id is that of the first one if it is a duplicate.
    ///
    /// # Errors
    /// The message, and why it was refused. After [`Refusal::Failed`] it may be in the queue or not.
    pub fn send(&self, message: impl Into<Message>) -> Result<MessageId, SendError<Message>> {
        self.send_now_or(message.into(), Shared::enqueue_waiting)
    }

    /// As [`Producer::send`], but refuses at once when there is no room.
    ///
    /// # Errors
    /// The message, and why it was refused.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<MessageId, SendError<Message>> {
        self.send_now_or(message.into(), Shared::enqueue)
    }

    #[inline]
    fn send_now_or(&self, mut message: Message, enqueue: Enqueue) -> Result<MessageId, SendError<Message>> {
        let accepted = match enqueue(&self.shared, &mut message) {
            Ok(accepted) => accepted,
            Err(refusal) => return Err(SendError::new(refusal, message)),
        };
        match self.shared.confirm(accepted.lsn) {
            Ok(()) => Ok(accepted.id),
            Err(failure) => Err(SendError::new(Refusal::Failed(failure), message)),
        }
    }

    /// Gives a message to the queue without waiting for the confirmation. Blocks only for room.
    ///
    /// # Errors
    /// The message, and why it was refused.
    pub fn submit(&self, message: impl Into<Message>) -> Result<Ticket, SendError<Message>> {
        self.submit_or(message.into(), Shared::enqueue_waiting)
    }

    /// As [`Producer::submit`], but refuses at once when there is no room.
    ///
    /// # Errors
    /// The message, and why it was refused.
    pub fn try_submit(&self, message: impl Into<Message>) -> Result<Ticket, SendError<Message>> {
        self.submit_or(message.into(), Shared::enqueue)
    }

    #[inline]
    fn submit_or(&self, mut message: Message, enqueue: Enqueue) -> Result<Ticket, SendError<Message>> {
        match enqueue(&self.shared, &mut message) {
            Ok(accepted) => Ok(accepted.ticket(&self.shared)),
            Err(refusal) => Err(SendError::new(refusal, message)),
        }
    }

    /// Sends messages together and blocks until all are confirmed: by one sync, and all or none of them, also after a
    /// crash. Returns their ids in order.
    ///
    /// # Errors
    /// All the messages, and why they were refused; [`Refusal::TooLarge`] if together they are larger than a segment of
    /// the log.
    pub fn send_batch<M: Into<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<MessageId>, SendError<Vec<Message>>> {
        let mut messages: Vec<Message> = messages.into_iter().map(Into::into).collect();
        let mut ids = Vec::with_capacity(messages.len());
        let accepted = match self.shared.enqueue_all_waiting(&mut messages, Some(&mut ids)) {
            Ok(accepted) => accepted,
            Err(refusal) => return Err(SendError::new(refusal, messages)),
        };
        match self.shared.confirm(accepted.lsn) {
            Ok(()) => Ok(ids),
            Err(failure) => Err(SendError::new(Refusal::Failed(failure), messages)),
        }
    }

    /// As [`Producer::send_batch`] without waiting for the confirmation. The ticket's id is that of the last message.
    ///
    /// # Errors
    /// All the messages, and why they were refused.
    pub fn submit_batch<M: Into<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Ticket, SendError<Vec<Message>>> {
        let mut messages: Vec<Message> = messages.into_iter().map(Into::into).collect();
        match self.shared.enqueue_all_waiting(&mut messages, None) {
            Ok(accepted) => Ok(accepted.ticket(&self.shared)),
            Err(refusal) => Err(SendError::new(refusal, messages)),
        }
    }

    /// Sends a message and waits until it is confirmed.
    ///
    /// # Errors
    /// As of [`Producer::send`].
    ///
    /// # Cancel safety
    /// Dropped before it has room, the message was not sent and is gone with the future. Dropped later, it is sent.
    pub async fn send_async(&self, message: impl Into<Message>) -> Result<MessageId, SendError<Message>> {
        let mut message = message.into();
        let accepted = match self.shared.enqueue_async(&mut message).await {
            Ok(accepted) => accepted,
            Err(refusal) => return Err(SendError::new(refusal, message)),
        };
        match self.confirmed(accepted).await {
            Ok(()) => Ok(accepted.id),
            Err(failure) => Err(SendError::new(Refusal::Failed(failure), message)),
        }
    }

    async fn confirmed(&self, accepted: crate::shared::Accepted) -> Result<(), crate::Failure> {
        let mut confirmation = None;
        std::future::poll_fn(|context| self.shared.poll_confirm(accepted.lsn, &mut confirmation, context)).await
    }

    /// Sends messages together and waits until all are confirmed: by one sync, and all or none of them, also after a
    /// crash. Returns their ids in order.
    ///
    /// # Errors
    /// As of [`Producer::send_batch`].
    ///
    /// # Cancel safety
    /// As of [`Producer::send_async`].
    pub async fn send_batch_async<M: Into<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<MessageId>, SendError<Vec<Message>>> {
        let mut messages: Vec<Message> = messages.into_iter().map(Into::into).collect();
        let mut ids = Vec::with_capacity(messages.len());
        let accepted = match self.shared.enqueue_all_async(&mut messages, Some(&mut ids)).await {
            Ok(accepted) => accepted,
            Err(refusal) => return Err(SendError::new(refusal, messages)),
        };
        match self.confirmed(accepted).await {
            Ok(()) => Ok(ids),
            Err(failure) => Err(SendError::new(Refusal::Failed(failure), messages)),
        }
    }

    /// As [`Producer::send_batch_async`], waiting only for room. The ticket's id is that of the last message.
    ///
    /// # Errors
    /// As of [`Producer::submit_batch`].
    ///
    /// # Cancel safety
    /// As of [`Producer::send_async`].
    pub async fn submit_batch_async<M: Into<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Ticket, SendError<Vec<Message>>> {
        let mut messages: Vec<Message> = messages.into_iter().map(Into::into).collect();
        match self.shared.enqueue_all_async(&mut messages, None).await {
            Ok(accepted) => Ok(accepted.ticket(&self.shared)),
            Err(refusal) => Err(SendError::new(refusal, messages)),
        }
    }

    /// Gives a message to the queue, waiting only for room.
    ///
    /// # Errors
    /// As of [`Producer::submit`].
    ///
    /// # Cancel safety
    /// As of [`Producer::send_async`].
    pub async fn submit_async(&self, message: impl Into<Message>) -> Result<Ticket, SendError<Message>> {
        let mut message = message.into();
        match self.shared.enqueue_async(&mut message).await {
            Ok(accepted) => Ok(accepted.ticket(&self.shared)),
            Err(refusal) => Err(SendError::new(refusal, message)),
        }
    }
}

type Enqueue = fn(&Shared, &mut Message) -> Result<crate::shared::Accepted, Refusal>;

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
