//! Room to append: the next segment, made ahead; segments that hold nothing any more, recycled.
//!
//! A segment that is released is first said to be so in the log, and recycled only when that is durable. A crash in
//! between finds the file and knows that it is none of the log's; a file that is gone and was not released is damage.

use std::io;

use super::error::{AppendError, RoomError};
use super::position::Lsn;
use super::record::{ALIGNMENT, FLAG_INTERNAL, HEADER_BYTES, KIND_RELEASED};
use super::segment::SECTOR;
use super::shelf::Making;
use super::{Confirm, Log, Room};
use crate::sync::atomic::Ordering;

/// Commits of at least this many bytes on average do not mind that a new segment is not written out.
const LONG_COMMIT_BYTES: u64 = 64 << 10;
/// The next segment is made when this much of the last is used.
const PREPARE_AT_PER_CENT: u64 = 50;

/// Segments on their way out.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// Nothing in the log says so yet.
    pub(super) unsaid: Vec<u32>,
    /// The log says so up to this place.
    pub(super) said: Vec<(Lsn, u32)>,
}

/// What [`Log::maintain`] came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Maintained {
    /// Segments recycled.
    pub(crate) recycled: usize,
    /// Whether the disk was too full for what should have been made ahead.
    pub(crate) is_full: bool,
}

impl Log {
    /// Makes what an append found lacking: writes what is unwritten, or makes a segment. Blocks; call it outside of locks,
    /// then append again.
    ///
    /// # Errors
    /// [`Full`](RoomError::Full) if there is no space for a segment, or the log is poisoned, or the storage failed.
    pub(crate) fn make_room(&self, room: Room) -> Result<(), RoomError> {
        self.check()?;
        let shared = &*self.0;
        if shared.tail.lock().unwritten() >= shared.config.max_unwritten_bytes {
            self.commit()?;
        }
        // One makes a segment; who comes meanwhile finds it.
        let _making = shared.making.lock();
        if self.lacks_segment() {
            self.recycle()?;
            match self.make_next() {
                Err(error) if is_full(&error) && room == Room::Reserve => self.use_reserve()?,
                other => other?,
            }
        }
        Ok(())
    }

    /// No record of this segment is needed any more; its file will be used again or removed by
    /// [`maintain`](Self::maintain). The last segment, where appends go, stays.
    ///
    /// The caller must not need the segment's other records, either: those that ack messages of segments before it.
    pub(crate) fn release(&self, segment: u32) {
        self.0.released.lock().unsaid.push(segment);
    }

    /// Does what need not be done while somebody waits: recycles what was released, makes the next segment ahead, keeps
    /// the reserve. Blocks.
    ///
    /// # Errors
    /// If the log is poisoned, or the storage failed. A full disk is no error.
    pub(crate) fn maintain(&self) -> Result<Maintained, RoomError> {
        self.check()?;
        let mut maintained = Maintained::default();
        self.say_released()?;
        if !self.0.released.lock().said.is_empty() {
            self.commit()?;
            if self.0.config.confirm == Confirm::Written {
                self.sync()?;
            }
            maintained.recycled = self.recycle()?;
        }
        if !self.0.closing.lock().is_empty() {
            // So that what a crash leaves to be read and written again stays short.
            self.sync()?;
        }
        let _making = self.0.making.lock();
        let early = self.0.tail.lock().used_per_cent() < PREPARE_AT_PER_CENT;
        let next = if early { Ok(()) } else { self.make_next() };
        for made in [next, self.0.shelf.keep_reserve()] {
            match made.map_err(RoomError::from) {
                Err(RoomError::Full) => maintained.is_full = true,
                other => other?,
            }
        }
        Ok(maintained)
    }

