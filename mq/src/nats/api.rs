//! JetStream's requests: JSON to a subject, JSON back (`nats-io/nats-architecture-and-design`, ADR-1, ADR-31).

use std::io::ErrorKind;

use async_nats::{HeaderMap, Message, Request};
use bytes::Bytes;
use serde_json::{Value, json};

use super::failure::{self, ApiError};
use super::{Nats, wire};
use crate::Failure;

/// A message as it lies in a stream.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// What the server says to a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    pub(super) sequence: u64,
}

/// Why a message is not known to be in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishError {
    /// It is not: the stream has no room.
    Full,
    /// It is not: the disk has none.
    DiskFull,
    /// It is not: too large for the server.
    TooLarge,
    /// It is not: nobody is there to take it.
    Nobody,
    /// Unknown.
    Lost(Failure),
}

impl PublishError {
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Lost(failure) => failure,
            Self::Nobody => Failure::from(ErrorKind::ConnectionRefused),
            Self::Full | Self::DiskFull => Failure::from(ErrorKind::StorageFull),
            Self::TooLarge => Failure::from(ErrorKind::InvalidInput),
        }
    }
}

impl Nats {
    /// Asks JetStream for something.
    pub(super) async fn api(&self, operation: &str, question: &Value) -> Result<Value, ApiError> {
        let answer = self.request(format!("$JS.API.{operation}"), None, question.to_string().into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(|_| failure::nonsense())?;
        match answer.get("error") {
            Some(error) => Err(ApiError::Code(error["err_code"].as_u64().unwrap_or(0))),
            None => Ok(answer),
        }
    }

    pub(super) async fn request(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, Failure> {
        let mut request = Request::new().payload(payload).timeout(Some(self.config.request_timeout));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        self.client.send_request(subject, request).await.map_err(|error| failure::of_request(&error))
    }

    /// Puts a message into a stream; confirmed when this returns.
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Published, PublishError> {
        let request = Request::new().payload(payload).headers(headers).timeout(Some(self.config.request_timeout));
        let answer = self.client.send_request(subject, request).await.map_err(|error| match error.kind() {
            async_nats::RequestErrorKind::NoResponders => PublishError::Nobody,
            async_nats::RequestErrorKind::MaxPayloadExceeded => PublishError::TooLarge,
            _ => PublishError::Lost(failure::of_request(&error)),
        })?;
        let answer: Value =
            serde_json::from_slice(&answer.payload).map_err(|_| PublishError::Lost(failure::nonsense()))?;
        if let Some(error) = answer.get("error") {
            return Err(refused(error));
        }
        let sequence = answer["seq"].as_u64().ok_or(PublishError::Lost(failure::nonsense()))?;
        Ok(Published { sequence })
    }

    /// A message by its number, or the first from that number on of a subject.
    pub(super) async fn stored(
        &self,
        stream: &str,
        from: u64,
        subject: Option<&str>,
    ) -> Result<Option<Stored>, ApiError> {
        let question = match subject {
            Some(subject) => json!({ "seq": from, "next_by_subj": subject }),
            None => json!({ "seq": from }),
        };
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let answer = self.request(subject, None, question.to_string().into()).await?;
        if answer.status.is_some_and(|status| status.as_u16() == 404) {
            return Ok(None);
        }
        let headers = answer.headers.ok_or_else(failure::nonsense)?;
        let sequence = wire::number(&headers, "Nats-Sequence").ok_or_else(failure::nonsense)?;
        Ok(Some(Stored { sequence, headers, payload: answer.payload }))
    }

    pub(super) async fn delete(&self, stream: &str, sequence: u64) -> Result<bool, ApiError> {
        match self.api(&format!("STREAM.MSG.DELETE.{stream}"), &json!({ "seq": sequence })).await {
            Ok(answer) => Ok(answer["success"].as_bool().unwrap_or(false)),
            // There is no such message.
            Err(ApiError::Code(10057 | 10043 | 10037)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A stream that is full and a disk that is full have one code, 10077, and differ in words.
fn refused(error: &Value) -> PublishError {
    let words = error["description"].as_str().unwrap_or_default();
    match error["err_code"].as_u64() {
        Some(10077) if words.contains("maximum") => PublishError::Full,
        Some(10077 | 10023 | 10028 | 10047) => PublishError::DiskFull,
        Some(10054) => PublishError::TooLarge,
        _ => PublishError::Lost(Failure::from(ErrorKind::Other)),
    }
}
