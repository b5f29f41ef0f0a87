//! Dead letters: a stream of their own, a subject for each, so that it is found by its id.
//!
//! The server never gives a message up by itself; after the last attempt it only stops delivering it, and says so once to
//! whoever listens (an *advisory*). So the advisories go into a stream, too, and whoever keeps house reads them, copies the
//! message to the dead letters and acks it in the name of the group.

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use serde_json::{Value, json};

use super::api::PublishError;
use super::failure::{self, ApiError};
use super::names::group_of;
use super::{Nats, wire};
use crate::{DeadLetter, DeadReason, MessageId};

impl Nats {
    /// Puts a copy of a message to the dead letters.
    pub(super) async fn bury(
        &self,
        group: &str,
        id: MessageId,
        reason: &DeadReason,
        attempts: u32,
        headers: &HeaderMap,
        payload: Bytes,
    ) -> Result<(), ApiError> {
        let mut headers = wire::copy(headers);
        headers.insert(wire::ID, HeaderValue::from(id.get()));
        headers.insert(wire::REASON, wire::reason_text(reason));
        headers.insert(wire::ATTEMPTS, HeaderValue::from(u64::from(attempts)));
        let published = self.publish(self.names.dead_letter(group, id), headers, payload).await;
        published.map(|_| ()).map_err(|error| ApiError::Failed(error.failure()))
    }

    /// Buries what an advisory speaks of. A second time does nothing new: the letter takes the place of the first.
    pub(super) async fn bury_exhausted(&self, advisory: &[u8]) -> Result<(), ApiError> {
        let Ok(advisory) = serde_json::from_slice::<Value>(advisory) else { return Ok(()) };
        let (consumer, sequence) = (advisory["consumer"].as_str(), advisory["stream_seq"].as_u64());
        let (Some(consumer), Some(sequence)) = (consumer, sequence) else { return Ok(()) };
        let Some(group) = group_of(consumer) else { return Ok(()) };
        let deliveries = advisory["deliveries"].as_u64().unwrap_or(0);
        // It was acked late, or purged.
        let Some(stored) = self.stored(&self.names.stream, sequence, None).await? else { return Ok(()) };
        let id = wire::id(&stored.headers, sequence);
        let attempts = u32::try_from(deliveries).unwrap_or(u32::MAX);
        self.bury(&group, id, &DeadReason::Attempts, attempts, &stored.headers, stored.payload).await?;
        let place = format!("$JS.ACK.{}.{consumer}.{deliveries}.{sequence}.1.0.0", self.names.stream);
        self.request(place, None, Bytes::from_static(b"+TERM")).await?;
        Ok(())
    }

    pub(super) async fn list_dead(&self, group: &str, max: usize) -> Result<Vec<DeadLetter>, ApiError> {
        self.seat(group).await?;
        self.settle_house().await?;
        let (subject, stream) = (self.names.dead_letters(group), self.names.dead_stream());
        let (mut letters, mut from) = (Vec::new(), 1);
        while letters.len() < max {
            let Some(stored) = self.stored(&stream, from, Some(&subject)).await? else { break };
            from = stored.sequence + 1;
            let id = wire::id(&stored.headers, stored.sequence);
            let reason = wire::reason(wire::value(&stored.headers, wire::REASON).unwrap_or_default());
            let attempts = wire::number(&stored.headers, wire::ATTEMPTS).unwrap_or(0).try_into().unwrap_or(u32::MAX);
            letters.push(DeadLetter::new(id, reason, attempts, wire::decode(&stored.headers, stored.payload)));
        }
        Ok(letters)
    }

    /// Sends a dead letter again, to its group only, under its old id. A deadline that has passed is lifted.
    pub(super) async fn requeue_dead(&self, group: &str, id: MessageId) -> Result<bool, ApiError> {
        self.seat(group).await?;
        self.settle_house().await?;
        let (subject, stream) = (self.names.dead_letter(group, id), self.names.dead_stream());
        let Some(stored) = self.stored(&stream, 1, Some(&subject)).await? else { return Ok(false) };
        let mut headers = HeaderMap::new();
        let expired =
            wire::reason(wire::value(&stored.headers, wire::REASON).unwrap_or_default()) == DeadReason::Expired;
        for (name, values) in wire::copy(&stored.headers).iter() {
            let text: &str = name.as_ref();
            let is_dropped = [wire::REASON, wire::ATTEMPTS].contains(&text) || (expired && text == wire::EXPIRES);
            if !is_dropped {
                values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
            }
        }
        headers.insert(wire::GROUP, group);
        // If the letter cannot be deleted below, a second try sends nothing twice.
        headers.insert(wire::MESSAGE_ID, format!("r.{}", stored.sequence));
        let message = wire::decode(&headers, Bytes::new());
        let lane = self.names.lane(message.priority(), message.key().map(|key| &key[..]));
        let published = self.publish(self.names.subject(&lane), headers, stored.payload).await;
        published.map_err(|error: PublishError| ApiError::Failed(error.failure()))?;
        self.delete(&stream, stored.sequence).await?;
        Ok(true)
    }

    pub(super) async fn count_dead(&self, group: &str) -> Result<u64, ApiError> {
        let question = json!({ "subjects_filter": self.names.dead_letters(group) });
        let info = self.api(&format!("STREAM.INFO.{}", self.names.dead_stream()), &question).await?;
        let subjects = info["state"]["subjects"].as_object();
        Ok(subjects.map_or(0, |subjects| subjects.values().filter_map(Value::as_u64).sum()))
    }

    pub(super) async fn purge_stream(&self, stream: &str) -> Result<u64, ApiError> {
        let answer = self.api(&format!("STREAM.PURGE.{stream}"), &json!({})).await?;
        answer["purged"].as_u64().ok_or_else(|| failure::nonsense().into())
    }
}
