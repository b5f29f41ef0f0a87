//! What examples do with the servers that they start.

use std::process::Command;
use std::sync::Mutex;

use tenfold_replication::driver::postgres::{PgConfig, PgDriver};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Node, NodeId};

use super::fixture::is_left_out;

#[path = "../../examples/failover/interrupt.rs"]
mod interrupt;
#[path = "../../examples/shards/servers.rs"]
mod servers;

type Failure = Box<dyn std::error::Error>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_example_ends_its_servers() {
    if is_left_out() {
        return;
    }
    let driver = PgDriver::new(PgConfig::default());
    for signal in ["-INT", "-TERM"] {
        let started = Mutex::new(None);
        let work = interrupt::or_interrupted(async {
            let (_server, address) = servers::Server::start().await?;
            let node = Node::new(NodeId(0), address);
            driver.connect(&node, Access::Read).await?;
            *started.lock().unwrap() = Some(node);
            // To this process, as from a terminal.
            assert!(Command::new("kill").args([signal, &std::process::id().to_string()]).status()?.success());
            std::future::pending().await
        });
        work.await.unwrap_err();
        let node = started.into_inner().unwrap().unwrap();
        assert!(driver.connect(&node, Access::Read).await.is_err(), "{node:?} is up after {signal}");
    }
}
