//! A request on its way to a backend: the head, then the body as the client sends it, one piece in memory at a time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use h2::SendStream;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::head::may_trail;
use super::outgoing::BodyFraming;
use crate::clock;

/// A request on its way.
///
/// It can start again on another connection as long as nothing of it was taken by the first one or it has no body:
/// the pieces of a body are gone once they are sent.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The head at first, and what stands before a chunk.
    front: Vec<u8>,
    /// The head for an HTTP/2 backend; `front` and `back` are empty then.
    request: Option<Box<Request<()>>>,
    /// What ends such a request behind its body.
    trailers: Option<HeaderMap>,
    /// Whether the end of such a request was sent, and whether some of its body was.
    is_ended: bool,
    is_begun: bool,
    /// Part of the body, behind `front`.
    chunk: Bytes,
    /// What ends a chunk, behind it.
    back: &'static [u8],
    /// How much of the three was sent.
    written: usize,
    body: Option<Incoming>,
    had_body: bool,
    framing: BodyFraming,
    /// The body waits for the backend's word (RFC 9110 section 10.1.1).
    held: bool,
    sent: bool,
    room: u64,
    waiting_since: Option<Instant>,
    /// When a request with a body began, or the backend last took something of it.
    moved_at: Instant,
}

/// Why a request could not be sent.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The connection to the backend failed.
    Backend,
    /// The client is to blame; it gets this status.
    Client(StatusCode),
}

impl Upload {
    /// A request with this head. More than `room` bytes of body are refused.
    pub(crate) fn new(
        head: Vec<u8>,
        body: Option<Incoming>,
        framing: BodyFraming,
        held: bool,
        room: u64,
        now: Instant,
    ) -> Self {
        let had_body = body.is_some();
        let (chunk, back, waiting_since) = (Bytes::new(), &b""[..], None);
        Self {
            front: head,
            request: None,
            trailers: None,
            is_ended: false,
            is_begun: false,
            chunk,
            back,
            written: 0,
            body,
            had_body,
            framing,
            held,
            sent: false,
            room,
            waiting_since,
            moved_at: now,
        }
    }

    /// A request to an HTTP/2 backend.
    pub(crate) fn to_http2(request: Request<()>, body: Option<Incoming>, room: u64, now: Instant) -> Self {
        // Its frames frame the body.
        let framing = if body.is_some() { BodyFraming::Length(0) } else { BodyFraming::None };
        let request = Some(Box::new(request));
        Self { request, ..Self::new(vec![], body, framing, false, room, now) }
    }

