//! Races all caches in interleaved rounds and prints how fast they were, one JSON object a line.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use tenfold_benches::catalogue::{self, Candidate};
use tenfold_benches::cli::{self, Failure};
use tenfold_benches::race::{Race, Standing};
use tenfold_benches::report::{ThroughputRow, rounded, write_row};
use tenfold_benches::workload::Workload;

const HELP: &str = "\
usage: throughput [--threads 1,2,4,8] [--workload hits|95-5|50-50|scan]... [--entries N] [--rounds N] [--cache NAME]...
                  [--seed N] [--quick]
       throughput --list

All caches take turns, round after round, in this one process; a figure is the median of the rounds. --workload may be given
more than once. --quick takes 3 rounds of 30 ms instead of 7 of 150 ms. Defaults: hits, 100000 entries, threads 1,2.";

const MAX_THREADS: u64 = 256;
const MAX_ENTRIES: u64 = 10_000_000;
const MAX_ROUNDS: u64 = 10_000;

struct Options {
    threads: Vec<usize>,
    workloads: Vec<Workload>,
    entries: usize,
    rounds: usize,
    window: Duration,
    seed: u64,
    candidates: Vec<Candidate>,
}

fn main() -> ExitCode {
    cli::finish(run())
}

fn run() -> Result<(), Failure> {
    let Some(options) = options()? else {
        return Ok(());
    };
    for &workload in &options.workloads {
        for &threads in &options.threads {
            let race = Race {
                workload,
                threads,
                entries: options.entries,
                rounds: options.rounds,
                window: options.window,
                seed: options.seed,
            };
            let standings = race.run(&options.candidates)?;
            if standings.is_empty() {
                cli::remark(format_args!("no chosen cache may be shared by {threads} threads"));
            }
            for standing in standings {
                write_row(&mut io::stdout().lock(), &row(&race, &standing))?;
            }
        }
    }
    Ok(())
}

fn row(race: &Race, standing: &Standing) -> ThroughputRow {
    ThroughputRow {
        workload: race.workload.name(),
        threads: race.threads,
        entries: race.entries,
        cache: standing.candidate.name,
        ns_per_op: rounded(race.threads as f64 * 1e9 / standing.ops_per_s, 2),
        ops_per_s: rounded(standing.ops_per_s, 0),
        ratio_to_best_peer: standing.ratio_to_best_peer.map(|ratio| rounded(ratio, 3)),
    }
}

/// Reads the command line; `None` if it asked for text only.
fn options() -> Result<Option<Options>, Failure> {
    let mut parser = lexopt::Parser::from_env();
    let (mut names, mut workloads, mut rounds, mut quick) = (Vec::new(), Vec::new(), None, false);
    let (mut threads, mut entries, mut seed) = (vec![1, 2], 100_000, 1);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("threads") => threads = cli::numbers(&mut parser, "--threads", 1, MAX_THREADS)?,
            Long("workload") => workloads.push(parser.value()?.to_string_lossy().parse::<Workload>()?),
            Long("entries") => entries = cli::number(&mut parser, "--entries", 1, MAX_ENTRIES)?,
            Long("rounds") => rounds = Some(cli::number(&mut parser, "--rounds", 1, MAX_ROUNDS)?),
            Long("cache") => names.push(parser.value()?.to_string_lossy().into_owned()),
            Long("seed") => seed = parser.value()?.parse()?,
            Long("quick") => quick = true,
            Long("list") => {
                cli::list(&catalogue::timed())?;
                return Ok(None);
            }
            Short('h') | Long("help") => {
                cli::print(HELP)?;
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if workloads.is_empty() {
        workloads.push(Workload::Hits);
    }
    let (default_rounds, window) = if quick { (3, 30) } else { (7, 150) };
    Ok(Some(Options {
        threads,
        workloads,
        entries,
        rounds: rounds.unwrap_or(default_rounds),
        window: Duration::from_millis(window),
        seed,
        candidates: catalogue::select(catalogue::timed(), &names)?,
    }))
}
