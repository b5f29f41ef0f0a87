//! Sending.

use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::Nats;
use super::api::PublishError;
use super::wire::{self, Times};
use crate::{Message, MessageId, Refusal, SendError};

/// How long a sender waits before it asks again whether there is room.
const PAUSE: Duration = Duration::from_millis(25);

/// How many messages of a batch are under way at a time.
const WINDOW: usize = 256;

impl Nats {
    pub(super) async fn send_one(&self, message: Message) -> Result<MessageId, SendError<Message>> {
        match self.send_by_reference(&message).await {
            Ok(id) => Ok(id),
            Err(refusal) => Err(SendError::new(refusal, message)),
        }
    }

    /// In order, many under way at a time. The server takes them one by one.
    pub(super) async fn send_all(&self, messages: Vec<Message>) -> Result<Vec<MessageId>, SendError<Vec<Message>>> {
        let refused = messages.iter().find_map(|message| self.check(message).err());
        if let Some(refusal) = refused {
            return Err(SendError::new(refusal, messages));
        }
        let mut under_way = FuturesOrdered::new();
        let mut unsent = messages.iter();
        let mut ids = Vec::with_capacity(messages.len());
        let refusal = loop {
            while under_way.len() < WINDOW {
                let Some(message) = unsent.next() else { break };
                // Otherwise the runtime makes one of them stand back at times, and others overtake it.
                under_way.push_back(tokio::task::unconstrained(self.send_by_reference(message)));
            }
            match under_way.next().await {
                None => break None,
                Some(Ok(id)) => ids.push(id),
                Some(Err(refusal)) => break Some(refusal),
            }
        };
        drop(under_way);
        match refusal {
            None => Ok(ids),
            Some(refusal) => Err(SendError::new(refusal, messages)),
        }
    }

    /// Waits for room and for a server until [`Config::send_timeout`](crate::Config::send_timeout). A message whose
    /// confirmation is lost is sent again only if it has a deduplication id: otherwise it could be there twice.
    async fn send_by_reference(&self, message: &Message) -> Result<MessageId, Refusal> {
        self.check(message)?;
        let times = Times::of(message, self.wall());
        let headers = self.headers(message, times)?;
        let subject = if times.due_ms > 0 {
            self.names.later()
        } else {
            self.names.subject(&self.names.lane(message.priority(), message.key().map(|key| &key[..])))
        };
        let can_repeat = headers.get(wire::MESSAGE_ID).is_some();
        let until = self.now().saturating_add(self.config.queue.send_timeout);
        loop {
            let error = match self.publish(subject.clone(), headers.clone(), message.body().clone()).await {
                Ok(published) => return Ok(MessageId::new(published.sequence)),
                Err(error) => error,
            };
            let is_worth_it = match error {
                PublishError::Full | PublishError::Nobody => true,
                PublishError::Lost(_) => can_repeat,
                PublishError::DiskFull | PublishError::TooLarge => false,
            };
            if !is_worth_it || self.is_closed() || self.now() + PAUSE > until {
                return Err(self.refusal(error, message));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn check(&self, message: &Message) -> Result<(), Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        let (size, max) = (message.size(), self.max_message_bytes());
        if size > max {
            return Err(Refusal::TooLarge { size, max });
        }
        message.check().map_err(Refusal::Invalid)?;
        match message.key() {
            Some(_) if self.config.key_lanes == 0 => Err(Refusal::Unsupported("keys without key lanes")),
            Some(_) if message.priority() > 0 => Err(Refusal::Unsupported("a priority of a message with a key")),
            _ if message.priority() >= self.config.priorities => Err(Refusal::Unsupported("so many priorities")),
            _ => Ok(()),
        }
    }

    fn headers(&self, message: &Message, times: Times) -> Result<HeaderMap, Refusal> {
        let mut headers = wire::encode(message, times)?;
        let window = self.config.queue.deduplication_window;
        if let Some(id) = message.deduplication_id().filter(|_| !window.is_zero()) {
            // Ids of our own, for what is sent on, begin differently.
            headers.insert(wire::MESSAGE_ID, format!("u.{}", wire::text(id)));
        }
        Ok(headers)
    }

    fn refusal(&self, error: PublishError, message: &Message) -> Refusal {
        match error {
            PublishError::Full => Refusal::Full,
            PublishError::DiskFull => Refusal::DiskFull,
            PublishError::TooLarge => Refusal::TooLarge { size: message.size(), max: self.max_message_bytes() },
            PublishError::Nobody | PublishError::Lost(_) => Refusal::Failed(error.failure()),
        }
    }
}
