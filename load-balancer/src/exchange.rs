//! One request, from its first try to its answer, whatever happens in between.
//!
//! Retries, hedges, time-outs and the deadline of a request depend on each other: a hedge is a try, a try that timed out
//! may be replaced while its hedge still runs, what is left of the deadline decides whether another is worth its load.
//! So they are one state machine. It does no I/O, knows no runtime and reads no clock: a host tells it what happened and
//! does what it is asked. The tower service, a proxy and a simulation on virtual time run the same machine, so what was
//! simulated is what runs.
//!
//! ```text
//! host                                           exchange
//! new ───────────────────────────────────────>
//!                      <── action() = Pick ───   a first try; later: a hedge, a replacement, a retry
//! picked(id) ────────────────────────────────>   Some(attempt): send it there; None: let the pick go
//!                      <── action() = Wait(t) ─  until an attempt ends or t has come
//! ended(attempt, outcome) ───────────────────>
//! timer(now) ────────────────────────────────>
//!                      <── action() = Overdue    tell health that this attempt is late; later, that it is slow
//!                      <── action() = TimedOut   stop this attempt; it is to blame
//!                      <── action() = Return ─   this attempt's answer is the request's; cancel the others
//!                      <── action() = Fail ───   there is no answer; cancel the others
//! ```
//!
//! # When another try is made
//! | what happened | then | paid | to a backend tried before |
//! |---|---|---|---|
//! | a try failed, and may be repeated | once no other try is in flight: a retry | yes | after a pause |
//! | a try is overdue, the request idempotent | a hedge beside it | yes | no |
//! | a try timed out, the request idempotent | another in its place | yes | no |
//!
//! A hedge or a replacement that cannot be had at its time (no credit is left, nobody is better) is asked for again after
//! twice the time, and so on, a second later at the latest: what a request waits for may hang, and by then there may be a
//! credit, or a backend known to be well.
//!
//! None of them beyond `max_tries`, nor with less than `min_try_time` left, nor, but for a few, while
//! [nothing succeeds](crate::retry). A try that cannot be replaced is not cut
//! short: slow beats failed. When there is nothing left to try, the answer of the try that ended last is the request's,
//! bad as it is.

use std::time::{Duration, Instant};

use crate::request_config::RequestPolicy;
use crate::retry::Tried;
use crate::{BackendId, Outcome};

mod action;
mod course;
#[cfg(test)]
mod metastable;
#[cfg(test)]
mod tests;
mod timing;

pub use action::{Action, Attempt, ExchangeError};

/// The state of one request.
///
/// # Invariants
/// - **X1** At most `max_tries` attempts are begun, and each beyond the first is paid from the budget.
/// - **X2** An attempt beyond the first begins only if the request is idempotent, or every attempt before it failed
///   without an effect.
/// - **X3** Two attempts in flight are never at one backend, and one goes to a backend tried before only after a pause.
/// - **X4** Every sequence of events that goes on until the deadline leads to exactly one `Return` or `Fail`.
///
/// # Complexity
/// Every call: O(1), no allocation. At most 224 bytes.
///
/// # Examples
/// ```
/// use std::time::Instant;
/// use tenfold_load_balancer::{Action, BackendId, Exchange, Failure, Outcome, RequestConfig, RequestPolicy};
///
/// let now = Instant::now();
/// let policy = RequestPolicy::new(RequestConfig::default(), now)?;
/// let mut exchange = Exchange::new(&policy, true, None, now);
///
/// assert_eq!(exchange.action(), Action::Pick);
/// let first = exchange.picked(&policy, BackendId::of_name("a"), now).unwrap();
/// exchange.ended(&policy, first, Outcome::Failure(Failure::Refused), now);
///
/// assert_eq!(exchange.action(), Action::Pick);
/// assert_eq!(exchange.tried(), [BackendId::of_name("a")]);
/// let second = exchange.picked(&policy, BackendId::of_name("b"), now).unwrap();
/// exchange.ended(&policy, second, Outcome::Success, now);
/// assert_eq!(exchange.action(), Action::Return(second));
/// # Ok::<(), tenfold_load_balancer::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Exchange {
    start: Instant,
    /// The same, as the policy's measures have it.
    started: u64,
    // Times are nanoseconds since `start`.
    deadline: u64,
    slow_after: u64,
    /// How long after it began a try is hedged, or another takes its place: the delay and the time-out, and more each time
    /// that nothing came of it.
    hedge_after: u64,
    replace_after: u64,
    begun: [u64; crate::retry::MAX_TRIES],
    tried: Tried,
    stage: Stage,
    is_idempotent: bool,
    max_tries: u8,
    hedges: u8,
    backoffs: u8,
    has_paused: bool,
    has_first_failed: bool,
    /// The last attempt that ended, with an answer that failed.
    last: Option<Attempt>,
    // Sets of attempts, a bit each.
    in_flight: u8,
    overdue: u8,
    /// Those that were reported as slow.
    slow: u8,
    /// Those whose time-out has come, whatever came of it.
    expired: u8,
    to_report: u8,
    to_stop: u8,
}

