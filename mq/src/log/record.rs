//! Groups and records: what the bytes of a segment mean.
//!
//! Everything appended between two commits is one *group*: a header of 32 bytes, then the records one behind the
//! other, each a kind, a length and a body. One checksum covers all records of a group, so a message of 100 bytes pays
//! two bytes and its share of a header, and a group is there as a whole or not at all. Groups begin at multiples of 16.
//!
//! ```text
//! group header, little endian        record
//!  0  u32  CRC-32 of bytes 4..32      u8      kind
//!  4  u32  CRC-32 of the records      varint  length of the body (LEB128, at most 5 bytes)
//!  8  u32  length of the records      …       body
//! 12  u32  segment
//! 16  u64  LSN of this header
//! 24  u32  distance back to the LSN that was durable when this was written, at most u32::MAX
//! 28  u32  session (low 28 bits), flags (high 4 bits)
//! ```
//!
//! - The *segment* is the epoch of a recycled file: groups of its former life name another one.
//! - The *LSN* must be the one expected, so nothing can be missing between two groups.
//! - The *session* counts the openings of the log. Bytes behind a torn tail that was cut belong to a lower session than
//!   the first group of the session that cut it, and thus cannot come back to life.
//! - The *durable LSN* tells a torn tail from corruption: what is broken before an LSN that a later group knew to be
//!   durable was damaged later; what is broken behind it may never have been written. (Pebble's log carries the same
//!   offset, for the same reason.)
//!
//! CRC-32 (IEEE) finds every change of one or two bits and every burst up to 32 bits in groups of this size.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::position::Lsn;

/// Bytes of a group's header.
pub(crate) const HEADER_BYTES: u32 = 32;
/// Groups begin at multiples of this, so that a search for headers has fewer places to look at.
pub(crate) const ALIGNMENT: u32 = 16;
/// Kinds from here on are the log's own.
pub(crate) const RESERVED_KIND: u8 = 0xf0;
/// The segments that were live when the group was written: ranges of numbers. See `recover`.
pub(crate) const KIND_LIVE: u8 = 0xf0;
/// Segments that are live no more: their numbers.
pub(crate) const KIND_RELEASED: u8 = 0xf1;

/// The first group of a session.
pub(crate) const FLAG_START: u32 = 1 << 28;
/// The group was to be durable before anybody was told of it.
pub(crate) const FLAG_SYNCED: u32 = 1 << 29;
/// Records of the log's own are in the group.
pub(crate) const FLAG_INTERNAL: u32 = 1 << 30;
const SESSION_MASK: u32 = (1 << 28) - 1;
/// Sessions after which the log must be written anew: one opening a second for eight years.
pub(crate) const MAX_SESSION: u32 = SESSION_MASK;

/// What stands before the records of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// CRC-32 of the records.
    pub(crate) checksum: u32,
    /// Bytes of the records.
    pub(crate) len: u32,
    pub(crate) segment: u32,
    pub(crate) lsn: Lsn,
    /// How far before `lsn` the log was durable when the group was written.
    pub(crate) durable_back: u32,
    pub(crate) session: u32,
    pub(crate) flags: u32,
}

impl GroupHeader {
    /// The bytes on disk.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        debug_assert!(self.session <= MAX_SESSION && self.flags & SESSION_MASK == 0);
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[4..8].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.durable_back.to_le_bytes());
        bytes[28..32].copy_from_slice(&(self.session | self.flags).to_le_bytes());
        let checksum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header in these bytes, if they are one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES as usize] = bytes.first_chunk()?;
        (crc32fast::hash(&bytes[4..]) == read_u32(bytes, 0)).then(|| Self::fields(bytes))
    }

    fn fields(bytes: &[u8; HEADER_BYTES as usize]) -> Self {
        let last = read_u32(bytes, 28);
        Self {
            checksum: read_u32(bytes, 4),
            len: read_u32(bytes, 8),
            segment: read_u32(bytes, 12),
            lsn: Lsn(u64::from(read_u32(bytes, 16)) | u64::from(read_u32(bytes, 20)) << 32),
            durable_back: read_u32(bytes, 24),
            session: last & SESSION_MASK,
            flags: last & !SESSION_MASK,
        }
    }

    /// The header that these bytes were before one bit of them flipped, if there is such a one.
    pub(crate) fn decode_flipped(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES as usize] = bytes.first_chunk()?;
        (0..bytes.len() * 8).find_map(|bit| {
            let mut mended = *bytes;
            mended[bit / 8] ^= 1 << (bit % 8);
            Self::decode(&mended)
        })
    }

    /// Up to where the log was durable when the group was written.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_sub(u64::from(self.durable_back)))
    }

    /// Bytes from this header to the next.
    pub(crate) fn span(&self) -> u64 {
        group_span(self.len)
    }
}

