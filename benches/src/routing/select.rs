//! `select 1` through clients and poolers, all of it on one core: what is between a program and its database, in processor time.
//!
//! One query after the other, so that a latency is what all processes together need for it, and no wake-up of another core
//! blurs it.

use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tenfold_replication::driver::postgres::PgDriver;
use tenfold_replication::{Cluster, ReadOptions, Session};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Statement};

use super::Trouble;
use super::poolers::Pooler;
use super::row::SelectRow;
use super::servers::{Servers, connect};
use super::usage::{self, Of};
use crate::clock::{Stopwatch, processor_time};
use crate::queue::latencies::Latencies;
use crate::report::{median, rounded};

const SQL: &str = "select 1";

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds, in which all take turns.
    pub rounds: usize,
    /// Of a turn, without a third of it before that does not count.
    pub turn: Duration,
}

/// Who asks, and through whom.
struct Candidate {
    name: &'static str,
    protocol: &'static str,
    runtime: Runtime,
    asker: Asker,
    pooler: Option<Pid>,
}

enum Asker {
    Prepared(Client, Statement),
    Simple(Client),
    /// A read, noted in the session.
    Read(Cluster<PgDriver>, Session, ReadOptions),
    Write(Cluster<PgDriver>, Session),
}

/// What a turn came to.
#[derive(Clone, Copy)]
struct Turn {
    client_us: f64,
    server_us: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Lets all that is started from now on, and this, run on the last core only.
///
/// # Errors
///
/// What the kernel says no with.
pub fn pin() -> Result<(), Trouble> {
    let count = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(count - 1)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Measures all of them. Wants to be pinned, and nobody else to be at work.
///
/// # Errors
///
/// What servers, poolers and clients complain of.
pub fn run(pace: Pace) -> Result<Vec<SelectRow>, Trouble> {
    let servers = Servers::start("select")?;
    let poolers = [
        Pooler::pgbouncer(&servers, "transaction")?,
        Pooler::pgbouncer(&servers, "session")?,
        Pooler::pgpool(&servers)?,
    ];
    let candidates = candidates(&servers, &poolers)?;
    let postmasters: Vec<_> = servers.postmasters()?.into_iter().map(Of::Parent).collect();
    let mut turns = vec![Vec::new(); candidates.len()];
    for _ in 0..pace.rounds {
        for (candidate, turns) in candidates.iter().zip(&mut turns) {
            turns.push(candidate.turn(pace.turn, &postmasters)?);
        }
    }
    let of = |turns: &[Turn], figure: fn(&Turn) -> f64| {
        median(&turns.iter().map(figure).collect::<Vec<_>>()).unwrap_or_default()
    };
    let cpu = |turns: &[Turn]| of(turns, |turn| turn.client_us + turn.server_us);
    let alone = |protocol: &str| {
        let index =
            candidates.iter().position(|candidate| candidate.name == "client" && candidate.protocol == protocol);
        index.map_or(0.0, |index| cpu(&turns[index]))
    };
    let row = |(candidate, turns): (&Candidate, &Vec<Turn>)| {
        let (cpu_us, alone_us) = (cpu(turns), alone(candidate.protocol));
        SelectRow {
            scenario: "select",
            client: candidate.name,
            protocol: candidate.protocol,
            cpu_us: rounded(cpu_us, 2),
            client_us: rounded(of(turns, |turn| turn.client_us), 2),
            server_us: rounded(of(turns, |turn| turn.server_us), 2),
            added_us: rounded(cpu_us - alone_us, 2),
            added_percent: rounded((cpu_us / alone_us - 1.0) * 100.0, 1),
            p50_us: rounded(of(turns, |turn| turn.p50_us), 1),
            p99_us: rounded(of(turns, |turn| turn.p99_us), 1),
        }
    };
    Ok(candidates.iter().zip(&turns).map(row).collect())
}

fn candidates(servers: &Servers, poolers: &[Option<Pooler>; 3]) -> Result<Vec<Candidate>, Trouble> {
    let replica = servers.ports()[1];
    let mut all = vec![Candidate::prepared("client", replica, None)?, Candidate::simple("client", replica, None)?];
    let tracked = ReadOptions::new();
    all.push(Candidate::reading("tenfold-read", servers, tracked)?);
    all.push(Candidate::reading("tenfold-untracked", servers, tracked.untracked())?);
    all.push(Candidate::reading("tenfold-read-primary", servers, tracked.from_primary())?);
    all.push(Candidate::writing("tenfold-write", servers)?);
    let [of_transactions, of_sessions, pgpool] = poolers;
    if let Some(pooler) = of_transactions {
        all.push(Candidate::simple("pgbouncer", pooler.port, Some(pooler.group()))?);
    }
    if let Some(pooler) = of_sessions {
        all.push(Candidate::prepared("pgbouncer-session", pooler.port, Some(pooler.group()))?);
    }
    if let Some(pooler) = pgpool {
        all.push(Candidate::simple("pgpool", pooler.port, Some(pooler.group()))?);
        all.push(Candidate::prepared("pgpool", pooler.port, Some(pooler.group()))?);
    }
    Ok(all)
}

impl Candidate {
    fn prepared(name: &'static str, port: u16, pooler: Option<Pid>) -> Result<Self, Trouble> {
        let runtime = runtime()?;
        let asker = runtime.block_on(async {
            let client = connect(port).await?;
            let statement = client.prepare(SQL).await?;
            Ok::<_, Trouble>(Asker::Prepared(client, statement))
        })?;
        Ok(Self { name, protocol: "prepared", runtime, asker, pooler })
    }

    fn simple(name: &'static str, port: u16, pooler: Option<Pid>) -> Result<Self, Trouble> {
        let runtime = runtime()?;
        let asker = Asker::Simple(runtime.block_on(connect(port))?);
        Ok(Self { name, protocol: "simple", runtime, asker, pooler })
    }

    fn reading(name: &'static str, servers: &Servers, options: ReadOptions) -> Result<Self, Trouble> {
        let (runtime, cluster) = cluster(servers)?;
        // One that has something to be held to.
        let session = Session::new();
        runtime.block_on(cluster.write(&session, |mut c| async move { c.query(SQL, &[]).await }))?;
        let asker = Asker::Read(cluster, session, options);
        Ok(Self { name, protocol: "prepared", runtime, asker, pooler: None })
    }

    fn writing(name: &'static str, servers: &Servers) -> Result<Self, Trouble> {
        let (runtime, cluster) = cluster(servers)?;
        Ok(Self { name, protocol: "prepared", runtime, asker: Asker::Write(cluster, Session::new()), pooler: None })
    }

    fn turn(&self, turn: Duration, postmasters: &[Of]) -> Result<Turn, Trouble> {
        self.runtime.block_on(async {
            // Connections are opened when they are needed.
            self.asker.keep_asking(turn / 3).await?;
            let servers = usage::processes(postmasters)?;
            let pooler = match self.pooler {
                Some(group) => usage::processes(&[Of::Group(group)])?,
                None => Vec::new(),
            };
            let before = (processor_time() + usage::used(&pooler)?, usage::used(&servers)?);
            let latencies = self.asker.keep_asking(turn).await?;
            let after = (processor_time() + usage::used(&pooler)?, usage::used(&servers)?);
            let each = |used: Duration| used.as_secs_f64() * 1e6 / latencies.count() as f64;
            Ok(Turn {
                client_us: each(after.0.saturating_sub(before.0)),
                server_us: each(after.1.saturating_sub(before.1)),
                p50_us: latencies.quantile_us(0.5).unwrap_or_default(),
                p99_us: latencies.quantile_us(0.99).unwrap_or_default(),
            })
        })
    }
}

impl Asker {
    async fn keep_asking(&self, time: Duration) -> Result<Latencies, Trouble> {
        let mut latencies = Latencies::default();
        let stopwatch = Stopwatch::start();
        let mut before = Duration::ZERO;
        while before < time {
            self.ask().await?;
            let now = stopwatch.elapsed();
            latencies.record(now - before);
            before = now;
        }
        Ok(latencies)
    }

    async fn ask(&self) -> Result<(), Trouble> {
        let count = match self {
            Self::Prepared(client, statement) => client.query(statement, &[]).await?.len(),
            // The row, and that it was the last.
            Self::Simple(client) => client.simple_query(SQL).await?.len().min(1),
            Self::Read(cluster, session, options) => {
                cluster.read_with(session, options, |mut c| async move { c.query(SQL, &[]).await }).await?.len()
            }
            Self::Write(cluster, session) => {
                cluster.write(session, |mut c| async move { c.query(SQL, &[]).await }).await?.len()
            }
        };
        if count == 1 { Ok(()) } else { Err("a query was answered without its row".into()) }
    }
}

fn runtime() -> Result<Runtime, Trouble> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn cluster(servers: &Servers) -> Result<(Runtime, Cluster<PgDriver>), Trouble> {
    let runtime = runtime()?;
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).build()?;
    runtime.block_on(async {
        tokio::spawn(cluster.clone().drive());
        cluster.ready(Duration::from_secs(5)).await
    })?;
    Ok((runtime, cluster))
}