/// What is known when a request is sent for the first time.
#[cfg(feature = "tower")]
pub(crate) struct FirstTry {
    pub(crate) id: BackendId,
    pub(crate) is_idempotent: bool,
    /// Whether the request could be sent again.
    pub(crate) has_copy: bool,
    pub(crate) deadline: Option<Instant>,
    /// As for [`report_slow`](Exchange::report_slow), in nanoseconds; the largest number for never.
    pub(crate) slow_after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The host is to pick for this purpose.
    Pick(Purpose),
    Waiting,
    /// Nothing is in flight until this time.
    Pausing(u64),
    Done(Result<Attempt, ExchangeError>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    First,
    Hedge,
    /// In the place of this attempt, which timed out.
    Replace(Attempt),
    Retry,
}

/// Never.
const NEVER: u64 = u64::MAX;

impl Exchange {
    /// A request that begins now. `is_idempotent` says that doing it twice is the same as doing it once (RFC 9110
    /// section 9.2.2); `deadline` is the caller's own.
    #[inline]
    #[must_use]
    pub fn new(policy: &RequestPolicy, is_idempotent: bool, deadline: Option<Instant>, now: Instant) -> Self {
        let given = deadline.map_or(NEVER, |deadline| nanos(deadline.saturating_duration_since(now)));
        let started = policy.time(now);
        Self {
            start: now,
            started,
            deadline: given.min(policy.deadline_nanos()),
            slow_after: NEVER,
            hedge_after: policy.hedge().map_or(NEVER, |hedge| hedge.current(started)),
            replace_after: if is_idempotent { policy.try_timeout_nanos() } else { NEVER },
            begun: [0; crate::retry::MAX_TRIES],
            tried: Tried::NOBODY,
            stage: Stage::Pick(Purpose::First),
            is_idempotent,
            max_tries: policy.config().max_tries,
            hedges: 0,
            backoffs: 0,
            has_paused: false,
            has_first_failed: false,
            last: None,
            in_flight: 0,
            overdue: 0,
            slow: 0,
            expired: 0,
            to_report: 0,
            to_stop: 0,
        }
    }

    /// One that begins with its first attempt. It is written where it stays: to build it step by step and then move it
    /// costs more than what it does for a request that is answered at once.
    #[cfg(feature = "tower")]
    #[inline]
    pub(crate) fn sent(policy: &RequestPolicy, first: FirstTry, now: Instant) -> Self {
        let max_tries = if first.has_copy { policy.config().max_tries } else { 1 };
        Self {
            // Health takes for slow what took longer, not as long.
            slow_after: first.slow_after.saturating_add(1),
            tried: Tried::only(first.id),
            stage: Stage::Waiting,
            max_tries,
            in_flight: Attempt::FIRST.bit(),
            // Nothing can take the place of the only one.
            expired: if max_tries > 1 { 0 } else { u8::MAX },
            ..Self::new(policy, first.is_idempotent, first.deadline, now)
        }
    }

    /// What to do next. Asked until it says [`Wait`](Action::Wait), [`Return`](Action::Return) or
    /// [`Fail`](Action::Fail); reports are given once, and [`Pick`](Action::Pick) until it is answered.
    #[inline]
    pub fn action(&mut self) -> Action {
        if self.to_report | self.to_stop != 0 {
            return self.report();
        }
        match self.stage {
            Stage::Pick(_) => Action::Pick,
            Stage::Done(Ok(attempt)) => Action::Return(attempt),
            Stage::Done(Err(error)) => Action::Fail(error),
            Stage::Waiting | Stage::Pausing(_) => Action::Wait(self.start + Duration::from_nanos(self.wake_at())),
        }
    }

    /// No further try can be made, because the host has no copy of the request to send.
    #[inline]
    pub fn no_more_tries(&mut self) {
        self.max_tries = self.tried.ids().len() as u8;
        self.expired = u8::MAX;
    }

