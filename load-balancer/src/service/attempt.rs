//! One try of a request at one backend: ready, call, answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::exchange::Attempt;
use crate::pick::Pick;

pin_project! {
    /// A request on its way to one backend.
    pub(super) struct Try<S, R>
    where
        S: Service<R>,
    {
        attempt: Attempt,
        // None once it has ended.
        pick: Option<Pick<S>>,
        #[pin]
        step: Step<S, R, S::Future>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<S, R, F> {
        Readying { service: S, request: Option<R> },
        Called { #[pin] future: F },
        Ended,
    }
}

/// How a try ended.
pub(super) struct End<S, T, E> {
    pub(super) attempt: Attempt,
    pub(super) pick: Pick<S>,
    pub(super) result: Result<T, E>,
    /// Whether the request left: not if the service did not get ready.
    pub(super) was_sent: bool,
}

impl<S, R> Try<S, R>
where
    S: Service<R> + Clone,
{
    #[inline]
    pub(super) fn new(attempt: Attempt, pick: Pick<S>, request: R) -> Self {
        let service = pick.data().clone();
        Self { attempt, pick: Some(pick), step: Step::Readying { service, request: Some(request) } }
    }
}

impl<S, R> Try<S, R>
where
    S: Service<R>,
{
    pub(super) fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The backend, as long as the try has not ended.
    pub(super) fn pick(&self) -> Option<&Pick<S>> {
        self.pick.as_ref()
    }

    /// Stops it, and hands out the pick.
    pub(super) fn stop(self: Pin<&mut Self>) -> Option<Pick<S>> {
        let mut this = self.project();
        this.step.set(Step::Ended);
        this.pick.take()
    }

    /// Stops it because nobody waits for it any more. Mostly it has ended.
    #[inline]
    pub(super) fn cancel(self: Pin<&mut Self>, now: impl FnOnce() -> Instant) {
        if self.pick.is_some() {
            self.cancel_in_flight(now);
        }
    }

    #[cold]
    fn cancel_in_flight(self: Pin<&mut Self>, now: impl FnOnce() -> Instant) {
        match self.stop() {
            // The time is asked for where it matters alone.
            Some(pick) if pick.is_on_trial() => pick.cancel(now()),
            pick => drop(pick),
        }
    }

    /// Goes on as far as possible. Pending for ever once it has ended.
    #[inline]
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End<S, S::Response, S::Error>> {
        let mut this = self.project();
        loop {
            let (result, was_sent) = match this.step.as_mut().project() {
                StepProjection::Readying { service, request } => match ready!(service.poll_ready(cx)) {
                    Ok(()) => {
                        let Some(request) = request.take() else { return Poll::Pending };
                        let future = service.call(request);
                        this.step.set(Step::Called { future });
                        continue;
                    }
                    Err(error) => (Err(error), false),
                },
                StepProjection::Called { future } => (ready!(future.poll(cx)), true),
                StepProjection::Ended => return Poll::Pending,
            };
            this.step.set(Step::Ended);
            let Some(pick) = this.pick.take() else { return Poll::Pending };
            return Poll::Ready(End { attempt: *this.attempt, pick, result, was_sent });
        }
    }
}
