//! Every limit, at its edge: a documented status or a closed connection, and the proxy goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenfold_load_balancer::Policy;

use crate::rig::{Conn, Fake, Proxy, eventually, get, ok};

#[test]
fn heads_up_to_the_limit_pass_and_longer_ones_do_not() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--max-header-bytes", "16384"]);
    let request = |len: usize| format!("GET / HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", "a".repeat(len));
    let mut client = proxy.client();
    client.send(&request(15_000));
    assert_eq!(client.answer().status, 200);
    for len in [17_000, 100_000, 1_000_000] {
        let mut client = proxy.client();
        client.send(&request(len));
        assert_eq!(client.answer().status, 431, "{len}");
        assert!(client.is_closed());
    }
    let fields: String = (0..150).map(|index| format!("x-{index}: 1\r\n")).collect();
    let mut client = proxy.client();
    client.send(&format!("GET / HTTP/1.1\r\nhost: t\r\n{fields}\r\n"));
    assert_eq!(client.answer().status, 431);
    assert_eq!(backend.received().len(), 1);
}

#[test]
fn bodies_up_to_the_limit_pass_and_longer_ones_do_not() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--max-body-bytes", "1000"]);
    let mut client = proxy.client();
    client.send(&format!("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n{}", "a".repeat(1000)));
    assert_eq!(client.answer().body.len(), 1000);
    client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1001\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        client.send(&format!("64\r\n{}\r\n", "a".repeat(100)));
    }
    assert_eq!(client.answer().status, 413);
    assert_eq!(backend.received().len(), 1, "none of the long ones was complete");
}

#[test]
fn a_head_that_does_not_end_gets_a_408() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--header-timeout", "300ms"]);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    client.send("GET / HTTP/1.1\r\nhost: t\r\n");
    assert_eq!(client.answer().status, 408);
    assert!(client.is_closed());
    // A byte now and then does not help.
    let mut client = proxy.client();
    let start = Instant::now();
    for byte in "GET / HTTP/1.1\r\nhost: t\r\nx: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".chars() {
        if start.elapsed() > Duration::from_millis(600) {
            break;
        }
        client.send(&byte.to_string());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.answer().status, 408);
}

#[test]
fn a_body_that_does_not_come_gets_a_408() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--client-timeout", "300ms"]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf");
    assert_eq!(client.answer().status, 408);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_asks_for_nothing_is_let_go() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--idle-timeout", "200ms", "--header-timeout", "200ms"]);
    let mut silent = proxy.client();
    assert!(silent.is_closed());
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let backend = Fake::new(|conn: &mut Conn| {
        let _ = conn.request();
        conn.send(b"HTTP/1.1 200 OK\r\n\r\n");
        while conn.send(&[b'a'; 65_536]) {}
    });
    let proxy = Proxy::start(&[backend.address], &["--client-timeout", "300ms"]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    eventually("the backend is free again", || {
        let backends = proxy.ask("GET", "/backends").text();
        backends.contains("\"in_flight\":0") && !backends.contains("\"requests\":0")
    });
}

#[test]
fn a_backend_that_does_not_answer_gets_a_504() {
    let backend = Fake::new(|conn: &mut Conn| {
        let request = conn.request().map_or_else(String::new, |request| request.head);
        if request.contains("/half") {
            conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe");
        } else if request.contains("/long") {
            conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nhe");
        }
        conn.wait_for_end();
    });
    let proxy = Proxy::start(&[backend.address], &["--response-timeout", "300ms"]);
    assert_eq!(get(proxy.address, "/").status, 504);
    assert_eq!(get(proxy.address, "/half").status, 504);
    let mut client = proxy.client();
    client.send("GET /long HTTP/1.1\r\nhost: t\r\n\r\n");
    assert!(client.try_answer(false).is_none(), "its head was passed on, so it can only break off");
}

#[test]
fn clients_beyond_the_limit_wait() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--max-connections", "2", "--threads", "1"]);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = proxy.client();
    third.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut byte = [0];
    assert!(std::io::Read::read(&mut third.stream, &mut byte).is_err(), "it is not served");
    drop(first);
    third.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(third.answer().status, 200);
}

/// Each thread has a listener of its own, and a client cannot choose.
#[test]
fn fewer_clients_than_threads_are_served_by_any() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--max-connections", "1", "--threads", "4"]);
    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/").status, 200);
    }
}

