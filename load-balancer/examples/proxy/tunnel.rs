//! A connection that is passed on byte by byte: TCP mode, and HTTP/1.1 after a 101.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tenfold_load_balancer::{Action, Exchange, Failure, Key, Outcome, Pick, Request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::alarm::Alarm;
use crate::attempt::{self, Lease};
use crate::clock;
use crate::forward::Active;
use crate::link::{self, Carrier, ConnectError};
use crate::traffic::Traffic;
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
        let Lease { carrier: Carrier::Link(link), pick } = self.lease else { return Ok(()) };
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
    let Some((backend, pick)) = reach(&worker, key).await else { return };
    // That it accepted is all that is known of it.
    let connected_at = clock::now();
    pick.answered(connected_at);
    let _ = copy(client, backend, worker.options.limits.tunnel_timeout).await;
    pick.finish(Outcome::Success, connected_at);
}

/// Connects to one backend or another, as often and as fast as the budget of all clients together allows.
async fn reach(worker: &Worker, key: Key) -> Option<(TcpStream, Pick<Traffic>)> {
    let policy = &worker.policy;
    let mut exchange = Exchange::new(policy, false, None, clock::now());
    loop {
        match exchange.action() {
            Action::Pick => {}
            // Between two tries: none is in flight here.
            Action::Wait(until) => {
                tokio::time::sleep_until(until.into()).await;
                exchange.timer(policy, clock::now());
                continue;
            }
            Action::Return(_) | Action::Fail(_) => return None,
            _ => continue,
        }
        let is_first = exchange.tried().is_empty();
        let request = Request { key: Some(key), avoid: exchange.tried(), ..Request::default() };
        let picked = worker.picker.borrow_mut().pick(&request, clock::now());
        let Ok(pick) = picked else {
            exchange.not_picked();
            continue;
        };
        let Some(attempt) = exchange.picked(policy, pick.id(), clock::now()) else { continue };
        if !is_first {
            worker.metrics.retried();
        }
        pick.data().attempt();
        let error = match link::connect(pick.address(), worker.options.limits.connect_timeout).await {
            Ok(backend) => {
                exchange.ended(policy, attempt, Outcome::Success, clock::now());
                return Some((backend, pick));
            }
            Err(error) => error,
        };
        let failure = match error {
            ConnectError::Refused => Failure::Refused,
            ConnectError::TimedOut | ConnectError::Local => Failure::NotSent,
        };
        if error != ConnectError::Local {
            attempt::finish(pick, Outcome::Failure(failure), clock::now());
        }
        exchange.ended(policy, attempt, Outcome::Failure(failure), clock::now());
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
