//! The wire of one connection, moved on by whoever waits for an answer: no task runs beside.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, Connection};

/// A connection of any kind of stream.
trait Wire: Send {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>>;
}

impl<S, T> Wire for Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> {
        self.poll_message(cx)
    }
}

pub(super) struct Link {
    /// Gone when the connection is.
    wire: Option<Box<dyn Wire>>,
    /// Something is awaited; stays so if it was abandoned.
    is_busy: bool,
    /// The server said that it did not wait for its standbys to the end.
    is_unconfirmed: bool,
    /// The server said that there was no transaction to end.
    is_out_of_step: bool,
}

impl Link {
    pub(super) fn new<S, T>(connection: Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self { wire: Some(Box::new(connection)), is_busy: false, is_unconfirmed: false, is_out_of_step: false }
    }

    /// Waits for what the client of this connection asks, and moves the connection on meanwhile.
    ///
    /// # Cancel safety
    /// Dropping it leaves the connection unusable.
    pub(super) async fn drive<F: Future>(&mut self, f: F) -> F::Output {
        self.is_busy = true;
        let mut f = pin!(f);
        let output = std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(output) = f.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                match self.poll(cx) {
                    // What came in may be what is waited for.
                    Poll::Pending => return f.as_mut().poll(cx),
                    Poll::Ready(()) if self.wire.is_none() => return f.as_mut().poll(cx),
                    Poll::Ready(()) => {}
                }
            }
        })
        .await;
        self.is_busy = false;
        output
    }

    /// Whether it can be used, as far as what has arrived says.
    pub(super) fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        while self.poll(&mut cx).is_ready() && self.wire.is_some() {}
        self.wire.is_some() && !self.is_busy
    }

    /// Whether a commit since the last call was not confirmed, though the server called it done.
    pub(super) fn take_unconfirmed(&mut self) -> bool {
        std::mem::take(&mut self.is_unconfirmed)
    }

    /// Whether a transaction since the last call was ended that was none any more.
    pub(super) fn take_out_of_step(&mut self) -> bool {
        std::mem::take(&mut self.is_out_of_step)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(()) };
        match wire.poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                self.is_unconfirmed |= tells_of_cut_wait(&notice);
                self.is_out_of_step |= *notice.code() == SqlState::NO_ACTIVE_SQL_TRANSACTION;
            }
            Poll::Ready(Some(Ok(_))) => {}
            // Dropped, so that nobody waits for its answers.
            Poll::Ready(Some(Err(_)) | None) => self.wire = None,
        }
        Poll::Ready(())
    }
}

/// The text depends on the server's language, and the code is that of any warning.
fn tells_of_cut_wait(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_busy", &self.is_busy).finish_non_exhaustive()
    }
}
