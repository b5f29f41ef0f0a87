//! Writers and readers with sessions while a node is lost, and whether what they saw may be.
//!
//! ```sh
//! cargo run --release -p tenfold-replication --features postgres --example failover -- \
//!     [--engine sqlite|postgres] [--mode asynchronous|semi|quorum] [--seconds N] [--kill primary|replica|partition] \
//!     [--json PATH] [--quick]
//! ```
//!
//! `sqlite` keeps three nodes in this process; `postgres` starts three servers with `scripts/pg-cluster` and kills them by
//! `kill -9`. `partition` cuts the replicas off first and takes the primary a little later: what it acknowledged alone is
//! lost where the mode allows that. Whoever was lost is started again, and must come back as a replica by itself. Ctrl-C
//! ends the servers as well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenfold_replication::driver::Driver;
use tenfold_replication::sim::SessionId;
use tenfold_replication::{Cluster, Config, DetectConfig, FailoverConfig, PoolConfig};

mod clock;
mod engine;
mod interrupt;
mod load;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;
mod verdict;

use engine::Engine;
use load::Run;
use options::{Fault, Options};
use verdict::Times;

const SESSIONS: u32 = 4;
/// How often each node is asked how it is.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);
/// How long the replicas are cut off, before the primary is lost.
const CUT_OFF: Duration = Duration::from_millis(300);
/// For what must happen, however busy the machine is.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    interrupt::or_interrupted(run(&options)).await
}

async fn run(options: &Options) -> Result<(), Failure> {
    match options.engine.as_str() {
        "sqlite" => fail_over::<sqlite::Files>(options).await,
        #[cfg(feature = "postgres")]
        "postgres" => fail_over::<postgres::Servers>(options).await,
        #[cfg(not(feature = "postgres"))]
        "postgres" => Err("this was built without PostgreSQL: `--features postgres` adds it".into()),
        other => Err(format!("there is no engine {other}").into()),
    }
}

async fn fail_over<E: Engine>(options: &Options) -> Result<(), Failure> {
    let mut engine = E::start(options.mode).await?;
    let pool = PoolConfig { timeout: LONG, ..PoolConfig::default() };
    let config = Config { observe_interval: HEALTH_INTERVAL, pool, ..Config::default() };
    let builder = Cluster::builder(engine.driver()).nodes(engine.nodes().to_vec()).mode(options.mode).config(config);
    let cluster = builder.build()?;
    tokio::spawn(cluster.clone().drive());
    cluster.ready(LONG).await?;
    tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));

    let run = Arc::new(Run::<E>::new(cluster.clone(), clock::now() + options.time));
    let clients: Vec<_> = (0..SESSIONS).map(|id| tokio::spawn(Arc::clone(&run).client(SessionId(id)))).collect();

    tokio::time::sleep(options.time / 3).await;
    let victim = usize::from(options.fault == Fault::Replica);
    if options.fault == Fault::Partition {
        engine.cut_off_replicas().await?;
        tokio::time::sleep(CUT_OFF).await;
    }
    let killed_at = clock::now();
    engine.kill(victim).await?;
    tokio::time::sleep(options.time / 3).await;
    let returned_at = clock::now();
    engine.restart(victim).await?;
    let rejoined = rejoined(&cluster, victim, returned_at).await?;

    let mut sessions = Vec::new();
    for client in clients {
        sessions.push(client.await?);
    }
    for (id, session) in &sessions {
        run.tell_losses(*id, session).await?;
    }
    run.verdict(options.mode, &Times { killed_at, rejoined }).await?.report(E::NAME, options)
}

/// Until it replicates whoever is the primary; how long that took.
async fn rejoined<D: Driver>(cluster: &Cluster<D>, node: usize, since: Instant) -> Result<Duration, Failure> {
    let replicates = || {
        let topology = cluster.topology();
        let primary = topology.primary().map(|member| member.node().id());
        primary.is_some() && topology.members()[node].upstream() == primary
    };
    while !replicates() {
        if since.elapsed() > LONG {
            return Err(format!("node {node} did not come back within {LONG:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(since.elapsed())
}