    /// Reports tries that wait for longer than this once more: an answer that comes later is slow. To be given
    /// [`Balancer::slow_after`](crate::Balancer::slow_after) when the request begins. Without it a try is reported when it
    /// is hedged and then no more, and a backend that hangs is noticed after twice as many requests.
    #[inline]
    pub fn report_slow(&mut self, slow_after: Option<Duration>) {
        // Health takes for slow what took longer, not as long.
        self.slow_after = slow_after.map_or(NEVER, |slow_after| nanos(slow_after).saturating_add(1));
    }

    /// Whether doing it twice is the same as doing it once.
    #[cfg(feature = "tower")]
    pub(crate) fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// Whether what comes next is the end.
    #[cfg(feature = "tower")]
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }

    /// The backends that the request was sent to, in the order of the attempts.
    #[inline]
    #[must_use]
    pub fn tried(&self) -> &[BackendId] {
        self.tried.ids()
    }

    /// The attempt that the pick asked for is a hedge of; `None` if it is none.
    ///
    /// A hedge helps where the late attempt's backend is the reason: it has a queue and others have none. Where all wait
    /// alike, for what they share, it is load and nothing else, and the more the later it is. So the host compares
    /// ([`Pick::is_idler_than`](crate::Pick::is_idler_than)) and lets a pick go that is no better, by
    /// [`not_picked`](Self::not_picked).
    #[must_use]
    pub fn hedged(&self) -> Option<Attempt> {
        let is_hedge = self.stage == Stage::Pick(Purpose::Hedge) && self.in_flight != 0;
        is_hedge.then(|| Attempt(self.in_flight.trailing_zeros() as u8))
    }

    /// A backend was picked. `None` if the request is not to be sent there: the host lets the pick go.
    #[inline]
    #[must_use = "without an attempt nothing is to be sent"]
    pub fn picked(&mut self, policy: &RequestPolicy, id: BackendId, now: Instant) -> Option<Attempt> {
        let Stage::Pick(purpose) = self.stage else { return None };
        if purpose != Purpose::First && !self.may_send(policy, purpose, id, now) {
            return None;
        }
        Some(self.begin(policy, purpose, id, now))
    }

    /// No backend could be picked, or none that is worth a hedge. A try beside another is asked for again later.
    pub fn not_picked(&mut self) {
        let Stage::Pick(purpose) = self.stage else { return };
        match purpose {
            Purpose::First | Purpose::Retry => self.give_up(ExchangeError::NoBackend),
            Purpose::Hedge | Purpose::Replace(_) => self.put_off(purpose),
        }
    }

    /// An attempt ended. Those that were stopped are not told, nor anything after the last action.
    #[inline]
    pub fn ended(&mut self, policy: &RequestPolicy, attempt: Attempt, outcome: Outcome, now: Instant) {
        self.ended_at(policy, attempt, outcome, (self.since_start(now), now));
    }

    /// The same by a caller who has compared `now` with the [start](Self::since_start) already.
    #[inline]
    pub(crate) fn ended_at(
        &mut self,
        policy: &RequestPolicy,
        attempt: Attempt,
        outcome: Outcome,
        (at, now): (u64, Instant),
    ) {
        if self.in_flight & attempt.bit() == 0 || matches!(self.stage, Stage::Done(_)) {
            return;
        }
        self.in_flight &= !attempt.bit();
        match outcome {
            Outcome::Success => self.succeeded(policy, attempt, (at, now)),
            Outcome::Failure(failure) => self.failed(policy, attempt, failure, now),
        }
    }

    /// The instant that [`Wait`](Action::Wait) named may have come; harmless if it has not.
    pub fn timer(&mut self, policy: &RequestPolicy, at: Instant) {
        let now = self.since_start(at);
        if matches!(self.stage, Stage::Done(_)) {
            return;
        }
        if now >= self.deadline {
            return self.run_out(policy, at);
        }
        if let Stage::Pausing(until) = self.stage {
            if now >= until {
                self.has_paused = true;
                self.stage = Stage::Pick(Purpose::Retry);
            }
            return;
        }
        for attempt in Attempt::of_set(self.in_flight & !self.overdue) {
            if self.overdue_at(attempt) <= now {
                self.is_overdue(policy, attempt, now);
            }
        }
        for attempt in Attempt::of_set(self.in_flight & !self.slow) {
            if self.slow_at(attempt) <= now {
                self.slow |= attempt.bit();
                self.to_report |= attempt.bit();
            }
        }
        for attempt in Attempt::of_set(self.in_flight & !self.expired) {
            if self.expires_at(attempt) <= now {
                self.has_expired(policy, attempt, now);
            }
        }
    }
}

/// In whole nanoseconds, without the 128 bits of [`Duration::as_nanos`].
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}
