//! Sessions that write and read at once, on replicas that are behind, and whether any of them went back in time.
//!
//! Each session writes a register of its own, counting up, and reads its own and others'. Nobody else writes there, so that a
//! read of the own one must give the very number that was written last, and one of another's never less than before.

use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tenfold_replication::driver::Driver;
use tenfold_replication::driver::postgres::{PgDriver, PgError};
use tenfold_replication::{Checkout, Cluster, Error, Node, Session};
use tokio::runtime::Builder;

use super::files::Files;
use super::row::ReadsRow;
use super::servers::{Servers, connect};
use super::{RoutingError, Trouble};
use crate::clock::Stopwatch;
use crate::queue::latencies::Latencies;
use crate::report::rounded;
use crate::rng::Rng;

/// Registers, one a session.
pub const KEYS: u64 = 8;

/// Registers in a database with a primary and replicas.
pub trait Store: Sync + Send + 'static {
    /// How they are reached.
    type Driver: Driver;

    /// The name in rows.
    const ENGINE: &'static str;

    /// The driver.
    fn driver(&self) -> Self::Driver;
    /// The nodes, the primary first.
    fn nodes(&self) -> Vec<Node>;
    /// Lets replicas apply so much later than they could.
    fn delay_replay(&self, lag: Duration) -> impl Future<Output = Result<(), Trouble>> + Send;
    /// Writes a register.
    fn write(c: Checkout<Self::Driver>, key: u64, value: u64) -> impl Future<Output = Reply<(), Self>> + Send;
    /// Reads a register, if it is there.
    fn read(c: Checkout<Self::Driver>, key: u64) -> impl Future<Output = Reply<Option<u64>, Self>> + Send;
}

/// What a statement gives.
pub type Reply<T, S> = Result<T, <<S as Store>::Driver as Driver>::Error>;

/// Where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Servers.
    Postgres,
    /// Files.
    Sqlite,
}

/// A name that stands for no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no engine is called `{name}`; there are postgres and sqlite")]
pub struct UnknownEngine {
    name: String,
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        match name {
            "postgres" => Ok(Self::Postgres),
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(UnknownEngine { name: name.to_owned() }),
        }
    }
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Reads that are checked.
    pub reads: u64,
    /// After each write.
    pub reads_per_write: u64,
    /// Replicas apply so much later than they could.
    pub lag: Duration,
}

/// What a session saw.
#[derive(Default)]
struct Tally {
    reads: u64,
    own_writes_missed: u64,
    went_back: u64,
    plain_reads: u64,
    plain_stale: u64,
    latencies: Latencies,
}

/// Reads so many times.
///
/// # Errors
///
/// [`RoutingError::Violations`], or what servers and files complain of.
pub fn run(engine: Engine, load: Load) -> Result<ReadsRow, RoutingError> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Trouble::from)?;
    let row = match engine {
        Engine::Postgres => {
            let servers = Servers::start("reads")?;
            runtime.block_on(async { read_on(registers(servers).await?, load).await })?
        }
        Engine::Sqlite => runtime.block_on(async { read_on(Files::start().await?, load).await })?,
    };
    let count = row.own_writes_missed + row.went_back;
    if count == 0 { Ok(row) } else { Err(RoutingError::Violations { count }) }
}

async fn read_on<S: Store>(store: S, load: Load) -> Result<ReadsRow, Trouble> {
    let cluster = Cluster::builder(store.driver()).nodes(store.nodes()).build()?;
    let driving = tokio::spawn(cluster.clone().drive());
    cluster.ready(Duration::from_secs(10)).await?;
    await_registers::<S>(&cluster).await?;
    store.delay_replay(load.lag).await?;
    let left = Arc::new(AtomicI64::new(i64::try_from(load.reads)?));
    let before = cluster.stats();
    let stopwatch = Stopwatch::start();
    let session = |key| tokio::spawn(session::<S>(cluster.clone(), key, load.reads_per_write, Arc::clone(&left)));
    let sessions: Vec<_> = (0..KEYS).map(session).collect();
    let mut sum = Tally::default();
    for session in sessions {
        let tally = session.await??;
        sum.reads += tally.reads;
        sum.own_writes_missed += tally.own_writes_missed;
        sum.went_back += tally.went_back;
        sum.plain_reads += tally.plain_reads;
        sum.plain_stale += tally.plain_stale;
        sum.latencies.merge(&tally.latencies);
    }
    let seconds = stopwatch.elapsed().as_secs_f64();
    let after = cluster.stats();
    driving.abort();
    let by_primary = after.reads_by_primary - before.reads_by_primary;
    let quantile = |fraction| rounded(sum.latencies.quantile_us(fraction).unwrap_or_default(), 0);
    Ok(ReadsRow {
        scenario: "reads",
        engine: S::ENGINE,
        lag_ms: u64::try_from(load.lag.as_millis())?,
        reads: sum.reads,
        own_writes_missed: sum.own_writes_missed,
        went_back: sum.went_back,
        plain_reads: sum.plain_reads,
        plain_stale_share: rounded(sum.plain_stale as f64 / sum.plain_reads.max(1) as f64, 3),
        // As if the primary had answered none of the plain ones, which favours nobody.
        replica_share: rounded(1.0 - by_primary as f64 / sum.reads.max(1) as f64, 3),
        waits: after.waits - before.waits,
        waits_in_vain: after.waits_in_vain - before.waits_in_vain,
        stale_answers: after.stale_answers - before.stale_answers,
        per_second: rounded(sum.reads as f64 / seconds, 0),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
    })
}

