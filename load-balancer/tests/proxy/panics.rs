//! What is told of a task that panics.

use std::cell::Cell;
use std::rc::Rc;

use crate::rig::{Fake, Proxy, eventually, get};
use crate::witness::witnessed;

/// One thread serves all, and there is room for two clients: were the room of those that are lost not given back, or the
/// thread lost with them, there would be nobody to serve the last.
#[cfg(debug_assertions)]
#[test]
fn a_panic_loses_its_client_alone_and_is_counted() {
    let backend = Fake::named("a");
    let arguments = ["--threads", "1", "--max-connections", "2"];
    let proxy = Proxy::start_with_variable(("TENFOLD_PROXY_PANIC", "/panic"), &[backend.address], &arguments);
    let panics = |count: u32| {
        let metrics = proxy.ask("GET", "/metrics").text();
        metrics.lines().any(|line| line == format!("proxy_panics_total {count}"))
    };
    assert!(panics(0));
    let mut other = proxy.client();
    assert_eq!(other.get("/").text(), "a");
    for count in 1..=3 {
        let mut client = proxy.client();
        client.send("GET /panic HTTP/1.1\r\nhost: test\r\n\r\n");
        assert!(client.is_closed(), "it is lost");
        eventually("it is counted", || panics(count));
        assert_eq!(other.get("/").text(), "a", "the other is not");
    }
    assert_eq!(get(proxy.address, "/").text(), "a");
    assert!(proxy.ask("GET", "/backends").text().contains("\"in_flight\":0"));
}

#[tokio::test(flavor = "local")]
async fn a_task_that_panics_is_told_of_and_no_other() {
    let count = Rc::new(Cell::new(0));
    let told = |count: &Rc<Cell<u32>>| {
        let count = Rc::clone(count);
        move || count.set(count.get() + 1)
    };
    tokio::task::spawn_local(witnessed(async {}, told(&count))).await.unwrap();
    let stopped = tokio::task::spawn_local(witnessed(std::future::pending(), told(&count)));
    tokio::task::yield_now().await;
    stopped.abort();
    assert!(stopped.await.unwrap_err().is_cancelled());
    assert_eq!(count.get(), 0);

    let task = async {
        tokio::task::yield_now().await;
        panic!("as it is meant to");
    };
    assert!(tokio::task::spawn_local(witnessed(task, told(&count))).await.unwrap_err().is_panic());
    assert_eq!(count.get(), 1);
}
