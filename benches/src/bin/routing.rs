//! Measures what replication costs and keeps to on real servers, beside poolers, and prints it, one JSON object a line.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use tenfold_benches::cli::{self, Failure};
use tenfold_benches::proxy_faults::process::{BECOME, KEEP, become_command, keep};
use tenfold_benches::report::{median, rounded, write_row};
use tenfold_benches::routing::faults::{self, Fault};
use tenfold_benches::routing::reads::{self, Engine, Load};
use tenfold_benches::routing::row::UpRow;
use tenfold_benches::routing::scenario::Scenario;
use tenfold_benches::routing::select::{self, Pace};
use tenfold_benches::routing::servers::Servers;
use tenfold_benches::routing::{RoutingError, Trouble, age, check_out, wire};

const HELP: &str = "\
usage: routing [--scenario NAME]... [--rounds N] [--quick] [--engine postgres|sqlite] [--reads N] [--reads-per-write N]
               [--lag-ms N]

Starts a primary and two replicas of PostgreSQL of its own (Debian: apt-get install postgresql), and pgbouncer and pgpool before
them where they are installed (pgbouncer, pgpool2). Scenarios: select, wire, check-out, age, reads, faults, up, all. --reads is how
many `reads` checks on --engine, with replicas that apply --lag-ms later than they could. --quick takes less of everything, and
its figures mean little.";

const MAX_ROUNDS: u64 = 1_000;
const MAX_READS: u64 = 1_000_000_000;
const MAX_LAG_MS: u64 = 60_000;

struct Options {
    scenarios: Vec<Scenario>,
    rounds: Option<usize>,
    is_quick: bool,
    engine: Engine,
    load: Load,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((role, [command, rest @ ..])) if role == KEEP => cli::finish(keep(command, rest).map_err(Into::into)),
        Some((role, [parent, command, rest @ ..])) if role == BECOME => {
            cli::finish(Err(become_command(parent, command, rest).into()))
        }
        _ => cli::finish(run()),
    }
}

fn run() -> Result<(), Failure> {
    let Some(options) = options()? else { return Ok(()) };
    let mut out = io::stdout().lock();
    for scenario in &options.scenarios {
        let rounds = |full: usize, quick: usize| options.rounds.unwrap_or(if options.is_quick { quick } else { full });
        let failed = |trouble: Trouble| RoutingError::from(trouble);
        match scenario {
            Scenario::Select => {
                let turn = Duration::from_millis(if options.is_quick { 60 } else { 600 });
                let pace = Pace { rounds: rounds(7, 1), turn };
                // On a thread of its own, so that the next scenarios have all cores.
                let pinned = std::thread::spawn(move || select::pin().and_then(|()| select::run(pace)));
                let rows = pinned.join().unwrap_or_else(|_| Err("the thread is gone".into())).map_err(failed)?;
                rows.iter().try_for_each(|row| write_row(&mut out, row))?;
            }
            Scenario::Wire => wire::run().map_err(failed)?.iter().try_for_each(|row| write_row(&mut out, row))?,
            Scenario::CheckOut => {
                let rows = check_out::run(rounds(7, 1)).map_err(failed)?;
                rows.iter().try_for_each(|row| write_row(&mut out, row))?;
            }
            Scenario::Age => {
                let samples = if options.is_quick { 5 } else { 300 };
                let rows = age::run(samples, rounds(5, 1)).map_err(failed)?;
                rows.iter().try_for_each(|row| write_row(&mut out, row))?;
            }
            Scenario::Reads => write_row(&mut out, &reads::run(options.engine, options.load)?)?,
            Scenario::Faults => {
                for fault in Fault::ALL {
                    write_row(&mut out, &faults::run(fault, rounds(5, 1)).map_err(failed)?)?;
                }
            }
            Scenario::Up => write_row(&mut out, &up(rounds(10, 1)).map_err(failed)?)?,
        }
    }
    Ok(())
}

fn up(rounds: usize) -> Result<UpRow, Trouble> {
    let times: Result<Vec<_>, _> =
        (0..rounds).map(|_| Servers::start("up").map(|servers| servers.up_in().as_secs_f64() * 1e3)).collect();
    let times = times?;
    Ok(UpRow {
        scenario: "up",
        rounds,
        median_ms: rounded(median(&times).unwrap_or_default(), 0),
        max_ms: rounded(times.iter().copied().fold(0.0, f64::max), 0),
    })
}

/// Reads the command line; `None` if it asked for text only.
fn options() -> Result<Option<Options>, Failure> {
    let mut parser = lexopt::Parser::from_env();
    let (mut scenarios, mut rounds, mut is_quick, mut engine) = (Vec::new(), None, false, Engine::Postgres);
    let (mut reads, mut reads_per_write, mut lag_ms) = (None, 4, 0);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("scenario") => {
                let name = parser.value()?.to_string_lossy().into_owned();
                if name == "all" {
                    scenarios.extend(Scenario::ALL);
                } else {
                    scenarios.push(name.parse::<Scenario>()?);
                }
            }
            Long("engine") => engine = parser.value()?.to_string_lossy().parse::<Engine>()?,
            Long("rounds") => rounds = Some(cli::number(&mut parser, "--rounds", 1, MAX_ROUNDS)?),
            Long("reads") => reads = Some(cli::number(&mut parser, "--reads", 1, MAX_READS)?),
            Long("reads-per-write") => reads_per_write = cli::number(&mut parser, "--reads-per-write", 1, MAX_READS)?,
            Long("lag-ms") => lag_ms = cli::number(&mut parser, "--lag-ms", 0, MAX_LAG_MS)?,
            Long("quick") => is_quick = true,
            Short('h') | Long("help") => {
                cli::print(HELP)?;
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if scenarios.is_empty() {
        scenarios.extend(Scenario::ALL);
    }
    let reads = reads.unwrap_or(if is_quick { 2_000 } else { 200_000 });
    let load = Load {
        reads: reads as u64,
        reads_per_write: reads_per_write as u64,
        lag: Duration::from_millis(lag_ms as u64),
    };
    Ok(Some(Options { scenarios, rounds, is_quick, engine, load }))
}