    /// Bytes of all files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.0.shelf.disk_bytes()
    }

    /// Numbers and file sizes of the segments that are live, in order; the last is where appends go.
    pub(crate) fn segments(&self) -> Vec<(u32, u32)> {
        let tail = self.0.tail.lock();
        let live = tail.live().clone();
        drop(tail);
        let files = self.0.shelf.live();
        files.iter().filter(|file| live.contains(&file.number)).map(|file| (file.number, file.size)).collect()
    }

    /// Appends the record that says which segments are released.
    pub(super) fn say_released(&self) -> Result<(), RoomError> {
        /// More are said the next time.
        const MAX_AT_ONCE: usize = 256;
        let mut numbers = {
            let mut released = self.0.released.lock();
            let count = released.unsaid.len().min(MAX_AT_ONCE);
            released.unsaid.drain(..count).collect::<Vec<_>>()
        };
        {
            let mut tail = self.0.tail.lock();
            numbers.retain(|&number| tail.forget_segment(number));
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let lsn = self.append_released(&body).inspect_err(|_| {
            // Not said, so it is still to do.
            self.0.tail.lock().remember_segments(&numbers);
            self.0.released.lock().unsaid.extend(&numbers);
        })?;
        self.0.released.lock().said.extend(numbers.iter().map(|&number| (lsn, number)));
        Ok(())
    }

    fn append_released(&self, body: &[u8]) -> Result<Lsn, RoomError> {
        loop {
            let appended = self.append_flagged(Room::Reserve, FLAG_INTERNAL, &mut |batch| {
                batch.put(KIND_RELEASED, &[body]);
            });
            match appended {
                Ok(appended) => return Ok(appended.lsn),
                Err(AppendError::Busy) => self.make_room_for_release()?,
                Err(AppendError::TooLarge { .. }) => return Err(RoomError::Full),
                Err(AppendError::Poisoned(poisoned)) => return Err(poisoned.into()),
            }
        }
    }

    /// Like [`make_room`](Self::make_room), without recycling, which is what is being done.
    fn make_room_for_release(&self) -> Result<(), RoomError> {
        match self.make_next() {
            Err(error) if is_full(&error) => self.use_reserve(),
            other => Ok(other?),
        }
    }

    /// Recycles what the log durably says is released.
    fn recycle(&self) -> io::Result<usize> {
        let durable = self.durable();
        let mut numbers = Vec::new();
        self.0.released.lock().said.retain(|&(lsn, number)| {
            let keep = lsn > durable;
            if !keep {
                numbers.push(number);
            }
            keep
        });
        for &number in &numbers {
            self.0.shelf.recycle(number)?;
        }
        Ok(numbers.len())
    }

    fn lacks_segment(&self) -> bool {
        let tail = self.0.tail.lock();
        tail.wanted > 0 && tail.next().is_none_or(|next| next.size < self.needed(tail.wanted, tail.live().len()))
    }

    /// Bytes of a segment that takes such a batch.
    fn needed(&self, batch: u32, live: usize) -> u32 {
        let list = (live as u32 + 1) * 8 + 6;
        batch + list + 2 * SECTOR + HEADER_BYTES + ALIGNMENT
    }

    fn make_next(&self) -> io::Result<()> {
        let (current, wanted, making) = {
            let tail = self.0.tail.lock();
            let wanted = self.needed(tail.wanted, tail.live().len());
            if tail.next().is_some_and(|next| next.size >= wanted) {
                return Ok(());
            }
            (tail.segment().size, wanted, self.making())
        };
        let made = self.0.shelf.make(current, wanted, making)?;
        self.set_next(made)
    }

    fn use_reserve(&self) -> Result<(), RoomError> {
        match self.0.shelf.make_from_reserve() {
            Ok(made) => Ok(self.set_next(made)?),
            Err(error) => Err(error.into()),
        }
    }

    /// Somebody else may have been quicker; the segment not used is put back.
    fn set_next(&self, made: super::Arc<super::segment::Segment>) -> io::Result<()> {
        let unused = {
            let mut tail = self.0.tail.lock();
            match tail.next().map(|next| next.number) {
                Some(next) if next > made.number => Some(made),
                _ if made.number <= tail.segment().number => Some(made),
                _ => {
                    tail.wanted = 0;
                    tail.set_next(Some(made))
                }
            }
        };
        unused.map_or(Ok(()), |segment| self.0.shelf.put_back(&segment))
    }

    fn making(&self) -> Making {
        let long = self.0.commit_bytes.load(Ordering::Relaxed) >= LONG_COMMIT_BYTES;
        if long { Making::Reserved } else { Making::Written }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<io::Error> for RoomError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Io(error) }
    }
}
