//! What is sent: a body and what the queue should know about it.
//!
//! Most messages are a body and perhaps a key and a priority, so the rest (times, deduplication id, headers) is behind one
//! pointer, which is null: messages are moved often. A message that is received is cut from the log's memory: its body,
//! key and headers are slices that share it, and making one allocates nothing unless it has such a rest.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::headers::{HeaderError, Headers, TraceParent};

/// Priorities are `0..=MAX_PRIORITY`, the higher the sooner; 0 is the default.
pub const MAX_PRIORITY: u8 = 7;

/// A key, or a deduplication id, has at most this many bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// The number that a queue gave a message when it took it: dense, increasing in the order of sending, never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct MessageId(u64);

impl MessageId {
    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// When a message may be delivered first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Due {
    /// As soon as it is confirmed.
    #[default]
    Now,
    /// This long after it was taken.
    After(Duration),
    /// At this time of the wall clock.
    At(SystemTime),
}

/// Until when a message is worth delivering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Life {
    /// For ever.
    #[default]
    Unlimited,
    /// For this long after it was taken, a delay included: a message that is delayed for longer than it lives is
    /// never delivered.
    For(Duration),
    /// Until this time of the wall clock.
    Until(SystemTime),
}

/// A body and how it should be delivered.
///
/// Anything that becomes a body becomes a message: `producer.send("hello")`. Cloning shares the bytes.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_mq::Message;
///
/// let message = Message::new("resize 7.jpg")
///     .with_key("album-3")
///     .with_priority(5)
///     .with_delay(Duration::from_secs(2))
///     .with_time_to_live(Duration::from_secs(3600))
///     .with_deduplication_id("upload-7")
///     .with_header("content-type", "text/plain");
/// assert_eq!(message.body(), b"resize 7.jpg".as_slice());
/// assert_eq!(message.headers().value("content-type"), Some("text/plain"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message {
    body: Bytes,
    key: Option<Bytes>,
    priority: u8,
    extra: Option<Box<Extra>>,
}

/// What few messages have.
#[derive(Clone, Default, PartialEq, Eq)]
struct Extra {
    due: Due,
    life: Life,
    deduplication_id: Option<Bytes>,
    headers: Headers,
}

impl Message {
    /// A message of this body, which may be empty.
    #[inline]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Messages of one key are delivered in the order in which they were sent, one at a time in each group; other keys
    /// do not wait for them. One with a delay takes its place when it comes due. Without a key there is no order to keep
    /// between consumers. At most [`MAX_KEY_BYTES`].
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Higher is sooner, up to [`MAX_PRIORITY`]. Default: 0. A message with a key keeps its place behind the earlier
    /// ones of that key.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Not to be delivered before this much time has passed since it was taken.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.extra_mut().due = Due::After(delay);
        self
    }

    /// Not to be delivered before this time of the wall clock; at once if it has passed.
    #[must_use]
    pub fn with_deliver_at(mut self, at: SystemTime) -> Self {
        self.extra_mut().due = Due::At(at);
        self
    }

    /// Not to be delivered once this much time has passed since it was taken: it goes to the dead letters instead, with
    /// the reason [`DeadReason::Expired`](crate::DeadReason::Expired).
    #[must_use]
    pub fn with_time_to_live(mut self, time_to_live: Duration) -> Self {
        self.extra_mut().life = Life::For(time_to_live);
        self
    }

    /// Not to be delivered after this time of the wall clock. As [`Message::with_time_to_live`] otherwise.
    #[must_use]
    pub fn with_deadline(mut self, deadline: SystemTime) -> Self {
        self.extra_mut().life = Life::Until(deadline);
        self
    }

    /// A second message of this id within [`Config::deduplication_window`](crate::Config::deduplication_window) is not
    /// queued: its sender is told the id of the first. At most [`MAX_KEY_BYTES`].
    #[must_use]
    pub fn with_deduplication_id(mut self, id: impl Into<Bytes>) -> Self {
        self.extra_mut().deduplication_id = Some(id.into());
        self
    }

    /// Adds a header. A name may occur more than once.
    ///
    /// Whether name and value are allowed is checked when the message is sent; see [`Headers::push`].
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.extra_mut().headers.push(name, value);
        self
    }

    /// Carries a trace along: the header `traceparent` of the W3C recommendation, in place of one that is there.
    #[must_use]
    pub fn with_trace_parent(mut self, parent: TraceParent) -> Self {
        self.extra_mut().headers.set_trace_parent(parent);
        self
    }

    /// The bytes to deliver.
    #[inline]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The bytes alone.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// What orders it.
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// `0..=MAX_PRIORITY` once it was accepted by a queue.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// When it may be delivered first. A message that was received says [`Due::Now`] or [`Due::At`].
    pub fn due(&self) -> Due {
        self.extra.as_ref().map_or(Due::Now, |extra| extra.due)
    }

    /// Until when it is worth delivering. A message that was received says [`Life::Unlimited`] or [`Life::Until`].
    pub fn life(&self) -> Life {
        self.extra.as_ref().map_or(Life::Unlimited, |extra| extra.life)
    }

    /// What makes it the same as another.
    pub fn deduplication_id(&self) -> Option<&Bytes> {
        self.extra.as_ref()?.deduplication_id.as_ref()
    }

    /// Its headers, in the order in which they were added.
    pub fn headers(&self) -> &Headers {
        static NONE: Headers = Headers::new();
        self.extra.as_ref().map_or(&NONE, |extra| &extra.headers)
    }

    /// The trace that it belongs to, if its header `traceparent` is valid.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.headers().trace_parent()
    }

    /// Whether a queue can take it, apart from its size.
    ///
    /// # Errors
    /// Which rule it breaks. A queue says the same in [`Refusal::Invalid`](crate::Refusal::Invalid).
    pub fn check(&self) -> Result<(), MessageError> {
        if self.priority > MAX_PRIORITY {
            return Err(MessageError::Priority(self.priority));
        }
        check_key(self.key.as_ref(), MessageError::Key)?;
        let Some(extra) = &self.extra else { return Ok(()) };
        check_key(extra.deduplication_id.as_ref(), MessageError::DeduplicationId)?;
        extra.headers.check().map_err(MessageError::Header)
    }

    /// The bytes that count against the bounds of a queue: body, key, deduplication id and headers.
    #[inline]
    pub fn size(&self) -> usize {
        if self.is_plain() {
            return self.body.len();
        }
        let extra = self
            .extra
            .as_ref()
            .map_or(0, |extra| extra.headers.size() + extra.deduplication_id.as_ref().map_or(0, Bytes::len));
        self.body.len() + self.key.as_ref().map_or(0, Bytes::len) + extra
    }

    /// Whether it is a body and nothing else: then there is nothing to check but its size.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.key.is_none() && self.priority == 0 && self.extra.is_none()
    }

    fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn set_key(&mut self, key: Bytes) {
        self.key = Some(key);
    }

    pub(crate) fn set_due(&mut self, due: Due) {
        self.extra_mut().due = due;
    }

    pub(crate) fn set_life(&mut self, life: Life) {
        self.extra_mut().life = life;
    }

    pub(crate) fn set_body(&mut self, body: Bytes) {
        self.body = body;
    }

    pub(crate) fn set_deduplication_id(&mut self, id: Bytes) {
        self.extra_mut().deduplication_id = Some(id);
    }

    pub(crate) fn set_headers(&mut self, headers: Headers) {
        self.extra_mut().headers = headers;
    }

    pub(crate) fn set_priority(&mut self, priority: u8) {
        self.priority = priority;
    }
}

