//! What carries one request to a backend: a connection of its own, or a stream of a shared one.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::http2::Stream;
use super::{Framing, Head, Link, LinkError, Piece, Upload, UploadError};

/// What carries a request.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// HTTP/1.1.
    Link(Link),
    /// HTTP/2.
    Stream(Box<Stream>),
}

impl Carrier {
    /// As [`Link::poll_head`].
    #[inline]
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Upload,
        method: &Method,
        headers: &mut HeaderMap,
        max_bytes: usize,
    ) -> Poll<Result<Head, LinkError>> {
        match self {
            Self::Link(link) => link.poll_head(cx, upload, method, headers, max_bytes),
            Self::Stream(stream) => stream.poll_head(cx, upload),
        }
    }

    /// As [`Link::poll_upload`].
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<(), UploadError>> {
        match self {
            Self::Link(link) => link.poll_upload(cx, upload),
            Self::Stream(stream) => stream.poll_upload(cx, upload),
        }
    }

    /// As [`Link::poll_piece`].
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>, framing: &mut Framing) -> Poll<Result<Piece, LinkError>> {
        match self {
            Self::Link(link) => link.poll_piece(cx, framing),
            Self::Stream(stream) => stream.poll_piece(cx),
        }
    }

    /// The whole of a body of this length, if there is hope that it comes without waiting for the client.
    #[inline]
    pub(crate) fn poll_whole(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        upload: &Upload,
    ) -> Poll<Result<Option<Bytes>, LinkError>> {
        match self {
            // An answer before the end of the request may wait for the rest of it.
            Self::Link(link) if upload.is_done() || link.has(len) => link.poll_whole(cx, len).map_ok(Some),
            Self::Stream(_) if len == 0 => Poll::Ready(Ok(Some(Bytes::new()))),
            Self::Link(_) | Self::Stream(_) => Poll::Ready(Ok(None)),
        }
    }

    /// As [`Link::is_stale`]; a stream knows more exactly.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Self::Link(link) => link.is_stale(),
            Self::Stream(_) => false,
        }
    }
}
