//! The head of a backend's answer: what of it concerns the connection is acted on and taken off, the rest goes on to
//! the client without being copied.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode};

use super::framing::{Chunk, Framing};

/// Fields in the head or the trailers of an answer; more is a bad answer.
pub(crate) const MAX_HEADERS: usize = 100;

/// The head of an answer, final or interim.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// Without what is only between backend and proxy.
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// Whether the connection may carry another request after this one.
    pub(crate) keep_alive: bool,
    /// The protocol that a 101 changes to.
    pub(crate) upgrade: Option<HeaderValue>,
}

/// The backend's answer is none, or could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHead;

/// Where a field is in the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    name: (usize, usize),
    value: (usize, usize),
}

/// Takes a whole head from what was read, if there is one. `headers` and `places` are empty and there to be reused.
pub(crate) fn parse(
    inbox: &mut BytesMut,
    headers: &mut HeaderMap,
    places: &mut Vec<Place>,
    method: &Method,
) -> Result<Option<Head>, BadHead> {
    places.clear();
    let mut storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, inbox, &mut storage);
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(BadHead),
    };
    let is_http_11 = response.version == Some(1);
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(BadHead)?;
    let base = inbox.as_ptr() as usize;
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        (start, start + part.len())
    };
    // An empty value need not lie in the buffer.
    let value = |value: &[u8]| if value.is_empty() { (0, 0) } else { place(value) };
    places.extend(response.headers.iter().map(|h| Place { name: place(h.name.as_bytes()), value: value(h.value) }));
    let text = inbox.split_to(len).freeze();
    let mut fields = Fields { headers: std::mem::take(headers), ..Fields::default() };
    for place in places.iter() {
        fields.add(&text, *place)?;
    }
    fields.finish(status, is_http_11, method).map(Some)
}

/// What the fields say, as they are gone through.
#[derive(Default)]
struct Fields {
    headers: HeaderMap,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: Option<HeaderValue>,
    /// Fields that the backend meant for this connection only.
    listed: Vec<HeaderName>,
}

impl Fields {
    #[inline]
    fn add(&mut self, text: &Bytes, place: Place) -> Result<(), BadHead> {
        let name = HeaderName::from_bytes(&text[place.name.0..place.name.1]).map_err(|_| BadHead)?;
        let value = text.slice(place.value.0..place.value.1);
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| BadHead)?;
        match name {
            CONTENT_LENGTH => {
                let length = digits(value.as_bytes()).ok_or(BadHead)?;
                // RFC 9112 section 6.3: several lengths that differ are an error. Equal ones are one.
                match self.length.replace(length) {
                    Some(earlier) if earlier != length => return Err(BadHead),
                    Some(_) => {}
                    None => _ = self.headers.append(name, value),
                }
            }
            TRANSFER_ENCODING => {
                // RFC 9112 section 6.1: only what was asked for may come, and TE asks for nothing but chunks.
                if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(BadHead);
                }
                self.chunked = true;
            }
            CONNECTION => self.connection(&value)?,
            UPGRADE => self.upgrade = Some(value),
            TE => {}
            name if is_old_hop(&name) => {}
            name => _ = self.headers.append(name, value),
        }
        Ok(())
    }

    fn connection(&mut self, value: &HeaderValue) -> Result<(), BadHead> {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !option.is_empty() {
                self.listed.push(HeaderName::from_bytes(option).map_err(|_| BadHead)?);
            }
        }
        Ok(())
    }

    fn finish(mut self, status: StatusCode, is_http_11: bool, method: &Method) -> Result<Head, BadHead> {
        // RFC 9110 section 7.6.1: what Connection lists goes no further.
        for name in &self.listed {
            self.headers.remove(name);
        }
        // RFC 9112 section 6.1: both at once, or chunks from a backend that knows no chunks, is an attempt at smuggling
        // or a mistake of the same consequence.
        if self.chunked && (self.length.is_some() || !is_http_11) {
            return Err(BadHead);
        }
        // RFC 9112 section 6.3, items 1 to 8.
        let is_bodiless = status.is_informational() || matches!(status.as_u16(), 204 | 304) || method == Method::HEAD;
        if status == StatusCode::NO_CONTENT {
            self.headers.remove(CONTENT_LENGTH);
        }
        let framing = match self.length {
            _ if is_bodiless => Framing::Length(0),
            _ if self.chunked => Framing::Chunked(Chunk::Size),
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        let keep_alive = !self.close && (is_http_11 || self.keep_alive) && framing != Framing::UntilClose;
        Ok(Head { status, headers: self.headers, framing, keep_alive, upgrade: self.upgrade })
    }
}

/// Fields of older times that concern one connection, whether `Connection` lists them or not.
#[inline]
pub(crate) fn is_old_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    (name.len() == 10 && name == "keep-alive") || (name.len() == 16 && name == "proxy-connection")
}

/// Copies trailer fields, less those that have no place behind a body (RFC 9110 section 6.5.1).
pub(crate) fn trailers(found: &[httparse::Header<'_>]) -> Result<HeaderMap, BadHead> {
    let mut trailers = HeaderMap::new();
    for header in found {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| BadHead)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| BadHead)?;
        if may_trail(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

/// Whether a field may come behind a body. RFC 9110 section 6.5.1: nothing that decides on framing, routing, rights or
/// what is done with the content, since that was decided before it came.
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    const FRAMING_AND_ROUTING: &[&str] = &[
        "connection",
        "content-length",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    const RIGHTS: &[&str] =
        &["authorization", "cookie", "proxy-authenticate", "proxy-authorization", "set-cookie", "www-authenticate"];
    const HANDLING: &[&str] = &[
        "age",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "date",
        "expect",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "pragma",
        "range",
        "retry-after",
        "vary",
        "warning",
    ];
    ![FRAMING_AND_ROUTING, RIGHTS, HANDLING].iter().any(|barred| barred.contains(&name.as_str()))
}

/// A decimal number without sign, as a length must be.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
