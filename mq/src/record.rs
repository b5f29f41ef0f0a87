//! A message as the log keeps it.
//!
//! ```text
//! flags    u8   which of the optional fields follow
//! sequence u64  the message's id, little endian like all numbers of a fixed length
//! taken    u48  when it was taken, ms since 1970
//! [priority u8] [due u64] [expires u64]            ms since 1970
//! [key] [deduplication id]                         length as LEB128, bytes
//! [headers: count, then name and value of each]    LEB128, lengths and bytes
//! body          the rest
//! ```
//!
//! A message without options costs 15 bytes. The log frames and checksums the record; a checksum is no proof against a
//! writer's bug or a newer version, so nothing here is believed either: what does not parse is a [`DecodeError`].

use std::ops::Range;

use bytes::{Buf, Bytes};

use crate::clock::wall_from_millis;
use crate::codec::{DecodeError, put_bytes, put_varint, varint};
use crate::headers::{Headers, MAX_HEADERS};
use crate::message::{Due, Life, MAX_PRIORITY, Message};

const FIXED: usize = 1 + 8 + 6;

const KEY: u8 = 1;
const PRIORITY: u8 = 1 << 1;
const DUE: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const DEDUPLICATION_ID: u8 = 1 << 4;
const HEADERS: u8 = 1 << 5;
const KNOWN: u8 = (1 << 6) - 1;

/// What the queue adds to a message: milliseconds since 1970, on the queue's timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sequence: u64,
    pub(crate) taken_ms: u64,
    /// 0: at once.
    pub(crate) due_ms: u64,
    /// 0: never.
    pub(crate) expires_ms: u64,
}

fn flags(message: &Message, stamp: &Stamp) -> u8 {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    flag(message.key().is_some(), KEY)
        | flag(message.priority() != 0, PRIORITY)
        | flag(stamp.due_ms != 0, DUE)
        | flag(stamp.expires_ms != 0, EXPIRES)
        | flag(message.deduplication_id().is_some(), DEDUPLICATION_ID)
        | flag(!message.headers().is_empty(), HEADERS)
}

/// Writes all of a record but the body, which the log copies from where it is.
#[inline]
pub(crate) fn encode_head(message: &Message, stamp: &Stamp, out: &mut Vec<u8>) {
    let flags = flags(message, stamp);
    out.extend_from_slice(&fixed(flags, stamp));
    if flags != 0 {
        encode_options(message, stamp, flags, out);
    }
}

/// The same of a message that is a body and nothing else.
#[inline]
pub(crate) fn plain_head(stamp: &Stamp) -> [u8; FIXED] {
    fixed(0, stamp)
}

#[inline]
fn fixed(flags: u8, stamp: &Stamp) -> [u8; FIXED] {
    let mut fixed = [0; FIXED];
    fixed[0] = flags;
    fixed[1..9].copy_from_slice(&stamp.sequence.to_le_bytes());
    fixed[9..].copy_from_slice(&stamp.taken_ms.to_le_bytes()[..6]);
    fixed
}

fn encode_options(message: &Message, stamp: &Stamp, flags: u8, out: &mut Vec<u8>) {
    if flags & PRIORITY != 0 {
        out.push(message.priority());
    }
    if flags & DUE != 0 {
        out.extend_from_slice(&stamp.due_ms.to_le_bytes());
    }
    if flags & EXPIRES != 0 {
        out.extend_from_slice(&stamp.expires_ms.to_le_bytes());
    }
    for bytes in message.key().into_iter().chain(message.deduplication_id()) {
        put_bytes(out, bytes);
    }
    if flags & HEADERS != 0 {
        put_varint(out, message.headers().len() as u64);
        for (name, value) in message.headers().iter() {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
}

/// Where the parts of a record are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) stamp: Stamp,
    pub(crate) priority: u8,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) id: Option<Range<usize>>,
    /// Where their count is.
    headers: Option<usize>,
    body: usize,
}

