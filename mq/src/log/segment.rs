//! Segments: files of a fixed size, made ahead, written once from front to back, closed, recycled.
//!
//! A segment is written out in full before it is used, because a sync then changes no metadata of the file system: twice
//! the syncs a second of a file that grows. It is made under another name, synced, and renamed when it is whole, so a
//! file with a segment's name and a broken header or length is damage and never an accident of making it.
//!
//! ```text
//! 0          512                                       size - 512                size - 32
//! | header   | groups, see `record` ...                | nothing                 | end mark, once closed |
//! ```
//!
//! The end mark is written when all of the segment is durable: a segment with one holds no torn tail, and whatever is
//! broken in it was damaged.
//!
//! # Format version
//! The header's first 24 bytes keep their meaning in every version. A log with a higher version than [`VERSION`] is
//! refused and left as it is; a lower one will be read, and new segments are of the current version.

use std::fmt;
use std::io::{self, IoSlice};

use super::error::{Damage, DamageReason, OpenError};
use super::position::Lsn;
use super::record::{read_u32, read_u64};
use crate::storage::{File, When, read_full, write_full};
use crate::sync::Mutex;

/// The format that this crate writes, and the newest that it reads.
pub(crate) const VERSION: u16 = 1;
/// Where the first group begins; also the room kept for the end mark.
pub(crate) const SECTOR: u32 = 512;
/// Sizes are multiples of this.
pub(crate) const SIZE_UNIT: u32 = 4096;
/// Offsets are 32 bits, and a group may be as long as a segment.
pub(crate) const MAX_SEGMENT_BYTES: u32 = 1 << 30;

const MAGIC: [u8; 8] = *b"tenfoldq";
const END_MAGIC: [u8; 4] = *b"done";
const HEADER_LEN: usize = 24;
const END_LEN: usize = 28;

/// Bytes between two places that reading back may begin at.
const LANDMARK_BYTES: u32 = 64 << 10;

/// The file's name.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:08x}.log")
}

/// The segment's number, if the name is one of a segment.
pub(crate) fn parse_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (file_name(number) == name).then_some(number)
}

/// One segment's file.
pub(crate) struct Segment {
    pub(crate) number: u32,
    /// Length of the file.
    pub(crate) size: u32,
    pub(crate) file: Box<dyn File>,
    /// Where groups begin, in order, each at least [`LANDMARK_BYTES`] behind the one before: reading back begins at one.
    landmarks: Mutex<Vec<u32>>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("number", &self.number).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Segment {
    pub(crate) fn new(number: u32, size: u32, file: Box<dyn File>) -> Self {
        Self { number, size, file, landmarks: Mutex::new(Vec::new()) }
    }

    /// Writes the header, durably, into a file that is long enough.
    pub(crate) fn make(number: u32, size: u32, file: Box<dyn File>) -> io::Result<Self> {
        debug_assert!(size % SIZE_UNIT == 0 && size <= MAX_SEGMENT_BYTES);
        // A whole sector, so that nothing of a former life stays in it; and no end mark of that life.
        let sector = &mut [0; SECTOR as usize];
        write_full(&*file, u64::from(size - SECTOR), &mut [IoSlice::new(sector)], When::Now)?;
        sector[..8].copy_from_slice(&MAGIC);
        sector[8..10].copy_from_slice(&VERSION.to_le_bytes());
        sector[12..16].copy_from_slice(&number.to_le_bytes());
        sector[16..20].copy_from_slice(&size.to_le_bytes());
        let checksum = crc32fast::hash(&sector[..20]);
        sector[20..HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
        write_full(&*file, 0, &mut [IoSlice::new(sector)], When::Now)?;
        Ok(Self::new(number, size, file))
    }

    /// Reads the header of a file that has this segment's name.
    pub(crate) fn open(number: u32, file: Box<dyn File>) -> Result<Self, OpenError> {
        let broken = Damage::new(number, 0, DamageReason::SegmentHeader);
        let bytes = &mut [0; HEADER_LEN];
        if read_full(&*file, 0, bytes)? < HEADER_LEN
            || bytes[..8] != MAGIC
            || crc32fast::hash(&bytes[..20]) != read_u32(bytes, 20)
        {
            return Err(broken.into());
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found > VERSION {
            return Err(OpenError::NewerVersion { found, supported: VERSION });
        }
        let size = read_u32(bytes, 16);
        if read_u32(bytes, 12) != number || !(SIZE_UNIT..=MAX_SEGMENT_BYTES).contains(&size) {
            return Err(broken.into());
        }
        let len = file.len()?;
        if len < u64::from(size) {
            return Err(Damage::new(number, len, DamageReason::Truncated).into());
        }
        Ok(Self::new(number, size, file))
    }

    /// Where groups must end.
    pub(crate) fn data_end(&self) -> u32 {
        self.size - SECTOR
    }

    /// Marks the segment as whole. Everything in it is durable by now.
    pub(crate) fn write_end(&self, end: End) -> io::Result<()> {
        let mut bytes = [0; END_LEN];
        bytes[4..8].copy_from_slice(&END_MAGIC);
        bytes[8..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..16].copy_from_slice(&end.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&end.lsn.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&end.session.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        write_full(&*self.file, self.end_offset(), &mut [IoSlice::new(&bytes)], When::Now)
    }

    /// The end mark, if the segment is closed.
    pub(crate) fn read_end(&self) -> io::Result<Option<End>> {
        let bytes = &mut [0; END_LEN];
        let read = read_full(&*self.file, self.end_offset(), bytes)?;
        let sound = read == END_LEN
            && bytes[4..8] == END_MAGIC
            && read_u32(bytes, 8) == self.number
            && crc32fast::hash(&bytes[4..]) == read_u32(bytes, 0);
        Ok(sound.then(|| End {
            offset: read_u32(bytes, 12),
            lsn: Lsn(read_u64(bytes, 16)),
            session: read_u32(bytes, 24),
        }))
    }

    fn end_offset(&self) -> u64 {
        u64::from(self.size) - 32
    }

    /// Notes that a group begins here; places come in order.
    pub(crate) fn note_group(&self, offset: u32) {
        let mut landmarks = self.landmarks.lock();
        if landmarks.last().is_none_or(|last| offset >= last + LANDMARK_BYTES) {
            landmarks.push(offset);
        }
    }

    /// A place at or before this one where a group begins, and the next such place, if that is known.
    pub(crate) fn landmarks_around(&self, offset: u32) -> Option<(u32, Option<u32>)> {
        let landmarks = self.landmarks.lock();
        let behind = landmarks.partition_point(|&landmark| landmark <= offset);
        let from = *landmarks.get(behind.checked_sub(1)?)?;
        Some((from, landmarks.get(behind).copied()))
    }
}

/// Where the groups of a closed segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) offset: u32,
    pub(crate) lsn: Lsn,
    /// The session of its last group.
    pub(crate) session: u32,
}
