//! Backends that are spoken to in HTTP/2.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Frame;

use crate::http2::{read_all, request, run};
use crate::rig::{Conn, Fake, Proxy, eventually, get};

const ARGUMENTS: &[&str] = &["--backend-http2", "--threads", "1"];

/// A backend that answers each request with its body, or its path, and with the trailers of gRPC.
struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    received: Arc<Mutex<Vec<Request<()>>>>,
}

impl Peer {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, received) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (count, log) = (Arc::clone(&connections), Arc::clone(&received));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(serve(stream, Arc::clone(&log)));
                }
            });
        });
        Self { address, connections, received }
    }
}

async fn serve(stream: tokio::net::TcpStream, log: Arc<Mutex<Vec<Request<()>>>>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (parts, mut body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        log.lock().unwrap().push(Request::from_parts(parts, ()));
        tokio::spawn(async move {
            let mut text = BytesMut::new();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                text.extend_from_slice(&data);
            }
            if path == "/only-trailers" {
                let head = Response::builder().header("grpc-status", "5").body(()).unwrap();
                return drop(respond.send_response(head, true));
            }
            let text = if text.is_empty() { Bytes::from(path) } else { text.freeze() };
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            // As much as there is room for, as long as there is more.
            let mut left = text;
            while !left.is_empty() {
                stream.reserve_capacity(left.len());
                let Some(Ok(len)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                let part = left.split_to(len.min(left.len()));
                if stream.send_data(part, false).is_err() {
                    return;
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let _ = stream.send_trailers(trailers);
        });
    }
}

#[test]
fn clients_of_http_1_share_a_connection_to_the_backend() {
    let peer = Peer::new();
    let proxy = Proxy::start(&[peer.address], ARGUMENTS);
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for _ in 0..5 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(&format!(
                "GET /{index}?a=b HTTP/1.1\r\nhost: real.test\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n"
            ));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.answer().text(), format!("/{index}"));
        }
    }
    assert_eq!(peer.connections.load(Ordering::Relaxed), 1);
    let received = peer.received.lock().unwrap();
    assert_eq!(received.len(), 100);
    let first = received.iter().find(|request| request.uri().path() == "/0").unwrap();
    assert_eq!(first.uri().to_string(), "http://real.test/0?a=b");
    assert_eq!((first.headers()["via"].as_bytes(), first.headers().get("x-hop")), (&b"1.1 tenfold"[..], None));
    assert_eq!(first.headers()["x-forwarded-for"], "127.0.0.1");
}

