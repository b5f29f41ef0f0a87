//! A client's socket as hyper wants it: what was read to find out the protocol comes first, and the watch is told.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
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

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
