//! Opening a log: what is there is found and checked, handed to the owner, and made fit to go on.
//!
//! Nothing is changed before everything has been read: a log that is refused is left as it was. Then, in this order:
//! segments behind the end of the log and those released are removed; what was read is made durable, for after a kill
//! it may be in memory only; and a first group of the new session is written, synced, at the end of the log. With it the
//! torn tail is cut for good: groups behind it are of an earlier session.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::OnceLock;

use super::ahead::{AHEAD_FROM_BYTES, walk_ahead};
use super::config::LogConfig;
use super::error::{Damage, DamageReason, OpenError, Poisoned};
use super::position::{Address, Lsn};
use super::record::{GroupHeader, HEADER_BYTES, MAX_SESSION, RESERVED_KIND, each_frame};
use super::segment::{SECTOR, Segment, file_name};
use super::shelf::{Making, Shelf};
use super::survey::{Survey, walk_live};
use super::tail::{Place, Tail};
use super::window::Window;
use super::{Log, Observer, Shared};
use crate::storage::{Storage, StorageLock, When, write_full};
use crate::sync::atomic::AtomicU64;
use crate::sync::{Arc, Mutex};

/// Told of each record in order: its address, the end of its group, its kind and body. `false` refuses it: it makes no
/// sense, and the log is not opened.
pub(crate) type Replay<'a> = dyn FnMut(Address, Lsn, u8, &[u8]) -> bool + 'a;

/// What opening a log found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Segments of the log.
    pub(crate) segments: usize,
    /// Groups read.
    pub(crate) groups: u64,
    /// Records read, without the log's own.
    pub(crate) records: u64,
    /// Bytes of their bodies.
    pub(crate) bytes: u64,
    /// Where a torn tail was cut: the place of the first byte that is no part of the log. Nothing behind it was confirmed,
    /// unless a confirm promised no sync.
    pub(crate) torn: Option<Address>,
}

impl Log {
    /// Opens the log in this storage, or begins one if there is none, and hands every record to `replay`: in one step what
    /// [`replay`](Self::replay) and [`ReadLog::begin`] do in two.
    ///
    /// # Errors
    /// [`InUse`](OpenError::InUse), [`Damaged`](OpenError::Damaged), [`NewerVersion`](OpenError::NewerVersion): the log is
    /// left as it was. [`Io`](OpenError::Io): opening it again may succeed.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        config: LogConfig,
        observer: Observer,
        replay: &mut Replay<'_>,
    ) -> Result<(Self, Recovery), OpenError> {
        let (read, recovery) = Self::replay(storage, config, replay)?;
        Ok((read.begin(observer)?, recovery))
    }

    /// Reads the log in this storage and hands every record to `replay`; changes nothing, so that the caller may still
    /// refuse what it has read.
    ///
    /// # Errors
    /// [`InUse`](OpenError::InUse), [`Damaged`](OpenError::Damaged), [`NewerVersion`](OpenError::NewerVersion), or
    /// [`Io`](OpenError::Io): reading it again may succeed.
    pub(crate) fn replay(
        storage: Arc<dyn Storage>,
        config: LogConfig,
        replay: &mut Replay<'_>,
    ) -> Result<(ReadLog, Recovery), OpenError> {
        config.check()?;
        let lock = take_lock(&*storage)?;
        let mut buffer = Vec::new();
        let survey = Survey::new(&*storage, &mut buffer)?;
        let recovery = read_all(&survey, &mut buffer, replay)?;
        Ok((ReadLog { storage, config, lock, survey }, recovery))
    }
}

/// A log that was read and is as it was found, under its lock.
pub(crate) struct ReadLog {
    storage: Arc<dyn Storage>,
    config: LogConfig,
    lock: StorageLock,
    survey: Survey,
}

impl ReadLog {
    /// Makes the log fit to go on, or begins one if there is none.
    ///
    /// # Errors
    /// [`Io`](OpenError::Io): opening it again may succeed.
    pub(crate) fn begin(self, observer: Observer) -> Result<Log, OpenError> {
        let Self { storage, config, lock, survey } = self;
        let shelf = clean_up(storage, &config, &survey)?;
        begin(config, shelf, &survey, observer, lock)
    }
}

pub(super) fn take_lock(storage: &dyn Storage) -> Result<StorageLock, OpenError> {
    storage.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => error.into(),
    })
}

/// Hands over all records of live segments, in order.
pub(super) fn read_all(survey: &Survey, buffer: &mut Vec<u8>, replay: &mut Replay<'_>) -> Result<Recovery, OpenError> {
    let mut recovery = Recovery::default();
    let Some(cut) = &survey.cut else {
        return Ok(recovery);
    };
    if cut.is_torn {
        let segment = survey.segments[cut.index].0.number;
        recovery.torn = Some(Address { segment, offset: cut.end.offset });
    }
    recovery.segments = (0..=cut.index).filter(|&index| survey.is_live(index)).count();
    let visit = &mut |segment: &Segment, header: &GroupHeader, offset, records: &[u8]| {
        segment.note_group(offset);
        recovery.groups += 1;
        hand_over(&mut recovery, segment, header, offset, records, replay)
    };
    if survey.live_bytes() < AHEAD_FROM_BYTES {
        walk_live(survey, buffer, visit)?;
    } else {
        walk_ahead(survey, buffer, visit)?;
    }
    Ok(recovery)
}