/// Reads a record; body, key and headers share its memory.
#[inline]
pub(crate) fn decode(record: Bytes) -> Result<(Stamp, Message), DecodeError> {
    let layout = layout(&record)?;
    let mut message = Message::default();
    if record[0] != 0 {
        decode_options(&layout, &record, &mut message)?;
    }
    let mut body = record;
    body.advance(layout.body);
    message.set_body(body);
    Ok((layout.stamp, message))
}

/// The stamp of a record without options, if it is one: most are, and this is all there is to know of them.
#[inline]
pub(crate) fn plain_stamp(record: &[u8]) -> Option<Stamp> {
    let fixed: &[u8; FIXED] = record.first_chunk()?;
    let [0, sequence @ .., t0, t1, t2, t3, t4, t5] = *fixed else { return None };
    let taken_ms = u64::from_le_bytes([t0, t1, t2, t3, t4, t5, 0, 0]);
    Some(Stamp { sequence: u64::from_le_bytes(sequence), taken_ms, due_ms: 0, expires_ms: 0 })
}

/// Finds the parts of a record without copying any.
#[inline]
pub(crate) fn layout(record: &[u8]) -> Result<Layout, DecodeError> {
    if record.len() < FIXED {
        return Err(DecodeError::Short);
    }
    let flags = record[0];
    let mut fixed = &record[1..FIXED];
    let stamp = Stamp { sequence: fixed.get_u64_le(), taken_ms: fixed.get_uint_le(6), due_ms: 0, expires_ms: 0 };
    let mut layout = Layout { stamp, body: FIXED, ..Layout::default() };
    if flags != 0 {
        find_options(flags, record, &mut layout)?;
    }
    Ok(layout)
}

fn find_options(flags: u8, record: &[u8], layout: &mut Layout) -> Result<(), DecodeError> {
    if flags & !KNOWN != 0 {
        return Err(DecodeError::Unknown);
    }
    let mut from = Cursor { record, at: FIXED };
    if flags & PRIORITY != 0 {
        layout.priority = from.byte()?;
        if layout.priority == 0 || layout.priority > MAX_PRIORITY {
            return Err(DecodeError::Range);
        }
    }
    if flags & DUE != 0 {
        layout.stamp.due_ms = from.time()?;
    }
    if flags & EXPIRES != 0 {
        layout.stamp.expires_ms = from.time()?;
    }
    layout.key = (flags & KEY != 0).then(|| from.bytes()).transpose()?;
    layout.id = (flags & DEDUPLICATION_ID != 0).then(|| from.bytes()).transpose()?;
    if flags & HEADERS != 0 {
        layout.headers = Some(from.at);
        let count = from.number()?;
        if count == 0 || count > MAX_HEADERS as u64 {
            return Err(DecodeError::Range);
        }
        for _ in 0..2 * count {
            let text = from.bytes()?;
            std::str::from_utf8(&record[text]).map_err(|_| DecodeError::Text)?;
        }
    }
    layout.body = from.at;
    Ok(())
}

fn decode_options(layout: &Layout, record: &Bytes, message: &mut Message) -> Result<(), DecodeError> {
    message.set_priority(layout.priority);
    if layout.stamp.due_ms != 0 {
        message.set_due(Due::At(wall_from_millis(layout.stamp.due_ms)));
    }
    if layout.stamp.expires_ms != 0 {
        message.set_life(Life::Until(wall_from_millis(layout.stamp.expires_ms)));
    }
    if let Some(key) = &layout.key {
        message.set_key(record.slice(key.clone()));
    }
    if let Some(id) = &layout.id {
        message.set_deduplication_id(record.slice(id.clone()));
    }
    if let Some(at) = layout.headers {
        let mut from = Cursor { record, at };
        let mut headers = Headers::new();
        for _ in 0..from.number()? {
            let name = record.slice(from.bytes()?);
            headers.push_read(name, record.slice(from.bytes()?));
        }
        message.set_headers(headers);
    }
    Ok(())
}

