//! A connection that is passed on byte by byte: TCP mode, and HTTP/1.1 after a 101.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tenfold_load_balancer::{Failure, Key, Outcome, Request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::alarm::Alarm;
use crate::attempt::{self, Lease};
use crate::clock;
use crate::forward::Active;
use crate::worker::Worker;

/// Where a client's connection leads once hyper is done with it.
pub(crate) struct Tunnel {
    pub(crate) lease: Lease,
    pub(crate) active: Active,
    pub(crate) answered_at: Instant,
}

impl Tunnel {
    /// Passes on until both sides have closed. `early` is what the client sent behind its request.
    pub(crate) async fn run(self, worker: &Worker, mut client: TcpStream, early: &[u8]) -> io::Result<()> {
        let _active = self.active;
        let Lease { link, pick } = self.lease;
        let (mut backend, early_answer) = link.into_parts();
        client.write_all(&early_answer).await?;
        backend.write_all(early).await?;
        copy(client, backend, worker.options.limits.tunnel_timeout).await?;
        pick.finish(Outcome::Success, self.answered_at);
        Ok(())
    }
}

/// Serves a client in TCP mode: finds a backend that accepts the connection, and passes on.
pub(crate) async fn serve_tcp(worker: Rc<Worker>, client: TcpStream, key: Key) {
    let limits = &worker.options.limits;
    let mut avoid = vec![];
    while avoid.len() < usize::from(limits.max_tries) {
        let request = Request { key: Some(key), avoid: &avoid, ..Request::default() };
        let picked = worker.picker.borrow_mut().pick(&request, clock::now());
        let Ok(pick) = picked else { return };
        pick.data().attempt();
        let connected = tokio::time::timeout(limits.connect_timeout, TcpStream::connect(pick.address())).await;
        let failure = match connected {
            Ok(Ok(backend)) => {
                // That it accepted is all that is known of it.
                let connected_at = clock::now();
                let _ = backend.set_nodelay(true);
                let _ = copy(client, backend, limits.tunnel_timeout).await;
                return pick.finish(Outcome::Success, connected_at);
            }
            Ok(Err(_)) => Failure::Refused,
            Err(_) => Failure::NotSent,
        };
        avoid.push(pick.id());
        attempt::finish(pick, Outcome::Failure(failure), clock::now());
        worker.metrics.retried();
    }
}

/// Passes on both ways; the end of one direction is passed on as well, and the other goes on. Neither way may be silent
/// for longer than the time-out.
async fn copy(client: TcpStream, backend: TcpStream, timeout: Duration) -> io::Result<()> {
    let last = Cell::new(clock::now());
    let (mut client, mut backend) = (Noted { stream: client, last: &last }, Noted { stream: backend, last: &last });
    let mut alarm = Alarm::default();
    let mut copying = pin!(tokio::io::copy_bidirectional(&mut client, &mut backend));
    poll_fn(|cx| match copying.as_mut().poll(cx) {
        Poll::Ready(copied) => Poll::Ready(copied.map(drop)),
        Poll::Pending => alarm.poll(cx, last.get() + timeout).map(|()| Err(io::ErrorKind::TimedOut.into())),
    })
    .await
}

/// A socket of which is known when it last gave something.
struct Noted<'a> {
    stream: TcpStream,
    last: &'a Cell<Instant>,
}

impl AsyncRead for Noted<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        if read.is_ready() {
            self.last.set(clock::now());
        }
        read
    }
}

impl AsyncWrite for Noted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
