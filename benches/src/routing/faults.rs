//! Servers that are lost, hang or change places under a load of writes and reads, and for how long nobody was served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tenfold_replication::driver::postgres::{PgDriver, PgError};
use tenfold_replication::{Cluster, Config, DetectConfig, Error, FailoverConfig, NodeId, Session};
use tokio::runtime::Builder;

use super::Trouble;
use super::reads::{Store, registers};
use super::row::FaultRow;
use super::servers::Servers;
use crate::cli::complain;
use crate::clock::{Stopwatch, uptime};
use crate::report::{median, rounded};

/// How often each node is asked how it is.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// Before the fault.
const CALM: Duration = Duration::from_millis(600);

/// From the fault until its cause is gone.
const ABSENCE: Duration = Duration::from_millis(2_500);

/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Tasks that write, and as many that read.
const TASKS: u64 = 2;

/// What happens to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a replica.
    ReplicaKilled,
    /// `kill -9` of the primary.
    PrimaryKilled,
    /// SIGSTOP of all processes of the primary.
    PrimaryHung,
    /// Another primary, on purpose.
    Switchover,
}

impl Fault {
    /// All.
    pub const ALL: [Self; 4] = [Self::ReplicaKilled, Self::PrimaryKilled, Self::PrimaryHung, Self::Switchover];

    fn name(self) -> &'static str {
        match self {
            Self::ReplicaKilled => "replica-killed",
            Self::PrimaryKilled => "primary-killed",
            Self::PrimaryHung => "primary-hung",
            Self::Switchover => "switchover",
        }
    }
}

/// What the load saw, by the machine's clock.
#[derive(Debug, Default)]
struct Seen {
    reads: Vec<Duration>,
    writes: Vec<Duration>,
    failed_reads: u64,
    failed_writes: u64,
}

impl Seen {
    fn note_write(&mut self, result: Result<(), Error<PgError>>) {
        match result {
            Ok(()) => self.writes.push(uptime()),
            Err(error) => {
                self.failed_writes += 1;
                complain(&error);
            }
        }
    }

    fn note_read(&mut self, result: Result<Option<u64>, Error<PgError>>) {
        match result {
            Ok(_) => self.reads.push(uptime()),
            Err(error) => {
                self.failed_reads += 1;
                complain(&error);
            }
        }
    }
}

/// A round's figures.
#[derive(Clone, Copy, Debug)]
struct Round {
    calls: u64,
    failed_reads: u64,
    failed_writes: u64,
    read_gap_ms: f64,
    write_gap_ms: f64,
    return_ms: f64,
}

/// Does it so many times, to fresh servers each time.
///
/// # Errors
///
/// What servers complain of, or that a node did not come back.
pub fn run(fault: Fault, rounds: usize) -> Result<FaultRow, Trouble> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut all = Vec::new();
    for _ in 0..rounds {
        let servers = Servers::start("faults")?;
        all.push(runtime.block_on(async { round(registers(servers).await?, fault).await })?);
    }
    let of = |figure: fn(&Round) -> f64| all.iter().map(figure).collect::<Vec<_>>();
    let middle = |figures: &[f64]| rounded(median(figures).unwrap_or_default(), 0);
    let worst = |figures: &[f64]| rounded(figures.iter().copied().fold(0.0, f64::max), 0);
    let (gaps, returns) = (of(|round| round.write_gap_ms), of(|round| round.return_ms));
    Ok(FaultRow {
        scenario: "faults",
        fault: fault.name(),
        rounds,
        calls: all.iter().map(|round| round.calls).sum(),
        failed_reads: all.iter().map(|round| round.failed_reads).sum(),
        failed_writes: all.iter().map(|round| round.failed_writes).sum(),
        write_gap_ms: middle(&gaps),
        write_gap_max_ms: worst(&gaps),
        read_gap_max_ms: worst(&of(|round| round.read_gap_ms)),
        return_ms: middle(&returns),
        return_max_ms: worst(&returns),
    })
}

