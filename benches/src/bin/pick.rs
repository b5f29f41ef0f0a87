//! Races all balancers in interleaved rounds and prints what a pick costs, one JSON object a line.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use serde::Serialize;
use tenfold_benches::cli::{self, Failure};
use tenfold_benches::pick::race::{PickRace, Standing};
use tenfold_benches::pick::{self, Candidate, Kind};
use tenfold_benches::report::{rounded, write_row};

const HELP: &str = "\
usage: pick [--threads 1,2,4,8] [--backends 10,100,1000,10000] [--rounds N] [--picker NAME]... [--quick]
       pick --list

All balancers take turns, round after round, in this one process; a figure is the median of the rounds. --quick takes 3 rounds
of 10 ms instead of 7 of 60 ms, and 1 and 2 threads and 10 and 100 backends unless they are given.";

const MAX_THREADS: u64 = 256;
const MAX_BACKENDS: u64 = 100_000;
const MAX_ROUNDS: u64 = 10_000;

/// A row of the output.
#[derive(Serialize)]
struct Row {
    kind: Kind,
    backends: usize,
    threads: usize,
    picker: &'static str,
    /// Processor time of a pick, the median of the rounds. The same at any number of threads if they do not hinder each other,
    /// and also while something else keeps the cores busy.
    cpu_ns_per_pick: f64,
    /// Picks a second of all threads together, the median of the rounds.
    picks_per_s: f64,
    /// The `cpu_ns_per_pick` of the best peer of the same kind in the same run, over this one's. Null if there is none.
    ratio_to_best_peer: Option<f64>,
}

struct Options {
    threads: Vec<usize>,
    backends: Vec<usize>,
    rounds: usize,
    window: Duration,
    candidates: Vec<Candidate>,
}

fn main() -> ExitCode {
    cli::finish(run())
}

fn run() -> Result<(), Failure> {
    let Some(options) = options()? else {
        return Ok(());
    };
    for &backends in &options.backends {
        for &threads in &options.threads {
            let race = PickRace { threads, backends, rounds: options.rounds, window: options.window };
            for standing in race.run(&options.candidates)? {
                write_row(&mut io::stdout().lock(), &row(&race, &standing))?;
            }
        }
    }
    Ok(())
}

fn row(race: &PickRace, standing: &Standing) -> Row {
    Row {
        kind: standing.candidate.kind,
        backends: race.backends,
        threads: race.threads,
        picker: standing.candidate.name,
        cpu_ns_per_pick: rounded(standing.cpu_ns_per_pick, 2),
        picks_per_s: rounded(standing.picks_per_s, 0),
        ratio_to_best_peer: standing.ratio_to_best_peer.map(|ratio| rounded(ratio, 3)),
    }
}

/// Reads the command line; `None` if it asked for text only.
fn options() -> Result<Option<Options>, Failure> {
    let mut parser = lexopt::Parser::from_env();
    let (mut threads, mut backends, mut rounds, mut names, mut quick) = (None, None, None, Vec::new(), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("threads") => threads = Some(cli::numbers(&mut parser, "--threads", 1, MAX_THREADS)?),
            Long("backends") => backends = Some(cli::numbers(&mut parser, "--backends", 1, MAX_BACKENDS)?),
            Long("rounds") => rounds = Some(cli::number(&mut parser, "--rounds", 1, MAX_ROUNDS)?),
            Long("picker") => names.push(parser.value()?.to_string_lossy().into_owned()),
            Long("quick") => quick = true,
            Long("list") => {
                pick::all().iter().try_for_each(|candidate| cli::print(candidate.name))?;
                return Ok(None);
            }
            Short('h') | Long("help") => {
                cli::print(HELP)?;
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let (default_rounds, window) = if quick { (3, 10) } else { (7, 60) };
    let sizes = |quick_ones: &[usize], all: &[usize]| if quick { quick_ones.to_vec() } else { all.to_vec() };
    Ok(Some(Options {
        threads: threads.unwrap_or_else(|| sizes(&[1, 2], &[1, 2, 4, 8])),
        backends: backends.unwrap_or_else(|| sizes(&[10, 100], &[10, 100, 1_000, 10_000])),
        rounds: rounds.unwrap_or(default_rounds),
        window: Duration::from_millis(window),
        candidates: pick::select(&names)?,
    }))
}
