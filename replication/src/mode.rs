//! When a write counts as acknowledged, and what a failover can lose then.

use std::num::NonZeroU16;
use std::time::Duration;

/// When a primary acknowledges a write.
///
/// | mode | acknowledged when | a failover can lose | costs |
/// |---|---|---|---|
/// | asynchronous | the primary has it | what no replica that answers had received: the lag at that moment | nothing |
/// | semi-synchronous | one replica has it too, or has not said so in time | what was acknowledged while it went without, or is on one replica that is lost as well | one round trip |
/// | quorum of k | k replicas have it too, however long that takes | nothing, while at most k nodes are lost at once | the k-th fastest round trip |
///
/// Without a quorum, the promoted node is the furthest of the replicas that answer within
/// [`fence_timeout`](crate::FailoverConfig::fence_timeout).
///
/// Whatever is lost is told to the sessions that wrote or saw it ([`Error::Lost`](crate::Error::Lost)), and counted.
///
/// In a quorum, the promoted node is the most advanced of so many that one of them has each acknowledged write: of
/// `n - k` nodes out of `n`, since the primary and k replicas have it. If fewer can be reached, nobody is promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Mode {
    /// At once.
    #[default]
    Asynchronous,
    /// When one replica has it, or after this time.
    SemiSynchronous {
        /// How long a replica is waited for.
        #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
        timeout: Duration,
    },
    /// When so many replicas have it.
    Quorum {
        /// How many.
        replicas: NonZeroU16,
    },
}

impl Mode {
    /// A quorum of so many replicas, one at least.
    #[must_use]
    pub const fn quorum(replicas: u16) -> Self {
        match NonZeroU16::new(replicas) {
            Some(replicas) => Self::Quorum { replicas },
            None => Self::Quorum { replicas: NonZeroU16::MIN },
        }
    }

    /// How many nodes must be fenced before one may be promoted, where `replicas` may confirm writes.
    ///
    /// `None` if the mode asks for more confirmations than there are replicas: no write is acknowledged at all then.
    #[must_use]
    pub fn fences_needed(self, replicas: usize) -> Option<usize> {
        match self {
            Self::Asynchronous | Self::SemiSynchronous { .. } => Some(1),
            Self::Quorum { replicas: confirming } => {
                (replicas + 1).checked_sub(usize::from(confirming.get())).filter(|needed| *needed > 0)
            }
        }
    }
}
