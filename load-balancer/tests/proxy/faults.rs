//! Backends that die, hang or close at the worst moment, and clients that must not notice.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::admin::Load;
use crate::rig::{BackendProcess, Client, Conn, Fake, Proxy, eventually, get, ok};

#[test]
fn a_killed_backend_costs_no_request() {
    let mut backends: Vec<_> = ["a", "b", "c"].map(BackendProcess::start).into();
    let proxy = Proxy::start(&backends.iter().map(|backend| backend.address).collect::<Vec<_>>(), &[]);
    let load = Load::on(&proxy);
    load.go_on(200);
    let victim = backends.remove(0);
    victim.signal("KILL");
    load.go_on(500);
    load.finish();
}

#[test]
fn a_backend_that_hangs_costs_no_request() {
    let backends: Vec<_> = ["a", "b", "c"].map(BackendProcess::start).into();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let proxy = Proxy::start(&addresses, &["--try-timeout", "200ms"]);
    let load = Load::on(&proxy);
    load.go_on(200);
    backends[0].signal("STOP");
    load.go_on(500);
    backends[0].signal("CONT");
    load.go_on(500);
    load.finish();
}

/// Hedges hide the hang from the clients, and nothing ends at the backend: that requests wait is all there is to see.
#[test]
fn a_backend_that_hangs_is_ejected_before_anything_times_out() {
    let backends: Vec<_> = ["a", "b", "c"].map(BackendProcess::start).into();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let proxy = Proxy::start(&addresses, &["--threads", "1", "--try-timeout", "30s"]);
    let load = Load::on(&proxy);
    load.go_on(400);
    backends[0].signal("STOP");
    eventually("it is ejected", || {
        let states = proxy.ask("GET", "/backends").text();
        let own = states.split('{').find(|own| own.contains(&addresses[0].to_string()));
        own.is_some_and(|own| own.contains("\"ejected\""))
    });
    load.go_on(200);
    backends[0].signal("CONT");
    load.finish();
}

#[test]
fn a_backend_whose_probes_fail_gets_nothing_and_comes_back() {
    let is_well = Arc::new(AtomicBool::new(true));
    let (a, flag) = (Fake::named("a"), Arc::clone(&is_well));
    let b = Fake::new(move |conn: &mut Conn| {
        while let Some(request) = conn.request() {
            let is_probe = request.head.starts_with("get /health ");
            conn.send(match flag.load(Ordering::Relaxed) || !is_probe {
                true => b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb",
                false => b"HTTP/1.1 503 No\r\ncontent-length: 1\r\n\r\nb",
            });
        }
    });
    let arguments = ["--health-path", "/health", "--probe-interval", "50ms", "--threads", "1"];
    let proxy = Proxy::start(&[a.address, b.address], &arguments);
    let state = |state: &str| {
        let backends = proxy.ask("GET", "/backends").text();
        backends.split('{').any(|own| own.contains(&b.address.to_string()) && own.contains(state))
    };
    is_well.store(false, Ordering::Relaxed);
    eventually("it is down", || state("\"down\""));
    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/").text(), "a");
    }
    is_well.store(true, Ordering::Relaxed);
    eventually("it is up", || !state("\"down\""));
    eventually("it gets requests", || get(proxy.address, "/").text() == "b");
}

/// It accepts and says nothing, which is enough for those who only ask for a connection.
#[test]
fn probes_that_connect_find_who_does_not_listen() {
    let mut mute = BackendProcess::start("a");
    let proxy = Proxy::start(&[mute.address], &["--mode", "tcp", "--health-connect", "--probe-interval", "20ms"]);
    let has = |state: &str| proxy.ask("GET", "/backends").text().contains(state);
    std::thread::sleep(Duration::from_millis(200));
    assert!(has("\"healthy\""));
    mute.kill();
    eventually("it is down", || has("\"down\""));
}

#[test]
fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let a = Fake::named("a");
    let proxy = Proxy::start(&[nobody, a.address], &["--threads", "1"]);
    let mut client = proxy.client();
    for index in 0..6 {
        client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(client.answer().text(), "hello", "{index}");
    }
    assert_eq!(a.received().len(), 6);
}

/// Each connection serves one request and then closes without a word, just as the next request comes.
#[test]
fn a_connection_that_went_stale_costs_no_request() {
    let backend = Fake::new(|conn: &mut Conn| {
        let Some(_) = conn.request() else { return };
        conn.send(&ok(b"a"));
        // The second request is read and dropped: nothing is worse for a client without retries.
        let _ = conn.head();
    });
    let proxy = Proxy::start(&[backend.address], &["--threads", "1"]);
    let mut client = proxy.client();
    for index in 0..20 {
        assert_eq!(client.get("/").text(), "a", "{index}");
    }
}

#[test]
fn a_post_that_may_have_been_done_is_not_sent_twice() {
    let script = |conn: &mut Conn| {
        let _ = conn.request();
    };
    let (a, b) = (Fake::new(script), Fake::new(script));
    let proxy = Proxy::start(&[a.address, b.address], &["--threads", "1"]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.answer().status, 502);
    assert_eq!(a.received().len() + b.received().len(), 1);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.answer().status, 502);
    assert_eq!(a.received().len() + b.received().len(), 2);
}

