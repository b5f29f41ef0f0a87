use serde_json::json;

use super::server::Server;
use super::*;
use crate::discover::testing::{backend, backends};

fn config() -> KubeConfig {
    KubeConfig { retry: Duration::ZERO, timeout: Duration::from_secs(20), ..KubeConfig::default() }
}

fn source(server: &Server) -> KubeSource {
    KubeSource::new(server.address, "shop", "web").unwrap().config(config())
}

async fn next(source: &mut KubeSource) -> Result<Change, DiscoverError> {
    source.next_change().await.expect("it does not end")
}

async fn expect(source: &mut KubeSource, change: Change) {
    assert_eq!(next(source).await.unwrap(), change);
}

/// A server with one backend, and a source that watches it.
async fn watched() -> (Server, KubeSource) {
    let server = Server::start().await;
    server.put("web-a", 80, &[("10.0.0.1", "rs", "")]);
    let mut source = source(&server);
    expect(&mut source, Change::Replace(backends(&[1]))).await;
    (server, source)
}

fn watches(server: &Server) -> usize {
    server.requests().iter().filter(|head| head.contains("watch=true")).count()
}

fn lists(server: &Server) -> usize {
    server.requests().len() - watches(server)
}

#[test]
fn names_are_checked() {
    let api = ([127, 0, 0, 1], 1).into();
    for bad in ["", "a/b", "A", "a&b", "-a", "a-", "a b", "a.b", &"a".repeat(64)] {
        assert_eq!(KubeSource::new(api, bad, "web").map(drop), Err(KubeNameError), "{bad:?}");
        assert_eq!(KubeSource::new(api, "shop", bad).map(drop), Err(KubeNameError), "{bad:?}");
    }
}

#[tokio::test]
async fn lists_once_and_watches_from_there() {
    let (server, mut source) = watched().await;
    server.put("web-a", 80, &[("10.0.0.1", "rs", ""), ("10.0.0.2", "rs", "")]);
    expect(&mut source, Change::Insert(backend(2))).await;
    server.put("web-a", 80, &[("10.0.0.1", "st", ""), ("10.0.0.2", "rs", "")]);
    expect(&mut source, Change::Insert(backend(1).with_draining())).await;
    server.put("web-a", 80, &[("10.0.0.2", "rs", "")]);
    expect(&mut source, Change::Remove(backend(1).id())).await;
    server.put("web-b", 80, &[("10.0.0.3", "rs", "")]);
    expect(&mut source, Change::Insert(backend(3))).await;
    server.delete("web-a");
    expect(&mut source, Change::Remove(backend(2).id())).await;
    server.delete("web-b");
    expect(&mut source, Change::Replace(vec![])).await;
    assert_eq!((lists(&server), watches(&server)), (1, 1));
    assert_eq!(source.version.as_deref(), Some("107"), "that of the last event");
    let head = &server.requests()[0];
    let path =
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dweb";
    assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
}

#[tokio::test]
async fn a_watch_that_ends_or_breaks_goes_on_from_the_last_version() {
    for breaks in [false, true] {
        let (server, mut source) = watched().await;
        server.put("web-a", 80, &[("10.0.0.1", "rs", ""), ("10.0.0.2", "rs", "")]);
        expect(&mut source, Change::Insert(backend(2))).await;
        server.disconnect(breaks);
        server.put("web-a", 80, &[("10.0.0.2", "rs", "")]);
        expect(&mut source, Change::Remove(backend(1).id())).await;
        server.bookmark();
        server.disconnect(breaks);
        server.put("web-a", 80, &[("10.0.0.2", "rs", ""), ("10.0.0.3", "rs", "")]);
        expect(&mut source, Change::Insert(backend(3))).await;
        assert_eq!(lists(&server), 1, "the version was not lost");
    }
}

#[tokio::test]
async fn a_bookmark_moves_the_version_on() {
    let (server, mut source) = watched().await;
    server.bookmark();
    server.put("web-b", 80, &[("10.0.0.2", "rs", "")]);
    expect(&mut source, Change::Insert(backend(2))).await;
    server.bookmark();
    // Until it has seen the second one.
    while source.version.as_deref() != Some("104") {
        source.step().await.unwrap();
    }
    server.compact(false);
    server.disconnect(false);
    server.put("web-b", 80, &[("10.0.0.3", "rs", "")]);
    expect(&mut source, Change::Insert(backend(3))).await;
    expect(&mut source, Change::Remove(backend(2).id())).await;
    assert_eq!(lists(&server), 1);
}

