//! Reading a long log with two threads: one reads and checks what the other makes sense of.
//!
//! Copying the bytes out of the system's cache and their checksums take about as long as what is done with the records,
//! so a queue opens in little more than half the time. What is found, and in which order, is as with one thread: an error
//! counts once everything before it was handed over.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::{io, thread};

use super::error::OpenError;
use super::record::GroupHeader;
use super::segment::Segment;
use super::survey::{Survey, VisitLive, walk_live};

/// A shorter log is read before a thread has begun.
pub(super) const AHEAD_FROM_BYTES: u64 = 4 << 20;

/// Handed over together, unless a group is longer: within a processor's cache. Many batches even of a test's log.
const BATCH_BYTES: usize = if cfg!(test) { 256 } else { 128 << 10 };
/// The same for groups with hardly a byte in them.
const BATCH_GROUPS: usize = 4096;
/// Batches that wait, besides one that is filled and one that is made sense of.
const WAITING: usize = 2;

/// Groups that are sound.
#[derive(Default)]
struct Batch<'s> {
    bytes: Vec<u8>,
    groups: Vec<(&'s Segment, GroupHeader, u32, Range<usize>)>,
}

impl<'s> Batch<'s> {
    fn push(&mut self, segment: &'s Segment, header: &GroupHeader, offset: u32, records: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(records);
        self.groups.push((segment, *header, offset, start..self.bytes.len()));
    }

    fn visit(&self, visit: &mut VisitLive<'_, 's>) -> Result<(), OpenError> {
        self.groups.iter().try_for_each(|&(segment, ref header, offset, ref records)| {
            visit(segment, header, offset, &self.bytes[records.clone()])
        })
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.groups.clear();
    }
}

/// As [`walk_live`], with another thread that reads ahead, if the system has one for it.
pub(super) fn walk_ahead<'s>(
    survey: &'s Survey,
    buffer: &mut Vec<u8>,
    visit: &mut VisitLive<'_, 's>,
) -> Result<(), OpenError> {
    thread::scope(|scope| {
        let (full, batches) = mpsc::sync_channel::<Batch<'_>>(WAITING);
        let (empty, used) = mpsc::channel();
        let builder = thread::Builder::new().name("mq-read-ahead".to_owned());
        let Ok(reader) = builder.spawn_scoped(scope, move || read(survey, &full, &used)) else {
            return walk_live(survey, buffer, visit);
        };
        for mut batch in batches {
            batch.visit(visit)?;
            batch.clear();
            // The reader is done when it takes none back.
            let _ = empty.send(batch);
        }
        reader.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Reads until the end, or until nobody wants any more.
fn read<'s>(
    survey: &'s Survey,
    full: &mpsc::SyncSender<Batch<'s>>,
    used: &mpsc::Receiver<Batch<'s>>,
) -> Result<(), OpenError> {
    let mut batch = Batch::default();
    let walked = walk_live(survey, &mut Vec::new(), &mut |segment, header, offset, records| {
        batch.push(segment, header, offset, records);
        if batch.bytes.len() >= BATCH_BYTES || batch.groups.len() >= BATCH_GROUPS {
            let next = used.try_recv().unwrap_or_default();
            full.send(std::mem::replace(&mut batch, next)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    });
    // What came before an error comes before it.
    let _ = full.send(batch);
    walked
}
