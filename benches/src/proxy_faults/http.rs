//! As much of HTTP/1.1 as the backends and the load generator speak to each other through a proxy.
//!
//! Both sides are lean, so that the proxy between them is the bottleneck: one look at a head by `httparse`, no body that is
//! longer than a buffer, no pipelining.

use httparse::{EMPTY_HEADER, Header, Request, Response, Status};

/// More headers than any proxy under test adds.
const MAX_HEADERS: usize = 48;

/// The other side does not speak HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not HTTP")]
pub struct Garbage;

/// An answer, or the head of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The backend that wrote the body; none for an answer that the proxy made itself.
    pub backend: Option<u8>,
    /// Whether the connection ends with this answer.
    pub is_last: bool,
}

/// What the bytes read so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet an answer.
    Partial,
    /// A whole answer, with nothing behind it.
    Whole(Answer),
}

/// Reads an answer. `ended` says that no more bytes will come, which ends an answer of unstated length.
///
/// # Errors
///
/// [`Garbage`] for what is no answer, and for what stops in the middle of one.
pub fn answer(bytes: &[u8], ended: bool) -> Result<Progress, Garbage> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = Response::new(&mut headers);
    let Status::Complete(head_bytes) = head.parse(bytes).map_err(|_| Garbage)? else {
        return if ended { Err(Garbage) } else { Ok(Progress::Partial) };
    };
    let status = head.code.ok_or(Garbage)?;
    let body = &bytes[head_bytes..];
    let (is_whole, sized) = match framing(head.headers) {
        Framing::Length(length) => (body.len() >= length, true),
        Framing::Chunked => (body.ends_with(b"0\r\n\r\n"), true),
        Framing::UntilEnd => (ended, false),
    };
    let is_last = !sized || asks_to_close(head.headers, head.version);
    match (is_whole, ended) {
        (true, _) => Ok(Progress::Whole(Answer { status, backend: author(body), is_last })),
        (false, true) => Err(Garbage),
        (false, false) => Ok(Progress::Partial),
    }
}

/// The backend that signed the body.
fn author(body: &[u8]) -> Option<u8> {
    let at = body.windows(SIGNATURE.len()).position(|window| window == SIGNATURE)?;
    let digit = body.get(at + SIGNATURE.len())?;
    digit.is_ascii_digit().then(|| digit - b'0')
}

/// What a backend's body begins with, before the backend's digit.
pub const SIGNATURE: &[u8] = b"backend ";

enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

fn framing(headers: &[Header<'_>]) -> Framing {
    if find(headers, "transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    let length = find(headers, "content-length").and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    length.map_or(Framing::UntilEnd, Framing::Length)
}

fn asks_to_close(headers: &[Header<'_>], version: Option<u8>) -> bool {
    match find(headers, "connection") {
        Some(value) => value.eq_ignore_ascii_case(b"close"),
        None => version == Some(0),
    }
}

fn find<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The path of a request once its head is complete, with whether the connection is to end after the answer.
///
/// # Errors
///
/// [`Garbage`] for what is no request.
pub fn request_path(bytes: &[u8]) -> Result<Option<(&str, bool)>, Garbage> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = Request::new(&mut headers);
    match head.parse(bytes).map_err(|_| Garbage)? {
        Status::Partial => Ok(None),
        Status::Complete(_) => {
            let path = head.path.ok_or(Garbage)?;
            Ok(Some((path, asks_to_close(head.headers, head.version))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_whole(bytes: &[u8], ended: bool, expected: Answer) {
        assert_eq!(answer(bytes, ended), Ok(Progress::Whole(expected)));
        for cut in 0..bytes.len() {
            assert_ne!(answer(&bytes[..cut], false), Ok(Progress::Whole(expected)), "cut at {cut}");
        }
    }

    #[test]
    fn answers_of_each_framing() {
        let kept = Answer { status: 200, backend: Some(2), is_last: false };
        is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbackend 2", false, kept);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbackend 2\r\n0\r\n\r\n";
        is_whole(chunked, false, kept);
        let proxy = Answer { status: 503, backend: None, is_last: true };
        is_whole(b"HTTP/1.0 503 No\r\n\r\nnone", true, proxy);
        is_whole(b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", false, proxy);
    }

    #[test]
    fn what_stops_in_the_middle_is_no_answer() {
        for bytes in
            [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nback", b"SSH-2.0\r\n"]
        {
            assert_eq!(answer(bytes, true), Err(Garbage), "{bytes:?}");
        }
    }

    #[test]
    fn requests() {
        assert_eq!(request_path(b"GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n"), Ok(Some(("/a?b", false))));
        assert_eq!(request_path(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), Ok(Some(("/", true))));
        assert_eq!(request_path(b"GET / HTTP/1.1\r\nhost:"), Ok(None));
        assert_eq!(request_path(b"\x16\x03\x01\r\n\r\n"), Err(Garbage));
    }
}
