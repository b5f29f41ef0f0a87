//! Names and values that travel with a message, and the one that carries a trace.
//!
//! Headers are text, so that they map to those of HTTP, NATS and AMQP without escaping: a name is a token, a value has
//! no control characters. They are kept as bytes cut from the log and read as text, which is checked where they come in.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// The header that carries a trace (W3C Trace Context, 2021, section 3.2).
pub const TRACE_PARENT: &str = "traceparent";

/// A message has at most this many headers.
pub const MAX_HEADERS: usize = 64;

/// The names and values of a message together have at most this many bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The headers of a message, in the order in which they were added.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Names and values are UTF-8, because they came from `str` or were checked when read.
    entries: Vec<(Bytes, Bytes)>,
}

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a header behind the others.
    ///
    /// A name is a token of RFC 9110 section 5.6.2 (letters, digits and `!#$%&'*+-.^_|~` with the backquote); a value
    /// has no control characters but the tab. Whether that holds is checked when the message is sent, and so are
    /// [`MAX_HEADERS`] and [`MAX_HEADER_BYTES`].
    pub fn push(&mut self, name: &str, value: &str) {
        self.entries.push((Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes())));
    }

    /// The value of the first header of this name, whose case does not matter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (text(name), text(value)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The trace that the message belongs to, if there is a valid one.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.value(TRACE_PARENT)?.parse().ok()
    }

    /// Puts a trace in place of the one that is there.
    pub fn set_trace_parent(&mut self, parent: TraceParent) {
        self.entries.retain(|(name, _)| !name.eq_ignore_ascii_case(TRACE_PARENT.as_bytes()));
        self.push(TRACE_PARENT, &parent.to_string());
    }

    /// Takes bytes that were checked to be UTF-8.
    pub(crate) fn push_read(&mut self, name: Bytes, value: Bytes) {
        self.entries.push((name, value));
    }

    /// The bytes of names and values.
    pub(crate) fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    pub(crate) fn check(&self) -> Result<(), HeaderError> {
        if self.entries.len() > MAX_HEADERS {
            return Err(HeaderError::TooMany(self.entries.len()));
        }
        if self.size() > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLong(self.size()));
        }
        for (name, value) in &self.entries {
            if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
                return Err(HeaderError::Name);
            }
            if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                return Err(HeaderError::Value);
            }
        }
        Ok(())
    }
}

/// What was checked on its way in is text; should that be wrong, it reads as empty rather than panic.
fn text(bytes: &Bytes) -> &str {
    debug_assert!(std::str::from_utf8(bytes).is_ok());
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// RFC 9110 section 5.6.2: `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A header that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A name that is empty or no token.
    #[error("a header's name is empty or no token")]
    Name,
    /// A value with control characters.
    #[error("a header's value has control characters")]
    Value,
    /// More than [`MAX_HEADERS`].
    #[error("{0} headers, more than {MAX_HEADERS}")]
    TooMany(usize),
    /// More bytes than [`MAX_HEADER_BYTES`].
    #[error("headers of {0} bytes, more than {MAX_HEADER_BYTES}")]
    TooLong(usize),
}

/// The place in a trace where a message was sent: W3C Trace Context, version 00.
///
/// # Examples
/// ```
/// use tenfold_mq::{Message, TraceParent};
///
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert!(parent.is_sampled());
/// let message = Message::new("hello").with_trace_parent(parent);
/// assert_eq!(message.trace_parent(), Some(parent));
/// # Ok::<(), tenfold_mq::ParseTraceParentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// The span `span` of the trace `trace`; `None` if one of them is 0, which the recommendation forbids.
    pub const fn new(trace: u128, span: u64, is_sampled: Sampled) -> Option<Self> {
        if trace == 0 || span == 0 {
            return None;
        }
        Some(Self { trace, span, flags: is_sampled as u8 })
    }

    /// The number of the trace.
    pub const fn trace(&self) -> u128 {
        self.trace
    }

    /// The number of the sender's span.
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// Whether the sender records this trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// Whether the sender records a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// It does not.
    No = 0,
    /// It does.
    Yes = 1,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = ParseTraceParentError;

    /// Reads version 00 and, as section 3.2.4 asks, the fields it knows of a higher one.
    fn from_str(text: &str) -> Result<Self, ParseTraceParentError> {
        let mut parts = text.splitn(5, '-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let lower = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if lower { u128::from_str_radix(part, 16).ok() } else { None }
        };
        let (Some(version), Some(trace), Some(span), Some(flags)) = (hex(2), hex(32), hex(16), hex(2)) else {
            return Err(ParseTraceParentError);
        };
        let rest = parts.next();
        if version == 0xff || trace == 0 || span == 0 || (version == 0 && rest.is_some()) {
            return Err(ParseTraceParentError);
        }
        Ok(Self { trace, span: span as u64, flags: flags as u8 & 1 })
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent of the form 00-TRACE-SPAN-FLAGS")]
pub struct ParseTraceParentError;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_parent_reads_back() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert_eq!(parent.to_string(), GOOD);
        assert_eq!(TraceParent::new(parent.trace(), parent.span(), Sampled::Yes), Some(parent));
        assert_eq!(TraceParent::new(0, 1, Sampled::No), None);
        let newer = GOOD.replacen("00-", "01-", 1) + "-more";
        assert_eq!(newer.parse(), Ok(parent));
    }

    #[test]
    fn what_is_no_trace_parent_is_refused() {
        let cases = [
            "".to_owned(),
            GOOD.to_uppercase(),
            GOOD.replacen("00-", "ff-", 1),
            format!("{GOOD}-more"),
            GOOD[..54].to_owned(),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("-01", "-+1"),
        ];
        for text in cases {
            assert_eq!(text.parse::<TraceParent>(), Err(ParseTraceParentError), "{text}");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_a_trace_is_replaced() {
        let mut headers = Headers::new();
        headers.push("TraceParent", "nonsense");
        headers.push("A", "1");
        headers.push("a", "2");
        assert_eq!(headers.value("a"), Some("1"));
        assert_eq!(headers.trace_parent(), None);
        let parent: TraceParent = GOOD.parse().unwrap();
        headers.set_trace_parent(parent);
        assert_eq!((headers.trace_parent(), headers.len()), (Some(parent), 3));
    }

    #[test]
    fn bounds_hold() {
        let mut many = Headers::new();
        (0..=MAX_HEADERS).for_each(|_| many.push("a", ""));
        assert_eq!(many.check(), Err(HeaderError::TooMany(MAX_HEADERS + 1)));
        let mut long = Headers::new();
        long.push("a", &"v".repeat(MAX_HEADER_BYTES));
        assert_eq!(long.check(), Err(HeaderError::TooLong(MAX_HEADER_BYTES + 1)));
        let mut value = Headers::new();
        value.push("a", "b\r\nc: d");
        assert_eq!(value.check(), Err(HeaderError::Value));
    }
}
