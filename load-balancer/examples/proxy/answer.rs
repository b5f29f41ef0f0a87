//! What a client gets: the body of an answer, whole or as it comes, or the proxy's own word.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use tenfold_load_balancer::{Failure, Outcome, Overloaded};

use crate::alarm::Alarm;
use crate::attempt::{self, Lease};
use crate::clock;
use crate::forward::Active;
use crate::link::{Framing, Piece, Upload, UploadError};
use crate::worker::Worker;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The body of an answer.
pub(crate) enum Body {
    /// All of it, not yet taken.
    Whole(Bytes),
    /// On its way.
    Download(Rc<RefCell<Download>>),
}

impl Body {
    /// A body of no bytes.
    pub(crate) const EMPTY: Self = Self::Whole(Bytes::new());
}

/// An answer of the proxy itself to a request that it has no room for (RFC 9209 section 2.3.12).
pub(crate) fn overloaded(why: Overloaded) -> Response<Body> {
    let mut response = own(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    let status = format!("tenfold; error=connection_limit_reached; details=\"{why}\"");
    if let Ok(status) = HeaderValue::try_from(status) {
        response.headers_mut().insert(PROXY_STATUS, status);
    }
    response
}

/// An answer of the proxy itself.
pub(crate) fn own(status: StatusCode) -> Response<Body> {
    let text = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Body::Whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// A body that is passed on as it comes, while the rest of the request may still be on its way.
pub(crate) struct Download {
    /// Gone once the answer is complete.
    pub(crate) lease: Option<Lease>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    /// What the head says of the backend.
    pub(crate) outcome: Outcome,
    pub(crate) upload: Option<Upload>,
    pub(crate) worker: Rc<Worker>,
    pub(crate) alarm: Alarm,
    /// When the head came: how long the body takes is the client's matter as much as the backend's.
    pub(crate) answered_at: Instant,
    /// Since when the client could have taken more and the backend had nothing.
    pub(crate) waiting_since: Option<Instant>,
    /// Since when the client could have taken more and did not ask for it.
    pub(crate) left_since: Option<Instant>,
    /// The client has a request until this is dropped.
    pub(crate) active: Option<Active>,
    /// It ended before it was complete.
    pub(crate) is_cut: bool,
}

/// The backend broke off its answer, or the client its request.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl std::error::Error for Cut {}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = self.poll_next(cx);
        self.left_since = matches!(polled, Poll::Ready(Some(Ok(_)))).then(clock::now);
        polled
    }

    /// Gives the backend free: the client has left the answer lying.
    pub(crate) fn let_go(&mut self) {
        let _ = self.cut();
        self.left_since = None;
        self.active = None;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.is_cut {
            return Poll::Ready(Some(Err(Cut)));
        }
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        if let Some(upload) = &mut self.upload {
            match lease.carrier.poll_upload(cx, upload) {
                Poll::Ready(Ok(())) => self.upload = None,
                // It wants no more of the request, which is its right; the connection ends with this answer.
                Poll::Ready(Err(UploadError::Backend)) => {
                    self.upload = None;
                    self.keep_alive = false;
                }
                Poll::Ready(Err(UploadError::Client(_))) => return Poll::Ready(Some(self.cut())),
                Poll::Pending => {}
            }
        }
        let piece = match lease.carrier.poll_piece(cx, &mut self.framing) {
            Poll::Ready(piece) => piece,
            Poll::Pending => {
                let since = *self.waiting_since.get_or_insert_with(clock::now);
                return self.poll_late(cx, since).map(Some);
            }
        };
        self.waiting_since = None;
        match piece {
            Ok(Piece::Data(data)) => {
                if self.framing.is_done() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Ok(Piece::Trailers(trailers)) => {
                self.complete();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Ok(Piece::End | Piece::Short) => {
                self.complete();
                Poll::Ready(None)
            }
            Err(_) => Poll::Ready(Some(self.fail(Failure::Broken, self.answered_at))),
        }
    }

    /// Ready once the time of whoever keeps the other waiting is up. As long as the client owes a part of its request,
    /// that is the client.
    fn poll_late(&mut self, cx: &mut Context<'_>, since: Instant) -> Poll<Result<Frame<Bytes>, Cut>> {
        let limits = &self.worker.options.limits;
        let upload = self.upload.as_ref().filter(|upload| !upload.is_held());
        if let Some(owed_since) = upload.and_then(Upload::waiting_since) {
            ready!(self.alarm.poll(cx, owed_since + limits.client_timeout));
            return Poll::Ready(self.cut());
        }
        let since = upload.map_or(since, |upload| since.max(upload.moved_at()));
        ready!(self.alarm.poll(cx, since + limits.response_timeout));
        if let Some(lease) = &mut self.lease {
            lease.pick.restart(since);
        }
        Poll::Ready(self.fail(Failure::TimedOut, clock::now()))
    }

    fn is_over(&self) -> bool {
        self.lease.is_none() && !self.is_cut
    }

    fn complete(&mut self) {
        let keep_alive = self.keep_alive && self.upload.is_none();
        if let Some(lease) = self.lease.take() {
            lease.complete(&self.worker, keep_alive, self.outcome, self.answered_at, clock::now());
        }
    }

    /// The backend is to blame.
    fn fail(&mut self, failure: Failure, at: Instant) -> Result<Frame<Bytes>, Cut> {
        if let Some(lease) = self.lease.take() {
            attempt::finish(lease.pick, Outcome::Failure(failure), at);
        }
        self.is_cut = true;
        Err(Cut)
    }

    /// The client is to blame.
    fn cut(&mut self) -> Result<Frame<Bytes>, Cut> {
        self.lease = None;
        self.is_cut = true;
        Err(Cut)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Download(download) => download.borrow_mut().poll(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Download(download) => download.borrow().is_over(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Download(download) => {
                download.borrow().framing.known_len().map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}
