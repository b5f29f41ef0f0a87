//! Receiving.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ReceiveError;
use crate::delivery::{Batch, Delivery, Received};
use crate::shared::{Settlement, Shared, Until};
use crate::state::GroupId;
use crate::sync::Mutex;

/// Receives the messages of a group, together with the group's other consumers: each message goes to one of them.
///
/// With [`Config::prefetch`](crate::Config::prefetch) above 1 it takes that many ahead and hands them out without asking
/// the queue. Those it still has when it is dropped go back uncounted; those whose lease ran out meanwhile are not handed
/// out.
pub struct Consumer {
    shared: Arc<Shared>,
    group: GroupId,
    ahead: Mutex<VecDeque<Received>>,
}

impl Consumer {
    pub(crate) fn new(shared: Arc<Shared>, group: GroupId) -> Self {
        Self { shared, group, ahead: Mutex::default() }
    }

    /// Blocks until there is a message.
    ///
    /// While it waits it does what is to be done: it writes what was sent and nobody is writing, and wakes up for
    /// delays that come due.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`] once the queue is closed or, after [`Queue::drain`](crate::Queue::drain), empty.
    pub fn receive(&self) -> Result<Delivery, ReceiveError> {
        loop {
            if let Some(delivery) = self.one(Until::Forever)? {
                return Ok(delivery);
            }
        }
    }

    /// As [`Consumer::receive`], for at most this much time; `None` once it has passed.
    ///
    /// # Errors
    /// As of [`Consumer::receive`].
    pub fn receive_timeout(&self, timeout: Duration) -> Result<Option<Delivery>, ReceiveError> {
        self.one(self.shared.until(timeout))
    }

    /// A message if there is one now.
    ///
    /// # Errors
    /// As of [`Consumer::receive`].
    #[inline]
    pub fn try_receive(&self) -> Result<Option<Delivery>, ReceiveError> {
        self.one(Until::Now)
    }

    #[inline]
    fn one(&self, until: Until) -> Result<Option<Delivery>, ReceiveError> {
        if let Some(received) = self.ahead() {
            return Ok(Some(self.delivery(received)));
        }
        let prefetch = self.shared.config.prefetch as usize;
        if prefetch == 1 {
            return Ok(self.shared.receive_one(self.group, until)?.map(|received| self.delivery(received)));
        }
        let mut received = Vec::new();
        self.shared.receive(self.group, prefetch, until, &mut received)?;
        Ok(self.keep_ahead(received))
    }

    /// Waits until there is a message.
    ///
    /// Delays that come due wake tasks only if somebody looks at the clock: a [`Driver`](crate::Driver), or a thread in
    /// [`Consumer::receive`].
    ///
    /// # Errors
    /// As of [`Consumer::receive`].
    ///
    /// # Cancel safety
    /// Dropping the future loses no message and no wake-up: a message is taken only in the poll that returns it.
    pub async fn receive_async(&self) -> Result<Delivery, ReceiveError> {
        if let Some(received) = self.ahead() {
            return Ok(self.delivery(received));
        }
        loop {
            let received = self.shared.receive_async(self.group, self.shared.config.prefetch as usize).await?;
            if let Some(delivery) = self.keep_ahead(received) {
                return Ok(delivery);
            }
        }
    }

    /// Blocks until there is a message and takes up to `max` of those that there are.
    ///
    /// # Errors
    /// As of [`Consumer::receive`].
    pub fn receive_batch(&self, max: usize) -> Result<Batch, ReceiveError> {
        self.batch(max, Until::Forever)
    }

    /// As [`Consumer::receive_batch`], for at most this much time; an empty batch once it has passed.
    ///
    /// # Errors
    /// As of [`Consumer::receive`].
    pub fn receive_batch_timeout(&self, max: usize, timeout: Duration) -> Result<Batch, ReceiveError> {
        self.batch(max, self.shared.until(timeout))
    }

    /// Up to `max` of the messages that there are now, perhaps none.
    ///
    /// # Errors
    /// As of [`Consumer::receive`].
    pub fn try_receive_batch(&self, max: usize) -> Result<Batch, ReceiveError> {
        self.batch(max, Until::Now)
    }

    /// Waits until there is a message and takes up to `max` of those that there are.
    ///
    /// # Errors
    /// As of [`Consumer::receive`].
    ///
    /// # Cancel safety
    /// As of [`Consumer::receive_async`].
    pub async fn receive_batch_async(&self, max: usize) -> Result<Batch, ReceiveError> {
        let received = self.drain_ahead(max);
        if !received.is_empty() {
            return Ok(Batch::new(Arc::clone(&self.shared), received));
        }
        let received = self.shared.receive_async(self.group, max.max(1)).await?;
        Ok(Batch::new(Arc::clone(&self.shared), received))
    }

    fn batch(&self, max: usize, until: Until) -> Result<Batch, ReceiveError> {
        let mut received = self.drain_ahead(max);
        if received.is_empty() {
            self.shared.receive(self.group, max.max(1), until, &mut received)?;
        }
        Ok(Batch::new(Arc::clone(&self.shared), received))
    }

    #[inline]
    fn delivery(&self, received: Received) -> Delivery {
        Delivery::new(Arc::clone(&self.shared), received)
    }

    fn keep_ahead(&self, received: Vec<Received>) -> Option<Delivery> {
        let mut received = received.into_iter();
        let first = received.next().map(|received| self.delivery(received));
        if received.len() > 0 {
            self.ahead.lock().extend(received);
        }
        first
    }

    #[inline]
    fn ahead(&self) -> Option<Received> {
        if self.shared.config.prefetch == 1 { None } else { self.pop_ahead() }
    }

    fn pop_ahead(&self) -> Option<Received> {
        let mut ahead = self.ahead.lock();
        while let Some(received) = ahead.pop_front() {
            if self.shared.is_leased(received.receipt) {
                return Some(received);
            }
        }
        None
    }

    fn drain_ahead(&self, max: usize) -> Vec<Received> {
        std::iter::from_fn(|| self.ahead()).take(max).collect()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for received in self.ahead.get_mut().drain(..) {
            // Stale or closed: then there is nothing to give back.
            let _ = self.shared.settle(received.receipt, Settlement::Release);
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("group", &self.group).finish_non_exhaustive()
    }
}