async fn session<S: Store>(
    cluster: Cluster<S::Driver>,
    own: u64,
    reads_per_write: u64,
    left: Arc<AtomicI64>,
) -> Result<Tally, Trouble> {
    let mut tally = Tally::default();
    let mut rng = Rng::new(own);
    let session = Session::new();
    let mut seen = [0; KEYS as usize];
    let reads_per_write = i64::try_from(reads_per_write)?;
    while left.fetch_sub(reads_per_write, Ordering::Relaxed) > 0 {
        seen[own as usize] += 1;
        let written = seen[own as usize];
        cluster.write(&session, |c| S::write(c, own, written)).await?;
        // What would be read without a session; not before each first read, which would give replicas the time.
        if written % 16 == 0 {
            let plain = cluster.read(&Session::new(), |c| S::read(c, own)).await?;
            tally.plain_reads += 1;
            tally.plain_stale += u64::from(plain != Some(written));
        }
        for number in 0..reads_per_write {
            let key = if number == 0 { own } else { rng.below(KEYS) };
            let stopwatch = Stopwatch::start();
            let value = cluster.read(&session, |c| S::read(c, key)).await?.ok_or("a register is gone")?;
            tally.latencies.record(stopwatch.elapsed());
            tally.reads += 1;
            if key == own {
                tally.own_writes_missed += u64::from(value != written);
            } else {
                tally.went_back += u64::from(value < seen[key as usize]);
                seen[key as usize] = seen[key as usize].max(value);
            }
        }
    }
    Ok(tally)
}

/// Until replicas have them as well.
async fn await_registers<S: Store>(cluster: &Cluster<S::Driver>) -> Result<(), Trouble> {
    let stopwatch = Stopwatch::start();
    let mut found = 0;
    while found < 20 {
        match cluster.read(&Session::new(), |c| S::read(c, KEYS - 1)).await {
            Ok(Some(_)) => found += 1,
            Ok(None) | Err(Error::Statement(_)) if stopwatch.elapsed() < Duration::from_secs(10) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(None) => return Err("replicas do not get the registers".into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes them on the servers.
///
/// # Errors
///
/// What the primary complains of.
pub async fn registers(servers: Servers) -> Result<Servers, Trouble> {
    let primary = connect(servers.ports()[0]).await?;
    let sql = format!(
        "create table register(key bigint primary key, value bigint not null) with (fillfactor = 10);
        insert into register select n, 0 from generate_series(0, {}) n",
        KEYS - 1
    );
    primary.batch_execute(&sql).await?;
    Ok(servers)
}

impl Store for Servers {
    type Driver = PgDriver;

    const ENGINE: &'static str = "postgres";

    fn driver(&self) -> PgDriver {
        Self::driver(self)
    }

    fn nodes(&self) -> Vec<Node> {
        Self::nodes(self)
    }

    async fn delay_replay(&self, lag: Duration) -> Result<(), Trouble> {
        for port in &self.ports()[1..] {
            let replica = connect(*port).await?;
            let sql = format!("alter system set recovery_min_apply_delay = '{}ms'", lag.as_millis());
            replica.batch_execute(&sql).await?;
            replica.batch_execute("select pg_reload_conf()").await?;
        }
        Ok(())
    }

    async fn write(mut c: Checkout<PgDriver>, key: u64, value: u64) -> Result<(), PgError> {
        let sql = "update register set value = $2 where key = $1";
        c.execute(sql, &[&(key as i64), &(value as i64)]).await.map(drop)
    }

    async fn read(mut c: Checkout<PgDriver>, key: u64) -> Result<Option<u64>, PgError> {
        let rows = c.query("select value from register where key = $1", &[&(key as i64)]).await?;
        let value = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
        Ok(value.map(|value| value as u64))
    }
}
