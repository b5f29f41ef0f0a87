//! A message as NATS carries it: the body as payload, the rest as headers.
//!
//! Headers of the sender are themselves, so that others can read them, `traceparent` above all; what the queue must know
//! has names that begin with `Tenfold-`. Times are milliseconds since 1970. A key or a deduplication id may be any bytes:
//! if they are no plain text, they are written in hexadecimal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::{DeadReason, Due, Headers, Life, Message, MessageId, Refusal};

pub(super) const KEY: &str = "Tenfold-Key";
pub(super) const PRIORITY: &str = "Tenfold-Priority";
pub(super) const DEDUPLICATION: &str = "Tenfold-Deduplication-Id";
pub(super) const DUE: &str = "Tenfold-Due";
pub(super) const EXPIRES: &str = "Tenfold-Expires";
/// The id of a message that was sent on under another number of the stream.
pub(super) const ID: &str = "Tenfold-Id";
/// The only group it is for.
pub(super) const GROUP: &str = "Tenfold-Group";
pub(super) const REASON: &str = "Tenfold-Dead-Reason";
pub(super) const ATTEMPTS: &str = "Tenfold-Dead-Attempts";
/// By which the server knows what it has (ADR-22 of NATS).
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";

const HEXADECIMAL: &str = "hex:";

/// What a message says about times, on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// 0: at once.
    pub(super) due_ms: u64,
    /// 0: never.
    pub(super) expires_ms: u64,
}

impl Times {
    pub(super) fn of(message: &Message, now: SystemTime) -> Self {
        let due_ms = match message.due() {
            Due::Now => 0,
            Due::After(delay) => millis(now).saturating_add(crate::clock::millis(delay)),
            Due::At(at) => millis(at),
        };
        let expires_ms = match message.life() {
            Life::Unlimited => 0,
            Life::For(life) => millis(now).saturating_add(crate::clock::millis(life)).max(1),
            Life::Until(at) => millis(at).max(1),
        };
        Self { due_ms: if due_ms > millis(now) { due_ms } else { 0 }, expires_ms }
    }
}

pub(super) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, crate::clock::millis)
}

/// The headers of a message that is sent.
///
/// # Errors
/// Headers that mean something to the server or to us.
pub(super) fn encode(message: &Message, times: Times) -> Result<HeaderMap, Refusal> {
    let mut map = HeaderMap::new();
    for (name, value) in message.headers().iter() {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("nats-") || lower.starts_with("tenfold-") {
            return Err(Refusal::Unsupported("headers that begin with `Nats-` or `Tenfold-`"));
        }
        match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            (Ok(name), Ok(value)) => map.append(name, value),
            _ => return Err(Refusal::Unsupported("such a header")),
        }
    }
    if let Some(key) = message.key() {
        map.insert(KEY, text(key));
    }
    if message.priority() > 0 {
        map.insert(PRIORITY, HeaderValue::from(u64::from(message.priority())));
    }
    if let Some(id) = message.deduplication_id() {
        map.insert(DEDUPLICATION, text(id));
    }
    if times.due_ms > 0 {
        map.insert(DUE, HeaderValue::from(times.due_ms));
    }
    if times.expires_ms > 0 {
        map.insert(EXPIRES, HeaderValue::from(times.expires_ms));
    }
    Ok(map)
}

/// The message that these headers and this payload are. What is not understood is left out: others may have sent it.
pub(super) fn decode(map: &HeaderMap, payload: Bytes) -> Message {
    let mut message = Message::new(payload);
    if let Some(key) = value(map, KEY).and_then(bytes) {
        message = message.with_key(key);
    }
    if let Some(priority) = number(map, PRIORITY) {
        message = message.with_priority(u8::try_from(priority).unwrap_or(crate::MAX_PRIORITY));
    }
    if let Some(id) = value(map, DEDUPLICATION).and_then(bytes) {
        message = message.with_deduplication_id(id);
    }
    if let Some(due) = number(map, DUE) {
        message = message.with_deliver_at(time(due));
    }
    if let Some(expires) = number(map, EXPIRES) {
        message = message.with_deadline(time(expires));
    }
    let mut headers = Headers::new();
    for (name, values) in map.iter() {
        let name: &str = name.as_ref();
        if !is_ours(name) {
            values.iter().for_each(|value| headers.push(name, value.as_str()));
        }
    }
    if !headers.is_empty() {
        message.set_headers(headers);
    }
    message
}

fn is_ours(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts("Nats-") || starts("Tenfold-")
}

