//! One request and its answer as a stream among many on an HTTP/2 connection to a backend (RFC 9113, prior knowledge).
//!
//! The stream is polled by the request that has it, as an HTTP/1.1 connection is; only the connection itself has a task.
//! What a retry has to know is exact here, too: a stream that was refused, or that lies beyond the last one of a GOAWAY,
//! was not begun (section 8.7).

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, TRANSFER_ENCODING, UPGRADE};
use tokio::net::TcpStream;

use super::head::{Head, is_old_hop, may_trail};
use super::upload::{Upload, UploadError};
use super::{ConnectError, Framing, LinkError, Piece, connect};
use crate::clock;

/// Requests at a time on one connection, however many the backend would take.
const MAX_STREAMS: usize = 100;
/// What a backend may send ahead of the client on one stream, and on all: so much that no number of clients that are slow
/// to read keeps others from their answers.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const WINDOW_BYTES: u32 = MAX_STREAMS as u32 * STREAM_WINDOW_BYTES;

/// A connection to a backend.
#[derive(Debug)]
pub(crate) struct Line {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    /// Requests under way.
    streams: Cell<usize>,
    /// Nothing new goes there.
    is_retired: Cell<bool>,
    idle_since: Cell<Instant>,
}

impl Line {
    /// Connects; what is returned beside the connection moves its bytes, and ends with it.
    ///
    /// # Cancel safety
    /// Cancel safe: the attempt is given up.
    pub(crate) async fn connect(
        address: SocketAddr,
        timeout: Duration,
        max_header_bytes: usize,
    ) -> Result<(Self, impl Future<Output = ()>), ConnectError> {
        let stream = connect(address, timeout).await?;
        let mut builder = client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX));
        // It only writes the preface, which a new socket has room for.
        let (sender, connection) =
            builder.handshake::<TcpStream, Bytes>(stream).await.map_err(|_| ConnectError::Refused)?;
        let (streams, is_retired) = (Cell::new(0), Cell::new(false));
        let state = Rc::new(State { streams, is_retired, idle_since: Cell::new(clock::now()) });
        let line = Self { sender, state: Rc::clone(&state) };
        let run = async move {
            let _ = connection.await;
            state.is_retired.set(true);
        };
        Ok((line, run))
    }

    /// Whether it takes one more request.
    pub(crate) fn has_room(&self) -> bool {
        let max_streams = self.sender.current_max_send_streams().min(MAX_STREAMS);
        !self.state.is_retired.get() && self.state.streams.get() < max_streams
    }

    /// Whether it can be forgotten: nothing new goes there, or nobody has used it for this long.
    pub(crate) fn is_old(&self, now: Instant, timeout: Duration) -> bool {
        let is_idle = self.state.streams.get() == 0;
        let idle = now.saturating_duration_since(self.state.idle_since.get());
        self.state.is_retired.get() || is_idle && idle >= timeout
    }

    /// Begins a request. Nothing was sent if there is no stream, and nothing will go there any more.
    pub(crate) fn open(&self, upload: &mut Upload) -> Option<Stream> {
        let request = upload.request()?;
        let sent = self.sender.clone().send_request(request, !upload.has_body());
        let Ok((response, send)) = sent else {
            self.state.is_retired.set(true);
            return None;
        };
        upload.opened();
        self.state.streams.set(self.state.streams.get() + 1);
        Some(Stream { response, send, body: None, state: Rc::clone(&self.state) })
    }
}

/// A request on its way, and its answer.
#[derive(Debug)]
pub(crate) struct Stream {
    response: ResponseFuture,
    send: SendStream<Bytes>,
    body: Option<RecvStream>,
    state: Rc<State>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.state.streams.set(self.state.streams.get() - 1);
        self.state.idle_since.set(clock::now());
    }
}

impl Stream {
    /// Lets no further request use the connection.
    pub(crate) fn retire(&self) {
        self.state.is_retired.set(true);
    }

    /// Sends the request and reads the head of the answer.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<Head, LinkError>> {
        if let Poll::Ready(Err(UploadError::Client(status))) = self.poll_upload(cx, upload) {
            return Poll::Ready(Err(LinkError::Client(status)));
        }
        // If the backend wants no more of the request, its answer says why.
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(|error| self.why(&error))?;
        let (parts, body) = response.into_parts();
        let mut headers = parts.headers;
        // RFC 9113 section 8.2.2: fields of a connection mean nothing here, and would mean something to the client.
        let listed: Vec<_> = headers.keys().filter(|name| is_old_hop(name)).cloned().collect();
        for name in listed.into_iter().chain([CONNECTION, TRANSFER_ENCODING, UPGRADE]) {
            headers.remove(name);
        }
        let framing = if body.is_end_stream() { Framing::Length(0) } else { Framing::Frames };
        self.body = Some(body);
        Poll::Ready(Ok(Head { status: parts.status, headers, framing, keep_alive: false, upgrade: None }))
    }

    /// Goes on sending the request.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<(), UploadError>> {
        upload.poll_stream(cx, &mut self.send)
    }

    /// Takes a piece of the body. What is taken makes room for as much.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, LinkError>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Piece::End)) };
        while let Some(data) = ready!(body.poll_data(cx)) {
            let data = data.map_err(|_| LinkError::Closed)?;
            let _ = body.flow_control().release_capacity(data.len());
            if !data.is_empty() {
                return Poll::Ready(Ok(Piece::Data(data)));
            }
        }
        let trailers = ready!(body.poll_trailers(cx)).map_err(|_| LinkError::Closed)?;
        Poll::Ready(Ok(trailers.map_or(Piece::End, |mut trailers| {
            let barred: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
            for name in barred {
                trailers.remove(name);
            }
            Piece::Trailers(trailers)
        })))
    }

    fn why(&self, error: &h2::Error) -> LinkError {
        // RFC 9113 section 8.7: these two, and no others, say that the request was not begun.
        if error.is_remote() && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM) {
            return LinkError::Refused;
        }
        if error.is_reset() && error.is_remote() {
            return LinkError::Closed;
        }
        self.retire();
        match (error.is_go_away(), error.is_remote()) {
            (true, true) => LinkError::Left,
            // What it sends is no HTTP/2.
            (true, false) => LinkError::Garbage,
            _ if error.is_reset() => LinkError::Garbage,
            _ => LinkError::Closed,
        }
    }
}
