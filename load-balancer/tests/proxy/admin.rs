//! Backends that come, go and change while requests are on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::rig::{Client, Conn, Fake, Proxy, eventually, get, ok};

const CLIENTS: usize = 4;

/// Clients that ask without a pause, each answer a 200, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn on(proxy: &Proxy) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..CLIENTS).map(|_| {
            let (stop, answers, address) = (Arc::clone(&stop), Arc::clone(&answers), proxy.address);
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get("/");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = clients.collect();
        Self { threads, stop, answers }
    }

    /// Waits until this many more requests were answered.
    pub(crate) fn go_on(&self, count: usize) {
        let until = self.answers.load(Ordering::Relaxed) + count;
        eventually("requests are answered", || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a request failed");
            self.answers.load(Ordering::Relaxed) >= until
        });
    }

    /// Stops, and fails if any request did.
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no request failed");
        }
    }
}

#[test]
fn backends_are_added_drained_and_removed_under_load() {
    let (a, b, c) = (Fake::named("a"), Fake::named("b"), Fake::named("c"));
    let proxy = Proxy::start(&[a.address, b.address], &[]);
    let load = Load::on(&proxy);
    for _ in 0..5 {
        assert_eq!(proxy.ask("POST", &format!("/backends/add?addr={}", c.address)).status, 200);
        let before = c.received().len();
        load.go_on(100);
        assert!(c.received().len() > before, "the new one takes its share");

        assert_eq!(proxy.ask("POST", &format!("/backends/drain?addr={}", a.address)).status, 200);
        eventually("it is drained", || {
            let backends = proxy.ask("GET", "/backends").text();
            let own = backends.split('{').find(|own| own.contains(&a.address.to_string()));
            own.is_some_and(|own| own.contains("\"draining\"") && own.contains("\"in_flight\":0"))
        });
        let before = a.received().len();
        load.go_on(100);
        assert!(a.received().len() <= before + CLIENTS, "only what was picked before it drained still comes");
        assert_eq!(proxy.ask("POST", &format!("/backends/remove?addr={}", a.address)).status, 200);
        assert!(!proxy.ask("GET", "/backends").text().contains(&a.address.to_string()));
        assert_eq!(proxy.ask("POST", &format!("/backends/add?addr={}&weight=2", a.address)).status, 200);
        assert_eq!(proxy.ask("POST", &format!("/backends/remove?addr={}", c.address)).status, 200);
        load.go_on(100);
    }
    load.finish();
}

