//! What a status of a backend means for the request, and for the backend.

use crate::rig::{Conn, Fake, Proxy};

/// A backend that answers everything with this status.
fn always(status: u16) -> Fake {
    Fake::new(move |conn: &mut Conn| {
        while conn.request().is_some() {
            conn.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n").as_bytes());
        }
    })
}

const GET: &str = "GET / HTTP/1.1\r\nhost: t\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n";
const POST_BODY: &str = "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello";

#[test]
fn what_is_not_idempotent_is_sent_once_whatever_the_status() {
    for status in [429, 500, 502, 503, 504] {
        for request in [POST, POST_BODY] {
            let backends = [always(status), always(status)];
            let proxy = Proxy::start(&[backends[0].address, backends[1].address], &["--threads", "1"]);
            let mut client = proxy.client();
            for count in 1..=3 {
                client.send(request);
                let answer = client.answer();
                assert_eq!((answer.status, answer.field("retry-after")), (status, Some("1")), "it is passed on");
                let received = backends[0].received().len() + backends[1].received().len();
                assert_eq!(received, count, "{status} to {request}");
            }
        }
    }
}

#[test]
fn what_is_idempotent_is_asked_for_elsewhere() {
    for status in [500, 502, 503, 504] {
        let (bad, good) = (always(status), Fake::named("good"));
        let proxy = Proxy::start(&[bad.address, good.address], &["--threads", "1"]);
        let mut client = proxy.client();
        for _ in 0..4 {
            client.send(GET);
            assert_eq!(client.answer().text(), "good", "{status}");
        }
        assert!(!bad.received().is_empty());
    }
}

/// RFC 6585 section 4: the client sent too many, and another backend is no way around it.
#[test]
fn a_429_is_the_clients_affair() {
    let (strict, good) = (always(429), Fake::named("good"));
    let proxy = Proxy::start(&[strict.address, good.address], &["--threads", "1"]);
    let mut client = proxy.client();
    for _ in 0..40 {
        client.send(GET);
        client.answer();
    }
    assert_eq!((strict.received().len(), good.received().len()), (20, 20));
    let backends = proxy.ask("GET", "/backends").text();
    assert_eq!(backends.matches("\"failures\":0").count(), 2, "{backends}");
}