fn check_key(key: Option<&Bytes>, error: fn(usize) -> MessageError) -> Result<(), MessageError> {
    match key {
        Some(key) if key.is_empty() || key.len() > MAX_KEY_BYTES => Err(error(key.len())),
        _ => Ok(()),
    }
}

/// Bodies may be large and secret: only their length is shown.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("body_bytes", &self.body.len())
            .field("key", &self.key)
            .field("priority", &self.priority)
            .field("due", &self.due())
            .field("life", &self.life())
            .field("deduplication_id", &self.deduplication_id())
            .field("headers", self.headers())
            .finish()
    }
}

impl From<Bytes> for Message {
    #[inline]
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

impl From<&'static str> for Message {
    #[inline]
    fn from(body: &'static str) -> Self {
        Self::new(body)
    }
}

impl From<&'static [u8]> for Message {
    #[inline]
    fn from(body: &'static [u8]) -> Self {
        Self::new(body)
    }
}

impl From<String> for Message {
    #[inline]
    fn from(body: String) -> Self {
        Self::new(body)
    }
}

impl From<Vec<u8>> for Message {
    #[inline]
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

/// A message that no queue takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A priority above [`MAX_PRIORITY`].
    #[error("priority {0} is above {MAX_PRIORITY}")]
    Priority(u8),
    /// A key that is empty or longer than [`MAX_KEY_BYTES`].
    #[error("a key of {0} bytes, not 1 to {MAX_KEY_BYTES}")]
    Key(usize),
    /// A deduplication id that is empty or longer than [`MAX_KEY_BYTES`].
    #[error("a deduplication id of {0} bytes, not 1 to {MAX_KEY_BYTES}")]
    DeduplicationId(usize),
    /// A header that is not allowed.
    #[error("a header that is not allowed")]
    Header(#[source] HeaderError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_rule_is_named() {
        let long = vec![b'k'; MAX_KEY_BYTES + 1];
        let cases = [
            (Message::new("").with_priority(MAX_PRIORITY + 1), MessageError::Priority(8)),
            (Message::new("").with_key(""), MessageError::Key(0)),
            (Message::new("").with_key(long.clone()), MessageError::Key(513)),
            (Message::new("").with_deduplication_id(long.clone()), MessageError::DeduplicationId(513)),
            (Message::new("").with_header("a b", ""), MessageError::Header(HeaderError::Name)),
        ];
        for (message, error) in cases {
            assert_eq!(message.check(), Err(error));
        }
        let fits = Message::new("").with_priority(MAX_PRIORITY).with_key(long[1..].to_vec()).with_header("a-b", "c d");
        assert_eq!(fits.check(), Ok(()));
        assert_eq!(fits.with_key("k").check(), Ok(()));
    }

    #[test]
    fn a_message_is_small() {
        assert!(size_of::<Message>() <= 80, "{}", size_of::<Message>());
    }

    #[test]
    fn a_body_is_not_shown() {
        let shown = format!("{:?}", Message::new("secret").with_key("k"));
        assert!(!shown.contains("secret") && shown.contains("body_bytes: 6"), "{shown}");
    }
}
