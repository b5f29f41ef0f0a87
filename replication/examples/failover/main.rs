//! Writers and readers with sessions while a node is lost, and whether what they saw may be.
//!
//! ```sh
//! cargo run --release -p tenfold-replication --features sim,sqlite --example failover -- \
//!     [--engine sqlite] [--mode asynchronous|semi|quorum] [--seconds N] [--kill primary|replica|partition] [--json PATH]
//! ```
//!
//! `partition` cuts the replicas off first and takes the primary a little later: what it acknowledged alone is lost where
//! the mode allows that.

use std::sync::Arc;
use std::time::Duration;

use tenfold_replication::driver::sqlite::{SqliteDriver, SqliteError};
use tenfold_replication::sim::SessionId;
use tenfold_replication::{Cluster, DetectConfig, FailoverConfig, Mode, Node, NodeId, Session};
use tokio::task::JoinHandle;

mod clock;
mod load;

use load::Run;

const SESSIONS: u32 = 4;
/// How long the replicas are, before the primary is lost.
const CUT_OFF: Duration = Duration::from_millis(300);
const SCHEMA: &str = "create table entry(id integer primary key autoincrement, key integer not null, number integer)";

pub(crate) type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let option = |name: &str, default: &str| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments.nth(1).unwrap_or_else(|| default.into())
    };
    if option("--engine", "sqlite") != "sqlite" {
        return Err("of the engines, only sqlite is there".into());
    }
    let mode = match option("--mode", "asynchronous").as_str() {
        "asynchronous" => Mode::Asynchronous,
        "semi" => Mode::SemiSynchronous { timeout: Duration::from_millis(100) },
        "quorum" => Mode::quorum(1),
        other => return Err(format!("there is no mode {other}").into()),
    };
    let time = Duration::from_secs(option("--seconds", "6").parse()?);
    let kill = option("--kill", "primary");
    if !["primary", "replica", "partition"].contains(&kill.as_str()) {
        return Err(format!("there is no fault {kill}").into());
    }

    let dir = tempfile::tempdir()?;
    let nodes: Vec<_> =
        (0..3).map(|id| Node::new(NodeId(id), dir.path().join(format!("n{id}")).to_string_lossy())).collect();
    let driver = SqliteDriver::default();
    driver.create(&nodes, mode).await?;
    let mut serving: Vec<_> = nodes.iter().map(|node| serve(&driver, node)).collect();
    let cluster = Cluster::builder(driver.clone()).nodes(nodes.clone()).mode(mode).build()?;
    tokio::spawn(cluster.clone().drive());
    cluster.ready(Duration::from_secs(10)).await?;
    tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
    cluster.write(&Session::new(), |mut c| async move { c.migrate(SCHEMA).await }).await?;

    let run = Arc::new(Run::new(cluster, clock::now() + time));
    let clients: Vec<_> = (0..SESSIONS).map(|id| tokio::spawn(Arc::clone(&run).client(SessionId(id)))).collect();

    tokio::time::sleep(time / 3).await;
    let victim = usize::from(kill == "replica");
    if kill == "partition" {
        serving[1..].iter().for_each(JoinHandle::abort);
        tokio::time::sleep(CUT_OFF).await;
    }
    serving[victim].abort();
    driver.take_down(&nodes[victim]).await?;
    if kill == "partition" {
        let replicas = serving.iter_mut().zip(&nodes).skip(1);
        replicas.for_each(|(task, node)| *task = serve(&driver, node));
    }
    tokio::time::sleep(time / 3).await;
    driver.bring_up(&nodes[victim]);
    serving[victim] = serve(&driver, &nodes[victim]);

    let mut sessions = Vec::new();
    for client in clients {
        sessions.push(client.await?);
    }
    for (id, session) in &sessions {
        run.tell_losses(*id, session).await?;
    }
    run.report(mode, &kill, &option("--json", "")).await
}

/// Keeps a node up, also when another task does so yet.
fn serve(driver: &SqliteDriver, node: &Node) -> JoinHandle<()> {
    let (driver, node) = (driver.clone(), node.clone());
    tokio::spawn(async move {
        loop {
            let Err(error) = driver.serve(&node).await;
            if !matches!(error, SqliteError::Busy) {
                eprintln!("{node:?}: {error}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}
