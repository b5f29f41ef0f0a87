//! What can go wrong, one small type for each thing that callers branch on.
//!
//! A send that is refused hands its message back. What is wrong with the log for good ([`Failure`]) is the same
//! everywhere: after a failed sync nobody knows what is on disk, so nothing is confirmed any more until the queue is
//! opened again, which reads it back.

use std::io;

use crate::{ConfigError, Damage, DecodeError, MessageError, MessageId};

/// Why a queue did not take a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// [`Config::max_messages`](crate::Config::max_messages) or [`Config::max_bytes`](crate::Config::max_bytes) is
    /// reached, and no room was made in time. Try again later.
    #[error("the queue is full")]
    Full,
    /// The disk is full. Nothing that was confirmed is lost; messages can be received and acked, which makes room.
    #[error("the disk is full")]
    DiskFull,
    /// Larger than [`Config::max_message_bytes`](crate::Config::max_message_bytes), or together larger than
    /// [`Config::max_bytes`](crate::Config::max_bytes) or what a segment of the log holds: it never fits.
    #[error("a message of {size} bytes, more than {max}")]
    TooLarge {
        /// What it has.
        size: usize,
        /// What it may have.
        max: usize,
    },
    /// A batch of more messages than the queue ever holds, [`Config::max_messages`](crate::Config::max_messages).
    #[error("a batch of {count} messages, more than {max}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: u64,
    },
    /// It breaks a rule for messages.
    #[error("an invalid message")]
    Invalid(#[source] MessageError),
    /// The backend cannot do what the message asks for; see its capabilities.
    #[error("the backend does not support {0}")]
    Unsupported(&'static str),
    /// The queue is closed or is being drained for that.
    #[error("the queue is closed")]
    Closed,
    /// The log failed. Whether the message is on disk is unknown: it may be delivered after the next opening. Or no file could
    /// be made for it, which is no more than that: the next send may succeed.
    #[error("not confirmed")]
    Failed(#[source] Failure),
}

/// A message, or what else was to be sent, that the queue did not take or confirm.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError<T> {
    refusal: Refusal,
    unsent: T,
}

impl<T> SendError<T> {
    /// What was refused, and why.
    pub const fn new(refusal: Refusal, unsent: T) -> Self {
        Self { refusal, unsent }
    }

    /// Why.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// Whether there may be room later.
    pub fn is_full(&self) -> bool {
        matches!(self.refusal, Refusal::Full | Refusal::DiskFull)
    }

    /// What was to be sent.
    pub fn unsent(&self) -> &T {
        &self.unsent
    }

    /// Gives it back.
    pub fn into_unsent(self) -> T {
        self.unsent
    }

    /// Gives both back.
    pub fn into_parts(self) -> (Refusal, T) {
        (self.refusal, self.unsent)
    }
}

impl<T> std::fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendError").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the message was not sent")
    }
}

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.refusal)
    }
}

/// The log, or the connection to a backend, cannot go on.
///
/// It is copied to everybody who waits, so it keeps the system's error as its kind and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log failed: {kind}")]
pub struct Failure {
    kind: io::ErrorKind,
    os_code: Option<i32>,
}

impl Failure {
    /// What the system said first.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// The number by which it said it.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.os_code
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        Self { kind: error.kind(), os_code: error.raw_os_error() }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        failure.os_code.map_or_else(|| failure.kind.into(), Self::from_raw_os_error)
    }
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Self {
        Self { kind, os_code: None }
    }
}

/// Why nothing was received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The queue is closed, or it was drained and nothing is left.
    #[error("the queue is closed")]
    Closed,
    /// There is no such group, or none any more.
    #[error("there is no such group")]
    NoGroup,
    /// The bytes of a message cannot be read. It was put to the dead letters with the reason
    /// [`DeadReason::Damaged`](crate::DeadReason::Damaged); the next call goes on behind it.
    #[error("message {id} is damaged")]
    Damaged {
        /// Which one.
        id: MessageId,
        /// Where and why.
        #[source]
        damage: Damage,
    },
    /// The log failed, and what was confirmed before has been handed out.
    #[error("the queue failed")]
    Failed(#[source] Failure),
}

/// Why an ack, a nack or an extension was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The delivery is no longer the caller's: its lease ran out, or it was settled before. If the lease ran out, somebody
    /// else has or had the message.
    #[error("the delivery was settled before or its lease ran out")]
    Stale,
    /// The receipt is of another queue.
    #[error("the receipt is of another queue")]
    OtherQueue,
    /// The receipt's group does not exist, or not any more.
    #[error("there is no such group")]
    NoGroup,
    /// The backend cannot do it; see its capabilities.
    #[error("the backend does not support {0}")]
    Unsupported(&'static str),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// The disk is full, so that a durable ack is not durable. It counts all the same, as one that was not to be durable,
    /// and is written once there is room.
    #[error("the disk is full")]
    DiskFull,
    /// The log failed.
    #[error("the queue failed")]
    Failed(#[source] Failure),
}

/// Why a group could not be made, found or moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// There are [`Config::max_groups`](crate::Config::max_groups).
    #[error("there are {max} groups already")]
    TooMany {
        /// The bound.
        max: u32,
    },
    /// A name that is empty, longer than 255 bytes, or not of letters, digits, `.`, `_` and `-`.
    #[error("the name of a group is 1 to 255 letters, digits, `.`, `_` and `-`")]
    Name,
    /// There is no such group.
    #[error("there is no such group")]
    Unknown,
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// The disk is full. The change was made, and is not durable before there is room.
    #[error("the disk is full")]
    DiskFull,
    /// The log failed.
    #[error("the queue failed")]
    Failed(#[source] Failure),
}

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of its range.
    #[error("the configuration is invalid")]
    Config(#[from] ConfigError),
    /// There is no queue, and [`Builder::must_exist`](crate::Builder::must_exist) asks for one, or
    /// [`Queue::verify`](crate::Queue::verify) does.
    #[error("there is no queue")]
    NotFound,
    /// Another queue, of this process or another one, has the directory.
    #[error("the directory is in use")]
    InUse,
    /// A file of another version. Older versions are read where the changelog says so; nothing was changed.
    #[error("format version {found} instead of {supported}")]
    Version {
        /// What the file says.
        found: u32,
        /// What this crate reads and writes.
        supported: u32,
    },
    /// Bytes that were known to be on disk are not what was written. Nothing was changed.
    #[error("the log is damaged")]
    Damaged(#[source] Damage),
    /// A record that is whole but means nothing to this version.
    #[error("unreadable record in segment {segment} at byte {offset}")]
    Record {
        /// The segment's number.
        segment: u32,
        /// Bytes from the beginning of its file.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// What the storage said.
    #[error("the storage failed")]
    Io(#[from] io::Error),
}

/// The queue or its log failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The log failed.
    #[error("the queue failed")]
    Failed(#[source] Failure),
}
