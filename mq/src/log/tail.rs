//! The end of the log that is not written yet: where appends go.
//!
//! Records are encoded straight into one growing buffer, which is cut into pieces where somebody needs the bytes: a
//! commit to write them, a reader to deliver from them. Cutting copies nothing. All of it is under the log's one short
//! lock, and nothing here touches the disk: a segment to go on in has been made before, or the append is refused.
//!
//! # Invariants
//! - **I1** The open group, if there is one, and the sealed ones are all that is not taken for writing; their places
//!   follow one another without a hole, except from one segment to the next.
//! - **I2** `buffer` holds the last bytes of the open group, and is empty if there is none.
//! - **I3** No group reaches past its segment's `data_end`.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::error::AppendError;
use super::pieces::{Piece, Pieces};
use super::position::{Address, Lsn};
use super::record::{
    ALIGNMENT, FLAG_INTERNAL, FLAG_START, HEADER_BYTES, KIND_LIVE, MAX_FRAME_BYTES, frame_bytes, group_span, put_frame,
};
use super::segment::{End, SECTOR, Segment};
use crate::sync::{Arc, Mutex};

/// Memory taken at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// A buffer with less room than this is given up for a new one before a batch, rather than copied when it is full.
const MIN_ROOM_BYTES: usize = 16 << 10;
/// Groups are sealed when they have grown to this, so that recovery needs no more memory at a time.
const GROUP_BYTES: u32 = 1 << 20;

/// Writes records into the tail; see [`Log::append`](super::Log::append).
pub(crate) struct BatchWriter<'a> {
    buffer: &'a mut BytesMut,
    start: usize,
}

impl BatchWriter<'_> {
    /// Adds a record whose body is these parts one behind the other. Returns where it is within the batch.
    ///
    /// Kinds from 0xf0 on are the log's own.
    #[inline]
    pub(crate) fn put(&mut self, kind: u8, parts: &[&[u8]]) -> u32 {
        let at = self.buffer.len() - self.start;
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        self.buffer.reserve(MAX_FRAME_BYTES + len);
        put_frame(kind, len as u32, self.buffer);
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        at as u32
    }

    /// Bytes of the batch so far.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// A group on its way to the disk.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) segment: Arc<Segment>,
    /// Of its header.
    pub(crate) offset: u32,
    pub(crate) lsn: Lsn,
    /// Bytes of its records.
    pub(crate) len: u32,
    pub(crate) flags: u32,
    pub(crate) pieces: Vec<Bytes>,
    /// If it is the segment's last.
    pub(crate) closes: Option<End>,
}

impl Group {
    /// Where the next group may begin.
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.lsn.0 + group_span(self.len))
    }
}

#[derive(Debug)]
pub(crate) struct Tail {
    buffer: BytesMut,
    /// Where the buffer's first byte will be in the file.
    buffer_offset: u32,
    segment: Arc<Segment>,
    /// Where the next byte goes: behind the open group's last, or where a new group begins.
    offset: u32,
    /// LSN of the segment's byte 0, or what it would be.
    base: u64,
    open: Option<Group>,
    sealed: Vec<Group>,
    /// Bytes appended that nobody has taken for writing.
    unwritten: usize,
    /// What to go on in when the segment is full.
    next: Option<Arc<Segment>>,
    /// Bytes of the batch that did not fit into `next`.
    pub(crate) wanted: u32,
    /// Whether the segment has its end mark.
    closed: bool,
    live: BTreeSet<u32>,
    /// The configured size, which small segments grow to.
    segment_bytes: u32,
    session: u32,
    /// Flags of the next group.
    flags: u32,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Of the batch's first record.
    pub(crate) first: Address,
    /// The append is confirmed once the log is confirmed up to here.
    pub(crate) lsn: Lsn,
    /// Bytes of the batch.
    pub(crate) len: u32,
    /// Bytes of this and of earlier batches that nobody has begun to write.
    pub(crate) unwritten: usize,
}

impl Appended {
    /// The address of a record by its place within the batch, as [`BatchWriter::put`] returned it.
    #[inline]
    pub(crate) fn address(&self, place: u32) -> Address {
        Address { segment: self.first.segment, offset: self.first.offset + place }
    }
}

/// Where a log goes on.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u32,
    pub(crate) lsn: Lsn,
}

impl Tail {
    /// A tail that goes on at this place of this segment.
    pub(crate) fn new(place: Place, session: u32, live: BTreeSet<u32>, segment_bytes: u32) -> Self {
        let Place { segment, offset, lsn } = place;
        Self {
            segment_bytes,
            buffer: BytesMut::new(),
            buffer_offset: offset,
            segment,
            offset,
            base: lsn.0.wrapping_sub(u64::from(offset)),
            open: None,
            sealed: Vec::new(),
            unwritten: 0,
            next: None,
            wanted: 0,
            closed: false,
            live,
            session,
            flags: FLAG_START,
        }
    }

