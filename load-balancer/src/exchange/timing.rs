//! What is to be reported, and when the next thing happens.

use std::time::Instant;

use super::{Action, Attempt, Exchange, Stage, nanos};
use crate::request_config::RequestPolicy;

impl Exchange {
    #[cold]
    pub(super) fn report(&mut self) -> Action {
        let take = |set: &mut u8| {
            let first = Attempt(set.trailing_zeros() as u8);
            *set &= *set - 1;
            first
        };
        if self.to_report != 0 {
            Action::Overdue(take(&mut self.to_report))
        } else {
            Action::TimedOut(take(&mut self.to_stop))
        }
    }

    pub(super) fn has_try_left(&self, policy: &RequestPolicy, at: u64) -> bool {
        self.has_copy_left() && at.saturating_add(nanos(policy.config().min_try_time)) < self.deadline
    }

    #[inline]
    pub(super) fn has_copy_left(&self) -> bool {
        self.tried.ids().len() < usize::from(self.max_tries)
    }

    /// When the timer is due.
    #[inline]
    pub(super) fn wake_at(&self) -> u64 {
        if let Stage::Pausing(until) = self.stage {
            return until.min(self.deadline);
        }
        let overdue = Attempt::of_set(self.in_flight & !self.overdue).map(|attempt| self.overdue_at(attempt));
        let expired = Attempt::of_set(self.in_flight & !self.expired).map(|attempt| self.expires_at(attempt));
        let slow = Attempt::of_set(self.in_flight & !self.slow).map(|attempt| self.slow_at(attempt));
        overdue.chain(slow).chain(expired).fold(self.deadline, u64::min)
    }

    #[inline]
    pub(super) fn overdue_at(&self, attempt: Attempt) -> u64 {
        self.begun[attempt.index()].saturating_add(self.hedge_after)
    }

    #[inline]
    pub(super) fn slow_at(&self, attempt: Attempt) -> u64 {
        self.begun[attempt.index()].saturating_add(self.slow_after)
    }

    #[inline]
    pub(super) fn expires_at(&self, attempt: Attempt) -> u64 {
        self.begun[attempt.index()].saturating_add(self.replace_after)
    }

    /// How long ago an attempt began; nothing, if its host tells a time from before.
    #[inline]
    pub(super) fn age(&self, attempt: Attempt, now: Instant) -> u64 {
        self.since_start(now).saturating_sub(self.begun[attempt.index()])
    }

    /// How long after the request an attempt began, in nanoseconds.
    #[cfg(feature = "tower")]
    #[inline]
    pub(crate) fn begun_at(&self, attempt: Attempt) -> u64 {
        self.begun[attempt.index()]
    }

    /// Nanoseconds since the request began; none if that is to come.
    #[inline]
    pub(crate) fn since_start(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.start))
    }
}
