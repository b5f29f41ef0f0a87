//! What it takes to have a connection and to give it back, where opening and using one is nothing: beside the pools deadpool
//! and bb8, which choose no node and do not verify.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Pool, RecycleResult};
use tenfold_replication::{ClusterId, ReadOptions, Session, ShardId};
use tokio::runtime::{Builder, Runtime};

use super::Trouble;
use super::row::CheckOutRow;
use crate::clock::{Stopwatch, uptime};
use crate::replication::{AtOnce, HERE, builder};
use crate::report::{median, rounded};

/// Calls of a turn.
const CALLS: u32 = 100_000;

/// Connections that are kept, of all pools.
const SIZE: usize = 16;

/// The clock of the cluster: remembers when it was asked last, which a read does before it chooses and after it is over.
#[derive(Clone, Debug, Default)]
struct Stamp(Arc<AtomicU64>);

impl Stamp {
    fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Nanoseconds of a call.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    out: f64,
    back: f64,
}

/// Times all of them in turns.
///
/// # Errors
///
/// That one of them cannot be built.
pub fn run(rounds: usize) -> Result<Vec<CheckOutRow>, Trouble> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let ours = Ours::new(&runtime)?;
    let deadpool: Pool<Nothing> = Pool::builder(Nothing).max_size(SIZE).build()?;
    let bb8 = runtime.block_on(bb8::Pool::builder().max_size(16).test_on_check_out(false).build(Nothing))?;
    let (mut of_ours, mut choices, mut of_deadpool, mut of_bb8) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let clock = cost_of_clock();
    for _ in 0..rounds {
        of_ours.push(runtime.block_on(ours.turn())?);
        choices.push(ours.choices()?);
        of_deadpool.push(runtime.block_on(repeat(|| async { deadpool.get().await.map(drop) }))?);
        of_bb8.push(runtime.block_on(repeat(|| async { bb8.get().await.map(drop) }))?);
    }
    let middle = |figures: &[f64]| rounded(median(figures).unwrap_or_default(), 0);
    // Both ends of a span ask for the time; half of each asking is in it.
    let of = |figure: fn(&Cost) -> f64| middle(&of_ours.iter().map(|cost| figure(cost) - clock).collect::<Vec<_>>());
    let (out, back) = (of(|cost| cost.out), of(|cost| cost.back));
    let peer = |pool, both: &[f64]| CheckOutRow {
        scenario: "check-out",
        pool,
        out_ns: None,
        back_ns: None,
        both_ns: middle(both),
        choice_ns: None,
    };
    let ours = CheckOutRow {
        scenario: "check-out",
        pool: "tenfold",
        out_ns: Some(out),
        back_ns: Some(back),
        both_ns: out + back,
        choice_ns: Some(middle(&choices)),
    };
    Ok(vec![ours, peer("deadpool", &of_deadpool), peer("bb8", &of_bb8)])
}

/// Two replicas, and a session that has written.
struct Ours {
    cluster: tenfold_replication::Cluster<AtOnce>,
    session: Session,
    stamp: Stamp,
}

impl Ours {
    fn new(runtime: &Runtime) -> Result<Self, Trouble> {
        let stamp = Stamp::default();
        let asked = stamp.clone();
        let clock = move || {
            let now = Stopwatch::start().started();
            asked.0.store(nanos(), Ordering::Relaxed);
            now
        };
        let cluster = builder(2).clock(clock).build()?;
        runtime.block_on(cluster.ready(Duration::from_secs(10)))?;
        let session = Session::new();
        session.wrote(ClusterId(1), ShardId(0), HERE)?;
        Ok(Self { cluster, session, stamp })
    }

    async fn turn(&self) -> Result<Cost, Trouble> {
        let (mut out, mut back) = (0, 0);
        let inside = AtomicU64::new(0);
        for _ in 0..CALLS {
            let read = self.cluster.read(&self.session, |mut connection| {
                let (began, inside) = (nanos(), &inside);
                let since = began - self.stamp.last();
                async move {
                    connection.run(false);
                    drop(connection);
                    inside.store(nanos(), Ordering::Relaxed);
                    Ok::<_, Infallible>(since)
                }
            });
            out += read.await?;
            back += self.stamp.last() - inside.load(Ordering::Relaxed);
        }
        let each = |sum: u64| sum as f64 / f64::from(CALLS);
        Ok(Cost { out: each(out), back: each(back) })
    }

    fn choices(&self) -> Result<f64, Trouble> {
        let options = ReadOptions::new();
        let stopwatch = Stopwatch::start();
        for _ in 0..CALLS {
            self.cluster.route(&self.session, &options)?;
        }
        // The clock here asks for the time twice.
        Ok(stopwatch.elapsed().as_nanos() as f64 / f64::from(CALLS) - cost_of_clock())
    }
}

async fn repeat<F, E>(call: impl Fn() -> F) -> Result<f64, Trouble>
where
    F: Future<Output = Result<(), E>>,
    Trouble: From<E>,
{
    let stopwatch = Stopwatch::start();
    for _ in 0..CALLS {
        call().await?;
    }
    Ok(stopwatch.elapsed().as_nanos() as f64 / f64::from(CALLS))
}

fn cost_of_clock() -> f64 {
    let stopwatch = Stopwatch::start();
    let sum: u64 = (0..CALLS).map(|_| nanos() & 1).sum();
    std::hint::black_box(sum);
    stopwatch.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn nanos() -> u64 {
    u64::try_from(uptime().as_nanos()).unwrap_or(u64::MAX)
}

/// Makes connections that are none.
#[derive(Debug)]
struct Nothing;

impl Manager for Nothing {
    type Type = [u64; 8];
    type Error = Infallible;

    async fn create(&self) -> Result<[u64; 8], Infallible> {
        Ok([0; 8])
    }

    async fn recycle(&self, _: &mut [u64; 8], _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

impl bb8::ManageConnection for Nothing {
    type Connection = [u64; 8];
    type Error = Infallible;

    async fn connect(&self) -> Result<[u64; 8], Infallible> {
        Ok([0; 8])
    }

    async fn is_valid(&self, _: &mut [u64; 8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut [u64; 8]) -> bool {
        false
    }
}
