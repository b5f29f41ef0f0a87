//! All tries of one request. What is tried when is the [`Exchange`]'s to say; this carries it out on sockets.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use tenfold_load_balancer::{
    Action, Attempt, ConcurrencyLimit, Exchange, ExchangeError, Failure, Key, Outcome, Permit, Request,
};

use crate::alarm::Alarm;
use crate::attempt::{Arrival, Fault, Try};
use crate::clock;
use crate::link::Upload;
use crate::tries::Tries;
use crate::worker::Worker;

/// How long a body is held back for a "100 Continue" that some backends do not know (RFC 9110 section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a backend that waits for a slow client is said to be in time; well below
/// [`OutlierConfig::canary_timeout`](tenfold_load_balancer::OutlierConfig).
const PATIENCE: Duration = Duration::from_secs(1);

/// Room for a request under the limit of those in flight.
pub(crate) type Room = Permit<Arc<ConcurrencyLimit>>;

/// A request under way.
pub(crate) struct Errand<'a> {
    worker: &'a Worker,
    method: &'a Method,
    key: Key,
    exchange: Exchange,
    tries: Tries,
    /// The request, while no try has it.
    upload: Option<Upload>,
    /// Room for the fields of an answer.
    headers: HeaderMap,
    /// What the try that ended last brought: an answer, or the status that says why there is none.
    last: Option<Result<Arrival, StatusCode>>,
    started: Instant,
    has_body: bool,
    /// Whether it can be repeated elsewhere, whatever becomes of a try.
    is_repeatable: bool,
    /// Kept until the answer begins, which is what the limit is measured by; left to others while the client is slow to
    /// send.
    room: Option<Room>,
    /// Since when the exchange's clock stands still: while a try has a body that is not all sent. The exchange's
    /// deadlines are the backends', not the client's.
    frozen: Option<Instant>,
    /// For how long it stood still before.
    paused: Duration,
}

/// What ends a wait.
enum Due {
    /// The exchange wants to know.
    Exchange,
    /// The backend does not say "100 Continue".
    Continue,
    /// The client owes a part of the body, and the backend has nothing to do.
    Patience,
    /// The client does not go on with the body.
    Client,
    /// The backend does not go on reading it.
    Backend,
}

impl<'a> Errand<'a> {
    /// A request that came at this time; `headers` is empty.
    #[inline]
    pub(crate) fn new(
        worker: &'a Worker,
        method: &'a Method,
        key: Key,
        upload: Upload,
        headers: HeaderMap,
        room: Option<Room>,
        started: Instant,
    ) -> Self {
        // A body is gone once it was sent, so only what was surely not begun can be repeated.
        let has_body = upload.has_body();
        let is_repeatable = method.is_idempotent() && !has_body;
        let mut exchange = Exchange::new(&worker.policy, is_repeatable, None, started);
        exchange.report_slow(worker.balancer.slow_after());
        Self {
            worker,
            method,
            key,
            exchange,
            tries: Tries::default(),
            upload: Some(upload),
            headers,
            last: None,
            started,
            has_body,
            is_repeatable,
            room,
            frozen: None,
            paused: Duration::ZERO,
        }
    }