fn hand_over(
    recovery: &mut Recovery,
    segment: &Segment,
    header: &GroupHeader,
    offset: u32,
    records: &[u8],
    replay: &mut Replay<'_>,
) -> Result<(), OpenError> {
    let end = Lsn(header.lsn.0 + header.span());
    let first = offset + HEADER_BYTES;
    let nonsense = |at: usize| Damage::new(segment.number, u64::from(first) + at as u64, DamageReason::Record);
    let walked: Result<Result<(), Damage>, usize> = each_frame(records, |at, frame| {
        if frame.kind >= RESERVED_KIND {
            return Ok(());
        }
        let body = &records[frame.body];
        recovery.records += 1;
        recovery.bytes += body.len() as u64;
        let address = Address { segment: segment.number, offset: first + at as u32 };
        if replay(address, end, frame.kind, body) { Ok(()) } else { Err(nonsense(at)) }
    });
    Ok(walked.map_err(nonsense)??)
}

/// Removes what is none of the log's, and makes the rest durable.
fn clean_up(storage: Arc<dyn Storage>, config: &LogConfig, survey: &Survey) -> Result<Shelf, OpenError> {
    let end = survey.cut.as_ref().map_or(0, |cut| cut.index + 1);
    let mut live = Vec::new();
    let mut removed = false;
    for (index, (segment, _)) in survey.segments.iter().enumerate() {
        if index < end && survey.is_live(index) {
            live.push(Arc::clone(segment));
        } else {
            storage.remove(&file_name(segment.number))?;
            removed = true;
        }
    }
    if removed {
        storage.sync_dir()?;
    }
    make_durable(survey)?;
    let last_number = survey.segments.last().map_or(0, |(segment, _)| segment.number);
    let shelf = Shelf::new(storage, config);
    shelf.adopt(live, last_number, &survey.names)?;
    Ok(shelf)
}

/// Makes what was read durable, and closes the segments of the suffix that are whole.
///
/// What was not known to be durable is written once more: if the process before this one saw a sync fail, the system may
/// hold pages as clean that never came to the disk, and a sync alone would do nothing.
fn make_durable(survey: &Survey) -> Result<(), OpenError> {
    let mut buffer = Vec::new();
    for stretch in &survey.stretches {
        let segment = &survey.segments[stretch.index].0;
        let proven = survey.proven.0.saturating_sub(stretch.first.0).min(u64::from(stretch.end.offset - SECTOR));
        rewrite(segment, SECTOR + proven as u32, stretch.end.offset, &mut buffer)?;
        segment.file.sync()?;
    }
    let whole = survey.stretches.iter().filter(|stretch| {
        let is_last = survey.cut.as_ref().is_some_and(|cut| cut.index == stretch.index);
        !is_last && survey.is_live(stretch.index)
    });
    for stretch in whole {
        survey.segments[stretch.index].0.write_end(stretch.end)?;
    }
    Ok(())
}

fn rewrite(segment: &Segment, from: u32, to: u32, buffer: &mut Vec<u8>) -> io::Result<()> {
    const STEP: u32 = 1 << 20;
    let mut window = Window::new(segment, buffer);
    let mut offset = from;
    while offset < to {
        let bytes = window.get(u64::from(offset), STEP.min(to - offset) as usize)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_full(&*segment.file, u64::from(offset), &mut [IoSlice::new(bytes)], When::Later)?;
        offset += bytes.len() as u32;
    }
    Ok(())
}

/// Begins the new session at the end of the log.
fn begin(
    config: LogConfig,
    shelf: Shelf,
    survey: &Survey,
    observer: Observer,
    lock: StorageLock,
) -> Result<Log, OpenError> {
    let session = survey.last_session + 1;
    if session > MAX_SESSION {
        return Err(OpenError::Config("the number of sessions"));
    }
    let mut live = survey.live.clone();
    let mut closed = false;
    let place = match &survey.cut {
        Some(cut) => {
            let (segment, end) = &survey.segments[cut.index];
            closed = end.is_some();
            Place { segment: Arc::clone(segment), offset: cut.end.offset, lsn: cut.end.lsn }
        }
        None => {
            let segment = shelf.make(0, 0, Making::Written)?;
            live = BTreeSet::from([segment.number]);
            Place { segment, offset: SECTOR, lsn: Lsn(u64::from(SECTOR)) }
        }
    };
    let (lsn, written) = (place.lsn, Arc::clone(&place.segment));
    let mut tail = Tail::new(place, session, live, config.segment_bytes);
    if closed {
        tail.close();
    }
    let log = Log(Arc::new(Shared {
        config,
        session,
        tail: Mutex::new(tail),
        pieces: Mutex::default(),
        shelf,
        blocks: Default::default(),
        waiters: Default::default(),
        confirmed: AtomicU64::new(lsn.0),
        durable: AtomicU64::new(lsn.0),
        commit_bytes: AtomicU64::new(0),
        closing: Mutex::default(),
        written: Mutex::new(written),
        released: Mutex::default(),
        making: Mutex::new(()),
        poison: OnceLock::new(),
        observer,
        lock: Mutex::new(Some(lock)),
    }));
    if !closed {
        log.start(survey)?;
    }
    Ok(log)
}

impl Log {
    /// Cuts the torn tail for good: by the first group of the session, or an end mark where there is no room for one.
    fn start(&self, survey: &Survey) -> Result<(), OpenError> {
        if self.0.tail.lock().start(&self.0.pieces) {
            let failed = |poisoned: Poisoned| io::Error::new(poisoned.io_error().kind(), poisoned);
            self.commit().map_err(failed)?;
            self.sync().map_err(failed)?;
        } else if let Some(cut) = &survey.cut {
            survey.segments[cut.index].0.write_end(cut.end)?;
            self.0.tail.lock().close();
        }
        Ok(())
    }
}
