//! What becomes of an answer on its way: every framing, and every way not to keep to one.

use std::time::Duration;

use crate::rig::{Answer, Conn, Fake, Proxy, get, ok};

fn through(backend: &Fake) -> Answer {
    let proxy = Proxy::start(&[backend.address], &[]);
    get(proxy.address, "/")
}

#[test]
fn every_framing_arrives() {
    for (bytes, body) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..], "hello"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nx-sum: 1\r\n\r\n", "hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "hello"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok"),
    ] {
        let answer = through(&Fake::saying(bytes));
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{}", String::from_utf8_lossy(bytes));
    }
}

const IN_PIECES: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n";

#[test]
fn an_answer_may_come_in_any_pieces() {
    let backend = Fake::new(|conn: &mut Conn| {
        while let Some(request) = conn.request() {
            let at: usize = request.head.split(['/', ' ']).nth(2).and_then(|at| at.parse().ok()).unwrap_or(0);
            conn.send(&IN_PIECES[..at]);
            std::thread::sleep(Duration::from_millis(2));
            conn.send(&IN_PIECES[at..]);
        }
    });
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    for at in 0..=IN_PIECES.len() {
        let answer = client.get(&format!("/{at}"));
        assert_eq!((answer.text().as_str(), answer.field("x-a")), ("hello", Some("b")), "cut at {at}");
    }
}

#[test]
fn what_concerned_backend_and_proxy_only_goes_no_further() {
    let answer = through(&Fake::saying(
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-Kept: 1\r\nSet-Cookie: a\r\n\
          Set-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
    ));
    assert_eq!((answer.field("x-kept"), answer.field("x-hop"), answer.field("keep-alive")), (Some("1"), None, None));
    assert!(answer.head.contains("set-cookie: a\nset-cookie: b\n"), "{}", answer.head);
}

#[test]
fn answers_without_a_body_keep_the_connection_in_step() {
    let backend = Fake::new(|conn: &mut Conn| {
        while let Some(request) = conn.request() {
            conn.send(match request.head.split(' ').nth(1) {
                Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: \"a\"\r\n\r\n",
                Some("/head") => b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
                Some("/chunks") => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend",
            });
        }
    });
    let proxy = Proxy::start(&[backend.address], &["--threads", "1"]);
    let mut client = proxy.client();
    assert_eq!(client.get("/204").status, 204);
    let answer = client.get("/304");
    assert_eq!((answer.status, answer.field("etag")), (304, Some("\"a\"")));
    for path in ["/head", "/chunks"] {
        client.send(&format!("HEAD {path} HTTP/1.1\r\nhost: t\r\n\r\n"));
        let answer = client.head_answer();
        assert_eq!(answer.status, 200);
        if path == "/head" {
            assert_eq!(answer.field("content-length"), Some("7"));
        }
    }
    assert_eq!(client.get("/").text(), "end");
}

#[test]
fn what_is_no_answer_becomes_a_502() {
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx y: 1\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: 1\r\n folded\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        // Half of a short answer: the client has seen nothing of it yet.
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
    ] {
        let answer = through(&Fake::saying(bytes));
        assert_eq!(answer.status, 502, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_head_without_end_becomes_a_502() {
    let backend = Fake::new(|conn: &mut Conn| {
        let _ = conn.request();
        conn.send(b"HTTP/1.1 200 OK\r\nx: ");
        while conn.send(&[b'a'; 4096]) {}
    });
    assert_eq!(through(&backend).status, 502);
    let backend = Fake::new(|conn: &mut Conn| {
        let _ = conn.request();
        while conn.send(b"HTTP/1.1 103 Early Hints\r\n\r\n") {}
    });
    assert_eq!(through(&backend).status, 502);
}

/// The head is out already, so the client can only be told by the end of its connection.
#[test]
fn half_of_a_long_answer_is_not_taken_for_a_whole_one() {
    for head in ["content-length: 100000", "transfer-encoding: chunked"] {
        let backend = Fake::new(move |conn: &mut Conn| {
            let _ = conn.request();
            conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n").as_bytes());
        });
        let proxy = Proxy::start(&[backend.address], &[]);
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
        assert!(client.try_answer(false).is_none(), "{head}");
        crate::rig::eventually("nothing is in flight", || {
            proxy.ask("GET", "/backends").text().contains("\"in_flight\":0")
        });
    }
}

#[test]
fn a_connection_with_words_left_over_is_not_used_again() {
    let backend = Fake::new(|conn: &mut Conn| {
        while let Some(_request) = conn.request() {
            let mut answer = ok(b"mine");
            answer.extend_from_slice(&ok(b"not yours"));
            conn.send(&answer);
        }
    });
    let proxy = Proxy::start(&[backend.address], &["--threads", "1"]);
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "mine");
    }
}

#[test]
fn long_answers_stream() {
    let body: Vec<u8> = (0..5_000_000_u32).map(|index| (index % 253) as u8).collect();
    let expected = body.clone();
    let backend = Fake::new(move |conn: &mut Conn| {
        while let Some(request) = conn.request() {
            if request.head.contains("/chunked") {
                conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                for chunk in body.chunks(70_000) {
                    conn.send(format!("{:x}\r\n", chunk.len()).as_bytes());
                    conn.send(chunk);
                    conn.send(b"\r\n");
                }
                conn.send(b"0\r\n\r\n");
            } else {
                conn.send(&ok(&body));
            }
        }
    });
    let proxy = Proxy::start(&[backend.address], &["--threads", "1"]);
    let mut client = proxy.client();
    for path in ["/", "/chunked", "/", "/chunked"] {
        assert!(client.get(path).body == expected, "{path}");
    }
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let backend = Fake::new(|conn: &mut Conn| {
        let head = conn.head().unwrap_or_default();
        assert!(head.contains("upgrade: echo") && head.contains("connection: upgrade"), "{head}");
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nhello ");
        while let Some(byte) = conn.take(1) {
            conn.send(&byte);
        }
        conn.send(b"bye");
    });
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: t\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\nearly ");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.field("upgrade"), answer.field("connection")),
        (101, Some("echo"), Some("upgrade"))
    );
    client.send("late ");
    assert_eq!(client.take(17).as_deref(), Some(&b"hello early late "[..]));
    client.finish();
    assert_eq!(client.rest(), b"bye");
}
