//! Messages that a group gave up, and why.

use crate::{Message, MessageId};

/// Why a message is dead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadReason {
    /// It was delivered [`Config::max_attempts`](crate::Config::max_attempts) times and never acked.
    Attempts,
    /// Its deadline or time to live passed before it was delivered.
    Expired,
    /// A consumer gave it up, for this reason, of which the first 256 bytes are kept.
    Rejected(String),
    /// Its bytes could not be read.
    Damaged,
}

impl std::fmt::Display for DeadReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attempts => f.write_str("too many attempts"),
            Self::Expired => f.write_str("expired"),
            Self::Rejected(reason) => write!(f, "rejected: {reason}"),
            Self::Damaged => f.write_str("damaged"),
        }
    }
}

/// A message that a group gave up. It is kept until it is requeued or purged, or [`Config::max_dead_letters`] newer ones
/// came.
///
/// [`Config::max_dead_letters`]: crate::Config::max_dead_letters
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Which message.
    pub id: MessageId,
    /// Why.
    pub reason: DeadReason,
    /// How often it was delivered.
    pub attempts: u32,
    /// What it was; empty if its bytes cannot be read.
    pub message: Message,
}

impl DeadLetter {
    /// A dead letter of these parts.
    pub fn new(id: MessageId, reason: DeadReason, attempts: u32, message: Message) -> Self {
        Self { id, reason, attempts, message }
    }
}
