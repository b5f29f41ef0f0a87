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

use bytes::{Buf, BufMut, Bytes};

use crate::clock::wall_from_millis;
use crate::codec::{
    DecodeError, bytes_len, put_bytes, put_varint, read_bytes, read_text, read_u8, read_varint, varint_len,
};
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

/// The bytes that [`encode`] writes.
pub(crate) fn encoded_len(message: &Message, stamp: &Stamp) -> usize {
    let flags = flags(message, stamp);
    let has = |flag: u8, length: usize| if flags & flag == 0 { 0 } else { length };
    FIXED
        + has(PRIORITY, 1)
        + has(DUE, 8)
        + has(EXPIRES, 8)
        + message.key().map_or(0, |key| bytes_len(key))
        + message.deduplication_id().map_or(0, |id| bytes_len(id))
        + has(HEADERS, headers_len(message.headers()))
        + message.body().len()
}

fn headers_len(headers: &Headers) -> usize {
    let entries = headers.iter().map(|(name, value)| bytes_len(name.as_bytes()) + bytes_len(value.as_bytes()));
    varint_len(headers.len() as u64) + entries.sum::<usize>()
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

#[inline]
pub(crate) fn encode(message: &Message, stamp: &Stamp, out: &mut (impl BufMut + ?Sized)) {
    let flags = flags(message, stamp);
    out.put_u8(flags);
    out.put_u64_le(stamp.sequence);
    out.put_uint_le(stamp.taken_ms, 6);
    if flags != 0 {
        encode_options(message, stamp, flags, out);
    }
    out.put_slice(message.body());
}

fn encode_options(message: &Message, stamp: &Stamp, flags: u8, out: &mut (impl BufMut + ?Sized)) {
    if flags & PRIORITY != 0 {
        out.put_u8(message.priority());
    }
    if flags & DUE != 0 {
        out.put_u64_le(stamp.due_ms);
    }
    if flags & EXPIRES != 0 {
        out.put_u64_le(stamp.expires_ms);
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

/// Reads a record; body, key and headers share its memory.
#[inline]
pub(crate) fn decode(mut record: Bytes) -> Result<(Stamp, Message), DecodeError> {
    let (flags, mut stamp) = decode_fixed(&mut record)?;
    let mut message = Message::default();
    if flags != 0 {
        decode_options(flags, &mut record, &mut stamp, &mut message)?;
    }
    message.set_body(record);
    Ok((stamp, message))
}

#[inline]
fn decode_fixed(record: &mut Bytes) -> Result<(u8, Stamp), DecodeError> {
    if record.len() < FIXED {
        return Err(DecodeError::Short);
    }
    let flags = record[0];
    if flags & !KNOWN != 0 {
        return Err(DecodeError::Unknown);
    }
    let mut fixed = &record[1..FIXED];
    let stamp = Stamp { sequence: fixed.get_u64_le(), taken_ms: fixed.get_uint_le(6), due_ms: 0, expires_ms: 0 };
    record.advance(FIXED);
    Ok((flags, stamp))
}

fn decode_options(flags: u8, from: &mut Bytes, stamp: &mut Stamp, message: &mut Message) -> Result<(), DecodeError> {
    if flags & PRIORITY != 0 {
        let priority = read_u8(from)?;
        if priority == 0 || priority > MAX_PRIORITY {
            return Err(DecodeError::Range);
        }
        message.set_priority(priority);
    }
    if flags & DUE != 0 {
        stamp.due_ms = read_time(from)?;
        message.set_due(Due::At(wall_from_millis(stamp.due_ms)));
    }
    if flags & EXPIRES != 0 {
        stamp.expires_ms = read_time(from)?;
        message.set_life(Life::Until(wall_from_millis(stamp.expires_ms)));
    }
    if flags & KEY != 0 {
        message.set_key(read_bytes(from)?);
    }
    if flags & DEDUPLICATION_ID != 0 {
        message.set_deduplication_id(read_bytes(from)?);
    }
    if flags & HEADERS != 0 {
        message.set_headers(decode_headers(from)?);
    }
    Ok(())
}

fn read_time(from: &mut Bytes) -> Result<u64, DecodeError> {
    if from.len() < 8 {
        return Err(DecodeError::Short);
    }
    match from.get_u64_le() {
        0 => Err(DecodeError::Range),
        millis => Ok(millis),
    }
}

fn decode_headers(from: &mut Bytes) -> Result<Headers, DecodeError> {
    let count = read_varint(from)?;
    if count == 0 || count > MAX_HEADERS as u64 {
        return Err(DecodeError::Range);
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = read_text(from)?;
        headers.push_read(name, read_text(from)?);
    }
    Ok(headers)
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
        encode(message, stamp, &mut out);
        assert_eq!(out.len(), encoded_len(message, stamp));
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
