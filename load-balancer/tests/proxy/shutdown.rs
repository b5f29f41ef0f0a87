//! The end of the proxy: what is under way ends well, what is not does not hold it up.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::rig::{Client, Conn, Fake, Process, Proxy, eventually, ok};

/// A backend that answers when it is told to.
fn held() -> (Fake, std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>) {
    let (release, released) = channel();
    let (arrive, arrived) = channel();
    let (released, arrive) = (Mutex::new(released), Mutex::new(arrive));
    let fake = Fake::new(move |conn: &mut Conn| {
        while let Some(_request) = conn.request() {
            let _ = arrive.lock().unwrap().send(());
            let _ = released.lock().unwrap().recv();
            conn.send(&ok(b"in time"));
        }
    });
    (fake, release, arrived)
}

#[test]
fn requests_in_flight_are_answered_and_new_ones_are_not_taken() {
    let (backend, release, arrived) = held();
    let mut proxy = Proxy::start(&[backend.address], &[]);
    let (mut client, mut idle) = (proxy.client(), proxy.client());
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    arrived.recv().unwrap();
    proxy.signal("TERM");
    assert!(idle.is_closed(), "a client without a request is let go");
    eventually("nobody listens", || std::net::TcpStream::connect(proxy.address).is_err());
    assert_eq!(proxy.ask("GET", "/healthz").status, 503);
    release.send(()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("in time", Some("close")));
    assert!(client.is_closed());
    assert!(proxy.wait().success());
}

#[test]
fn a_request_that_does_not_end_holds_nothing_up_for_longer_than_the_drain_time() {
    let (backend, _release, arrived) = held();
    let mut proxy = Proxy::start(&[backend.address], &["--drain-timeout", "200ms"]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    arrived.recv().unwrap();
    proxy.signal("INT");
    assert!(proxy.wait().success());
    assert!(client.try_answer(false).is_none());
}

#[test]
fn a_client_in_the_middle_of_its_head_is_let_go() {
    let backend = Fake::named("a");
    let mut proxy = Proxy::start(&[backend.address], &["--drain-timeout", "300ms"]);
    let mut half = Client::connect(proxy.address);
    half.send("GET / HT");
    assert_eq!(proxy.client().get("/").status, 200);
    proxy.signal("TERM");
    assert!(proxy.wait().success());
}

/// Threads that find no descriptors for their runtimes end, and whoever watches the process must learn of it.
#[test]
fn a_thread_that_ends_ends_the_process_with_an_error() {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let mut process = Process::start(46, &["--listen", "127.0.0.1:0", "--threads", "24"], &[nobody]);
    assert!(!process.wait().success());
}