/// A backend that was out is tried with requests that can be repeated elsewhere, for a second, before it gets any other.
#[test]
fn a_post_is_no_trial_of_a_backend_that_was_out() {
    let bad = Fake::new(|conn: &mut Conn| {
        while conn.request().is_some() {
            conn.send(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = Fake::named("good");
    let proxy = Proxy::start(&[bad.address, good.address], &["--threads", "1"]);
    let mut client = proxy.client();
    let mut since = Instant::now();
    eventually("it is ejected", || {
        since = Instant::now();
        assert_eq!(client.get("/").status, 200);
        proxy.ask("GET", "/backends").text().contains("\"ejected\"")
    });
    let before = bad.received().len();
    // It is to be tried half a second later.
    while since.elapsed() < Duration::from_secs(1) {
        client.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.answer().status, 200);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bad.received().len(), before);
    eventually("it is tried", || client.get("/").status == 200 && bad.received().len() > before);
}

/// Nobody is told how a trial would have ended that lost to its hedge. It had all the time of an answer and did not pass: the
/// backend is tried again half a second later, and not with the next request, which would lose as much time.
#[test]
fn a_trial_that_loses_to_its_hedge_is_not_passed() {
    let hangs = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&hangs);
    let bad = Fake::new(move |conn: &mut Conn| {
        while conn.request().is_some() {
            if flag.load(Ordering::Relaxed) {
                return conn.wait_for_end();
            }
            conn.send(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = Fake::named("good");
    let proxy = Proxy::start(&[bad.address, good.address], &["--threads", "1"]);
    let is_ejected = || proxy.ask("GET", "/backends").text().contains("\"ejected\"");
    eventually("it is ejected", || get(proxy.address, "/").status == 200 && is_ejected());
    hangs.store(true, Ordering::Relaxed);
    let before = bad.received().len();
    let mut client = proxy.client();
    // Not often: too little is to be known of the pool for that request to be found late, which would decide the trial.
    eventually("it is tried", || {
        client = proxy.client();
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        std::thread::sleep(Duration::from_millis(200));
        bad.received().len() > before
    });
    assert_eq!(client.answer().text(), "good", "its hedge");
    let since = Instant::now();
    // A second trial now would hang for half a second, too.
    while since.elapsed() < Duration::from_millis(100) {
        assert_eq!(get(proxy.address, "/").text(), "good");
        assert_eq!(bad.received().len(), before + 1, "it is out");
    }
    eventually("it is tried again", || get(proxy.address, "/").status == 200 && bad.received().len() > before + 1);
}

#[test]
fn half_a_short_answer_is_asked_for_again() {
    let bad = Fake::new(|conn: &mut Conn| {
        let _ = conn.request();
        conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    });
    let good = Fake::named("whole");
    let proxy = Proxy::start(&[bad.address, good.address], &["--threads", "1"]);
    for _ in 0..4 {
        assert_eq!(get(proxy.address, "/").text(), "whole");
    }
}

#[test]
fn a_client_that_leaves_frees_the_backend() {
    let backend = Fake::new(|conn: &mut Conn| {
        let _ = conn.request();
        conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while conn.send(b"1\r\na\r\n") {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let proxy = Proxy::start(&[backend.address], &[]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    assert!(client.line().is_some());
    drop(client);
    eventually("nothing is in flight", || proxy.ask("GET", "/backends").text().contains("\"in_flight\":0"));
}

/// The backend says nothing, so that nothing but the reset tells the proxy; its own time limit comes after the test's.
#[test]
fn a_client_that_resets_its_connection_frees_a_backend_that_hangs() {
    let backend = Fake::new(|conn: &mut Conn| while conn.request().is_some() {});
    let proxy = Proxy::start(&[backend.address], &["--threads", "1"]);
    let is_idle = || proxy.ask("GET", "/backends").text().contains("\"in_flight\":0");
    for (index, request) in
        ["GET / HTTP/1.1\r\nhost: t\r\n\r\n", "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nok"]
            .into_iter()
            .enumerate()
    {
        let mut client = proxy.client();
        client.send(request);
        eventually("it has the request", || backend.received().len() > index);
        assert!(!is_idle());
        client.reset();
        eventually("nothing is in flight", is_idle);
    }
}

/// One that has only closed its own half waits for the answer.
#[test]
fn a_client_that_has_nothing_more_to_say_gets_its_answer() {
    let backend = Fake::new(|conn: &mut Conn| {
        while conn.request().is_some() {
            std::thread::sleep(Duration::from_millis(50));
            conn.send(&ok(b"a"));
        }
    });
    let proxy = Proxy::start(&[backend.address], &["--threads", "1"]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    client.finish();
    assert_eq!(client.answer().text(), "a");
}

/// Descriptors run out on the proxy's side: the backend has nothing to do with it.
#[test]
fn a_want_of_descriptors_is_no_fault_of_the_backends() {
    let (a, b) = (Fake::named("a"), Fake::named("b"));
    let arguments = ["--threads", "1", "--health-connect", "--probe-interval", "20ms"];
    let proxy = Proxy::start_with_files(48, &[a.address, b.address], &arguments);
    let mut operator = Client::connect(proxy.admin);
    operator.send("GET /backends HTTP/1.1\r\nhost: admin\r\n\r\n");
    operator.answer();
    // More than there is room for: those that were accepted hold all descriptors.
    let mut clients: Vec<_> = (0..64).map(|_| proxy.client()).collect();
    std::thread::sleep(Duration::from_millis(100));
    for client in &mut clients[..8] {
        client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
        assert_eq!(client.answer().status, 503);
    }
    operator.send("GET /backends HTTP/1.1\r\nhost: admin\r\n\r\n");
    let backends = operator.answer().text();
    assert_eq!(backends.matches("\"state\":\"healthy\"").count(), 2, "{backends}");
    assert_eq!(backends.matches("\"failures\":0").count(), 2, "{backends}");
    clients.truncate(8);
    eventually("there is room again", || clients[0].get("/").status == 200);
}
