//! The promise of a confirmation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::log::{Confirmation, Lsn};
use crate::shared::Shared;
use crate::{Failure, MessageId};

/// Something was given to the log and is not confirmed yet: a message that was sent, an ack that must not be lost.
///
/// Many may be open at a time: that is how one thread sends millions a second, confirmed by a few syncs. Wait for it as a
/// thread ([`Ticket::wait`]) or as a task (it is a future). They are confirmed in the order of sending, so waiting for
/// the last of many is enough. Dropping one changes nothing: the message is sent all the same, and written
/// by whoever waits next; a consumer that waits already is woken to do it.
#[must_use = "nothing is confirmed before the ticket says so"]
pub struct Ticket {
    shared: Arc<Shared>,
    id: MessageId,
    lsn: Lsn,
    is_duplicate: bool,
    /// Once it was polled.
    confirmation: Option<Confirmation>,
}

impl Ticket {
    pub(crate) fn new(shared: Arc<Shared>, id: MessageId, lsn: Lsn, is_duplicate: bool) -> Self {
        Self { shared, id, lsn, is_duplicate, confirmation: None }
    }

    /// The id of the message; of a batch, the last one; of an ack, that of the message.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Whether the message had been sent before and was not queued again: the id is that of the first one.
    pub fn is_duplicate(&self) -> bool {
        self.is_duplicate
    }

    /// Whether it is confirmed already.
    pub fn is_confirmed(&self) -> bool {
        self.shared.is_confirmed(self.lsn)
    }

    /// Blocks until it is confirmed. If no other thread is writing the log, this one does.
    ///
    /// # Errors
    /// If the log failed: what is on disk is then unknown.
    pub fn wait(&self) -> Result<MessageId, Failure> {
        self.shared.confirm(self.lsn)?;
        Ok(self.id)
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared), self.id, self.lsn, self.is_duplicate)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_confirmed() {
            self.shared.call_writer();
        }
    }
}

/// # Cancel safety
/// Dropping it withdraws nothing: the message is sent.
impl Future for Ticket {
    type Output = Result<MessageId, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, id, lsn, confirmation, .. } = self.get_mut();
        shared.poll_confirm(*lsn, confirmation, context).map(|confirmed| confirmed.map(|()| *id))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).field("is_duplicate", &self.is_duplicate).finish_non_exhaustive()
    }
}