#[test]
fn idle_connections_to_a_backend_are_few_and_do_not_grow_old() {
    let backend = Fake::named("a");
    let arguments = ["--threads", "1", "--max-idle", "1", "--pool-timeout", "300ms"];
    let proxy = Proxy::start(&[backend.address], &arguments);
    let idle =
        || {
            proxy.ask("GET", "/metrics").text().lines().find_map(|line| {
                line.strip_prefix("proxy_idle_connections ").map(|count| count.parse::<usize>().unwrap())
            })
        };
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert!(idle().unwrap() <= 1);
    eventually("the last one is closed", || idle() == Some(0));
}

#[test]
fn what_is_beyond_the_adaptive_limit_is_refused_at_once() {
    let is_free = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_free);
    let backend = Fake::new(move |conn: &mut Conn| {
        while conn.request().is_some() {
            while !flag.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            conn.send(&ok(b"a"));
        }
    });
    let proxy = Proxy::start(&[backend.address], &["--limit", "adaptive", "--limit-initial", "8", "--no-hedge"]);
    let mut waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut client = proxy.client();
            client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
            client
        })
        .collect();
    eventually("they are in flight", || proxy.ask("GET", "/backends").text().contains("\"in_flight\":8"));
    let mut client = proxy.client();
    let answer = client.get("/");
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert!(answer.field("proxy-status").unwrap().contains("error=connection_limit_reached"), "{}", answer.head);
    assert!(proxy.ask("GET", "/metrics").text().contains("\nproxy_shed_total 1\n"));
    is_free.store(true, Ordering::Relaxed);
    assert!(waiting.iter_mut().all(|client| client.answer().status == 200));
    assert_eq!(client.get("/").status, 200);
}

/// What a client owes is no work of the backends': slow uploads take no room, and are not refused when they go on.
#[test]
fn clients_that_are_slow_to_send_leave_room_for_others() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--limit", "adaptive", "--limit-initial", "4", "--threads", "1"]);
    let mut slow: Vec<_> = (1..=12)
        .map(|count| {
            let mut client = proxy.client();
            client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf, ");
            let in_flight = format!("\"in_flight\":{count},");
            eventually("it has begun", || proxy.ask("GET", "/backends").text().contains(&in_flight));
            client
        })
        .collect();
    assert_eq!(get(proxy.address, "/").status, 200);
    for client in &mut slow {
        client.send("half");
        assert_eq!(client.answer().text(), "half, half");
    }
}

#[test]
fn public_backends_are_refused_when_only_private_ones_may_be() {
    let backend = Fake::named("a");
    let proxy = Proxy::start(&[backend.address], &["--private-only"]);
    let added = proxy.ask("POST", "/backends/add?addr=192.0.2.1:80");
    assert_eq!((added.status, added.text().as_str()), (409, "192.0.2.1:80 is not a private address\n"));
    assert_eq!(get(proxy.address, "/").status, 200);
}

#[test]
fn the_help_names_every_policy() {
    let help = Proxy::help();
    for policy in Policy::all() {
        assert!(help.split([' ', ',', '\n']).any(|word| word == policy.to_string()), "{policy} in {help}");
    }
}

#[test]
fn no_backend_is_a_503() {
    let proxy = Proxy::start(&[], &[]);
    assert_eq!(get(proxy.address, "/").status, 503);
    assert_eq!(proxy.ask("GET", "/healthz").status, 503);
}

#[test]
fn wrong_options_are_named_and_nothing_starts() {
    // A proxy that listens says so; one that does not ends. Both are seen through the address it is to print.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for arguments in [
        &["--backend", "nowhere"][..],
        &["--policy", "luck"],
        &["--mode", "udp"],
        &["--threads", "0"],
        &["--drain-timeout", "5"],
        &["--surprise", "1"],
        &["--health-path", "health"],
        &["--health-path", "/a b"],
        &["--limit", "some"],
        &["--limit", "adaptive", "--limit-initial", "3"],
        &["--private-only", "--backend", "192.0.2.1:80"],
        &["--config", "no/such/file"],
        &["--listen", &taken],
    ] {
        let started = std::panic::catch_unwind(|| Proxy::start(&[], arguments));
        assert!(started.is_err(), "{arguments:?}");
    }
}
