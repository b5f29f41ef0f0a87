//! Requests with a body: whose time it is, and who is to blame when it is up.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::rig::{BackendProcess, Conn, Fake, Proxy, get, ok};

/// Two addresses where nobody serves.
fn nobody() -> [SocketAddr; 2] {
    [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

const POST: &str = "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello";

#[test]
fn with_everybody_refusing_a_body_gets_its_status_and_the_thread_lives() {
    let proxy = Proxy::start(&nobody(), &["--threads", "1"]);
    for _ in 0..3 {
        let mut client = proxy.client();
        client.send(POST);
        assert_eq!(client.answer().status, 502);
        assert_eq!(get(proxy.address, "/").status, 502);
    }
}

#[test]
fn a_client_that_is_slow_to_send_makes_no_backend_slow() {
    for parts in [("GET / HTTP/1.1\r\nhost:", " t\r\n\r\n"), POST.split_at(POST.len() - 3)] {
        let (a, b) = (Fake::named("a"), Fake::named("b"));
        let proxy = Proxy::start(&[a.address, b.address], &["--threads", "1"]);
        let mut quick = proxy.client();
        for _ in 0..500 {
            assert_eq!(quick.get("/").status, 200);
        }
        // In turn, so that it is always the same one that has the slow client, while the other one does well.
        for index in 0..10 {
            let mut slow = proxy.client();
            slow.send(parts.0);
            std::thread::sleep(Duration::from_millis(30));
            assert_eq!(quick.get("/").status, 200);
            std::thread::sleep(Duration::from_millis(30));
            slow.send(parts.1);
            assert_eq!(slow.answer().status, 200);
            assert!(!proxy.ask("GET", "/backends").text().contains("ejected"), "after {index} of {parts:?}");
        }
    }
}

#[test]
fn a_backend_that_stops_reading_is_failed_and_ejected() {
    let a = BackendProcess::start("a");
    // It only swallows, so that it keeps up on a busy machine.
    let b = Fake::new(|conn: &mut Conn| {
        while conn.request().is_some() {
            conn.send(&ok(b"b"));
        }
    });
    let proxy = Proxy::start(&[a.address, b.address], &["--threads", "1", "--response-timeout", "1s"]);
    for _ in 0..100 {
        assert_eq!(get(proxy.address, "/").status, 200);
    }
    a.signal("STOP");
    let body = vec![b'a'; 24 << 20];
    let state = |state: &str| {
        let backends = proxy.ask("GET", "/backends").text();
        backends.split('{').any(|own| own.contains(&a.address.to_string()) && own.contains(state))
    };
    // More than it takes: on a busy machine the other one may fail a few, too.
    for _ in 0..24 {
        if state("\"ejected\"") {
            break;
        }
        let mut client = proxy.client();
        client.send(&format!("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", body.len()));
        client.send_bytes(&body);
        // The one that was stopped gets a 504, which may be overtaken by the end of the connection.
        let _ = client.try_answer(false);
    }
    assert!(state("\"ejected\"") && !state("\"failures\":0"), "{}", proxy.ask("GET", "/backends").text());
    a.signal("CONT");
}

/// Reads the head of the request, begins an answer, and ends it once the request has ended.
fn eager() -> Fake {
    Fake::new(|conn: &mut Conn| {
        while conn.head().is_some() {
            conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
            let Some(body) = conn.take(5) else { return };
            conn.send(&body);
        }
    })
}

#[test]
fn a_short_answer_that_begins_before_the_request_has_ended_is_no_deadlock() {
    let backend = eager();
    let proxy = Proxy::start(&[backend.address], &["--response-timeout", "2s"]);
    let mut client = proxy.client();
    client.send(POST.strip_suffix("hello").unwrap());
    std::thread::sleep(Duration::from_millis(100));
    client.send("hello");
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn a_client_that_stops_sending_after_the_answer_began_is_its_own_fault() {
    let backend = eager();
    let proxy =
        Proxy::start(&[backend.address], &["--response-timeout", "200ms", "--client-timeout", "600ms", "--no-hedge"]);
    let mut client = proxy.client();
    client.send(POST.strip_suffix("llo").unwrap());
    assert!(client.try_answer(false).is_none(), "its head was passed on, so it can only break off");
    let backends = proxy.ask("GET", "/backends").text();
    assert!(backends.contains("\"in_flight\":0") && backends.contains("\"failures\":0"), "{backends}");
}

#[test]
fn a_client_that_is_slow_to_read_makes_no_backend_slow() {
    // More than all buffers on the way hold, so that it ends when the client has read.
    const LEN: usize = 16 << 20;
    let named = |name: &[u8]| {
        let (long, short) = (ok(&vec![b'a'; LEN]), ok(name));
        Fake::new(move |conn: &mut Conn| {
            while let Some(request) = conn.request() {
                conn.send(if request.head.starts_with("get /long ") { &long } else { &short });
            }
        })
    };
    let (a, b) = (named(b"a"), named(b"b"));
    // A hedge would change whose turn it is.
    let proxy = Proxy::start(&[a.address, b.address], &["--threads", "1", "--no-hedge"]);
    let mut quick = proxy.client();
    for _ in 0..500 {
        assert_eq!(quick.get("/").status, 200);
    }
    for index in 0..10 {
        // In turn, so that it is always the same one that has the slow client, while the other one does well.
        let mut slow = proxy.client();
        slow.send("GET /long HTTP/1.1\r\nhost: t\r\n\r\n");
        assert_eq!(slow.line().as_deref(), Some("HTTP/1.1 200 OK"));
        assert_eq!(quick.get("/").status, 200);
        std::thread::sleep(Duration::from_millis(60));
        while slow.line().is_some_and(|line| !line.is_empty()) {}
        assert!(slow.take(LEN).is_some());
        let backends = proxy.ask("GET", "/backends").text();
        assert!(!backends.contains("ejected"), "after {index}: {backends}");
    }
}

#[test]
fn a_client_that_is_slow_to_read_gets_all_of_its_answer() {
    const LEN: usize = 12 << 20;
    let backend = Fake::new(|conn: &mut Conn| {
        while conn.request().is_some() {
            conn.send(&ok(&vec![b'a'; LEN]));
        }
    });
    let proxy = Proxy::start(&[backend.address], &["--response-timeout", "700ms"]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    assert_eq!(client.line().as_deref(), Some("HTTP/1.1 200 OK"));
    for _ in 0..2 {
        assert!(client.take(1 << 20).is_some());
        std::thread::sleep(Duration::from_millis(900));
    }
    let mut left = LEN - (2 << 20);
    while left > 0 {
        let len = left.min(64 << 10);
        assert!(client.take(len).is_some(), "{left} bytes are missing");
        left -= len;
    }
}
