//! Reading a record back: from memory where it is there, else from the file, checked.
//!
//! The checksum covers a group, so a record is read with what stands around it: from a place where a group is known to
//! begin to the next such place, about 64 KiB. A few of these blocks are kept, since a queue that was spilled is read in
//! order, and the next hundreds of messages lie in the same block.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Log;
use super::error::{Damage, DamageReason, ReadError};
use super::position::Address;
use super::record::{GroupHeader, HEADER_BYTES, frame_at};
use super::segment::Segment;
use crate::storage::read_full;
use crate::sync::Mutex;

/// Blocks kept.
const MAX_BLOCKS: usize = 8;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

/// Checked bytes of a segment, headers among them.
#[derive(Clone, Debug)]
struct Block {
    segment: u32,
    offset: u32,
    bytes: Bytes,
}

/// The blocks read last.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: Mutex<VecDeque<Block>>,
}

impl Log {
    /// The record at this address, whether it is confirmed or not.
    ///
    /// # Errors
    /// [`NotFound`](ReadError::NotFound) if its segment was recycled; [`Damaged`](ReadError::Damaged) if the disk gives
    /// back something else than was written. An address that no append returned gives an error or nonsense.
    ///
    /// # Complexity
    /// From memory: a short lock and a binary search; nothing is copied. From the file: a read of about 64 KiB, unless it
    /// is among the last eight such.
    pub(crate) fn read(&self, address: Address) -> Result<Record, ReadError> {
        if let Some(record) = self.read_memory(address) {
            return record;
        }
        if let Some(record) = self.0.blocks.find(address) {
            return record;
        }
        let segment = self.0.shelf.segment(address.segment).ok_or(ReadError::NotFound)?;
        let block =
            read_block(&segment, address.offset).map_err(|error| match self.0.shelf.segment(address.segment) {
                Some(_) => error,
                // It was recycled meanwhile.
                None => ReadError::NotFound,
            })?;
        let record = record_in(&block, address);
        self.0.blocks.keep(block);
        record
    }

    /// Lets go of pieces in memory that are written, the oldest first, until at most `max_bytes` are left, and of all
    /// of segments before `live_from`. Their records are read from the file from now on.
    pub(crate) fn forget(&self, max_bytes: usize, live_from: u32) {
        // Freed after the lock.
        let gone = self.0.pieces.lock().shrink(max_bytes, self.confirmed(), live_from);
        drop(gone);
    }

    /// Bytes of records in memory, without what is appended and in no piece yet.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.pieces.lock().bytes()
    }

    fn read_memory(&self, address: Address) -> Option<Result<Record, ReadError>> {
        let found = self.0.pieces.lock().find(address).cloned();
        let piece = found.or_else(|| {
            // It may be in the tail: then that becomes a piece. Or it was, and became one for somebody else just now.
            let mut tail = self.0.tail.lock();
            if tail.holds(address) {
                tail.cut(&self.0.pieces);
            }
            self.0.pieces.lock().find(address).cloned()
        })?;
        let at = piece.find(address)?;
        let record =
            frame_at(&piece.bytes, at).map(|frame| Record { kind: frame.kind, body: piece.bytes.slice(frame.body) });
        Some(record.ok_or(ReadError::NotFound))
    }
}

impl Blocks {
    fn find(&self, address: Address) -> Option<Result<Record, ReadError>> {
        let blocks = self.blocks.lock();
        let block = blocks.iter().find(|block| {
            let at = address.offset.wrapping_sub(block.offset) as usize;
            block.segment == address.segment && at < block.bytes.len()
        })?;
        let block = block.clone();
        drop(blocks);
        Some(record_in(&block, address))
    }

    fn keep(&self, block: Block) {
        let mut blocks = self.blocks.lock();
        blocks.retain(|kept| (kept.segment, kept.offset) != (block.segment, block.offset));
        if blocks.len() >= MAX_BLOCKS {
            blocks.pop_back();
        }
        blocks.push_front(block);
    }
}

fn record_in(block: &Block, address: Address) -> Result<Record, ReadError> {
    let at = (address.offset - block.offset) as usize;
    let frame = frame_at(&block.bytes, at).ok_or(ReadError::NotFound)?;
    Ok(Record { kind: frame.kind, body: block.bytes.slice(frame.body) })
}

/// Reads the groups around this place, and checks them.
fn read_block(segment: &Segment, offset: u32) -> Result<Block, ReadError> {
    let (from, to) = segment.landmarks_around(offset).ok_or(ReadError::NotFound)?;
    let mut bytes = vec![0; (to.unwrap_or(from) - from) as usize];
    if read_full(&*segment.file, u64::from(from), &mut bytes)? < bytes.len() {
        return Err(damage(segment, from, DamageReason::Truncated));
    }
    let wanted = (offset - from) as usize;
    // Groups up to the next landmark are all checked: they are wanted soon.
    let wanted = wanted.max(bytes.len().saturating_sub(HEADER_BYTES as usize));
    let (mut at, mut checked) = (0, 0);
    while at <= wanted {
        let header = extend_to(segment, from, &mut bytes, at + HEADER_BYTES as usize)
            .map(|()| GroupHeader::decode(&bytes[at..]))?
            .filter(|header| header.segment == segment.number)
            .ok_or_else(|| damage(segment, from + at as u32, DamageReason::GroupHeader))?;
        if u64::from(from) + at as u64 + header.span() > u64::from(segment.size) {
            return Err(damage(segment, from + at as u32, DamageReason::GroupHeader));
        }
        let records = at + HEADER_BYTES as usize;
        let end = records + header.len as usize;
        extend_to(segment, from, &mut bytes, end)?;
        if crc32fast::hash(&bytes[records..end]) != header.checksum {
            return Err(damage(segment, from + at as u32, DamageReason::Checksum));
        }
        at += header.span() as usize;
        checked = end;
    }
    bytes.truncate(checked);
    Ok(Block { segment: segment.number, offset: from, bytes: bytes.into() })
}

/// Reads on until there are so many bytes.
fn extend_to(segment: &Segment, from: u32, bytes: &mut Vec<u8>, len: usize) -> Result<(), ReadError> {
    let have = bytes.len();
    if have >= len {
        return Ok(());
    }
    bytes.resize(len, 0);
    let read = read_full(&*segment.file, u64::from(from) + have as u64, &mut bytes[have..])?;
    if read < len - have {
        return Err(damage(segment, from + have as u32, DamageReason::Truncated));
    }
    Ok(())
}

fn damage(segment: &Segment, offset: u32, reason: DamageReason) -> ReadError {
    Damage::new(segment.number, u64::from(offset), reason).into()
}
