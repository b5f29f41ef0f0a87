//! What becomes of a try, and of the request with it: begun, paid for, put off, ended, too late.

use std::time::{Duration, Instant};

use super::{Attempt, Exchange, ExchangeError, NEVER, Purpose, Stage, nanos};
use crate::request_config::RequestPolicy;
use crate::retry::backoff;
use crate::{BackendId, Failure};

/// A try that was put off is asked for again after no longer than this.
const LONGEST_PAUSE: u64 = 1_000_000_000;

impl Exchange {
    #[inline]
    pub(super) fn begin(&mut self, policy: &RequestPolicy, purpose: Purpose, id: BackendId, now: Instant) -> Attempt {
        let attempt = Attempt(self.tried.ids().len() as u8);
        // The first try begins with the request, mostly.
        self.begun[attempt.index()] = if now == self.start { 0 } else { self.since_start(now) };
        self.tried.push(id);
        self.in_flight |= attempt.bit();
        self.has_paused = false;
        if purpose == Purpose::Hedge {
            self.hedges += 1;
        }
        if let Purpose::Replace(late) = purpose {
            self.stop(policy, late, now);
        }
        if !self.has_copy_left() {
            // Nothing can take the place of those in flight.
            self.expired = u8::MAX;
        }
        self.stage = Stage::Waiting;
        attempt
    }

    /// Whether one more attempt goes to this backend; takes its credit.
    #[cold]
    pub(super) fn may_send(&mut self, policy: &RequestPolicy, purpose: Purpose, id: BackendId, now: Instant) -> bool {
        let is_new = !self.tried.contains(id);
        let is_retry = purpose == Purpose::Retry;
        if !is_new && !self.has_paused {
            if is_retry {
                self.pause(policy, now);
            } else {
                self.put_off(purpose);
            }
            return false;
        }
        let budget = policy.budget();
        let is_paid = if policy.drought().forbids(policy.jitter(), now) {
            false
        } else if purpose == Purpose::Hedge {
            budget.withdraw_spare(now)
        } else {
            budget.withdraw(now)
        };
        policy.counts().asked_for(purpose == Purpose::Hedge, is_paid);
        if !is_paid && is_retry {
            self.give_up(ExchangeError::NoBackend);
        } else if !is_paid {
            self.put_off(purpose);
        }
        is_paid
    }

    /// There is nobody, or no credit, for another try beside the one that goes on: asks again later. With a hedge, health
    /// is told again by then that the request waits.
    #[cold]
    pub(super) fn put_off(&mut self, purpose: Purpose) {
        self.stage = Stage::Waiting;
        let later = |after: u64| after.saturating_add(after.min(LONGEST_PAUSE));
        if let Purpose::Replace(late) = purpose {
            self.replace_after = later(self.replace_after);
            self.expired &= !late.bit();
        } else {
            self.hedge_after = later(self.hedge_after);
            self.overdue &= !self.in_flight;
        }
    }

    #[inline]
    pub(super) fn succeeded(&mut self, policy: &RequestPolicy, attempt: Attempt, (at, now): (u64, Instant)) {
        if policy.config().max_tries > 1 {
            policy.budget().deposit_at(self.started.saturating_add(at));
            policy.drought().end();
        }
        let latency = at.saturating_sub(self.begun[attempt.index()]);
        if let Some(limit) = policy.limit() {
            limit.record(Duration::from_nanos(latency), now);
        }
        if let Some(hedge) = policy.hedge() {
            if attempt.0 == 0 {
                hedge.answered(latency);
            } else if !self.has_first_failed {
                hedge.overtaken(self.hedge_after);
            }
        }
        self.stage = Stage::Done(Ok(attempt));
    }

    #[cold]
    pub(super) fn failed(&mut self, policy: &RequestPolicy, attempt: Attempt, failure: Failure, now: Instant) {
        policy.drought().failure(now);
        if let Some(limit) = policy.limit().filter(|_| matches!(failure, Failure::Rejected | Failure::TimedOut)) {
            limit.record_drop(now);
        }
        self.has_first_failed |= attempt.0 == 0;
        self.last = Some(attempt);
        if self.stage == Stage::Pick(Purpose::Replace(attempt)) || self.stage == Stage::Pick(Purpose::Hedge) {
            self.stage = Stage::Waiting;
        }
        if self.in_flight != 0 {
            return;
        }
        if failure.may_be_repeated(self.is_idempotent) && self.has_try_left(policy, self.since_start(now)) {
            self.stage = Stage::Pick(Purpose::Retry);
        } else {
            self.give_up(ExchangeError::NoBackend);
        }
    }

    pub(super) fn is_overdue(&mut self, policy: &RequestPolicy, attempt: Attempt, now: u64) {
        self.overdue |= attempt.bit();
        self.to_report |= attempt.bit();
        let max_hedges = policy.hedge().map_or(0, |hedge| hedge.max_hedges());
        let is_worth_it = self.is_idempotent && self.hedges < max_hedges && self.has_try_left(policy, now);
        if is_worth_it && self.stage == Stage::Waiting {
            self.stage = Stage::Pick(Purpose::Hedge);
        }
    }

    pub(super) fn has_expired(&mut self, policy: &RequestPolicy, attempt: Attempt, now: u64) {
        if matches!(self.stage, Stage::Pick(Purpose::Replace(_))) {
            // One after the other; the next one's turn comes with the next call.
            return;
        }
        self.expired |= attempt.bit();
        if self.has_try_left(policy, now) {
            self.stage = Stage::Pick(Purpose::Replace(attempt));
        }
    }

    /// Gives up an attempt that took too long.
    fn stop(&mut self, policy: &RequestPolicy, attempt: Attempt, now: Instant) {
        policy.drought().failure(now);
        policy.counts().timed_out();
        if let Some(limit) = policy.limit() {
            limit.record_drop(now);
        }
        self.in_flight &= !attempt.bit();
        self.to_stop |= attempt.bit();
    }

    /// Waits a little before the request goes to a backend it was at before; gives up if there is no time for that.
    fn pause(&mut self, policy: &RequestPolicy, now: Instant) {
        let now = self.since_start(now);
        let until = now.saturating_add(nanos(backoff(self.backoffs.into(), policy.jitter())));
        self.backoffs = self.backoffs.saturating_add(1);
        if self.has_try_left(policy, until) {
            self.stage = Stage::Pausing(until);
        } else {
            self.give_up(ExchangeError::NoBackend);
        }
    }

    /// The deadline has come. Those who had a fair time are to blame, a try that has just begun is not.
    pub(super) fn run_out(&mut self, policy: &RequestPolicy, now: Instant) {
        let hedge_delay = policy.hedge().map_or(NEVER, |hedge| hedge.current(policy.time(now)));
        let fair = hedge_delay.min(policy.try_timeout_nanos()).min(self.deadline / 2);
        for attempt in Attempt::of_set(self.in_flight) {
            if self.age(attempt, now) >= fair {
                self.stop(policy, attempt, now);
            }
        }
        self.give_up(ExchangeError::DeadlineExceeded);
    }

    /// Ends with the answer of the attempt that ended last; with the error if none did.
    pub(super) fn give_up(&mut self, error: ExchangeError) {
        self.stage = Stage::Done(self.last.ok_or(error));
    }
}
