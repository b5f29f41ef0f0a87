//! The files of a log: live segments, spares to make segments of, and a small one kept for when the disk is full.
//!
//! Making a segment of a spare is a write of its header and a rename; of nothing, it is the time to write it out. When
//! the disk is full, nobody could record that messages are done, and so no segment would ever become free: a small
//! *reserve* is kept for records that shrink the log, see [`Room::Reserve`](super::Room).

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use super::config::LogConfig;
use super::segment::{MAX_SEGMENT_BYTES, SIZE_UNIT, Segment, file_name};
use crate::storage::{File, Storage, When, write_full};
use crate::sync::{Arc, Mutex, MutexGuard};

/// A file that is being made.
const NEW_FILE: &str = "new";
/// The reserve.
const RESERVE_FILE: &str = "reserve";
/// The reserve's size, unless segments are smaller: three hundred thousand acks one by one, many more in batches.
const RESERVE_BYTES: u32 = 256 << 10;
const SPARE_PREFIX: &str = "spare-";
/// Segments begin small and double up to the configured size, so that a queue of ten messages is no burden on the disk.
const FIRST_SEGMENT_BYTES: u32 = 1 << 20;

/// Written at a time into a new file. The system caches a file in the pieces in which it was first written, and every later
/// write goes over all of the piece it is in: in pieces of 1 MiB, a write of 100 bytes takes more than twice as long.
const ZEROS_BYTES: usize = 64 << 10;

/// How a new file is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Making {
    /// Written out in full: slow to make, quick to sync.
    Written,
    /// Its space is reserved: quick to make, and good enough where commits are long.
    Reserved,
}

#[derive(Debug)]
pub(crate) struct Shelf {
    storage: Arc<dyn Storage>,
    segment_bytes: u32,
    spare_segments: usize,
    max_disk_bytes: u64,
    files: Mutex<Files>,
    /// Held by whoever makes, recycles or removes a file.
    work: Mutex<Door>,
}

/// Whether the directory is still this log's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
}

#[derive(Debug, Default)]
struct Files {
    live: BTreeMap<u32, Arc<Segment>>,
    spares: Vec<Spare>,
    has_reserve: bool,
    last_number: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Spare {
    name: String,
    size: u32,
}

impl Shelf {
    pub(crate) fn new(storage: Arc<dyn Storage>, config: &LogConfig) -> Self {
        Self {
            storage,
            segment_bytes: config.segment_bytes,
            spare_segments: config.spare_segments,
            max_disk_bytes: config.max_disk_bytes,
            files: Mutex::new(Files::default()),
            work: Mutex::new(Door::Open),
        }
    }

    /// Changes no file any more, once who is at it is done.
    pub(crate) fn close(&self) {
        *self.work.lock() = Door::Closed;
    }

    fn enter(&self) -> io::Result<MutexGuard<'_, Door>> {
        let work = self.work.lock();
        if *work == Door::Closed { Err(io::ErrorKind::NotConnected.into()) } else { Ok(work) }
    }

    /// Takes over the files found in the directory: these segments, the spares, and what must go.
    pub(crate) fn adopt(&self, live: Vec<Arc<Segment>>, last_number: u32, names: &[String]) -> io::Result<()> {
        let mut spares = Vec::new();
        let mut has_reserve = false;
        for name in names {
            if name == NEW_FILE {
                self.storage.remove(name)?;
            } else if name == RESERVE_FILE {
                has_reserve = self.storage.open(name)?.len()? >= u64::from(self.reserve_bytes());
            } else if name.starts_with(SPARE_PREFIX) {
                let len = self.storage.open(name)?.len()?;
                // A cut or foreign file is no use.
                match u32::try_from(len) {
                    Ok(size) if size % SIZE_UNIT == 0 && size > 0 && size <= MAX_SEGMENT_BYTES => {
                        spares.push(Spare { name: name.clone(), size });
                    }
                    _ => self.storage.remove(name)?,
                }
            }
        }
        let live = live.into_iter().map(|segment| (segment.number, segment)).collect();
        *self.files.lock() = Files { live, spares, has_reserve, last_number };
        Ok(())
    }

