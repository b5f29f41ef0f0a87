//! The queue in this process behind the trait.
//!
//! Its receivers drive it: they look at the clock by tokio's timer, so that delays and leases need no other driver.
//! Senders and durable acks write the log in their tasks, for all that wait: short, but not for a runtime that must never
//! block.

use std::future::Future;
use std::time::Duration;

use super::{Answer, Broker, Capabilities, Delay, DurableAck, Extension, Fencing, KeyOrder};
use crate::shared::Until;
use crate::{
    DeadLetter, GroupError, MAX_PRIORITY, Message, MessageId, Queue, QueueError, Receipt, ReceiveError, Received,
    SendError, SettleError, Start, Stats,
};

/// How long a receiver sleeps at most, even if nothing seems to come.
const MAX_SLEEP: Duration = Duration::from_secs(1);

impl Broker for Queue {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            priorities: MAX_PRIORITY + 1,
            keys: KeyOrder::Each,
            delay: Delay::Native,
            extension: Extension::Any,
            fencing: Fencing::Queue,
            durable_ack: DurableAck::AsMessages,
            has_atomic_batches: true,
            keeps_header_order: true,
            max_message_bytes: self.shared().config.max_message_bytes as usize,
        }
    }

    fn send(&self, message: Message) -> Answer<'_, Result<MessageId, SendError<Message>>> {
        Box::pin(async move { in_time(self, self.producer().send_async(message)).await })
    }

    fn send_batch(&self, messages: Vec<Message>) -> Answer<'_, Result<Vec<MessageId>, SendError<Vec<Message>>>> {
        Box::pin(async move { in_time(self, self.producer().send_batch_async(messages)).await })
    }

    fn receive<'a>(
        &'a self,
        group: &'a str,
        max: usize,
        wait: Duration,
    ) -> Answer<'a, Result<Vec<Received>, ReceiveError>> {
        Box::pin(receive(self, group, max.max(1), wait))
    }

    fn ack(&self, receipt: Receipt) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(async move { Queue::ack(self, receipt) })
    }

    fn ack_durable(&self, receipt: Receipt) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(async move {
            let ticket = Queue::ack_durable(self, receipt)?;
            ticket.await.map(|_| ()).map_err(SettleError::Failed)
        })
    }

    fn nack(&self, receipt: Receipt, delay: Duration) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(async move { Queue::nack(self, receipt, delay) })
    }

    fn extend(&self, receipt: Receipt, lease: Duration) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(async move { Queue::extend(self, receipt, lease) })
    }

    fn dead_letter<'a>(&'a self, receipt: Receipt, reason: &'a str) -> Answer<'a, Result<(), SettleError>> {
        Box::pin(async move { Queue::dead_letter(self, receipt, reason) })
    }

    fn dead_letters<'a>(&'a self, group: &'a str, max: usize) -> Answer<'a, Result<Vec<DeadLetter>, GroupError>> {
        Box::pin(async move { self.shared().dead_letters(self.known(group)?, max) })
    }

    fn requeue<'a>(&'a self, group: &'a str, id: MessageId) -> Answer<'a, Result<bool, GroupError>> {
        Box::pin(async move { self.shared().requeue(self.known(group)?, id) })
    }

    fn create_group<'a>(&'a self, group: &'a str) -> Answer<'a, Result<(), GroupError>> {
        Box::pin(async move { self.group_from(group, Start::Earliest).map(|_| ()) })
    }

    fn remove_group<'a>(&'a self, group: &'a str) -> Answer<'a, Result<(), GroupError>> {
        Box::pin(async move { Queue::remove_group(self, group) })
    }

    fn groups(&self) -> Answer<'_, Result<Vec<String>, GroupError>> {
        Box::pin(async move { Ok(Queue::groups(self)) })
    }

    fn purge(&self) -> Answer<'_, Result<u64, QueueError>> {
        Box::pin(async move { Queue::purge(self) })
    }

    fn stats(&self) -> Answer<'_, Result<Stats, QueueError>> {
        Box::pin(async move { Ok(Queue::stats(self)) })
    }

    fn close(&self) -> Answer<'_, Result<(), QueueError>> {
        Box::pin(async move { Queue::close(self) })
    }
}

impl Queue {
    fn known(&self, group: &str) -> Result<crate::state::GroupId, GroupError> {
        self.shared().find_group(group).ok_or(GroupError::Unknown)
    }
}

/// Looks at the clock for a sender, which as a task has none, when it may have waited for room as long as it may.
async fn in_time<T>(queue: &Queue, sending: impl Future<Output = T>) -> T {
    let mut sending = std::pin::pin!(sending);
    let timeout = queue.shared().config.send_timeout.max(Duration::from_millis(1));
    loop {
        match tokio::time::timeout(timeout, sending.as_mut()).await {
            Ok(sent) => return sent,
            // If that fails, the sender is told, too.
            Err(_) => _ = queue.tick(),
        }
    }
}

async fn receive(queue: &Queue, group: &str, max: usize, wait: Duration) -> Result<Vec<Received>, ReceiveError> {
    let shared = queue.shared();
    let group = shared.find_group(group).ok_or(ReceiveError::NoGroup)?;
    let until = shared.until(wait);
    loop {
        let mut received = Vec::new();
        shared.receive(group, max, Until::Now, &mut received)?;
        let left = shared.left(until).unwrap_or(Duration::MAX);
        if !received.is_empty() || left.is_zero() {
            return Ok(received);
        }
        let due = shared.tick().map_err(|error| match error {
            QueueError::Failed(failure) => ReceiveError::Failed(failure),
            _ => ReceiveError::Closed,
        })?;
        // A message is taken only in the poll that returns it, so that an end of the time loses none.
        if let Ok(received) = tokio::time::timeout(left.min(due).min(MAX_SLEEP), shared.receive_async(group, max)).await
        {
            return received;
        }
    }
}
