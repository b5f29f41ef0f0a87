//! The answer to a request, and all that is done until it comes.
//!
//! Written by hand: the first try lies in the future itself, so a request that needs no other costs no allocation and no
//! task, and dropping the future drops whatever is in flight.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower_service::Service;

use super::attempt::{End, Try};
use super::{BalanceError, Held, Pool, Protocol, Shared, Timer, Traits};
use crate::breaker::Pass;
use crate::exchange::{Action, Attempt, Exchange, ExchangeError, FirstTry};
use crate::limit::{ConcurrencyLimit, Permit};
use crate::pick::InFlight;
use crate::picker::{PickError, Picker};
use crate::{BackendId, Failure, Key, Outcome, Pick, Request};

pin_project! {
    /// The answer to a request that was given to a [`Balance`](super::Balance).
    ///
    /// # Cancel safety
    /// Dropping it cancels the request: the futures of all its tries are dropped, and the tries count as cancelled, which
    /// says nothing about their backends. Whether work that was begun goes on there is the services' matter.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, P, T, R>
    where
        S: Service<R>,
        T: Timer,
    {
        #[pin]
        state: State<S, P, T, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, P, T, R>
    where
        S: Service<R>,
        T: Timer,
    {
        Running { #[pin] run: Run<S, P, T, R> },
        Refused { error: Option<BalanceError<S::Error>> },
    }
}

pin_project! {
    struct Run<S, P, T, R>
    where
        S: Service<R>,
        T: Timer,
    {
        shared: Arc<Shared<S, P, T>>,
        exchange: Exchange,
        key: Option<Key>,
        // What further tries send.
        copy: Option<R>,
        // What the last try that ended brought.
        last: Option<Last<S, S::Response, S::Error>>,
        pass: Option<Pass>,
        permit: Option<Permit<Arc<ConcurrencyLimit>>>,
        #[pin]
        first: Try<S, R>,
        others: Vec<Pin<Box<Try<S, R>>>>,
        #[pin]
        sleep: Option<T::Sleep>,
        // What `sleep` waits for.
        wakes_at: Option<Instant>,
    }

    impl<S, P, T, R> PinnedDrop for Run<S, P, T, R>
    where
        S: Service<R>,
        T: Timer,
    {
        fn drop(this: Pin<&mut Self>) {
            this.cancel();
        }
    }
}

/// How a try ended.
struct Last<S, V, E> {
    result: Result<V, E>,
    by: BackendId,
    outcome: Outcome,
    /// Kept where answers hold their places.
    in_flight: Option<InFlight<S>>,
}

impl<S, P, T, R> Run<S, P, T, R>
where
    S: Service<R>,
    T: Timer,
{
    /// Stops the tries in flight, to which nobody listens any more.
    #[inline]
    fn cancel(self: Pin<&mut Self>) {
        let this = self.project();
        let timer = &this.shared.pool.timer;
        // Mostly the first is the one that ended, and there are no others.
        this.first.cancel(|| timer.now());
        while let Some(mut other) = this.others.pop() {
            other.as_mut().cancel(|| timer.now());
        }
    }
}

impl<S, P, T, R> ResponseFuture<S, P, T, R>
where
    S: Service<R> + Clone,
    P: Protocol<R, S::Response, S::Error>,
    T: Timer,
{
    #[inline]
    pub(super) fn new(shared: &Arc<Shared<S, P, T>>, picker: &mut Picker<S>, request: R) -> Self {
        let Pool { policy, protocol, timer, .. } = &*shared.pool;
        let now = timer.now();
        let Traits { key, sticky, is_idempotent, priority, deadline } = protocol.describe(&request);
        let pass = match shared.extras.breaker.as_ref().map(|breaker| breaker.allow(now)).transpose() {
            Ok(pass) => pass,
            Err(open) => return Self::refused(BalanceError::Open(open)),
        };
        let permit = match policy.limit().map(|limit| Permit::of(Arc::clone(limit), priority)).transpose() {
            Ok(permit) => permit,
            Err(overloaded) => return Self::refused(BalanceError::Overloaded(overloaded)),
        };
        let pick = match picker.pick(&Request { key, sticky, avoid: &[], may_be_trial: is_idempotent }, now) {
            Ok(pick) => pick,
            Err(nobody) => return Self::refused(BalanceError::NoBackend(nobody)),
        };
        let copy = if policy.config().max_tries > 1 { protocol.copy(&request) } else { None };
        let slow_after = shared.pool.balancer.slow_after_nanos();
        let first = FirstTry { id: pick.id(), is_idempotent, has_copy: copy.is_some(), deadline, slow_after };
        // Built where it stays: a move of it costs more than a pick.
        let run = Run {
            shared: Arc::clone(shared),
            exchange: Exchange::sent(policy, first, now),
            key,
            copy,
            last: None,
            pass,
            permit,
            first: Try::new(Attempt::FIRST, pick, request),
            others: Vec::new(),
            sleep: None,
            wakes_at: None,
        };
        Self { state: State::Running { run } }
    }

    #[cold]
    fn refused(error: BalanceError<S::Error>) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<S, P, T, R> Future for ResponseFuture<S, P, T, R>
where
    S: Service<R> + Clone,
    P: Protocol<R, S::Response, S::Error>,
    T: Timer,
{
    type Output = Result<S::Response, BalanceError<S::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Running { run } => run.poll(cx),
            StateProjection::Refused { error } => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}

impl<S, P, T, R> fmt::Debug for ResponseFuture<S, P, T, R>
where
    S: Service<R>,
    T: Timer,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, P, T, R> Run<S, P, T, R>
where
    S: Service<R> + Clone,
    P: Protocol<R, S::Response, S::Error>,
    T: Timer,
{
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, BalanceError<S::Error>>> {
        loop {
            self.as_mut().poll_tries(cx);
            if let Action::Return(_) = self.as_mut().project().exchange.action() {
                return Poll::Ready(self.answer());
            }
            match self.as_mut().act(cx) {
                Next::Poll => {}
                Next::Wait => return Poll::Pending,
                Next::Return => return Poll::Ready(self.answer()),
                Next::Fail(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
    }

    /// Polls what is in flight, until there is an answer.
    #[inline]
    fn poll_tries(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        let Shared { pool, extras } = &**this.shared;
        let holds = extras.hold.is_some();
        if let Poll::Ready(end) = this.first.poll(cx) {
            *this.last = Some(pool.ended(this.exchange, end, holds));
        }
        let mut index = 0;
        while index < this.others.len() && !this.exchange.is_done() {
            if let Poll::Ready(end) = this.others[index].as_mut().poll(cx) {
                this.others.swap_remove(index);
                *this.last = Some(pool.ended(this.exchange, end, holds));
            } else {
                index += 1;
            }
        }
    }

    /// Does what the exchange asks for.
    #[cold]
    fn act(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<S::Error> {
        let mut has_new = false;
        loop {
            let action = self.as_mut().project().exchange.action();
            match action {
                Action::Pick => has_new |= self.as_mut().send(),
                Action::Overdue(attempt) => self.as_mut().overdue(attempt),
                Action::TimedOut(attempt) => self.as_mut().timed_out(attempt),
                // What was just sent is polled before anything is waited for.
                Action::Wait(_) if has_new => return Next::Poll,
                Action::Wait(until) => {
                    if self.as_mut().poll_sleep(until, cx).is_pending() {
                        return Next::Wait;
                    }
                }
                Action::Return(_) => return Next::Return,
                Action::Fail(ExchangeError::NoBackend) => {
                    return Next::Fail(BalanceError::NoBackend(PickError::NoneAvailable));
                }
                Action::Fail(ExchangeError::DeadlineExceeded) => return Next::Fail(BalanceError::DeadlineExceeded),
            }
        }
    }

    /// Waits, and tells the exchange when the time has come.
    fn poll_sleep(self: Pin<&mut Self>, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Pool { policy, timer, .. } = &*this.shared.pool;
        if *this.wakes_at != Some(until) {
            *this.wakes_at = Some(until);
            this.sleep.set(Some(timer.sleep_until(until)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            std::task::ready!(sleep.poll(cx));
        }
        *this.wakes_at = None;
        // A timer may be a little early; the time it stands for has come all the same.
        this.exchange.timer(policy, timer.now().max(until));
        Poll::Ready(())
    }

    /// Begins another try, if there is a backend that the exchange agrees to. Says whether it did.
    fn send(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        let Pool { balancer, policy, protocol, timer } = &*this.shared.pool;
        let now = timer.now();
        // The client's own backend was tried first.
        let avoid = this.exchange.tried();
        let request = Request { key: *this.key, sticky: None, avoid, may_be_trial: this.exchange.is_idempotent() };
        let (Some(copy), Ok(pick)) = (this.copy.as_ref(), balancer.pick(&request, now)) else {
            this.exchange.not_picked();
            return false;
        };
        let late = this.exchange.hedged().and_then(|late| pick_of(&this.first, this.others, late));
        if late.is_some_and(|late| !pick.is_idler_than(late)) {
            this.exchange.not_picked();
            return false;
        }
        let Some(attempt) = this.exchange.picked(policy, pick.id(), now) else { return false };
        let copy = protocol.copy(copy);
        let Some(request) = std::mem::replace(this.copy, copy) else { return false };
        if this.copy.is_none() {
            this.exchange.no_more_tries();
        }
        this.others.push(Box::pin(Try::new(attempt, pick, request)));
        true
    }

    fn overdue(self: Pin<&mut Self>, attempt: Attempt) {
        let this = self.project();
        if let Some(pick) = pick_of(&this.first, this.others, attempt) {
            pick.overdue(this.shared.pool.timer.now());
        }
    }

    fn timed_out(self: Pin<&mut Self>, attempt: Attempt) {
        let this = self.project();
        let mut pick = None;
        if this.first.attempt() == attempt {
            pick = this.first.stop();
        } else if let Some(index) = this.others.iter().position(|try_| try_.attempt() == attempt) {
            pick = this.others.swap_remove(index).as_mut().stop();
        }
        if let Some(pick) = pick {
            pick.finish(Outcome::Failure(Failure::TimedOut), this.shared.pool.timer.now());
        }
    }

    /// What the last try that ended brought. Everything else is stopped, even if the future is not dropped yet.
    #[inline]
    fn answer(mut self: Pin<&mut Self>) -> Result<S::Response, BalanceError<S::Error>> {
        self.as_mut().cancel();
        let this = self.as_mut().project();
        let permit = this.permit.take();
        let Last { result, by, outcome, in_flight } =
            this.last.take().expect("an exchange returns what it was told of");
        if this.pass.is_some() {
            self.as_mut().tell_breaker(outcome);
        }
        let Shared { pool, extras } = &**self.project().shared;
        let mut response = result.map_err(BalanceError::Backend)?;
        pool.protocol.answered(&mut response, by);
        let (Some(hold), Some(in_flight)) = (extras.hold, in_flight) else { return Ok(response) };
        Ok(pool.protocol.hold(response, Held { _in_flight: hold(in_flight), _permit: permit }))
    }

    /// There is no answer.
    #[cold]
    fn fail(mut self: Pin<&mut Self>, error: BalanceError<S::Error>) -> BalanceError<S::Error> {
        self.as_mut().cancel();
        *self.as_mut().project().permit = None;
        let is_late = matches!(error, BalanceError::DeadlineExceeded);
        self.tell_breaker(Outcome::Failure(if is_late { Failure::TimedOut } else { Failure::NotSent }));
        error
    }

    #[cold]
    fn tell_breaker(self: Pin<&mut Self>, outcome: Outcome) {
        let this = self.project();
        if let (Some(breaker), Some(pass)) = (&this.shared.extras.breaker, this.pass.take()) {
            breaker.record(pass, outcome, this.shared.pool.timer.now());
        }
    }
}

/// Whom an attempt that has not ended is with.
fn pick_of<'a, S: Service<R>, R>(
    first: &'a Try<S, R>,
    others: &'a [Pin<Box<Try<S, R>>>],
    attempt: Attempt,
) -> Option<&'a Pick<S>> {
    let first = (first.attempt() == attempt).then_some(first);
    first.or_else(|| others.iter().map(|other| &**other).find(|other| other.attempt() == attempt))?.pick()
}

/// What the future does after it did what the exchange asked for.
enum Next<E> {
    Poll,
    Wait,
    Return,
    Fail(BalanceError<E>),
}

impl<S, P, T> Pool<S, P, T> {
    /// Tells everybody how a try ended, and keeps what it brought. `holds`: it stays in flight beyond its end.
    #[inline]
    fn ended<V, E, R>(&self, exchange: &mut Exchange, end: End<S, V, E>, holds: bool) -> Last<S, V, E>
    where
        P: Protocol<R, V, E>,
        T: Timer,
    {
        let End { attempt, pick, result, was_sent } = end;
        let outcome = match self.protocol.classify(&result) {
            Outcome::Failure(failure) if was_sent || failure.had_no_effect() => Outcome::Failure(failure),
            Outcome::Success if was_sent => Outcome::Success,
            _ => Outcome::Failure(Failure::NotSent),
        };
        let now = self.timer.now();
        let by = pick.id();
        // One comparison of instants for both.
        let at = exchange.since_start(now);
        let took = at.saturating_sub(exchange.begun_at(attempt));
        let in_flight = pick.finish_after(took, outcome, now, holds);
        exchange.ended_at(&self.policy, attempt, outcome, (at, now));
        Last { result, by, outcome, in_flight }
    }
}
