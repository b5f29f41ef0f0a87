//! Groups are consumers on the server, one for each lane.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Nats;
use super::failure::ApiError;
use super::inbox::{Inbox, Source};
use super::names::{self, check_group};
use crate::GroupError;

/// A group as this process uses it.
pub(super) struct Seat {
    pub(super) name: String,
    /// Stands for the name in receipts.
    pub(super) index: u32,
    pub(super) sources: Vec<Source>,
    /// Those that no receiver uses now, the last used last.
    pub(super) inboxes: Mutex<Vec<Inbox>>,
    /// Counts receives, for ageing.
    pub(super) turn: AtomicU32,
}

impl Nats {
    pub(super) async fn make_group(&self, name: &str) -> Result<(), GroupError> {
        check_group(name)?;
        let max = self.config.queue.max_groups;
        let known = self.list_groups().await?;
        if known.len() >= max as usize && !known.iter().any(|group| group == name) {
            return Err(GroupError::TooMany { max });
        }
        for lane in self.names.lanes() {
            self.make_consumer(&self.names.stream, &self.consumer(name, &lane)).await?;
        }
        Ok(())
    }

    pub(super) async fn drop_group(&self, name: &str) -> Result<(), GroupError> {
        check_group(name).map_err(|_| GroupError::Unknown)?;
        self.seats.lock().remove(name);
        for lane in self.names.lanes() {
            let consumer = self.names.consumer(name, &lane);
            self.api(&format!("CONSUMER.DELETE.{}.{consumer}", self.names.stream), &json!({})).await?;
        }
        let question = json!({ "filter": self.names.dead_letters(name) });
        self.api(&format!("STREAM.PURGE.{}", self.names.dead_stream()), &question).await?;
        Ok(())
    }

    pub(super) async fn list_groups(&self) -> Result<Vec<String>, ApiError> {
        let mut groups: Vec<String> = Vec::new();
        let (mut offset, mut total) = (0, 1);
        while offset < total {
            let operation = format!("CONSUMER.NAMES.{}", self.names.stream);
            let answer = self.api(&operation, &json!({ "offset": offset })).await?;
            let page = answer["consumers"].as_array().map_or(&[][..], Vec::as_slice);
            for group in page.iter().filter_map(Value::as_str).filter_map(names::group_of) {
                if !groups.contains(&group) {
                    groups.push(group);
                }
            }
            total = answer["total"].as_u64().unwrap_or(0);
            offset += page.len().max(1) as u64;
        }
        Ok(groups)
    }

    /// The group, if there is one; asks the server the first time.
    pub(super) async fn seat(&self, name: &str) -> Result<Arc<Seat>, ApiError> {
        if let Some(seat) = self.seats.lock().get(name) {
            return Ok(Arc::clone(seat));
        }
        check_group(name).map_err(|_| ApiError::CONSUMER_NOT_FOUND)?;
        let mut sources = Vec::new();
        for lane in self.names.lanes() {
            let consumer = self.names.consumer(name, &lane);
            self.consumer_info(&consumer).await?;
            sources.push(Source::new(&self.names.stream, &consumer));
        }
        let mut indices = self.indices.lock();
        let next = indices.len() as u32;
        let index = *indices.entry(name.to_owned()).or_insert(next);
        drop(indices);
        let mut seats = self.seats.lock();
        let seat = seats.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Seat { name: name.to_owned(), index, sources, inboxes: Mutex::default(), turn: AtomicU32::new(0) })
        });
        Ok(Arc::clone(seat))
    }

    pub(super) async fn consumer_info(&self, consumer: &str) -> Result<Value, ApiError> {
        self.api(&format!("CONSUMER.INFO.{}.{consumer}", self.names.stream), &json!({})).await
    }

    pub(super) async fn make_consumer(&self, stream: &str, config: &Value) -> Result<(), ApiError> {
        let name = config["durable_name"].as_str().unwrap_or_default();
        let question = json!({ "stream_name": stream, "config": config });
        self.api(&format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"), &question).await.map(|_| ())
    }

    fn consumer(&self, group: &str, lane: &str) -> Value {
        let queue = &self.config.queue;
        // One of a lane of keys at a time: that keeps its order, over redeliveries too.
        let max_leased = if lane.starts_with('k') { 1 } else { queue.max_leased };
        json!({
            "durable_name": self.names.consumer(group, lane),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanos(queue.lease),
            "max_deliver": queue.max_attempts,
            "max_ack_pending": max_leased,
            "filter_subject": self.names.subject(lane),
            "replay_policy": "instant",
        })
    }
}

/// JetStream's lengths of time.
pub(super) fn nanos(time: std::time::Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX >> 1)
}