    /// The segment of this number, if it is live.
    pub(crate) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.files.lock().live.get(&number).cloned()
    }

    /// Live segments, in order of their numbers.
    pub(crate) fn live(&self) -> Vec<Arc<Segment>> {
        self.files.lock().live.values().cloned().collect()
    }

    /// Bytes of all files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let files = self.files.lock();
        let live = files.live.values().map(|segment| u64::from(segment.size)).sum::<u64>();
        let spares = files.spares.iter().map(|spare| u64::from(spare.size)).sum::<u64>();
        live + spares + if files.has_reserve { u64::from(self.reserve_bytes()) } else { 0 }
    }

    /// A new segment for at least so many bytes in all, behind one of `current` bytes.
    ///
    /// # Errors
    /// [`StorageFull`](io::ErrorKind::StorageFull) if the disk or the log's share of it is full, or whatever the
    /// storage says; what there was stays as it is.
    pub(crate) fn make(&self, current: u32, min_bytes: u32, making: Making) -> io::Result<Arc<Segment>> {
        let _work = self.enter()?;
        let doubled = (current.max(FIRST_SEGMENT_BYTES / 2) * 2).min(self.segment_bytes);
        let size = doubled.max(min_bytes.next_multiple_of(SIZE_UNIT));
        let (name, size, file) = match self.take_spare(size) {
            Some(spare) => {
                let file = self.storage.open(&spare.name)?;
                (spare.name, spare.size, file)
            }
            None => {
                if self.disk_bytes() + u64::from(size) > self.max_disk_bytes {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                (NEW_FILE.to_owned(), size, self.make_file(size, making)?)
            }
        };
        self.finish(&name, size, file)
    }

    /// A segment from the reserve, for when the disk is full.
    pub(crate) fn make_from_reserve(&self) -> io::Result<Arc<Segment>> {
        let _work = self.enter()?;
        if !std::mem::take(&mut self.files.lock().has_reserve) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.storage.open(RESERVE_FILE)?;
        self.finish(RESERVE_FILE, self.reserve_bytes(), file)
    }

    /// Makes the reserve if it is not there.
    pub(crate) fn keep_reserve(&self) -> io::Result<()> {
        let _work = self.enter()?;
        if self.files.lock().has_reserve {
            return Ok(());
        }
        self.make_file(self.reserve_bytes(), Making::Written)?;
        self.storage.rename(NEW_FILE, RESERVE_FILE)?;
        self.storage.sync_dir()?;
        self.files.lock().has_reserve = true;
        Ok(())
    }

    /// Makes a segment that no group was ever written to, and whose number is skipped, a spare again.
    pub(crate) fn put_back(&self, segment: &Segment) -> io::Result<()> {
        self.recycle(segment.number)
    }

    /// Takes a segment off the log, whose release is durable, and keeps its file as a spare if one is wanted.
    pub(crate) fn recycle(&self, number: u32) -> io::Result<()> {
        let _work = self.enter()?;
        let (segment, wanted) = {
            let mut files = self.files.lock();
            let Some(segment) = files.live.remove(&number) else {
                return Ok(());
            };
            (segment, files.spares.len() < self.spare_segments)
        };
        let name = file_name(number);
        // A smaller file than segments are now would never be taken.
        if wanted && segment.size >= self.segment_bytes {
            let spare = Spare { name: format!("{SPARE_PREFIX}{number:08x}"), size: segment.size };
            self.storage.rename(&name, &spare.name)?;
            // Before anything else is written into it under its new name: the old one could come back with the crash.
            self.storage.sync_dir()?;
            self.files.lock().spares.push(spare);
        } else {
            self.storage.remove(&name)?;
        }
        Ok(())
    }

    fn take_spare(&self, size: u32) -> Option<Spare> {
        let mut files = self.files.lock();
        let index = files.spares.iter().position(|spare| spare.size >= size)?;
        Some(files.spares.swap_remove(index))
    }

    fn make_file(&self, size: u32, making: Making) -> io::Result<Box<dyn File>> {
        let file = self.storage.create(NEW_FILE)?;
        let made = write_out(&*file, size, making);
        if made.is_err() {
            // Gives back what there was of the space; the error that counts is the first.
            let _ = self.storage.remove(NEW_FILE);
        }
        made.map(|()| file)
    }

    /// Makes the file a segment with the next number.
    fn finish(&self, name: &str, size: u32, file: Box<dyn File>) -> io::Result<Arc<Segment>> {
        // Numbers that a failure leaves unused are skipped.
        let number = {
            let mut files = self.files.lock();
            files.last_number = files.last_number.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
            files.last_number
        };
        let segment = Arc::new(Segment::make(number, size, file)?);
        self.storage.rename(name, &file_name(number))?;
        self.storage.sync_dir()?;
        self.files.lock().live.insert(number, Arc::clone(&segment));
        Ok(segment)
    }

    fn reserve_bytes(&self) -> u32 {
        RESERVE_BYTES.min(self.segment_bytes)
    }
}

fn write_out(file: &dyn File, size: u32, making: Making) -> io::Result<()> {
    file.allocate(u64::from(size))?;
    if making == Making::Written {
        let zeros = vec![0; ZEROS_BYTES.min(size as usize)];
        let mut offset = 0;
        while offset < size {
            let count = (size - offset).min(zeros.len() as u32);
            write_full(file, u64::from(offset), &mut [IoSlice::new(&zeros[..count as usize])], When::Later)?;
            offset += count;
        }
    }
    file.sync()
}