/// Reads a record from some place on.
struct Cursor<'a> {
    record: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = self.record.get(self.at).copied().ok_or(DecodeError::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let (number, length) = varint(&self.record[self.at..])?;
        self.at += length;
        Ok(number)
    }

    /// Milliseconds; 0 is no time.
    fn time(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.record[self.at..].first_chunk().ok_or(DecodeError::Short)?;
        self.at += bytes.len();
        match u64::from_le_bytes(*bytes) {
            0 => Err(DecodeError::Range),
            millis => Ok(millis),
        }
    }

    fn bytes(&mut self) -> Result<Range<usize>, DecodeError> {
        let length = usize::try_from(self.number()?).map_err(|_| DecodeError::Range)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.record.len()).ok_or(DecodeError::Short)?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> (Stamp, Message) {
        let stamp = Stamp { sequence: u64::MAX, taken_ms: 1 << 40, due_ms: (1 << 40) + 5, expires_ms: (1 << 41) + 7 };
        let message = Message::new("body")
            .with_key("key")
            .with_priority(7)
            .with_deduplication_id([0, 255].as_slice())
            .with_header("a", "1")
            .with_header("b", "")
            .with_deliver_at(wall_from_millis(stamp.due_ms))
            .with_deadline(wall_from_millis(stamp.expires_ms));
        (stamp, message)
    }

    fn bytes(stamp: &Stamp, message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        encode_head(message, stamp, &mut out);
        out.extend_from_slice(message.body());
        out
    }

    #[test]
    fn every_combination_of_options_reads_back() {
        let (all, everything) = full();
        for options in 0..64_u32 {
            let mut stamp = Stamp { sequence: u64::from(options), taken_ms: 5, ..Stamp::default() };
            let mut message = Message::new(if options % 2 == 0 { "" } else { "body" });
            if options & 1 != 0 {
                message.set_key("k".into());
            }
            if options & 2 != 0 {
                message.set_priority(3);
            }
            if options & 4 != 0 {
                stamp.due_ms = all.due_ms;
                message.set_due(everything.due());
            }
            if options & 8 != 0 {
                stamp.expires_ms = all.expires_ms;
                message.set_life(everything.life());
            }
            if options & 16 != 0 {
                message.set_deduplication_id("i".into());
            }
            if options & 32 != 0 {
                message.set_headers(everything.headers().clone());
            }
            assert_eq!(decode(bytes(&stamp, &message).into()), Ok((stamp, message)));
        }
    }

    #[test]
    fn a_plain_message_costs_fifteen_bytes() {
        assert_eq!(bytes(&Stamp::default(), &Message::new("body")).len(), 15 + 4);
    }

    #[test]
    fn a_cut_record_is_short_or_has_a_shorter_body() {
        let (stamp, message) = full();
        let record = bytes(&stamp, &message);
        for length in 0..record.len() {
            match decode(Bytes::copy_from_slice(&record[..length])) {
                Err(error) => assert_eq!(error, DecodeError::Short, "{length}"),
                Ok((_, cut)) => assert!(length >= record.len() - 4 && cut.body().len() < 4, "{length}"),
            }
        }
    }

    #[test]
    fn nothing_is_believed() {
        let plain = bytes(&Stamp::default(), &Message::new(""));
        let with = |flags: u8, rest: &[u8]| {
            let mut record = plain.clone();
            record[0] = flags;
            record.extend_from_slice(rest);
            decode(record.into()).map(|_| ())
        };
        assert_eq!(with(0x40, &[]), Err(DecodeError::Unknown));
        assert_eq!(with(0x80, &[]), Err(DecodeError::Unknown));
        assert_eq!(with(PRIORITY, &[8]), Err(DecodeError::Range));
        assert_eq!(with(PRIORITY, &[0]), Err(DecodeError::Range));
        assert_eq!(with(DUE, &[0; 8]), Err(DecodeError::Range));
        assert_eq!(with(KEY, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Err(DecodeError::Short));
        assert_eq!(with(HEADERS, &[65]), Err(DecodeError::Range));
        assert_eq!(with(HEADERS, &[1, 1, 0xff, 0]), Err(DecodeError::Text));
        assert_eq!(with(DUE, &[255; 8]), Ok(()));
    }

    #[test]
    fn flipped_bits_never_panic() {
        let (stamp, message) = full();
        let record = bytes(&stamp, &message);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok((_, message)) = decode(flipped.into()) {
                assert!(format!("{message:?}").len() < 10_000);
            }
        }
    }
}
