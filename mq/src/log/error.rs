//! What can go wrong with a log.

use std::io;
use std::sync::Arc;

/// A place of the log that is not what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment} is damaged at byte {offset}: {reason}")]
#[non_exhaustive]
pub struct Damage {
    /// The segment's number; its file is named after it, in hexadecimal.
    pub segment: u32,
    /// Bytes from the beginning of the file.
    pub offset: u64,
    /// What is wrong there.
    pub reason: DamageReason,
}

impl Damage {
    pub(crate) const fn new(segment: u32, offset: u64, reason: DamageReason) -> Self {
        Self { segment, offset, reason }
    }
}

/// What is wrong with a place of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageReason {
    /// The file of a segment that holds messages is gone.
    #[error("the file is missing")]
    Missing,
    /// The file is shorter than it was made.
    #[error("the file was cut short")]
    Truncated,
    /// The segment's own header or end mark is not what was written.
    #[error("the segment's header is broken")]
    SegmentHeader,
    /// A group's header is not what was written, and what follows it was known to be written.
    #[error("the header of a group is broken")]
    GroupHeader,
    /// The checksum of a group's records does not fit.
    #[error("the checksum of a group does not fit")]
    Checksum,
    /// Groups that were written are not there.
    #[error("groups are missing")]
    Gap,
    /// The checksum fits and the content makes no sense: it was written wrongly.
    #[error("a record makes no sense")]
    Record,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OpenError {
    /// Another log has the directory, in this process or another.
    #[error("the directory is in use")]
    InUse,
    /// Something that was written is not there or changed. Nothing was skipped, and nothing was changed.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The directory was written by a newer version of this crate.
    #[error("the log has format version {found}, newer than {supported}")]
    NewerVersion {
        /// The version found.
        found: u16,
        /// The newest that this crate reads.
        supported: u16,
    },
    /// A value of the configuration is out of its range.
    #[error("{0} is out of its range")]
    Config(&'static str),
    /// The storage failed.
    #[error("the storage failed")]
    Io(#[from] io::Error),
}

/// Why a batch was not appended. It is not in the log, nor will it be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AppendError {
    /// Nothing can be appended until [`make_room`](super::Log::make_room) has been called, outside of any lock.
    #[error("the log needs room")]
    Busy,
    /// The batch is larger than a segment may hold.
    #[error("the batch of {bytes} bytes is larger than the {max} that a segment holds")]
    TooLarge {
        /// The batch's size on disk.
        bytes: usize,
        /// The largest possible.
        max: usize,
    },
    /// The log is poisoned.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Why no room could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RoomError {
    /// The disk, or the log's share of it, is full. What is in the log stays, and releasing segments makes room.
    #[error("the disk is full")]
    Full,
    /// The log is poisoned.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The storage failed while a new segment was made; the log itself is unharmed.
    #[error("no new segment could be made")]
    Io(#[source] io::Error),
}

/// In the place of an operation that failed.
const CLOSE: &str = "close";

/// A write or sync of the log failed: what it covered is on disk or not, nobody knows, and nothing will be confirmed
/// any more. To go on, close the log and open it again, which reads what is really there.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log is poisoned: a {operation} failed")]
pub(crate) struct Poisoned {
    operation: &'static str,
    #[source]
    source: Arc<io::Error>,
}

impl Poisoned {
    pub(crate) fn new(operation: &'static str, source: io::Error) -> Self {
        Self { operation, source: Arc::new(source) }
    }

    /// The log was closed, and somebody has a handle to it still.
    pub(crate) fn closed() -> Self {
        Self::new(CLOSE, io::ErrorKind::NotConnected.into())
    }

    pub(crate) fn is_close(&self) -> bool {
        self.operation == CLOSE
    }

    /// The error that poisoned the log.
    pub(crate) fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl PartialEq for Poisoned {
    fn eq(&self, other: &Self) -> bool {
        self.operation == other.operation && self.source.kind() == other.source.kind()
    }
}

impl Eq for Poisoned {}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReadError {
    /// No record was ever there, or its segment has been released.
    #[error("there is no record at this address")]
    NotFound,
    /// The disk gave back something else than was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The storage failed.
    #[error("the storage failed")]
    Io(#[from] io::Error),
}
