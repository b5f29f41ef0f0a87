//! What a cluster adds to a statement: choosing a node, a whole read or write on a database that answers at once, and the token
//! of a session.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tenfold_benches::clock::Stopwatch;
use tenfold_benches::replication::{AtOnce, Connection, HERE, cluster};
use tenfold_replication::{Cluster, ClusterId, ReadOptions, Session, ShardId, Tokens};
use tokio::runtime::{Builder, Runtime};

/// Replicas beside the primary.
const REPLICAS: [u16; 2] = [2, 8];

/// A session that has written.
fn session() -> Session {
    let session = Session::new();
    session.wrote(ClusterId(1), ShardId(0), HERE).expect("it is new");
    session
}

/// A cluster that knows its nodes, and its runtime.
fn ready(replicas: u16) -> (Runtime, Cluster<AtOnce>) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("there are resources");
    let cluster = cluster(replicas);
    runtime.block_on(cluster.ready(Duration::from_secs(10))).expect("all nodes answer at once");
    (runtime, cluster)
}

fn statement(connection: &mut Connection, wrote: bool) -> Result<(), Infallible> {
    connection.run(wrote);
    Ok(())
}

/// Within one entry of the runtime, which costs as much as a read.
async fn repeat<F: Future<Output = Result<(), E>>, E: Debug>(count: u64, call: impl Fn() -> F) -> Duration {
    let stopwatch = Stopwatch::start();
    for _ in 0..count {
        call().await.expect("it is answered at once");
    }
    stopwatch.elapsed()
}

fn replication(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replication");
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    for replicas in REPLICAS {
        let (runtime, cluster) = ready(replicas);
        let (session, options) = (session(), ReadOptions::new());
        group.bench_function(BenchmarkId::new("route", replicas), |bencher| {
            bencher.iter(|| cluster.route(&session, &options).expect("replicas are up to date"));
        });
        group.bench_function(BenchmarkId::new("read", replicas), |bencher| {
            let read = || cluster.read(&session, |mut c| async move { statement(&mut c, false) });
            bencher.iter_custom(|count| runtime.block_on(repeat(count, read)));
        });
        group.bench_function(BenchmarkId::new("write", replicas), |bencher| {
            let write = || cluster.write(&session, |mut c| async move { statement(&mut c, true) });
            bencher.iter_custom(|count| runtime.block_on(repeat(count, write)));
        });
    }
    let session = session();
    for (name, tokens) in [("plain", Tokens::plain()), ("keyed", Tokens::keyed(&[7; 32]))] {
        let text = tokens.print(&session);
        group.bench_function(BenchmarkId::new("print-token", name), |bencher| bencher.iter(|| tokens.print(&session)));
        group.bench_function(BenchmarkId::new("parse-token", name), |bencher| {
            bencher.iter(|| tokens.parse(&text).expect("it was printed"));
        });
    }
    group.finish();
}

criterion_group!(benches, replication);
criterion_main!(benches);
