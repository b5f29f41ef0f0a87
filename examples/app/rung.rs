//! What a rung of the climb is, and what it is given.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use tenfold_rig::{Client, Cost, NodeSpec, Progress, Promise, RoleResult, Roles, RungReport, Supervisor, TempDir};
use tokio::sync::Mutex;

use crate::jobs::engine::Engine as Queue;
use crate::keys::Keys;
use crate::replicated::Engine as Database;

/// Users in every database of the climb.
pub const USERS: u64 = 24_000;
/// What each of them has, in cents.
pub const BALANCE: u64 = 100_000;

/// A boxed future of a rung.
pub type RungFuture<T> = Pin<Box<dyn Future<Output = RoleResult<T>>>>;

/// How this run of the climb is done; the same for every rung.
#[derive(Debug, Clone)]
pub struct Climb {
    /// Every modelled quantity.
    pub cost: Cost,
    /// Short windows and wide tolerances.
    pub quick: bool,
    /// Determines arrivals, service times and keys.
    pub seed: u64,
    /// Which users are asked for.
    pub keys: Keys,
    /// What the queue of rung 10 runs on.
    pub queue: Queue,
    /// What the database servers of rung 05 run.
    pub database: Database,
    /// Where lines go.
    pub progress: Progress,
    /// Held while a capacity is measured without modelled times: then the systems compete for the machine itself.
    pub turn: Arc<Mutex<()>>,
}

impl Climb {
    /// `full` or, in a quick run, `quick`.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Two measurements, one after the other; in a quick run, whose repeats are fewer, side by side.
    ///
    /// # Errors
    ///
    /// That of either.
    pub async fn both<A, B>(
        &self,
        one: impl Future<Output = RoleResult<A>>,
        other: impl Future<Output = RoleResult<B>>,
    ) -> RoleResult<(A, B)> {
        if self.quick { tokio::try_join!(one, other) } else { Ok((one.await?, other.await?)) }
    }

    /// The promise that capacity is measured against.
    pub fn promise(&self) -> Promise {
        Promise::default()
    }
}

/// One rung: the roles its processes play, what it shows, and a stack to play with.
#[derive(Debug, Clone, Copy)]
pub struct Rung {
    /// Its number.
    pub number: u8,
    /// What it adds.
    pub title: &'static str,
    /// It leaves most of the machine idle: light rungs that follow each other climb side by side.
    pub is_light: bool,
    /// The roles that its binary must know.
    pub roles: fn() -> Roles,
    /// Runs its experiments.
    pub climb: fn(Arc<Climb>) -> RungFuture<RungReport>,
    /// Starts it with its front server at an address, to stay up.
    pub play: fn(Arc<Climb>, SocketAddr) -> RungFuture<Stack>,
}

impl Rung {
    /// The whole `main` of a rung that runs by itself: its default experiments, the table, exit code 1 if a claim fails.
    pub fn main(self) -> ExitCode {
        tenfold_rig::run((self.roles)(), move || async move {
            let climb = Climb {
                cost: Cost::modelled(),
                quick: std::env::args().any(|word| word == "--quick"),
                seed: 1,
                keys: Keys::fitted(),
                queue: Queue::default(),
                database: Database::default(),
                progress: Progress::new(|line| println!("{line}")),
                turn: Arc::default(),
            };
            let mut report = tenfold_rig::Report { p99_bound_ms: climb.promise().p99_ms, ..Default::default() };
            report.push((self.climb)(Arc::new(climb)).await?);
            println!("{}", report.to_text());
            Ok(if report.is_accepted() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        })
    }
}

/// A running copy of a rung's system. Dropping it ends its processes and removes its files.
#[derive(Debug)]
pub struct Stack {
    /// Its processes.
    pub tiers: Supervisor,
    /// Their files.
    pub dir: TempDir,
    /// The addresses that clients use.
    pub fronts: Vec<SocketAddr>,
}

impl Stack {
    /// A system without processes yet.
    ///
    /// # Errors
    ///
    /// No folder can be made, or there is no procfs.
    pub fn new() -> RoleResult<Self> {
        Ok(Self { tiers: Supervisor::new()?, dir: TempDir::new()?, fronts: Vec::new() })
    }

    /// The same with its files in memory, where there is room for so much: for what is to measure modelled servers and not
    /// the one disk that they share here.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn in_memory(bytes: u64) -> RoleResult<Self> {
        Ok(Self { tiers: Supervisor::new()?, dir: TempDir::in_memory(bytes)?, fronts: Vec::new() })
    }

    /// A client of all fronts.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn client(&self) -> RoleResult<Client> {
        Ok(Client::new(self.fronts.iter().copied())?)
    }

    /// Resident memory of all its processes, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let usage = |pid| tenfold_rig::process_usage(pid).map_or(0, |usage| usage.rss_bytes);
        self.tiers.pids().into_iter().map(usage).sum()
    }

    /// Processor time of all its processes so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let usage = |pid| tenfold_rig::process_usage(pid).map_or(0.0, |usage| usage.cpu_seconds);
        self.tiers.pids().into_iter().map(usage).sum()
    }
}

/// Lets a node listen where a player asked for it, if one did.
#[must_use]
pub fn at(spec: NodeSpec, listen: Option<SocketAddr>) -> NodeSpec {
    match listen {
        Some(SocketAddr::V4(address)) => spec.ip(*address.ip()).port(address.port()),
        _ => spec,
    }
}