#[tokio::test]
async fn a_version_that_is_gone_is_listed_anew_and_only_the_difference_reported() {
    for within in [false, true] {
        let (server, mut source) = watched().await;
        server.put("web-b", 80, &[("10.0.0.2", "rs", "")]);
        expect(&mut source, Change::Insert(backend(2))).await;
        server.disconnect(true);
        server.put("web-a", 80, &[("10.0.0.3", "rs", "")]);
        server.compact(within);
        let first = next(&mut source).await.unwrap();
        assert_eq!(first, Change::Insert(backend(3)));
        expect(&mut source, Change::Remove(backend(1).id())).await;
        server.put("web-c", 80, &[("10.0.0.4", "rs", "")]);
        expect(&mut source, Change::Insert(backend(4))).await;
    }
}

#[tokio::test]
async fn errors_are_of_their_kind_and_the_next_list_ends_them() {
    let (server, mut source) = watched().await;
    for status in [404, 401, 500, 503] {
        server.answer(status);
        server.disconnect(true);
        let error = next(&mut source).await.unwrap_err();
        assert_eq!((error.is_not_found(), error.is_unavailable()), (status == 404, status != 404), "{status}");
    }
    server.answer(200);
    expect(&mut source, Change::Replace(backends(&[1]))).await;
    server.send(json!({"type": "ERROR", "object": {"code": 500}}));
    assert!(next(&mut source).await.unwrap_err().is_unavailable());
    expect(&mut source, Change::Replace(backends(&[1]))).await;
    for garbage in [json!("x"), json!({"type": "ADDED"}), json!({"type": "ADDED", "object": {"endpoints": 7}})] {
        server.send(garbage);
        assert!(next(&mut source).await.unwrap_err().is_invalid());
        expect(&mut source, Change::Replace(backends(&[1]))).await;
    }
    server.send(json!({"type": "LATER", "object": {}}));
    server.put("web-b", 80, &[("10.0.0.2", "rs", "")]);
    expect(&mut source, Change::Insert(backend(2))).await;
}

#[tokio::test]
async fn a_server_that_is_silent_or_says_too_much_is_an_error() {
    let server = Server::start().await;
    server.answer(0);
    let mut source = source(&server).config(KubeConfig { timeout: Duration::from_millis(50), ..config() });
    assert!(next(&mut source).await.unwrap_err().is_timeout());
    server.answer(200);
    let mut source = source.config(KubeConfig { max_bytes: 400, ..config() });
    expect(&mut source, Change::Replace(vec![])).await;
    server.send(json!({"type": "ADDED", "object": {"x": "x".repeat(500)}}));
    assert!(next(&mut source).await.unwrap_err().is_invalid());
    server.put_raw("web-a", json!({"x": "x".repeat(500)}));
    assert!(next(&mut source).await.unwrap_err().is_unavailable(), "the list is too long");
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut source = KubeSource::new(unused, "shop", "web").unwrap().config(config());
    assert!(next(&mut source).await.unwrap_err().is_unavailable());
}

#[tokio::test]
async fn the_token_is_read_for_each_connection() {
    let server = Server::start().await;
    let file = std::env::temp_dir().join(format!("tenfold-token-{}", std::process::id()));
    let mut source = source(&server).config(KubeConfig { token_file: Some(file.clone()), ..config() });
    assert!(next(&mut source).await.unwrap_err().is_unavailable(), "there is no token");
    for token in ["first", "second"] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        source.version = None;
        source.slices.forget_shown();
        expect(&mut source, Change::Replace(vec![])).await;
        let head = server.requests().pop().unwrap().to_ascii_lowercase();
        assert!(head.contains(&format!("authorization: bearer {token}\r\n")), "{head}");
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn the_host_may_connect_in_its_own_way() {
    let server = Server::start().await;
    server.put("web-a", 80, &[("10.0.0.1", "rs", "")]);
    let address = server.address;
    let elsewhere = KubeSource::new(([127, 0, 0, 1], 1).into(), "shop", "web").unwrap();
    let mut source = elsewhere.connect_with(move || async move {
        let stream = TcpStream::connect(address).await?;
        Ok(tokio::io::BufStream::new(stream))
    });
    expect(&mut source, Change::Replace(backends(&[1]))).await;
}

/// Cancelled again and again while it watches, it still reports each change once. (A call that is cancelled while it
/// connects begins anew.)
#[tokio::test]
async fn cancelled_calls_lose_nothing() {
    let (server, mut source) = watched().await;
    source.step().await.unwrap();
    assert!(source.watch.is_some());
    for host in 2..40 {
        server.put(&format!("web-{host}"), 80, &[(&format!("10.0.0.{host}"), "rs", "")]);
        let change = loop {
            tokio::select! {
                biased;
                change = source.next_change() => break change,
                () = tokio::task::yield_now() => {}
            }
        };
        assert_eq!(change.unwrap().unwrap(), Change::Insert(backend(host)));
    }
    assert_eq!(lists(&server), 1);
}
