//! How long a change of a replica goes unknown: the age of what a reader is routed by.

use std::time::Duration;

use tenfold_replication::{Cluster, Lsn};
use tokio::runtime::Builder;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Trouble;
use super::poolers::Pooler;
use super::row::AgeRow;
use super::servers::{Servers, connect};
use crate::clock::Stopwatch;
use crate::report::{median, rounded};
use crate::rng::Rng;

/// Longer than anybody takes.
const LIMIT: Duration = Duration::from_secs(30);

/// How often pgpool looks, by default.
const POOLER_INTERVAL_US: u64 = 10_000_000;

/// Looks at so many changes by the cluster, with its default interval, and at some of them by pgpool, with its own.
///
/// # Errors
///
/// What servers, poolers and clients complain of.
pub fn run(samples: usize, pooler_samples: usize) -> Result<Vec<AgeRow>, Trouble> {
    let servers = Servers::start("age")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut rows = vec![row("tenfold", &of_cluster(&servers, samples).await?)];
        if let Some(pgpool) = Pooler::pgpool(&servers)? {
            rows.push(row("pgpool", &of_pgpool(&servers, pgpool.port, pooler_samples).await?));
        }
        Ok(rows)
    })
}

fn row(client: &'static str, ages_ms: &[f64]) -> AgeRow {
    AgeRow {
        scenario: "age",
        client,
        samples: ages_ms.len(),
        p50_ms: rounded(median(ages_ms).unwrap_or_default(), 1),
        max_ms: rounded(ages_ms.iter().copied().fold(0.0, f64::max), 1),
    }
}

async fn of_cluster(servers: &Servers, samples: usize) -> Result<Vec<f64>, Trouble> {
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).build()?;
    let driving = tokio::spawn(cluster.clone().drive());
    cluster.ready(Duration::from_secs(5)).await?;
    let (primary, replica) = (connect(servers.ports()[0]).await?, connect(servers.ports()[1]).await?);
    let mut rng = Rng::new(1);
    let mut ages = Vec::new();
    for _ in 0..samples {
        // At any point of an interval.
        tokio::time::sleep(Duration::from_micros(rng.below(50_000))).await;
        let written = write(&primary).await?;
        until(Duration::from_micros(100), async || Ok(place(&replica, "pg_last_wal_replay_lsn()").await? >= written))
            .await?;
        let stopwatch = Stopwatch::start();
        until(Duration::from_micros(200), async || Ok(cluster.topology().members()[1].replayed() >= written)).await?;
        ages.push(stopwatch.elapsed().as_secs_f64() * 1e3);
    }
    driving.abort();
    Ok(ages)
}

/// A replica that stands still, until that is shown as a delay.
async fn of_pgpool(servers: &Servers, port: u16, samples: usize) -> Result<Vec<f64>, Trouble> {
    let (primary, replica) = (connect(servers.ports()[0]).await?, connect(servers.ports()[1]).await?);
    let pgpool = connect(port).await?;
    let mut rng = Rng::new(1);
    let mut ages = Vec::new();
    for _ in 0..samples {
        until(Duration::from_millis(20), async || Ok(delay(&pgpool).await? == 0)).await?;
        // At any point of an interval, which it has just begun.
        tokio::time::sleep(Duration::from_micros(rng.below(POOLER_INTERVAL_US))).await;
        replica.simple_query("select pg_wal_replay_pause()").await?;
        write(&primary).await?;
        let stopwatch = Stopwatch::start();
        until(Duration::from_millis(20), async || Ok(delay(&pgpool).await? > 0)).await?;
        ages.push(stopwatch.elapsed().as_secs_f64() * 1e3);
        replica.simple_query("select pg_wal_replay_resume()").await?;
    }
    Ok(ages)
}

/// What the pooler shows of the first replica.
async fn delay(pgpool: &Client) -> Result<u64, Trouble> {
    let answer = pgpool.simple_query("show pool_nodes").await?;
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let mut of_replica = rows.filter(|row| row.get("node_id") == Some("1"));
    let text = of_replica.next().and_then(|row| row.get("replication_delay")).ok_or("pgpool shows no delay")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

async fn write(primary: &Client) -> Result<Lsn, Trouble> {
    primary.batch_execute("select pg_logical_emit_message(true, 'age', repeat('x', 100))").await?;
    place(primary, "pg_current_wal_flush_lsn()").await
}

async fn place(client: &Client, function: &str) -> Result<Lsn, Trouble> {
    let lsn: PgLsn =
        client.query_typed(&format!("select {function}"), &[]).await?.first().ok_or("no row")?.try_get(0)?;
    Ok(Lsn(lsn.into()))
}

async fn until(pause: Duration, holds: impl AsyncFn() -> Result<bool, Trouble>) -> Result<(), Trouble> {
    let stopwatch = Stopwatch::start();
    while !holds().await? {
        if stopwatch.elapsed() > LIMIT {
            return Err("a change did not show".into());
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}