    /// Gives the buffer of the head back.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.front
    }

    /// The same request once more, if it has no body.
    pub(crate) fn copy(&self) -> Option<Self> {
        (!self.had_body).then(|| Self {
            request: self.request.clone(),
            ..Self::new(self.front.clone(), None, self.framing, false, self.room, self.moved_at)
        })
    }

    /// The request to be sent again, if it has no body; what stays behind is done.
    pub(crate) fn take_again(&mut self) -> Option<Self> {
        if self.had_body {
            return None;
        }
        let front = std::mem::take(&mut self.front);
        self.written = 0;
        let request = self.request.take();
        Some(Self { request, ..Self::new(front, None, self.framing, false, self.room, self.moved_at) })
    }

    /// Whether it has a body, or had one.
    pub(crate) fn has_body(&self) -> bool {
        self.had_body
    }

    /// When a request with a body began at a backend, or this last took something of it.
    pub(crate) fn moved_at(&self) -> Instant {
        self.moved_at
    }

    /// Whether a connection took any of it since it last started.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether there is nothing left to send.
    pub(crate) fn is_done(&self) -> bool {
        self.body.is_none() && self.written == self.len() && (self.request.is_none() || self.is_ended)
    }

    /// Whether it can start again.
    pub(crate) fn can_restart(&self) -> bool {
        // The head is kept for HTTP/2, so only the body counts.
        let is_gone = if self.request.is_some() { self.is_begun } else { self.sent };
        !is_gone || !self.had_body
    }

    /// Starts again, on another connection.
    pub(crate) fn restart(&mut self) {
        self.written = 0;
        self.sent = false;
        self.is_ended = false;
        self.moved_at = clock::now();
    }

    /// The head for an HTTP/2 backend.
    pub(crate) fn request(&self) -> Option<Request<()>> {
        self.request.as_deref().cloned()
    }

    /// An HTTP/2 backend was given the head.
    pub(crate) fn opened(&mut self) {
        self.sent = true;
        self.is_ended = !self.had_body;
        if self.had_body {
            self.moved_at = clock::now();
        }
    }

    /// The backend wants the body, or took too long to say so.
    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    /// Whether the body is held back until the backend speaks.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Since when the client owes a piece of the body.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Sends what there is; ready when all is sent.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<Result<(), UploadError>> {
        loop {
            if self.chunk.is_empty() && !self.held && self.body.is_some() {
                self.poll_body(cx)?;
            }
            if self.written == self.len() {
                return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            match ready!(self.poll_write(cx, stream)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(UploadError::Backend)),
                Ok(len) => self.wrote(len),
            }
        }
    }

    /// Sends what there is to an HTTP/2 backend that has the head; ready when all is sent.
    pub(crate) fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), UploadError>> {
        let lost = |_| UploadError::Backend;
        while !self.is_ended {
            if self.chunk.is_empty() && self.body.is_some() {
                self.poll_body(cx)?;
            }
            if self.chunk.is_empty() {
                if self.body.is_some() {
                    // An empty frame may have come, and then there may be more.
                    if self.waiting_since.is_some() {
                        return Poll::Pending;
                    }
                    continue;
                }
                match self.trailers.take() {
                    Some(trailers) => stream.send_trailers(trailers).map_err(lost)?,
                    None => stream.send_data(Bytes::new(), true).map_err(lost)?,
                }
                self.is_ended = true;
                break;
            }
            stream.reserve_capacity(self.chunk.len());
            if stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(Err(UploadError::Backend)),
                }
                continue;
            }
            let part = self.chunk.split_to(stream.capacity().min(self.chunk.len()));
            stream.send_data(part, false).map_err(lost)?;
            self.is_begun = true;
            self.moved_at = clock::now();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        if self.chunk.is_empty() {
            return stream.poll_write(cx, &self.front[self.written..]);
        }
        let mut parts = [IoSlice::new(&self.front), IoSlice::new(&self.chunk), IoSlice::new(self.back)];
        let mut left = &mut parts[..];
        IoSlice::advance_slices(&mut left, self.written);
        stream.poll_write_vectored(cx, left)
    }

    /// How much there is to send at present.
    #[inline]
    fn len(&self) -> usize {
        self.front.len() + self.chunk.len() + self.back.len()
    }

    fn wrote(&mut self, len: usize) {
        self.sent = true;
        self.written += len;
        // A request without a body is kept: it may start again.
        if self.had_body {
            self.moved_at = clock::now();
        }
        if self.had_body && self.written == self.len() {
            self.front.clear();
            self.chunk = Bytes::new();
            self.back = b"";
            self.written = 0;
        }
    }

    /// Takes the next piece of the body, if the client has sent one.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<(), UploadError> {
        let Some(body) = &mut self.body else { return Ok(()) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                self.waiting_since.get_or_insert_with(clock::now);
                return Ok(());
            }
            Poll::Ready(Some(Ok(frame))) => self.take(frame)?,
            // What it sends is no body, or it went away in the middle.
            Poll::Ready(Some(Err(_))) => return Err(UploadError::Client(StatusCode::BAD_REQUEST)),
            Poll::Ready(None) => self.end(None),
        }
        self.waiting_since = None;
        Ok(())
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), UploadError> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.end(frame.into_trailers().ok());
                return Ok(());
            }
        };
        self.room =
            self.room.checked_sub(data.len() as u64).ok_or(UploadError::Client(StatusCode::PAYLOAD_TOO_LARGE))?;
        if self.framing == BodyFraming::Chunked && data.has_remaining() {
            self.front.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            self.back = b"\r\n";
        }
        self.chunk = data;
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.body = None;
        if self.request.is_some() {
            self.trailers = trailers.map(|trailers| {
                let kept = trailers.iter().filter(|(name, _)| may_trail(name));
                kept.map(|(name, value)| (name.clone(), value.clone())).collect()
            });
            return;
        }
        if self.framing != BodyFraming::Chunked {
            return;
        }
        self.front.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().flatten().filter(|(name, _)| may_trail(name)) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                self.front.extend_from_slice(part);
            }
        }
        self.front.extend_from_slice(b"\r\n");
    }
}
