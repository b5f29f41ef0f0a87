//! Group commit: everything appended is written by one system call and, where a confirm promises it, synced by it.
//!
//! Only one commit is in progress at a time; [`Waiters`](super::wait::Waiters) sees to that. What a commit covers is
//! confirmed when the call has returned, not before; if it fails, nothing is confirmed ever after, and everybody who
//! waits learns it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::config::Confirm;
use super::error::Poisoned;
use super::position::Lsn;
use super::record::{ALIGNMENT, FLAG_SYNCED, GroupHeader, HEADER_BYTES};
use super::segment::{End, Segment};
use super::tail::{CLOSE_ONLY, Group};
use super::{Log, Progress, Shared};
use crate::storage::{When, write_full};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// A segment that is full, and will have an end mark when all of it is durable.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) segment: Arc<Segment>,
    pub(super) end: End,
}

impl Log {
    /// Writes everything appended so far, for whoever waits; the caller has the lead. Returns up to where waiters are
    /// settled: everybody, if the log is poisoned.
    pub(super) fn commit_as_leader(&self) -> Lsn {
        let shared = &*self.0;
        if shared.poison.get().is_some() {
            return Lsn(u64::MAX);
        }
        let groups = shared.tail.lock().take(&shared.pieces);
        let Some(last) = groups.last() else {
            return self.confirmed();
        };
        shared.note_commit(groups.iter().map(|group| u64::from(group.len)).sum());
        let end = if last.flags == CLOSE_ONLY { last.lsn } else { last.end() };
        match shared.write(&groups) {
            Ok(()) => {
                if shared.config.confirm == Confirm::Synced {
                    shared.durable.store(end.0, Ordering::Release);
                }
                shared.confirmed.store(end.0, Ordering::Release);
                (shared.observer)(Progress::Confirmed(end));
                end
            }
            Err(error) => {
                self.poison("write", error);
                Lsn(u64::MAX)
            }
        }
    }

    /// Makes everything confirmed durable.
    ///
    /// # Errors
    /// If the log is or becomes poisoned.
    pub(crate) fn sync(&self) -> Result<(), Poisoned> {
        let shared = &*self.0;
        // One at a time: a sync that began later must not say that it is done before an earlier one.
        let mut closing = shared.closing.lock();
        self.check()?;
        let upto = self.confirmed();
        if upto <= self.durable() {
            return Ok(());
        }
        // Not the one that appends go to: what is confirmed may lie in the one before, which is not closed yet. Full ones
        // before this one are: they are in `closing` before the next is written.
        let segment = Arc::clone(&shared.written.lock());
        let synced = close_all(&mut closing).and_then(|()| segment.file.sync());
        match synced {
            Ok(()) => {
                shared.durable.fetch_max(upto.0, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                drop(closing);
                Err(self.poison("sync", error))
            }
        }
    }

    /// Nothing is confirmed from now on, and everybody who waits learns why.
    pub(super) fn poison(&self, operation: &'static str, error: io::Error) -> Poisoned {
        let poisoned = self.0.poison.get_or_init(|| Poisoned::new(operation, error)).clone();
        (self.0.observer)(Progress::Poisoned);
        self.0.waiters.wake_all();
        poisoned
    }
}

impl Shared {
    fn note_commit(&self, bytes: u64) {
        let average = self.commit_bytes.load(Ordering::Relaxed);
        self.commit_bytes.store((average * 7 + bytes) / 8, Ordering::Relaxed);
    }

    /// The groups are confirmed only afterwards, so whoever syncs what is confirmed syncs this segment.
    fn note_written(&self, segment: &Arc<Segment>) {
        let mut written = self.written.lock();
        if written.number != segment.number {
            *written = Arc::clone(segment);
        }
    }

    /// Writes groups in their order.
    fn write(&self, groups: &[Group]) -> io::Result<()> {
        let durable = self.durable.load(Ordering::Acquire);
        let (when, flags) = match self.config.confirm {
            Confirm::Synced => (When::Now, FLAG_SYNCED),
            Confirm::Written => (When::Later, 0),
        };
        for run in groups.chunk_by(|a, b| a.segment.number == b.segment.number) {
            let Some(first) = run.first() else { continue };
            if first.flags != CLOSE_ONLY {
                let headers: Vec<_> =
                    run.iter().map(|group| encode_header(group, durable, self.session, flags)).collect();
                write_run(&first.segment, run, &headers, when)?;
                self.note_written(&first.segment);
            }
            if let Some(end) = run.last().and_then(|group| group.closes) {
                let mut closing = self.closing.lock();
                closing.push_back(Closing { segment: Arc::clone(&first.segment), end });
                if when == When::Now {
                    close_all(&mut closing)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_header(group: &Group, durable: u64, session: u32, flags: u32) -> [u8; HEADER_BYTES as usize] {
    let mut checksum = crc32fast::Hasher::new();
    group.pieces.iter().for_each(|piece| checksum.update(piece));
    debug_assert_eq!(group.pieces.iter().map(|piece| piece.len()).sum::<usize>(), group.len as usize, "I2");
    let header = GroupHeader {
        checksum: checksum.finalize(),
        len: group.len,
        segment: group.segment.number,
        lsn: group.lsn,
        durable_back: u32::try_from(group.lsn.0.saturating_sub(durable)).unwrap_or(u32::MAX),
        session,
        flags: group.flags | flags,
    };
    header.encode()
}

/// Writes groups that follow each other in one segment.
fn write_run(segment: &Segment, run: &[Group], headers: &[[u8; HEADER_BYTES as usize]], when: When) -> io::Result<()> {
    const PADDING: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];
    let mut slices = Vec::with_capacity(run.iter().map(|group| group.pieces.len() + 2).sum());
    for (group, header) in run.iter().zip(headers) {
        slices.push(IoSlice::new(header));
        slices.extend(group.pieces.iter().map(|piece| IoSlice::new(piece)));
        let padding = group.end().0 - group.lsn.0 - u64::from(HEADER_BYTES) - u64::from(group.len);
        if padding > 0 {
            slices.push(IoSlice::new(&PADDING[..padding as usize]));
        }
    }
    let offset = run.first().map_or(0, |group| u64::from(group.offset));
    write_full(&*segment.file, offset, &mut slices, when)
}

/// Gives full segments their end marks, in order, after a sync of each.
fn close_all(closing: &mut VecDeque<Closing>) -> io::Result<()> {
    while let Some(Closing { segment, end }) = closing.front() {
        segment.file.sync()?;
        segment.write_end(*end)?;
        closing.pop_front();
    }
    Ok(())
}
