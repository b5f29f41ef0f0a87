//! One try of a request at one backend: a connection, the request on it, the head of the answer and, if it is short, its
//! body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tenfold_load_balancer::{Failure, Outcome, Pick};

use crate::clock;
use crate::hub::{Hub, Joining};
use crate::link::{self, Carrier, ConnectError, Framing, Head, Link, LinkError, Upload};
use crate::traffic::Traffic;
use crate::worker::Worker;

/// Answers of known length up to this are read whole before the client sees any of it: one write for head and body,
/// and another try if the backend dies in the middle. Larger ones are passed on as they come.
const WHOLE_BYTES: u64 = 16 << 10;

/// How often one try looks for another HTTP/2 connection, because the backend closes those that it has.
const MAX_MOVES: u8 = 3;

/// A connection in use and the pick it is used for.
pub(crate) struct Lease {
    pub(crate) carrier: Carrier,
    pub(crate) pick: Pick<Traffic>,
}

impl Lease {
    /// The answer is complete, and began at this time.
    #[inline]
    pub(crate) fn complete(
        self,
        worker: &Worker,
        keep_alive: bool,
        outcome: Outcome,
        answered_at: Instant,
        now: Instant,
    ) {
        match self.carrier {
            Carrier::Link(link) if keep_alive => worker.pool.borrow_mut().put(self.pick.id(), link, now),
            Carrier::Link(_) | Carrier::Stream(_) => {}
        }
        finish(self.pick, outcome, answered_at);
    }
}

/// Ends a pick, and counts it where it failed.
#[inline]
pub(crate) fn finish(pick: Pick<Traffic>, outcome: Outcome, now: Instant) {
    if !outcome.is_success() {
        pick.data().failure();
    }
    pick.finish(outcome, now);
}

/// A try on its way.
pub(crate) struct Try {
    pub(crate) pick: Pick<Traffic>,
    way: Way,
    pub(crate) upload: Upload,
    head: Option<Head>,
    /// An empty map with room, for the answer's fields.
    headers: HeaderMap,
    /// Whether doing the request twice is the same as doing it once (RFC 9110 section 9.2.2).
    is_idempotent: bool,
    /// How often it went to another HTTP/2 connection.
    moves: u8,
}

enum Way {
    Connecting(Pin<Box<dyn Future<Output = Result<Link, ConnectError>>>>),
    /// An HTTP/2 connection is being made.
    Joining(Joining),
    Open(Carrier),
}

/// Why a try failed.
pub(crate) enum Fault {
    /// The backend did not do it, and this is known of it.
    Backend(Failure),
    /// There is no connection for a want on this side. The backend is not to blame.
    Local,
    /// The client is to blame; it gets this status.
    Client(StatusCode),
}

impl From<ConnectError> for Fault {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused => Self::Backend(Failure::Refused),
            ConnectError::TimedOut => Self::Backend(Failure::NotSent),
            ConnectError::Local => Self::Local,
        }
    }
}

/// What a try brought.
pub(crate) struct Arrival {
    pub(crate) lease: Lease,
    pub(crate) head: Head,
    /// The body, if it was short.
    pub(crate) whole: Option<Bytes>,
    pub(crate) upload: Upload,
    /// Whether the backend had the whole request when it answered.
    pub(crate) is_sent: bool,
    pub(crate) outcome: Outcome,
}

impl Try {
    /// Begins, on a kept connection if there is one.
    #[inline]
    pub(crate) fn begin(
        worker: &Worker,
        pick: Pick<Traffic>,
        mut upload: Upload,
        headers: HeaderMap,
        is_idempotent: bool,
        now: Instant,
    ) -> Self {
        pick.data().attempt();
        let way = if worker.options.backend_http2 {
            find_stream(worker, &pick, &mut upload)
        } else {
            let kept = worker.pool.borrow_mut().take(pick.id(), now);
            kept.map_or_else(|| connect(worker, &pick), |link| Way::Open(Carrier::Link(link)))
        };
        Self { pick, way, upload, head: None, headers, is_idempotent, moves: 0 }
    }

