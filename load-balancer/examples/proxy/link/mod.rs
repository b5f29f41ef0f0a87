//! One HTTP/1.1 connection to a backend ([`http2`] has the streams of HTTP/2), driven by the request that has it.
//!
//! No task of its own and no channel between: whoever sends a request polls the socket. That is one wake-up per
//! answer, where a connection in a task of its own needs two and a hand-over each way. It also tells exactly what a
//! retry has to know: whether the kernel took any byte of the request, and whether any byte of an answer came.

mod carrier;
mod connect;
pub(crate) mod framing;
mod head;
mod http2;
mod outgoing;
mod upload;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub(crate) use carrier::Carrier;
pub(crate) use connect::{ConnectError, connect};
pub(crate) use framing::{Framing, Piece};
pub(crate) use head::Head;
pub(crate) use http2::{Line, Stream};
pub(crate) use outgoing::{Additions, BodyFraming, encode, request};
pub(crate) use upload::{Upload, UploadError};

/// Room for one read, at least; an answer's buffer starts with this much.
const READ_BYTES: usize = 8 << 10;
/// Interim answers before the final one; more is no conversation.
const MAX_INTERIM: usize = 16;

/// A connection to a backend.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    inbox: BytesMut,
    places: Vec<head::Place>,
    interim_count: usize,
    /// It carried a request before.
    reused: bool,
    /// Something of an answer came.
    received: bool,
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// The backend closed or reset the connection, or the network did.
    Closed,
    /// What it sent is not an answer.
    Garbage,
    /// The backend refused the request before it began it.
    Refused,
    /// The backend leaves, and did not begin the request.
    Left,
    /// The client is to blame; it gets this status.
    Client(StatusCode),
}

impl Link {
    /// A connection that carried nothing yet.
    pub(crate) fn new(stream: TcpStream) -> Self {
        let inbox = BytesMut::with_capacity(READ_BYTES);
        Self { stream, inbox, places: vec![], interim_count: 0, reused: false, received: false }
    }

    /// Whether the backend kept the connection open and silent, as far as is known without asking the kernel.
    pub(crate) fn is_silent(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.inbox.is_empty() && self.poll_read(&mut cx).is_pending()
    }

    /// Prepares for another request.
    pub(crate) fn reuse(&mut self) {
        self.reused = true;
        self.received = false;
        self.interim_count = 0;
    }

    /// Whether it closed before it said a word to this request, though it had served others: likely it was idle for too
    /// long, which is nobody's fault.
    pub(crate) fn is_stale(&self) -> bool {
        self.reused && !self.received
    }

    /// The socket and what was read beyond the answer's head, for a tunnel.
    pub(crate) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.inbox.freeze())
    }

    /// Sends the request and reads the head of the answer, interim ones left aside. `headers` is there to be reused.
    #[inline]
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Upload,
        method: &Method,
        headers: &mut HeaderMap,
        max_bytes: usize,
    ) -> Poll<Result<Head, LinkError>> {
        let mut broken = false;
        match self.poll_upload(cx, upload) {
            Poll::Ready(Err(UploadError::Client(status))) => return Poll::Ready(Err(LinkError::Client(status))),
            // The answer may be there all the same: a backend that refuses a body says so and closes.
            Poll::Ready(Err(UploadError::Backend)) => broken = true,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            match self.poll_read(cx) {
                Poll::Ready(Ok(len)) if len > 0 => self.received = true,
                Poll::Ready(_) => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Pending if broken => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Pending => return Poll::Pending,
            }
            while !self.inbox.is_empty() {
                let head = head::parse(&mut self.inbox, headers, &mut self.places, method);
                match head.map_err(|_| LinkError::Garbage)? {
                    Some(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(Ok(head)),
                    Some(head) if head.status.is_informational() => self.interim(cx, upload, &head)?,
                    Some(head) => return Poll::Ready(Ok(head)),
                    None if self.inbox.len() > max_bytes => return Poll::Ready(Err(LinkError::Garbage)),
                    None => break,
                }
            }
        }
    }

    /// RFC 9110 section 15.2: interim answers. Only "100 Continue" concerns the proxy; hyper has no way to pass the
    /// others on.
    fn interim(&mut self, cx: &mut Context<'_>, upload: &mut Upload, head: &Head) -> Result<(), LinkError> {
        self.interim_count += 1;
        if self.interim_count > MAX_INTERIM {
            return Err(LinkError::Garbage);
        }
        if head.status == StatusCode::CONTINUE {
            upload.release();
            if let Poll::Ready(Err(UploadError::Client(status))) = self.poll_upload(cx, upload) {
                return Err(LinkError::Client(status));
            }
        }
        Ok(())
    }

    /// Goes on sending the request.
    #[inline]
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<(), UploadError>> {
        upload.poll(cx, &mut self.stream)
    }

    /// Takes a piece of the body, reading as needed.
    #[inline]
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>, framing: &mut Framing) -> Poll<Result<Piece, LinkError>> {
        loop {
            match framing.next(&mut self.inbox) {
                Ok(Piece::Short) => {}
                Ok(piece) => return Poll::Ready(Ok(piece)),
                Err(_) => return Poll::Ready(Err(LinkError::Garbage)),
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(len)) if len > 0 => {}
                // RFC 9112 section 6.3, item 8: then the end of the connection is the end of the body. Only if it was
                // closed, not if it was reset.
                Poll::Ready(Ok(_)) if *framing == Framing::UntilClose => {
                    *framing = Framing::Length(0);
                    return Poll::Ready(Ok(Piece::End));
                }
                Poll::Ready(_) => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether so many bytes behind the head were read.
    #[inline]
    pub(crate) fn has(&self, len: usize) -> bool {
        self.inbox.len() >= len
    }

    /// The whole of a body of this length, ready when all of it was read.
    #[inline]
    pub(crate) fn poll_whole(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<Bytes, LinkError>> {
        while self.inbox.len() < len {
            match self.poll_read(cx) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(self.inbox.split_to(len).freeze()))
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbox.capacity() - self.inbox.len() < READ_BYTES / 4 {
            self.inbox.reserve(READ_BYTES);
        }
        pin!(self.stream.read_buf(&mut self.inbox)).poll(cx)
    }
}
