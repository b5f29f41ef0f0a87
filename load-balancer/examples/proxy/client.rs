//! One client connection, from its first byte to its end.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Version;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use tenfold_load_balancer::Key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::alarm::Alarm;
use crate::client_io::ClientIo;
use crate::clock;
use crate::forward::{Client, forward};
use crate::link::Additions;
use crate::options::Limits;
use crate::watch::{Late, Watch};
use crate::worker::{self, Worker};

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TOO_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long, and of how many bytes, a client that is cut off may still be in the middle of sending.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 256 << 10;

/// Serves one client until it leaves or has to.
pub(crate) async fn serve(worker: Rc<Worker>, mut stream: TcpStream, address: SocketAddr) {
    let detected = tokio::select! {
        detected = tokio::time::timeout(worker.options.limits.header_timeout, detect(&mut stream)) => detected,
        () = worker.drain.notified() => return,
    };
    let Ok(Ok(Some((version, prefix)))) = detected else { return };
    let watch = Rc::new(Watch::new(version == Version::HTTP_2, clock::now()));
    let via = worker.options.via.then_some(version);
    let client = Rc::new(Client {
        additions: Additions::new(address.ip(), worker.options.forwarded, via),
        key: key(address),
        spare: Cell::default(),
        tunnel: RefCell::new(None),
        watch: Rc::clone(&watch),
        worker,
    });
    let io = ClientIo::new(stream, prefix, watch);
    match version {
        Version::HTTP_2 => serve_http2(client, io).await,
        _ => serve_http1(client, io).await,
    }
}

/// What the hash policies place a client by.
pub(crate) fn key(address: SocketAddr) -> Key {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => Key::of(&ip.octets()),
        IpAddr::V6(ip) => Key::of(&ip.octets()),
    }
}

/// Reads until it is plain which protocol the client speaks; nothing if it leaves before.
async fn detect(stream: &mut TcpStream) -> std::io::Result<Option<(Version, Bytes)>> {
    let mut prefix = BytesMut::with_capacity(2048);
    loop {
        if stream.read_buf(&mut prefix).await? == 0 {
            return Ok(None);
        }
        if prefix.starts_with(PREFACE) {
            return Ok(Some((Version::HTTP_2, prefix.freeze())));
        }
        if !PREFACE.starts_with(&prefix) {
            return Ok(Some((Version::HTTP_11, prefix.freeze())));
        }
    }
}

async fn serve_http1(client: Rc<Client>, io: ClientIo) {
    let limits = &client.worker.options.limits;
    let mut builder = http1::Builder::new();
    builder.half_close(true).max_buf_size(limits.max_header_bytes);
    // hyper keeps the places of its default number of fields on the stack, of any other on the heap.
    if limits.max_headers != Limits::default().max_headers {
        builder.max_headers(limits.max_headers);
    }
    let service = service_fn(|request| {
        let answer = forward(Rc::clone(&client), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = builder.serve_connection(io, service);
    let end = drive(&client, |cx, drain| {
        if drain {
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx).map(|_| ())
    });
    let late = end.await;
    let parts = connection.into_parts();
    let tunnel = client.tunnel.borrow_mut().take();
    let mut stream = parts.io.into_inner();
    match (tunnel, late) {
        (Some(tunnel), None) => _ = tunnel.run(&client.worker, stream, &parts.read_buf).await,
        (_, Some(Late::Head)) => {
            let _ = stream.write_all(TOO_LATE).await;
            linger(stream).await;
        }
        (_, Some(_)) => {}
        (_, None) => linger(stream).await,
    }
}

async fn serve_http2(client: Rc<Client>, io: ClientIo) {
    let limits = &client.worker.options.limits;
    let mut builder = http2::Builder::new(Local(Rc::clone(&client.worker)));
    builder
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(200);
    let service = service_fn(|request| {
        let answer = forward(Rc::clone(&client), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    drive(&client, |cx, drain| {
        if drain {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(|_| ())
    })
    .await;
}

/// Polls a connection until it ends, its client is late, or the proxy has drained.
async fn drive(client: &Client, mut connection: impl FnMut(&mut Context<'_>, bool) -> Poll<()>) -> Option<Late> {
    let worker = &client.worker;
    let mut alarm = Alarm::default();
    let mut drained = pin!(worker.drain.notified());
    let mut told = false;
    let _ = poll_fn(|cx| Poll::Ready(drained.as_mut().poll(cx).is_ready())).await;
    poll_fn(|cx| {
        let mut tell = worker.is_draining();
        loop {
            let is_new = tell && !std::mem::replace(&mut told, true);
            if connection(cx, is_new).is_ready() {
                return Poll::Ready(None);
            }
            let limits = &worker.options.limits;
            let Some((deadline, late)) = client.watch.deadline(limits) else { return Poll::Pending };
            ready!(alarm.poll(cx, deadline));
            let now = clock::now();
            match late {
                Late::Download => client.watch.cut_downloads(limits, now),
                Late::Idle if client.watch.tell_to_leave(now) => tell = true,
                late => return Poll::Ready(Some(late)),
            }
        }
    })
    .await
}

/// Closes a connection so that the client sees what was written last: closing with unread bytes in the socket would
/// send a reset, which can overtake it.
async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    let drain = async {
        let mut total = 0;
        while total < MAX_LINGER_BYTES {
            match stream.read(&mut rest).await {
                Ok(len) if len > 0 => total += len,
                _ => return,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// Tasks of this thread.
#[derive(Clone)]
struct Local(Rc<Worker>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        worker::spawn(&self.0, task);
    }
}