    /// Nothing more goes into the segment, which has its end mark.
    pub(crate) fn close(&mut self) {
        let lsn = self.lsn();
        self.offset = self.segment.data_end();
        self.base = lsn.0.wrapping_sub(u64::from(self.offset));
        self.closed = true;
    }

    /// The place behind everything appended.
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.base.wrapping_add(u64::from(self.offset)))
    }

    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn next(&self) -> Option<&Arc<Segment>> {
        self.next.as_ref()
    }

    pub(crate) fn set_next(&mut self, next: Option<Arc<Segment>>) -> Option<Arc<Segment>> {
        std::mem::replace(&mut self.next, next)
    }

    pub(crate) fn live(&self) -> &BTreeSet<u32> {
        &self.live
    }

    /// The segment is in use no more, as a record says that is appended under the same lock.
    pub(crate) fn forget_segment(&mut self, number: u32) -> bool {
        number != self.segment.number && self.live.remove(&number)
    }

    /// Whether this is a place in the buffer.
    pub(crate) fn holds(&self, address: Address) -> bool {
        address.segment == self.segment.number
            && address.offset >= self.buffer_offset
            && ((address.offset - self.buffer_offset) as usize) < self.buffer.len()
    }

    /// Takes back [`forget_segment`](Self::forget_segment).
    pub(crate) fn remember_segments(&mut self, numbers: &[u32]) {
        self.live.extend(numbers);
    }

    /// Share of the segment that is used, in per cent.
    pub(crate) fn used_per_cent(&self) -> u64 {
        u64::from(self.offset) * 100 / u64::from(self.segment.data_end())
    }

    /// Appends a batch; `flags` go to its group.
    pub(crate) fn append(
        &mut self,
        pieces: &Mutex<Pieces>,
        flags: u32,
        encode: &mut dyn FnMut(&mut BatchWriter<'_>),
    ) -> Result<Appended, AppendError> {
        if self.buffer.capacity() - self.buffer.len() < MIN_ROOM_BYTES {
            self.cut(pieces);
            self.buffer.reserve(CHUNK_BYTES);
        }
        let start = self.buffer.len();
        let len = self.encode(start, encode)?;
        if len > 0 {
            if let Err(error) = self.place(pieces, start, len) {
                self.buffer.truncate(start);
                return Err(error);
            }
        }
        if let Some(open) = &mut self.open {
            open.flags |= flags;
        }
        let first = Address { segment: self.segment.number, offset: self.offset - len };
        Ok(Appended { first, lsn: self.lsn(), len, unwritten: self.unwritten })
    }

    /// Encodes a batch at the end of the buffer; returns its length.
    fn encode(&mut self, start: usize, encode: &mut dyn FnMut(&mut BatchWriter<'_>)) -> Result<u32, AppendError> {
        let max = self.max_batch();
        let mut batch = Batch { buffer: &mut self.buffer, start, kept: false };
        encode(&mut BatchWriter { buffer: batch.buffer, start });
        let bytes = batch.buffer.len() - start;
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
        batch.kept = true;
        Ok(bytes as u32)
    }

    /// The longest batch that a segment of the configured size can take behind the list of live ones.
    fn max_batch(&self) -> usize {
        let list = live_list_bytes(self.live.len() + 1);
        (self.segment_bytes as usize).saturating_sub((2 * SECTOR + HEADER_BYTES) as usize + list)
    }

    /// Makes room for the batch that the buffer ends with, and counts it in.
    fn place(&mut self, pieces: &Mutex<Pieces>, start: usize, len: u32) -> Result<(), AppendError> {
        let fits = match &self.open {
            Some(group) if group.len < GROUP_BYTES => self.offset + len <= self.segment.data_end(),
            Some(_) => false,
            None => self.fits_as_group(self.offset, len),
        };
        if fits && self.open.is_some() {
            self.count(len);
            return Ok(());
        }
        // A new group, in this segment or the next.
        let offset = self.offset.next_multiple_of(ALIGNMENT);
        let here = self.fits_as_group(offset, len);
        if !here && !self.next.as_ref().is_some_and(|next| self.fits_in_next(next, len)) {
            self.wanted = self.wanted.max(len);
            return Err(AppendError::Busy);
        }
        let batch = self.buffer.split_off(start);
        self.seal(pieces);
        if here {
            self.buffer = batch;
            self.open_group();
        } else {
            self.roll(&batch);
        }
        self.count(len);
        Ok(())
    }

    fn fits_as_group(&self, offset: u32, len: u32) -> bool {
        u64::from(offset) + u64::from(HEADER_BYTES) + u64::from(len) <= u64::from(self.segment.data_end())
    }

    /// Whether a batch fits into an empty segment behind the list of live ones.
    fn fits_in_next(&self, next: &Segment, len: u32) -> bool {
        let list = live_list_bytes(self.live.len() + 1);
        u64::from(SECTOR + HEADER_BYTES) + list as u64 + u64::from(len) <= u64::from(next.data_end())
    }

    fn count(&mut self, len: u32) {
        self.offset += len;
        self.unwritten += len as usize;
        if let Some(open) = &mut self.open {
            open.len += len;
        }
    }

    /// Begins a group at `offset`; the buffer holds what will be in it and is not counted yet.
    fn open_group(&mut self) {
        let lsn = self.lsn();
        self.segment.note_group(self.offset);
        self.open = Some(Group {
            segment: Arc::clone(&self.segment),
            offset: self.offset,
            lsn,
            len: 0,
            flags: std::mem::take(&mut self.flags),
            pieces: Vec::new(),
            closes: None,
        });
        self.offset += HEADER_BYTES;
        self.buffer_offset = self.offset;
    }

    /// Goes on in the next segment, with a group that begins with the list of live segments.
    fn roll(&mut self, batch: &[u8]) {
        debug_assert!(self.buffer.is_empty() && self.open.is_none(), "I2: the group before is sealed");
        let Some(next) = self.next.take() else {
            return;
        };
        let lsn = self.lsn();
        if !self.closed {
            self.order_end(lsn);
        }
        self.closed = false;
        self.base = lsn.0.wrapping_sub(u64::from(SECTOR));
        self.offset = SECTOR;
        self.segment = next;
        self.live.insert(self.segment.number);
        self.buffer.reserve(CHUNK_BYTES.max(batch.len()));
        self.open_group();
        self.put_live_list();
        self.buffer.extend_from_slice(batch);
    }

    /// Has the segment closed once its last group is written.
    fn order_end(&mut self, lsn: Lsn) {
        let end = End { offset: self.offset, lsn, session: self.session };
        match self.sealed.last_mut().filter(|group| group.segment.number == self.segment.number) {
            Some(last) => last.closes = Some(end),
            // All of it is written: an empty group that is not, and carries the order to close.
            None => self.sealed.push(Group {
                segment: Arc::clone(&self.segment),
                offset: self.offset,
                lsn,
                len: 0,
                flags: CLOSE_ONLY,
                pieces: Vec::new(),
                closes: Some(end),
            }),
        }
    }

    /// Appends the list of live segments to the open group.
    fn put_live_list(&mut self) {
        let body = encode_live(&self.live);
        let before = self.buffer.len();
        BatchWriter { start: before, buffer: &mut self.buffer }.put(KIND_LIVE, &[&body]);
        self.count((self.buffer.len() - before) as u32);
        if let Some(open) = &mut self.open {
            open.flags |= FLAG_INTERNAL;
        }
    }

    /// Begins the session with a group of its own, if there is room for it in the segment.
    pub(crate) fn start(&mut self, pieces: &Mutex<Pieces>) -> bool {
        let list = live_list_bytes(self.live.len());
        if !self.fits_as_group(self.offset, list as u32) {
            return false;
        }
        self.open_group();
        self.put_live_list();
        self.seal(pieces);
        true
    }

    /// An empty group, which says up to where everything before it is durable.
    pub(crate) fn put_empty_group(&mut self, pieces: &Mutex<Pieces>) {
        self.seal(pieces);
        if self.fits_as_group(self.offset, 0) {
            self.open_group();
            self.seal(pieces);
        }
    }

    /// Makes a piece of what is in the buffer.
    pub(crate) fn cut(&mut self, pieces: &Mutex<Pieces>) {
        if self.buffer.is_empty() {
            return;
        }
        let bytes = self.buffer.split().freeze();
        let address = Address { segment: self.segment.number, offset: self.buffer_offset };
        self.buffer_offset += bytes.len() as u32;
        let end = Lsn(self.base.wrapping_add(u64::from(self.buffer_offset)));
        if let Some(open) = &mut self.open {
            open.pieces.push(bytes.clone());
        }
        pieces.lock().push(Piece { address, end, bytes });
    }

    /// Ends the open group.
    fn seal(&mut self, pieces: &Mutex<Pieces>) {
        self.cut(pieces);
        if let Some(group) = self.open.take() {
            self.offset = self.offset.next_multiple_of(ALIGNMENT);
            self.sealed.push(group);
        }
    }

    /// Takes all groups for writing.
    pub(crate) fn take(&mut self, pieces: &Mutex<Pieces>) -> Vec<Group> {
        self.seal(pieces);
        self.unwritten = 0;
        std::mem::take(&mut self.sealed)
    }
}

/// Flag of a group in memory that is not to be written; see [`Tail::roll`].
pub(crate) const CLOSE_ONLY: u32 = 1;

/// Takes the batch out again if encoding it panics.
struct Batch<'a> {
    buffer: &'a mut BytesMut,
    start: usize,
    kept: bool,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.buffer.truncate(self.start);
        }
    }
}

/// Ranges of numbers: first and count.
fn encode_live(live: &BTreeSet<u32>) -> Vec<u8> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in live {
        match ranges.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => ranges.push((number, 1)),
        }
    }
    ranges.iter().flat_map(|(first, count)| [first.to_le_bytes(), count.to_le_bytes()]).flatten().collect()
}

/// The most that the record of so many live segments takes.
fn live_list_bytes(count: usize) -> usize {
    let body = count * 8;
    frame_bytes(body) + body
}
