//! Where the body of an answer ends (RFC 9112 section 6), found out piece by piece.
//!
//! A mistake here mixes up the answers of two clients, so what is not plainly right is an error, and an error costs the
//! connection.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, MAX_HEADERS};

/// A chunk's size with its extensions, longer than which nobody writes it.
const MAX_SIZE_LINE_BYTES: usize = 1024;
/// All that fit in 64 bits.
const MAX_SIZE_DIGITS: usize = 16;
/// The fields after the last chunk.
const MAX_TRAILER_BYTES: usize = 16 << 10;

/// What of the body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Whatever comes until the backend closes.
    UntilClose,
    /// Frames of HTTP/2, which say themselves where they end.
    Frames,
}

/// What is expected next in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// The line with a chunk's size.
    Size,
    /// This many bytes of a chunk.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// Trailer fields, or the empty line that ends all.
    Trailers,
    /// Nothing.
    Done,
}

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Some of its bytes, at least one.
    Data(Bytes),
    /// The fields behind it; nothing follows.
    Trailers(HeaderMap),
    /// Nothing follows.
    End,
    /// More has to be read first.
    Short,
}

/// The backend does not keep to its own framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFraming;

impl Framing {
    /// How long the body is, if that is known from the start.
    pub(crate) const fn known_len(self) -> Option<u64> {
        match self {
            Self::Length(len) => Some(len),
            Self::Chunked(_) | Self::UntilClose | Self::Frames => None,
        }
    }

    /// Whether everything has come.
    pub(crate) const fn is_done(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Done))
    }

    /// Takes the next piece from what was read.
    pub(crate) fn next(&mut self, inbox: &mut BytesMut) -> Result<Piece, BadFraming> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            _ if inbox.is_empty() && !self.is_done() => Ok(Piece::Short),
            Self::Length(left) => Ok(Piece::Data(take(left, inbox))),
            Self::UntilClose | Self::Frames => Ok(Piece::Data(inbox.split().freeze())),
            Self::Chunked(chunk) => chunk.next(inbox),
        }
    }
}

impl Chunk {
    fn next(&mut self, inbox: &mut BytesMut) -> Result<Piece, BadFraming> {
        loop {
            match self {
                Self::Size => match size_line(inbox)? {
                    Some((line, size)) => {
                        inbox.advance(line);
                        *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                    }
                    None => return Ok(Piece::Short),
                },
                Self::Data(0) => *self = Self::DataEnd,
                Self::Data(_) if inbox.is_empty() => return Ok(Piece::Short),
                Self::Data(left) => return Ok(Piece::Data(take(left, inbox))),
                Self::DataEnd if inbox.len() < 2 => return Ok(Piece::Short),
                Self::DataEnd => {
                    if !inbox.starts_with(b"\r\n") {
                        return Err(BadFraming);
                    }
                    inbox.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => return self.trailers(inbox),
                Self::Done => return Ok(Piece::End),
            }
        }
    }

    fn trailers(&mut self, inbox: &mut BytesMut) -> Result<Piece, BadFraming> {
        if inbox.starts_with(b"\r\n") {
            inbox.advance(2);
            *self = Self::Done;
            return Ok(Piece::End);
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let (len, found) = match httparse::parse_headers(inbox, &mut headers) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) if inbox.len() <= MAX_TRAILER_BYTES => return Ok(Piece::Short),
            _ => return Err(BadFraming),
        };
        let trailers = head::trailers(found).map_err(|_| BadFraming)?;
        inbox.advance(len);
        *self = Self::Done;
        Ok(Piece::Trailers(trailers))
    }
}

/// The length of the line with a chunk's size, and the size; nothing if the line has not ended.
///
/// RFC 9112 section 7.1, without the mercy that other readers have: digits there must be, a lone line feed ends no line,
/// and blanks belong to an extension. What two programs may read in two ways is where answers get mixed up.
fn size_line(inbox: &[u8]) -> Result<Option<(usize, u64)>, BadFraming> {
    let digits = inbox.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > MAX_SIZE_DIGITS || (digits == 0 && !inbox.is_empty()) {
        return Err(BadFraming);
    }
    let extension = &inbox[digits..inbox.len().min(MAX_SIZE_LINE_BYTES)];
    let end = extension.iter().position(|byte| *byte != b'\t' && (*byte < b' ' || *byte == 0x7f));
    let extension = &extension[..end.unwrap_or(extension.len())];
    if !matches!(extension.trim_ascii_start(), [] | [b';', ..]) {
        return Err(BadFraming);
    }
    let Some(end) = end else {
        return if inbox.len() < MAX_SIZE_LINE_BYTES { Ok(None) } else { Err(BadFraming) };
    };
    match &inbox[digits + end..] {
        [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => {
            let size = std::str::from_utf8(&inbox[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
            Ok(Some((digits + end + 2, size.ok_or(BadFraming)?)))
        }
        _ => Err(BadFraming),
    }
}

/// Takes at most `left` bytes, and counts them off.
fn take(left: &mut u64, inbox: &mut BytesMut) -> Bytes {
    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(inbox.len());
    *left -= len as u64;
    inbox.split_to(len).freeze()
}
