//! Clients that speak HTTP/2 from the first byte.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::rig::{Client, Conn, Fake, Proxy, ok};

/// A body in chunks, with trailers behind them.
pub(crate) struct Chunks(Vec<Frame<Bytes>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.pop().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) type Sender = http2::SendRequest<Chunks>;

pub(crate) fn run<R>(address: SocketAddr, work: impl AsyncFnOnce(Sender) -> R) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // As many clients do: frames that are no request's.
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_millis(50)).keep_alive_while_idle(true);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        work(sender).await
    })
}

pub(crate) fn request(method: Method, path: &str, chunks: Vec<Frame<Bytes>>) -> Request<Chunks> {
    let uri = format!("http://h2.test{path}");
    let mut request = Request::new(Chunks(chunks.into_iter().rev().collect()));
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().unwrap();
    *request.version_mut() = Version::HTTP_2;
    request
}

/// The body and what is behind it.
pub(crate) async fn read_all(mut body: Incoming) -> Result<(String, Option<HeaderMap>), hyper::Error> {
    let (mut text, mut trailers) = (vec![], None);
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => text.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((String::from_utf8(text).expect("the tests send text"), trailers))
}

async fn read(body: Incoming) -> Result<String, hyper::Error> {
    read_all(body).await.map(|(text, _)| text)
}

async fn text(body: Incoming) -> String {
    read(body).await.expect("the answer is whole")
}

#[test]
fn many_requests_share_a_connection() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    run(proxy.address, async |sender| {
        let answers = (0..50).map(|index| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let answer = sender.send_request(request(Method::GET, &format!("/{index}"), vec![])).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                text(answer.into_body()).await
            })
        });
        for answer in answers.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap(), "a");
        }
    });
    let received = backend.received();
    assert_eq!(received.len(), 50);
    assert!(received[0].head.contains("host: h2.test\n"), "{}", received[0].head);
    assert_eq!(received[0].field("via"), Some("2 tenfold"));
}

#[test]
fn bodies_trailers_and_crumbs_of_cookies_become_those_of_http_1() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    run(proxy.address, async |mut sender| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        let chunks = vec![Frame::data("hel".into()), Frame::data("lo".into()), Frame::trailers(trailers)];
        let mut request = request(Method::POST, "/", chunks);
        for crumb in ["a=1", "b=2"] {
            request.headers_mut().append(http::header::COOKIE, HeaderValue::from_static(crumb));
        }
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(text(answer.into_body()).await, "hello");
    });
    let received = &backend.received()[0];
    assert_eq!(received.field("cookie"), Some("a=1; b=2"));
    assert_eq!(received.trailers.to_lowercase(), "x-sum: 1");
}

#[test]
fn a_broken_answer_ends_its_stream_and_no_other() {
    let backend = Fake::new(|conn: &mut Conn| {
        while let Some(request) = conn.request() {
            if request.head.contains("/half") {
                conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe");
                return;
            }
            conn.send(&ok(b"whole"));
        }
    });
    let proxy = Proxy::start(&[backend.address], &[]);
    run(proxy.address, async |mut sender| {
        // The reset may come before the head was looked at.
        if let Ok(answer) = sender.send_request(request(Method::GET, "/half", vec![])).await {
            assert!(read(answer.into_body()).await.is_err());
        }
        let answer = sender.send_request(request(Method::GET, "/", vec![])).await.unwrap();
        assert_eq!(text(answer.into_body()).await, "whole");
    });
}

#[test]
fn a_preface_in_pieces_is_known_and_one_that_turns_out_wrong_is_refused() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    for piece in ["PRI * HT", "TP/2.0\r\n\r\nSM", "\r\n\r\n"] {
        client.send(piece);
        std::thread::sleep(Duration::from_millis(5));
    }
    client.send_bytes(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let settings = client.take(9).expect("the proxy speaks HTTP/2");
    assert_eq!(settings[3], 4, "its first frame is SETTINGS: {settings:?}");
    let mut client = Client::connect(proxy.address);
    client.send("PRI * HTTP/2.0\r\n\r\nno\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let mut client = Client::connect(proxy.address);
    client.send("PRI");
    client.finish();
    assert!(client.is_closed());
}

#[test]
fn a_client_between_two_requests_has_the_idle_time_not_that_of_a_head() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--header-timeout", "100ms", "--idle-timeout", "10s"]);
    run(proxy.address, async |mut sender| {
        for _ in 0..3 {
            let answer = sender.send_request(request(Method::GET, "/", vec![])).await.unwrap();
            assert_eq!(text(answer.into_body()).await, "a");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
}

/// RFC 9113 section 6.8: a request that crosses the end of the connection is known not to have been done.
#[test]
fn a_client_without_a_request_is_told_before_its_connection_ends() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--idle-timeout", "200ms"]);
    let mut client = proxy.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send_bytes(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let mut kinds = vec![];
    while let Some(head) = client.take(9) {
        kinds.push(head[3]);
        let len = usize::from(head[1]) << 8 | usize::from(head[2]);
        assert!(client.take(len).is_some());
    }
    assert!(kinds.contains(&7), "a GOAWAY is among the frames of the kinds {kinds:?}");
}

#[test]
fn an_answer_that_the_client_leaves_lying_frees_its_backend_and_stops_no_other() {
    let backend = Fake::new(|conn: &mut Conn| {
        while let Some(request) = conn.request() {
            if !request.head.contains("/endless") {
                conn.send(&ok(b"whole"));
                continue;
            }
            conn.send(b"HTTP/1.1 200 OK\r\n\r\n");
            while conn.send(&[b'a'; 65_536]) {}
        }
    });
    let proxy = Proxy::start(&[backend.address], &["--client-timeout", "300ms"]);
    run(proxy.address, async |mut sender| {
        let endless = sender.send_request(request(Method::GET, "/endless", vec![])).await.unwrap();
        let idle = || proxy.ask("GET", "/backends").text().contains("\"in_flight\":0");
        let start = Instant::now();
        while !idle() {
            assert!(start.elapsed() < Duration::from_secs(20), "the backend is held");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = sender.send_request(request(Method::GET, "/", vec![])).await.unwrap();
            assert_eq!(text(answer.into_body()).await, "whole");
        }
        assert!(read(endless.into_body()).await.is_err(), "what it left does not look whole");
    });
    assert!(proxy.ask("GET", "/backends").text().contains("\"failures\":0"));
}
