//! What reads and writes fail with.

use thiserror::Error;

use crate::route::Refusal;
use crate::session::{ForeignCluster, Lost};
use crate::{NodeId, Position};

/// Why a read or a write was not done; `E` is the driver's error.
///
/// Only [`Error::Ambiguous`] and [`Error::ConnectionKept`] leave open whether something was written. All others had no effect:
/// with [`Error::Lost`], too, the write at hand was not begun.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The statement itself is at fault.
    #[error("the statement failed")]
    Statement(#[source] E),
    /// A read, or a transaction of reads, tried to write.
    #[error("a statement of a read tried to write")]
    WriteInRead(#[source] E),
    /// The write may have taken effect, and is not confirmed. It was not repeated.
    #[error("the write may have taken effect and is not confirmed")]
    Ambiguous(#[source] Option<E>),
    /// A failover has lost something that the session wrote or saw. Told once; the session goes on from what is left, so print
    /// its token anew, or whoever comes with the old one is told again.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The session is of another cluster.
    #[error(transparent)]
    Foreign(#[from] ForeignCluster),
    /// No node may serve the read.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The session has seen more than the primary holds: its token was made elsewhere, or the cluster was set back.
    #[error("the session has seen {session}, and the primary is at {primary}")]
    FromTheFuture {
        /// What the session has seen.
        session: Position,
        /// How far the primary's log reaches.
        primary: Position,
    },
    /// All nodes that were tried failed.
    #[error("the nodes that were tried failed")]
    Unavailable(#[source] Option<E>),
    /// There was no primary before the time was over.
    #[error("there is no primary")]
    NoPrimary,
    /// As many writes wait for a primary as may.
    #[error("too many writes wait for a primary")]
    TooManyWaiting,
    /// All connections to the node are in use, and none came free in time, or too many wait for one.
    #[error("all connections to node {0} are in use")]
    PoolExhausted(NodeId),
    /// The time was over.
    #[error("the time for it is over")]
    Timeout,
    /// The connection was kept by the caller's closure: what it did is not known.
    #[error("the connection was not given back")]
    ConnectionKept,
}

impl<E> Error<E> {
    /// Whether a write may have taken effect nevertheless.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous(_) | Self::ConnectionKept)
    }
}
