//! The trait.

use std::time::Duration;

use super::Nats;
use crate::broker::{Answer, Broker, Capabilities, Delay, DurableAck, Extension, Fencing, KeyOrder};
use crate::{
    DEFAULT_GROUP, DeadLetter, GroupError, Message, MessageId, QueueError, Receipt, ReceiveError, Received, SendError,
    SettleError, Stats,
};

impl Broker for Nats {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            priorities: self.config.priorities,
            keys: match self.config.key_lanes {
                0 => KeyOrder::Unsupported,
                lanes => KeyOrder::Lanes(lanes),
            },
            delay: Delay::ByReceivers,
            extension: Extension::Lease,
            fencing: Fencing::Receiver,
            durable_ack: DurableAck::Processed,
            has_atomic_batches: false,
            keeps_header_order: false,
            max_message_bytes: self.max_message_bytes(),
        }
    }

    fn send(&self, message: Message) -> Answer<'_, Result<MessageId, SendError<Message>>> {
        Box::pin(self.send_one(message))
    }

    fn send_batch(&self, messages: Vec<Message>) -> Answer<'_, Result<Vec<MessageId>, SendError<Vec<Message>>>> {
        Box::pin(self.send_all(messages))
    }

    fn receive<'a>(
        &'a self,
        group: &'a str,
        max: usize,
        wait: Duration,
    ) -> Answer<'a, Result<Vec<Received>, ReceiveError>> {
        Box::pin(self.receive_some(group, max.max(1), wait))
    }

    fn ack(&self, receipt: Receipt) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(self.ack_one(receipt))
    }

    fn ack_durable(&self, receipt: Receipt) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(self.ack_confirmed(receipt))
    }

    fn nack(&self, receipt: Receipt, delay: Duration) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(self.nack_one(receipt, delay))
    }

    fn extend(&self, receipt: Receipt, lease: Duration) -> Answer<'_, Result<(), SettleError>> {
        Box::pin(self.extend_one(receipt, lease))
    }

    fn dead_letter<'a>(&'a self, receipt: Receipt, reason: &'a str) -> Answer<'a, Result<(), SettleError>> {
        Box::pin(self.reject(receipt, reason))
    }

    fn dead_letters<'a>(&'a self, group: &'a str, max: usize) -> Answer<'a, Result<Vec<DeadLetter>, GroupError>> {
        Box::pin(async move {
            self.check_group_open()?;
            Ok(self.list_dead(group, max).await?)
        })
    }

    fn requeue<'a>(&'a self, group: &'a str, id: MessageId) -> Answer<'a, Result<bool, GroupError>> {
        Box::pin(async move {
            self.check_group_open()?;
            Ok(self.requeue_dead(group, id).await?)
        })
    }

    fn create_group<'a>(&'a self, group: &'a str) -> Answer<'a, Result<(), GroupError>> {
        Box::pin(async move {
            self.check_group_open()?;
            self.make_group(group).await
        })
    }

    fn remove_group<'a>(&'a self, group: &'a str) -> Answer<'a, Result<(), GroupError>> {
        Box::pin(async move {
            self.check_group_open()?;
            self.drop_group(group).await
        })
    }

    fn groups(&self) -> Answer<'_, Result<Vec<String>, GroupError>> {
        Box::pin(async move {
            self.check_group_open()?;
            let mut groups = self.list_groups().await?;
            // The server has an order of its own.
            groups.sort_by(|a, b| (a != DEFAULT_GROUP, a).cmp(&(b != DEFAULT_GROUP, b)));
            Ok(groups)
        })
    }

    fn purge(&self) -> Answer<'_, Result<u64, QueueError>> {
        Box::pin(async move {
            self.check_open()?;
            Ok(self.purge_everything().await?)
        })
    }

    fn stats(&self) -> Answer<'_, Result<Stats, QueueError>> {
        Box::pin(async move {
            self.check_open()?;
            Ok(self.count().await?)
        })
    }

    fn close(&self) -> Answer<'_, Result<(), QueueError>> {
        Box::pin(self.stop())
    }
}

impl Nats {
    fn check_open(&self) -> Result<(), QueueError> {
        if self.is_closed() { Err(QueueError::Closed) } else { Ok(()) }
    }

    fn check_group_open(&self) -> Result<(), GroupError> {
        if self.is_closed() { Err(GroupError::Closed) } else { Ok(()) }
    }
}