/// What goes along when a message is sent on: everything that the server did not add.
pub(super) fn copy(map: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::new();
    for (name, values) in map.iter() {
        let text: &str = name.as_ref();
        if !text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("Nats-")) {
            values.iter().for_each(|value| copy.append(name.clone(), value.clone()));
        }
    }
    copy
}

pub(super) fn value<'a>(map: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    map.get(name).map(HeaderValue::as_str)
}

pub(super) fn number(map: &HeaderMap, name: &'static str) -> Option<u64> {
    value(map, name)?.parse().ok()
}

/// The id of a message with these headers that lies there in the stream.
pub(super) fn id(map: &HeaderMap, sequence: u64) -> MessageId {
    MessageId::new(number(map, ID).unwrap_or(sequence))
}

pub(super) fn reason_text(reason: &DeadReason) -> String {
    match reason {
        DeadReason::Attempts => "attempts".to_owned(),
        DeadReason::Expired => "expired".to_owned(),
        DeadReason::Damaged => "damaged".to_owned(),
        DeadReason::Rejected(why) => format!("rejected:{}", text(why.as_bytes())),
    }
}

pub(super) fn reason(text: &str) -> DeadReason {
    match text {
        "expired" => DeadReason::Expired,
        "damaged" => DeadReason::Damaged,
        _ => match text.strip_prefix("rejected:").and_then(bytes) {
            Some(why) => DeadReason::Rejected(String::from_utf8_lossy(&why).into_owned()),
            None => DeadReason::Attempts,
        },
    }
}

fn time(ms: u64) -> SystemTime {
    // Half of what fits, and for ever to anybody who waits for it.
    UNIX_EPOCH + Duration::from_millis(ms.min(u64::MAX >> 14))
}

/// Bytes as the value of a header. Blanks at the ends would be cut, and control characters are not allowed.
pub(super) fn text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let is_plain = !text.chars().any(char::is_control) && text.trim() == text && !text.starts_with(HEXADECIMAL);
        if is_plain {
            return text.to_owned();
        }
    }
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    HEXADECIMAL.chars().chain(digits).collect()
}

/// The bytes that [`text`] wrote; `None` if it did not.
pub(super) fn bytes(text: &str) -> Option<Bytes> {
    let Some(digits) = text.strip_prefix(HEXADECIMAL) else { return Some(Bytes::copy_from_slice(text.as_bytes())) };
    let digits = digits.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let message = Message::new("body")
            .with_key(vec![0, 255, 13])
            .with_priority(3)
            .with_deduplication_id(" x ")
            .with_deliver_at(now + Duration::from_millis(5))
            .with_deadline(now + Duration::from_millis(7))
            .with_header("a", "1")
            .with_header("a", "zwei")
            .with_header("a", "");
        let map = encode(&message, Times::of(&message, now)).unwrap();
        assert_eq!(decode(&map, Bytes::from("body")), message);
        assert_eq!(decode(&copy(&map), Bytes::from("body")), message);
    }

    #[test]
    fn lengths_of_time_become_times() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let message = Message::new("").with_delay(Duration::from_millis(5)).with_time_to_live(Duration::ZERO);
        assert_eq!(Times::of(&message, now), Times { due_ms: 1_000_000_005, expires_ms: 1_000_000_000 });
        let past = Message::new("").with_deliver_at(now);
        assert_eq!(Times::of(&past, now), Times { due_ms: 0, expires_ms: 0 });
    }

    #[test]
    fn headers_that_mean_something_to_the_server_are_refused() {
        for name in ["Nats-Rollup", "nats-expected-stream", "TENFOLD-KEY"] {
            let message = Message::new("").with_header(name, "x");
            assert!(
                matches!(encode(&message, Times { due_ms: 0, expires_ms: 0 }), Err(Refusal::Unsupported(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn any_bytes_become_text_and_back() {
        for sample in [&b""[..], b"a b", b" a", b"hex:00", b"\xff\x00", b"\r\n", "ä".as_bytes()] {
            let text = text(sample);
            assert!(!text.contains(['\r', '\n']) && text.trim() == text);
            assert_eq!(bytes(&text).as_deref(), Some(sample));
        }
        for nonsense in ["hex:0", "hex:0g", "hex:ä0"] {
            assert!(bytes(nonsense).is_none_or(|bytes| bytes.len() == 1), "{nonsense}");
        }
    }

    #[test]
    fn reasons_read_back() {
        let rejected = DeadReason::Rejected("no\r\nsuch file".to_owned());
        for dead in [DeadReason::Attempts, DeadReason::Expired, DeadReason::Damaged, rejected] {
            assert_eq!(reason(&reason_text(&dead)), dead);
        }
    }
}