#[test]
fn the_file_is_read_again_under_load() {
    let (a, b) = (Fake::named("a"), Fake::named("b"));
    let folder = std::env::temp_dir().join(format!("tenfold-proxy-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("backends");
    std::fs::write(&file, format!("# one\n{}\n", a.address)).unwrap();
    let proxy = Proxy::start(&[], &["--config", file.to_str().unwrap()]);
    let load = Load::on(&proxy);
    load.go_on(50);
    for _ in 0..5 {
        for (own, other) in [(&b, &a), (&a, &b)] {
            std::fs::write(&file, format!("{},2 # the other\n", own.address)).unwrap();
            proxy.signal("HUP");
            assert_eq!(proxy.says(), "proxy: 1 backends");
            let before = other.received().len();
            load.go_on(200);
            // Each client may have been on its way to the other one.
            assert!(other.received().len() <= before + CLIENTS);
        }
    }
    std::fs::write(&file, "nonsense\n").unwrap();
    proxy.signal("HUP");
    assert!(proxy.says().starts_with("proxy: nothing changed: "));
    load.go_on(50);
    load.finish();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_that_is_empty_or_cut_off_changes_nothing() {
    let (a, b) = (Fake::named("a"), Fake::named("b"));
    let folder = std::env::temp_dir().join(format!("tenfold-proxy-cut-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("backends");
    let whole = format!("{}\n{}\n", a.address, b.address);
    std::fs::write(&file, &whole).unwrap();
    let proxy = Proxy::start(&[], &["--config", file.to_str().unwrap()]);
    let before = proxy.ask("GET", "/backends").text();
    for text in ["", "# nothing but words\n", &whole[..whole.len() - 2], &whole[..whole.len() - 1]] {
        std::fs::write(&file, text).unwrap();
        proxy.signal("HUP");
        let said = proxy.says();
        assert!(said.starts_with("proxy: nothing changed: "), "{said} after {text:?}");
        assert_eq!(proxy.ask("GET", "/backends").text(), before);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_an_operator_drained_stays_drained_when_the_file_is_read_again() {
    let (a, b) = (Fake::named("a"), Fake::named("b"));
    let folder = std::env::temp_dir().join(format!("tenfold-proxy-drained-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("backends");
    std::fs::write(&file, format!("{}\n{}\n", a.address, b.address)).unwrap();
    let proxy = Proxy::start(&[], &["--config", file.to_str().unwrap(), "--threads", "1"]);
    assert_eq!(proxy.ask("POST", &format!("/backends/drain?addr={}", a.address)).status, 200);
    proxy.signal("HUP");
    assert_eq!(proxy.says(), "proxy: 2 backends");
    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/").text(), "b");
    }
    assert_eq!(proxy.ask("POST", &format!("/backends/add?addr={}", a.address)).status, 200);
    proxy.signal("HUP");
    assert_eq!(proxy.says(), "proxy: 2 backends");
    eventually("it gets requests again", || get(proxy.address, "/").text() == "a");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_pool_is_listed_with_states_and_counts() {
    let a = Fake::new(|conn: &mut Conn| {
        while let Some(request) = conn.request() {
            if request.head.contains("/wait") {
                conn.wait_for_end();
                return;
            }
            conn.send(&ok(b"a"));
        }
    });
    let proxy = Proxy::start(&[a.address], &[]);
    for _ in 0..3 {
        assert_eq!(get(proxy.address, "/").status, 200);
    }
    let mut waiting = proxy.client();
    waiting.send("GET /wait HTTP/1.1\r\nhost: t\r\n\r\n");
    let address = a.address;
    let own = format!(
        "[{{\"address\":\"{address}\",\"weight\":1,\"state\":\"healthy\",\"in_flight\":1,\"requests\":4,\"failures\":0}}]\n"
    );
    eventually("the request is in flight", || proxy.ask("GET", "/backends").text() == own);
    drop(waiting);
}

#[test]
fn wrong_requests_to_the_admin_address_get_their_status() {
    let a = Fake::named("a");
    let proxy = Proxy::start(&[a.address], &[]);
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/backends/add?addr=127.0.0.1:1", 405),
        ("POST", "/backends", 405),
        ("POST", "/backends/add", 400),
        ("POST", "/backends/add?addr=example.test:80", 400),
        ("POST", "/backends/add?addr=127.0.0.1:1&weight=-1", 400),
        ("POST", "/backends/remove?addr=127.0.0.1:1", 404),
        ("POST", "/backends/drain?addr=127.0.0.1%3A1", 404),
        ("POST", "/backends/explode?addr=127.0.0.1:1", 404),
        ("GET", "/healthz", 200),
    ] {
        assert_eq!(proxy.ask(method, path).status, status, "{method} {path}");
    }
    assert_eq!(get(proxy.address, "/").text(), "a");
}

#[test]
fn metrics_count_what_was_answered() {
    let a = Fake::named("a");
    let proxy = Proxy::start(&[a.address], &[]);
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
    }
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let metrics = proxy.ask("GET", "/metrics").text();
    for line in [
        "proxy_answers_total{class=\"2xx\"} 5",
        "proxy_answers_total{class=\"4xx\"} 1",
        "proxy_clients_total 1",
        "proxy_answer_seconds_bucket{le=\"+Inf\"} 6",
        "proxy_answer_seconds_count 6",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line} in {metrics}");
    }
}