    /// Goes on; ready with the answer, or with the status that says why there is none.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<Result<Arrival, StatusCode>> {
        loop {
            match self.exchange.action() {
                Action::Pick => self.pick(),
                Action::Overdue(attempt) => self.tries.overdue(attempt),
                Action::TimedOut(attempt) => self.stop(attempt),
                Action::Wait(until) => match ready!(self.poll_tries(cx, alarm, until)) {
                    Ok(()) => {}
                    Err(status) => return Poll::Ready(Err(status)),
                },
                Action::Return(_) => {
                    return Poll::Ready(self.last.take().unwrap_or(Err(StatusCode::BAD_GATEWAY)));
                }
                Action::Fail(ExchangeError::DeadlineExceeded) => return Poll::Ready(Err(StatusCode::GATEWAY_TIMEOUT)),
                Action::Fail(_) => return Poll::Ready(Err(StatusCode::SERVICE_UNAVAILABLE)),
                _ => {}
            }
        }
    }

    /// The exchange's time.
    fn now(&self) -> Instant {
        let now = self.frozen.unwrap_or_else(clock::now);
        now.checked_sub(self.paused).unwrap_or(now)
    }

    /// Lets the exchange's clock go or stand still, as the upload does, and the room be used by others while the client owes
    /// a part of it.
    fn set_clock(&mut self) {
        match (self.frozen, self.tries.is_sending_body()) {
            (None, true) => self.frozen = Some(clock::now()),
            (Some(since), false) => {
                self.paused += clock::now().saturating_duration_since(since);
                self.frozen = None;
            }
            _ => {}
        }
        let Some(room) = &mut self.room else { return };
        if self.tries.waits_for_client() {
            room.step_aside();
        } else {
            room.step_back();
        }
    }

    #[inline]
    fn pick(&mut self) {
        let is_first = self.exchange.tried().is_empty();
        let now = if is_first { self.started } else { self.now() };
        let Some(upload) = self.upload.take().or_else(|| self.tries.copy_of_request()) else {
            return self.exchange.not_picked();
        };
        let avoid = self.exchange.tried();
        let request = Request { key: Some(self.key), avoid, may_be_trial: self.is_repeatable, ..Request::default() };
        let picked = self.worker.picker.borrow_mut().pick(&request, now);
        let Ok(pick) = picked else {
            self.upload = Some(upload);
            return self.exchange.not_picked();
        };
        let late = self.exchange.hedged().and_then(|late| self.tries.find(late));
        if late.is_some_and(|late| !pick.is_idler_than(&late.pick)) {
            self.upload = Some(upload);
            return self.exchange.not_picked();
        }
        let Some(attempt) = self.exchange.picked(&self.worker.policy, pick.id(), now) else {
            self.upload = Some(upload);
            return;
        };
        if !is_first {
            self.worker.metrics.retried();
            self.discard_last(now);
        }
        let headers = std::mem::take(&mut self.headers);
        // The pick keeps the time of the clock that does not stand still.
        let now = if is_first { now } else { clock::now() };
        let is_idempotent = self.method.is_idempotent();
        self.tries.push(attempt, Try::begin(self.worker, pick, upload, headers, is_idempotent, now));
    }

    /// The exchange gave a try up.
    #[cold]
    fn stop(&mut self, attempt: Attempt) {
        if let Some(late) = self.tries.take(attempt) {
            late.fail(Failure::TimedOut, clock::now());
        }
    }

    /// Waits until a try ends or something is due.
    #[inline]
    fn poll_tries(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm, until: Instant) -> Poll<Result<(), StatusCode>> {
        loop {
            let (worker, method) = (self.worker, self.method);
            if let Some((attempt, ended)) = self.tries.poll(|this| this.poll(cx, worker, method)) {
                return Poll::Ready(match ended {
                    Ok(arrival) => {
                        self.arrived(attempt, arrival);
                        Ok(())
                    }
                    Err((Fault::Client(status), _)) => Err(status),
                    Err((fault, failed)) => {
                        self.failed(attempt, failed, &fault);
                        Ok(())
                    }
                });
            }
            if self.has_body {
                self.set_clock();
            }
            let (deadline, due) = self.due(until);
            ready!(alarm.poll(cx, deadline));
            match due {
                Due::Exchange => {
                    let now = self.now();
                    self.exchange.timer(&self.worker.policy, now);
                    return Poll::Ready(Ok(()));
                }
                Due::Continue => self.tries.release(),
                Due::Patience => self.tries.restart(),
                Due::Client => return Poll::Ready(Err(StatusCode::REQUEST_TIMEOUT)),
                Due::Backend => {
                    if let Some((attempt, late)) = self.tries.take_sending() {
                        self.failed(attempt, late, &Fault::Backend(Failure::TimedOut));
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// What is due next, and when.
    #[inline]
    fn due(&self, until: Instant) -> (Instant, Due) {
        let limits = &self.worker.options.limits;
        let Some(sending) = self.frozen.and(self.tries.sending()) else {
            return (until + self.paused, Due::Exchange);
        };
        let upload = &sending.upload;
        match upload.waiting_since() {
            _ if upload.is_held() => (upload.moved_at() + CONTINUE_TIMEOUT, Due::Continue),
            None => (upload.moved_at() + limits.response_timeout, Due::Backend),
            Some(since) => {
                let (patience, client) = (sending.pick.started() + PATIENCE, since + limits.client_timeout);
                if patience < client { (patience, Due::Patience) } else { (client, Due::Client) }
            }
        }
    }

    #[inline]
    fn arrived(&mut self, attempt: Attempt, mut arrival: Arrival) {
        if self.has_body {
            self.set_clock();
        }
        let now = self.now();
        if !arrival.outcome.is_success() && arrival.upload.can_restart() {
            self.upload = arrival.upload.take_again();
        }
        let outcome = arrival.outcome;
        self.discard_last(now);
        self.last = Some(Ok(arrival));
        self.exchange.ended(&self.worker.policy, attempt, outcome, now);
    }

    #[cold]
    fn failed(&mut self, attempt: Attempt, failed: Try, fault: &Fault) {
        if self.has_body {
            self.set_clock();
        }
        let now = self.now();
        let (failure, status) = match fault {
            Fault::Backend(Failure::TimedOut) => (Failure::TimedOut, StatusCode::GATEWAY_TIMEOUT),
            Fault::Backend(failure) => (*failure, StatusCode::BAD_GATEWAY),
            Fault::Local | Fault::Client(_) => (Failure::NotSent, StatusCode::SERVICE_UNAVAILABLE),
        };
        let mut upload = match fault {
            Fault::Backend(failure) => failed.fail(*failure, clock::now()),
            Fault::Local | Fault::Client(_) => failed.give_up(),
        };
        if upload.can_restart() {
            upload.restart();
            self.upload = Some(upload);
        }
        self.discard_last(now);
        self.last = Some(Err(status));
        self.exchange.ended(&self.worker.policy, attempt, Outcome::Failure(failure), now);
    }

    fn discard_last(&mut self, now: Instant) {
        if let Some(Ok(last)) = self.last.take() {
            last.discard(self.worker, now);
        }
    }
}
