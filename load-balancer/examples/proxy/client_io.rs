//! A client's socket as hyper wants it: what was read to find out the protocol comes first, and the watch is told.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::watch::Watch;

/// Answers up to this size leave in one plain write rather than in a vectored one: copying them is cheaper than the
/// kernel's look at the list of parts.
const JOIN_BYTES: usize = 2048;

/// A client's socket.
pub(crate) struct ClientIo {
    stream: TokioIo<TcpStream>,
    prefix: Bytes,
    watch: Rc<Watch>,
}

impl ClientIo {
    /// The socket, of which `prefix` was already read.
    pub(crate) fn new(stream: TcpStream, prefix: Bytes, watch: Rc<Watch>) -> Self {
        Self { stream: TokioIo::new(stream), prefix, watch }
    }

    /// The bare socket.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Whether the client reset the connection; if not, the task is woken when it does.
    ///
    /// hyper reads nothing while it waits for an answer, since a client may close its own half before. It is not found out
    /// of a client that has sent more than the request: what it sent stands before the reset.
    fn poll_reset(&self, cx: &mut Context<'_>) -> bool {
        let stream = self.stream.inner();
        if stream.poll_read_ready(cx).is_pending() {
            return false;
        }
        let ready = pin!(stream.ready(Interest::ERROR)).poll(cx);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_error())
    }

    fn note(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.watch.wrote(wrote.is_pending());
        wrote
    }
}

impl Read for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let len = this.prefix.len().min(into.remaining());
            into.put_slice(&this.prefix[..len]);
            this.prefix.advance(len);
            this.watch.read();
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut this.stream).poll_read(cx, into);
        if let Poll::Ready(Ok(())) = read {
            this.watch.read();
        }
        read
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let wrote = if total <= JOIN_BYTES {
            let mut joined = [0; JOIN_BYTES];
            let mut len = 0;
            for part in parts {
                joined[len..len + part.len()].copy_from_slice(part);
                len += part.len();
            }
            Pin::new(&mut self.stream).poll_write(cx, &joined[..len])
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
        };
        self.note(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is kept back. It is asked for as often as the connection is polled, and so is the client's presence.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_gone = self.watch.is_waiting() && self.poll_reset(cx);
        Poll::Ready(if is_gone { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
