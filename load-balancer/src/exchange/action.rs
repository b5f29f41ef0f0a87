//! What an exchange asks its host for.

use std::time::Instant;

#[cfg(doc)]
use crate::Failure;

/// One try of a request, by its number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt(pub(super) u8);

impl Attempt {
    #[cfg(feature = "tower")]
    pub(crate) const FIRST: Self = Self(0);

    /// Its number, from 0 to 7.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(super) const fn bit(self) -> u8 {
        1 << self.0
    }

    /// The attempts of a set.
    pub(super) fn of_set(set: u8) -> impl Iterator<Item = Self> {
        (0..8).map(Self).filter(move |attempt| set & attempt.bit() != 0)
    }
}

/// What the host does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Pick a backend that is not one of [`tried`](super::Exchange::tried), if there is one, and say so by
    /// [`picked`](super::Exchange::picked) or [`not_picked`](super::Exchange::not_picked).
    Pick,
    /// Tell health that the attempt has taken longer than most. Said again where it turns out to be
    /// [slow](super::Exchange::report_slow), and each time that its hedge is asked for again.
    Overdue(Attempt),
    /// Stop the attempt, and tell health that it [timed out](Failure::TimedOut).
    TimedOut(Attempt),
    /// Wait until an attempt ends, or until this instant and then call [`timer`](super::Exchange::timer).
    Wait(Instant),
    /// Return what this attempt brought, the last one to end, and stop those in flight; they are not to blame. Nothing
    /// comes after it.
    Return(Attempt),
    /// Return this error and stop those in flight. Nothing comes after it.
    Fail(ExchangeError),
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// No backend could be picked.
    #[error("no backend to send the request to")]
    NoBackend,
    /// No answer came in time.
    #[error("no answer before the deadline")]
    DeadlineExceeded,
}