    /// Goes on. Ready with the body if it is short, and with nothing if it is not; then [`arrive`](Self::arrive) gives
    /// all of the answer.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        method: &Method,
    ) -> Poll<Result<Option<Bytes>, Fault>> {
        loop {
            let carrier = match &mut self.way {
                Way::Open(carrier) => carrier,
                Way::Connecting(connect) => {
                    let link = ready!(connect.as_mut().poll(cx))?;
                    self.way = Way::Open(Carrier::Link(link));
                    continue;
                }
                Way::Joining(joining) => {
                    ready!(joining.as_mut().poll(cx))?;
                    self.moves += 1;
                    if self.moves > MAX_MOVES {
                        return Poll::Ready(Err(Fault::Backend(Failure::NotSent)));
                    }
                    self.way = find_stream(worker, &self.pick, &mut self.upload);
                    continue;
                }
            };
            let max_bytes = worker.options.limits.max_header_bytes;
            let polled =
                poll_answer(cx, carrier, &mut self.upload, &mut self.head, &mut self.headers, method, max_bytes);
            follow_upload(&mut self.pick, &self.upload);
            let error = match ready!(polled) {
                Ok(whole) => return Poll::Ready(Ok(whole)),
                Err(error) => error,
            };
            let is_repeatable = self.is_idempotent || !self.upload.is_sent();
            if error == LinkError::Closed && carrier.is_stale() && is_repeatable && self.upload.can_restart() {
                // The backend closed a connection that was idle, just now: no failure of anybody, and no try.
                self.upload.restart();
                self.way = connect(worker, &self.pick);
                continue;
            }
            if error == LinkError::Left && self.upload.can_restart() && self.moves < MAX_MOVES {
                // The same of HTTP/2, where it is known for certain and of any request.
                self.moves += 1;
                self.upload.restart();
                self.way = find_stream(worker, &self.pick, &mut self.upload);
                continue;
            }
            return Poll::Ready(Err(match error {
                LinkError::Client(status) => Fault::Client(status),
                LinkError::Closed if !self.upload.is_sent() => Fault::Backend(Failure::NotSent),
                LinkError::Closed => Fault::Backend(Failure::Broken),
                LinkError::Refused | LinkError::Left => Fault::Backend(Failure::Rejected),
                LinkError::Garbage => Fault::Backend(Failure::Answered),
            }));
        }
    }

    /// The answer, after [`poll`](Self::poll) was ready with it.
    #[inline]
    pub(crate) fn arrive(self, whole: Option<Bytes>) -> Option<Arrival> {
        let (Way::Open(carrier), Some(head)) = (self.way, self.head) else { return None };
        let (outcome, is_sent) = (outcome(head.status, self.is_idempotent), self.upload.is_done());
        Some(Arrival { lease: Lease { carrier, pick: self.pick }, head, whole, upload: self.upload, is_sent, outcome })
    }

    /// Ends it without an answer; gives the request back.
    pub(crate) fn fail(self, failure: Failure, now: Instant) -> Upload {
        match &self.way {
            // Perhaps it is the connection that hangs, and not the backend.
            Way::Open(Carrier::Stream(stream)) if failure == Failure::TimedOut => stream.retire(),
            _ => {}
        }
        finish(self.pick, Outcome::Failure(failure), now);
        self.upload
    }

    /// Ends it because nobody waits for it any more. A backend on trial that had the whole request and all the time that an
    /// answer should take has not passed.
    #[inline]
    pub(crate) fn cancel(self) {
        if self.pick.is_on_trial() && self.upload.is_done() {
            self.pick.cancel(clock::now());
        }
    }

    /// Ends it without blame; gives the request back.
    pub(crate) fn give_up(self) -> Upload {
        self.upload
    }
}

impl Arrival {
    /// Lets an answer go that the client does not get; gives the request back.
    pub(crate) fn discard(self, worker: &Worker, now: Instant) -> Upload {
        let keep_alive = self.head.keep_alive && self.whole.is_some() && self.is_sent;
        self.lease.complete(worker, keep_alive, self.outcome, now, now);
        self.upload
    }
}

fn connect(worker: &Worker, pick: &Pick<Traffic>) -> Way {
    let (address, timeout) = (pick.address(), worker.options.limits.connect_timeout);
    Way::Connecting(Box::pin(async move { link::connect(address, timeout).await.map(Link::new) }))
}

/// A stream of a connection that is there, or a connection.
#[cold]
fn find_stream(worker: &Worker, pick: &Pick<Traffic>, upload: &mut Upload) -> Way {
    if let Some(stream) = worker.hub.borrow_mut().open(pick.id(), upload) {
        return Way::Open(Carrier::Stream(Box::new(stream)));
    }
    let limits = &worker.options.limits;
    let (timeout, max_bytes) = (limits.connect_timeout, limits.max_header_bytes);
    Way::Joining(Hub::join(&worker.hub, pick.id(), pick.address(), timeout, max_bytes))
}

/// The backend's time begins with what it took last: a client that is slow to send makes no backend slow.
#[inline]
fn follow_upload(pick: &mut Pick<Traffic>, upload: &Upload) {
    if upload.has_body() && upload.moved_at() > pick.started() {
        pick.restart(upload.moved_at());
    }
}

#[inline]
fn poll_answer(
    cx: &mut Context<'_>,
    carrier: &mut Carrier,
    upload: &mut Upload,
    head: &mut Option<Head>,
    headers: &mut HeaderMap,
    method: &Method,
    max_bytes: usize,
) -> Poll<Result<Option<Bytes>, LinkError>> {
    let framing = match head {
        Some(head) => head.framing,
        None => head.insert(ready!(carrier.poll_head(cx, upload, method, headers, max_bytes))?).framing,
    };
    match framing {
        Framing::Length(len) if len <= WHOLE_BYTES => carrier.poll_whole(cx, len as usize, upload),
        _ => Poll::Ready(Ok(None)),
    }
}

/// What a status says of the backend (as [`Failure`] documents).
#[inline]
fn outcome(status: StatusCode, is_idempotent: bool) -> Outcome {
    match status.as_u16() {
        503 if is_idempotent => Outcome::Failure(Failure::Rejected),
        500 | 502..=504 => Outcome::Failure(Failure::Answered),
        _ => Outcome::Success,
    }
}