#[test]
fn bodies_larger_than_every_window_pass_both_ways() {
    let peer = Peer::new();
    let proxy = Proxy::start(&[peer.address], ARGUMENTS);
    let mut client = proxy.client();
    for len in [1, 70_000, 3_000_000] {
        let body: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
        client.send(&format!("POST /l HTTP/1.1\r\nhost: t\r\ncontent-length: {len}\r\n\r\n"));
        client.send_bytes(&body);
        assert!(client.answer().body == body, "a length of {len}");
        client.send("POST /c HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(100_000) {
            client.send(&format!("{:x}\r\n", chunk.len()));
            client.send_bytes(chunk);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert!(client.answer().body == body, "chunks of {len}");
    }
}

#[test]
fn grpc_passes_with_its_trailers() {
    let peer = Peer::new();
    let proxy = Proxy::start(&[peer.address], ARGUMENTS);
    run(proxy.address, async |mut sender| {
        let mut call = request(Method::POST, "/service/Method", vec![Frame::data("\0\0\0\0\x02hi".into())]);
        call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        let answer = sender.send_request(call).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let (body, trailers) = read_all(answer.into_body()).await.unwrap();
        assert_eq!(
            (body.as_str(), &trailers.unwrap()["grpc-status"]),
            ("\0\0\0\0\x02hi", &HeaderValue::from_static("0"))
        );
        let answer = sender.send_request(request(Method::POST, "/only-trailers", vec![])).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
    });
    assert_eq!(peer.received.lock().unwrap()[0].headers()["te"], "trailers");
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// A backend that speaks frames: what it does with the end of a request is up to the script, which is told how many
/// requests came before and the stream.
fn frames(script: impl Fn(&mut Conn, usize, [u8; 4]) -> bool + Send + Sync + 'static) -> Fake {
    let count = AtomicUsize::new(0);
    Fake::new(move |conn: &mut Conn| {
        let Some(_preface) = conn.take(24) else { return };
        send(conn, SETTINGS, 0, [0; 4], &[]);
        while let Some(head) = conn.take(9) {
            let len = usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(_) = conn.take(len) else { return };
            let stream = head[5..].try_into().unwrap();
            if head[3] == HEADERS && !script(conn, count.fetch_add(1, Ordering::Relaxed), stream) {
                return;
            }
        }
    })
}

fn send(conn: &mut Conn, kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) {
    let head = [&[0, 0, payload.len() as u8, kind, flags][..], &stream, payload];
    conn.send(&head.concat());
}

/// ":status: 200" (RFC 7541 appendix A), and the end of headers and stream.
fn answer(conn: &mut Conn, stream: [u8; 4]) {
    send(conn, HEADERS, 4 | END_STREAM, stream, &[0x88]);
}

const POST: &str = "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n";

#[test]
fn what_was_surely_not_begun_is_sent_again_whatever_the_method() {
    // REFUSED_STREAM, and a GOAWAY that names no stream.
    let refusals: [fn(&mut Conn, [u8; 4]); 2] = [
        |conn, stream| send(conn, RST_STREAM, 0, stream, &[0, 0, 0, 7]),
        |conn, _| send(conn, GOAWAY, 0, [0; 4], &[0; 8]),
    ];
    for (index, refuse) in refusals.into_iter().enumerate() {
        let backends = [0, 1].map(|_| {
            frames(move |conn, count, stream| {
                if count == 0 {
                    refuse(conn, stream);
                } else {
                    answer(conn, stream);
                }
                true
            })
        });
        let proxy = Proxy::start(&backends.map(|backend| backend.address), ARGUMENTS);
        let mut client = proxy.client();
        for _ in 0..4 {
            client.send(POST);
            assert_eq!(client.answer().status, 200, "refusal {index}");
        }
    }
}

#[test]
fn what_may_have_been_done_is_not_sent_again() {
    // It is gone; it says so of a stream that it has begun; it fails.
    let ends: [fn(&mut Conn, [u8; 4]); 3] = [
        |_, _| (),
        |conn, stream| send(conn, GOAWAY, 0, [0; 4], &[&stream[..], &[0; 4]].concat()),
        |conn, stream| send(conn, RST_STREAM, 0, stream, &[0, 0, 0, 2]),
    ];
    for (index, end) in ends.into_iter().enumerate() {
        let count = Arc::new(AtomicUsize::new(0));
        let backends = [0, 1].map(|_| {
            let count = Arc::clone(&count);
            frames(move |conn, _, stream| {
                count.fetch_add(1, Ordering::Relaxed);
                end(conn, stream);
                false
            })
        });
        let proxy = Proxy::start(&backends.map(|backend| backend.address), ARGUMENTS);
        let mut client = proxy.client();
        client.send(POST);
        assert_eq!(client.answer().status, 502, "end {index}");
        assert_eq!(count.load(Ordering::Relaxed), 1, "end {index}");
    }
}

#[test]
fn a_backend_that_speaks_no_http_2_is_a_502_and_its_probes_fail() {
    let backend = Fake::named("a");
    let proxy =
        Proxy::start(&[backend.address], &["--backend-http2", "--health-path", "/", "--probe-interval", "20ms"]);
    assert_eq!(get(proxy.address, "/").status, 502);
    eventually("it is down", || proxy.ask("GET", "/backends").text().contains("\"down\""));
    let peer = Peer::new();
    assert_eq!(proxy.ask("POST", &format!("/backends/add?addr={}", peer.address)).status, 200);
    eventually("it is probed", || peer.received.lock().unwrap().iter().any(|request| request.method() == Method::GET));
    eventually("it serves", || get(proxy.address, "/it").text() == "/it");
}