async fn round(servers: Servers, fault: Fault) -> Result<Round, Trouble> {
    let config = Config { observe_interval: HEALTH_INTERVAL, ..Config::default() };
    let cluster = Cluster::builder(Servers::driver(&servers)).nodes(Servers::nodes(&servers)).config(config).build()?;
    let mut tasks = vec![tokio::spawn(cluster.clone().drive())];
    cluster.ready(LIMIT).await?;
    tasks.push(tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default())));
    // Replicas have the table.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let is_over = Arc::new(AtomicBool::new(false));
    let load = (0..TASKS).flat_map(|key| {
        let writes = tokio::spawn(keep_writing(cluster.clone(), key, Arc::clone(&seen), Arc::clone(&is_over)));
        [writes, tokio::spawn(keep_reading(cluster.clone(), key, Arc::clone(&seen), Arc::clone(&is_over)))]
    });
    let load: Vec<_> = load.collect();
    tokio::time::sleep(CALM).await;
    let began = uptime();
    let return_ms = break_and_mend(&cluster, &servers, fault).await?;
    tokio::time::sleep(CALM).await;
    is_over.store(true, Ordering::Relaxed);
    for task in load {
        task.await?;
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let seen = std::mem::take(&mut *seen.lock());
    Ok(Round {
        calls: (seen.reads.len() + seen.writes.len()) as u64,
        failed_reads: seen.failed_reads,
        failed_writes: seen.failed_writes,
        read_gap_ms: longest_gap_ms(&seen.reads, began),
        write_gap_ms: longest_gap_ms(&seen.writes, began),
        return_ms,
    })
}

/// Gives how long it took the node to replicate whoever is primary, from when it could.
async fn break_and_mend(cluster: &Cluster<PgDriver>, servers: &Servers, fault: Fault) -> Result<f64, Trouble> {
    let (node, name) = if fault == Fault::ReplicaKilled { (1, "1") } else { (0, "0") };
    let (breaks, mends) = match fault {
        Fault::ReplicaKilled | Fault::PrimaryKilled => ("kill", "start"),
        Fault::PrimaryHung => ("pause", "resume"),
        Fault::Switchover => {
            let stopwatch = Stopwatch::start();
            cluster.switchover(NodeId(1), &FailoverConfig::default()).await?;
            return returned(cluster, node, &stopwatch).await;
        }
    };
    let script = |word: &'static str| tokio::task::block_in_place(|| servers.script(&[word, name]));
    script(breaks)?;
    tokio::time::sleep(ABSENCE).await;
    let stopwatch = Stopwatch::start();
    // A supervisor may stop the server to rewind it before it has come up: whether it returns is seen below.
    let _ = script(mends);
    returned(cluster, node, &stopwatch).await
}

async fn returned(cluster: &Cluster<PgDriver>, node: usize, since: &Stopwatch) -> Result<f64, Trouble> {
    let replicates = || {
        let topology = cluster.topology();
        let primary = topology.primary().map(|member| member.node().id());
        let member = &topology.members()[node];
        primary.is_some() && member.is_reachable() && member.upstream() == primary
    };
    while !replicates() {
        if since.elapsed() > LIMIT {
            return Err("the node did not come back".into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(since.elapsed().as_secs_f64() * 1e3)
}

async fn keep_writing(cluster: Cluster<PgDriver>, key: u64, seen: Arc<Mutex<Seen>>, is_over: Arc<AtomicBool>) {
    let session = Session::new();
    let mut value = 0;
    while !is_over.load(Ordering::Relaxed) {
        value += 1;
        let result = cluster.write(&session, |c| <Servers as Store>::write(c, key, value)).await;
        seen.lock().note_write(result);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn keep_reading(cluster: Cluster<PgDriver>, key: u64, seen: Arc<Mutex<Seen>>, is_over: Arc<AtomicBool>) {
    let session = Session::new();
    while !is_over.load(Ordering::Relaxed) {
        let result = cluster.read(&session, |c| <Servers as Store>::read(c, key)).await;
        seen.lock().note_read(result);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// From the last that succeeded before it on.
fn longest_gap_ms(times: &[Duration], since: Duration) -> f64 {
    let first = times.partition_point(|time| *time < since).saturating_sub(1);
    let gaps = times[first.min(times.len())..].windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or(LIMIT).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_may_begin_before_the_fault() {
        let times = [0, 5, 6, 10, 11].map(Duration::from_millis);
        assert_eq!(longest_gap_ms(&times, Duration::from_millis(8)), 4.0);
        assert_eq!(longest_gap_ms(&times, Duration::ZERO), 5.0);
    }
}
