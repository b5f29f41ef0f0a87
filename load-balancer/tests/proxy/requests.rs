//! What becomes of a request on its way: good ones arrive whole and clean, bad ones do not arrive.

use crate::rig::{Conn, Fake, Proxy, ok};

#[test]
fn a_request_arrives_without_what_was_between_client_and_proxy() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send(
        "GET /path?query=1 HTTP/1.1\r\nHost: example.test\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: x\r\nTE: gzip\r\nX-Kept: kept\r\nX-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Proto: https\r\nUpgrade: h2c\r\n\r\n",
    );
    assert_eq!(client.answer().text(), "a");
    let request = &backend.received()[0];
    assert!(request.head.starts_with("get /path?query=1 http/1.1\n"), "{}", request.head);
    assert_eq!(request.field("host"), Some("example.test"));
    assert_eq!(request.field("x-kept"), Some("kept"));
    assert_eq!(request.field("via"), Some("1.1 tenfold"));
    assert_eq!((request.field("x-forwarded-proto"), request.count("x-forwarded-proto")), (Some("http"), 1));
    assert!(request.head.contains("x-forwarded-for: 10.1.2.3\nx-forwarded-for: 127.0.0.1"), "{}", request.head);
    for hop in ["connection", "x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "transfer-encoding"] {
        assert_eq!(request.count(hop), 0, "{hop} in {}", request.head);
    }
}

#[test]
fn what_the_proxy_adds_can_be_left_out() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--no-via", "--no-forwarded"]);
    assert_eq!(proxy.client().get("/").status, 200);
    let request = &backend.received()[0];
    let added = ["via", "x-forwarded-for", "x-forwarded-proto"].map(|name| request.count(name));
    assert_eq!(added, [0, 0, 0]);
}

#[test]
fn bodies_of_every_framing_and_size_arrive_whole() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    for len in [1, 100, 16_384, 65_536, 3_000_000] {
        let body: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
        client.send(&format!("POST /l HTTP/1.1\r\nhost: t\r\ncontent-length: {len}\r\n\r\n"));
        // While a large body is sent its echo does not come yet: the backend reads it whole first.
        client.send_bytes(&body);
        assert!(client.answer().body == body, "a length of {len}");

        client.send("POST /c HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(100_000) {
            client.send(&format!("{:x};extension=1\r\n", chunk.len()));
            client.send_bytes(chunk);
            client.send("\r\n");
        }
        client.send(
            "0\r\nX-Sum: 1\r\nContent-Length: 5\r\nAuthorization: x\r\nCookie: a\r\nContent-Type: b\r\n\
             Cache-Control: c\r\nIf-Match: d\r\nX-Forwarded-For: e\r\nTrailer: f\r\n\r\n",
        );
        assert!(client.answer().body == body, "chunks of {len}");
        let received = backend.received();
        assert_eq!(received.last().map(|request| request.trailers.to_lowercase()), Some("x-sum: 1".into()));
    }
    client.send("POST /e HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
    assert_eq!(
        backend.received().last().and_then(|request| request.field("content-length").map(str::to_owned)),
        Some("0".into())
    );
}

#[test]
fn the_answer_may_begin_before_the_request_has_ended() {
    let backend = Fake::new(|conn: &mut Conn| {
        let _ = conn.head();
        conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while let Some(byte) = conn.take(4) {
            // "1\r\nX" comes, "\r\n" follows: each byte is echoed as it comes.
            let Some(_) = conn.take(2) else { return };
            if byte[0] == b'0' {
                break;
            }
            conn.send(&[b"1\r\n", &byte[3..], b"\r\n"].concat());
        }
        conn.send(b"0\r\n\r\n");
    });
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut seen = String::new();
    for (index, letter) in ["a", "b", "c"].into_iter().enumerate() {
        client.send(&format!("1\r\n{letter}\r\n"));
        if index == 0 {
            while client.line().is_some_and(|line| !line.is_empty()) {}
        }
        assert_eq!(client.line().as_deref(), Some("1"));
        seen.push_str(&client.line().unwrap());
    }
    assert_eq!(seen, "abc");
}

#[test]
fn expect_continue_waits_for_the_backend() {
    let backend = Fake::new(|conn: &mut Conn| {
        while let Some(head) = conn.head() {
            assert!(head.contains("expect: 100-continue"), "{head}");
            if head.starts_with("post /refused") {
                conn.send(b"HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n");
                return;
            }
            conn.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            let body = conn.take(5).unwrap_or_default();
            conn.send(&ok(&body));
        }
    });
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("hello");
    assert_eq!(client.answer().text(), "hello");
    client.send("POST /refused HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 417, "without a 100 before it");
}

#[test]
fn a_backend_that_knows_no_continue_gets_the_body_in_time() {
    let backend = Fake::new(|conn: &mut Conn| {
        let _ = conn.head();
        let body = conn.take(5).unwrap_or_default();
        conn.send(&ok(&body));
    });
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("hello");
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n", 400),
        ("GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        ("GET / HTTP/9.9\r\nhost: a\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: something\r\n\r\nhello", 417),
    ] {
        let mut client = proxy.client();
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
    assert_eq!(proxy.client().get("/").text(), "a", "the proxy is none the worse");
}

/// RFC 9112 section 6.3, item 3: the chunks count, the length goes, and nothing more is read from this client.
#[test]
fn a_second_request_cannot_be_smuggled_behind_two_framings() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    for fields in ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"]
    {
        let before = backend.received().len();
        let mut client = proxy.client();
        client.send(&format!(
            "POST /first HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        assert_eq!(client.answer().status, 200);
        assert!(client.is_closed());
        let received = backend.received();
        assert_eq!(received.len(), before + 1, "{received:?}");
        assert_eq!(received[before].count("content-length"), 0, "{received:?}");
    }
}

#[test]
fn requests_may_be_sent_ahead_of_answers() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send(&"GET / HTTP/1.1\r\nhost: t\r\n\r\n".repeat(50));
    for _ in 0..50 {
        assert_eq!(client.answer().text(), "a");
    }
}

#[test]
fn old_clients_and_absolute_targets_are_served() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
    assert!(client.is_closed());
    let mut client = proxy.client();
    client.send("GET http://real.test/p HTTP/1.1\r\nhost: other.test\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
    let received = backend.received();
    assert!(received[1].head.starts_with("get /p http/1.1\nhost: real.test\n"), "{}", received[1].head);
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    client.finish();
    assert_eq!(client.answer().text(), "a");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_leaves_no_trace() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf");
    drop(client);
    crate::rig::eventually("nothing is in flight", || proxy.ask("GET", "/backends").text().contains("\"in_flight\":0"));
    assert!(backend.received().is_empty());
    assert_eq!(proxy.client().get("/").text(), "a");
}