/// Bytes from the header of a group with so many bytes of records to the next.
pub(crate) fn group_span(len: u32) -> u64 {
    (u64::from(HEADER_BYTES) + u64::from(len)).next_multiple_of(u64::from(ALIGNMENT))
}

/// The little-endian number at this place, which is within the bytes.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The little-endian number at this place, which is within the bytes.
pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(read_u32(bytes, at)) | u64::from(read_u32(bytes, at + 4)) << 32
}

/// Bytes that the frame of a body of this length takes.
pub(crate) fn frame_bytes(body_len: usize) -> usize {
    1 + varint(body_len as u32).1
}

/// The most that the frame of a record takes.
pub(crate) const MAX_FRAME_BYTES: usize = 6;

/// Writes the frame of a record: kind and length of its body.
#[inline]
pub(crate) fn put_frame(kind: u8, body_len: u32, out: &mut BytesMut) {
    // Nearly all take one byte or two.
    match body_len {
        0..0x80 => out.put_u16_le(u16::from(kind) | (body_len as u16) << 8),
        0x80..0x4000 => {
            let digits = 0x80 | (body_len & 0x7f) | body_len >> 7 << 8;
            out.put_slice(&(u32::from(kind) | digits << 8).to_le_bytes()[..3]);
        }
        _ => {
            let (digits, count) = varint(body_len);
            out.put_u8(kind);
            out.put_slice(&digits[..count]);
        }
    }
}

fn varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut count = 0;
    loop {
        bytes[count] = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return (bytes, count + 1);
        }
        bytes[count] |= 0x80;
        count += 1;
    }
}

/// One record within the bytes that it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    /// Where the body is.
    pub(crate) body: Range<usize>,
}

/// The record at this place, unless the bytes end before it does or its length is no number.
#[inline]
pub(crate) fn frame_at(bytes: &[u8], at: usize) -> Option<Frame> {
    let kind = *bytes.get(at)?;
    let mut len = 0_u64;
    let mut from = at + 1;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(from)?;
        from += 1;
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let to = from.checked_add(usize::try_from(len).ok()?)?;
            return (to <= bytes.len()).then_some(Frame { kind, body: from..to });
        }
    }
    None
}

/// Calls for each record with its place; `Err` with the place of the first that is none.
pub(crate) fn each_frame<E>(
    records: &[u8],
    mut call: impl FnMut(usize, Frame) -> Result<(), E>,
) -> Result<Result<(), E>, usize> {
    let mut at = 0;
    while at < records.len() {
        let frame = frame_at(records, at).ok_or(at)?;
        let next = frame.body.end;
        if let Err(error) = call(at, frame) {
            return Ok(Err(error));
        }
        at = next;
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{frame_at, frame_bytes, put_frame};

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for len in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000] {
            let mut bytes = BytesMut::new();
            put_frame(7, len as u32, &mut bytes);
            assert_eq!(bytes.len(), frame_bytes(len), "{len}");
            bytes.resize(bytes.len() + len, 0);
            let frame = frame_at(&bytes, 0).map(|frame| (frame.kind, frame.body));
            assert_eq!(frame, Some((7, frame_bytes(len)..bytes.len())), "{len}");
        }
    }
}
