//! Replays recorded accesses through every cache and prints the hit ratios, one JSON object a line.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use tenfold_benches::catalogue::{self, Candidate, Purpose};
use tenfold_benches::cli::{self, Failure};
use tenfold_benches::report::{HitRatioRow, rounded, write_row};
use tenfold_benches::sizes::default_capacities;
use tenfold_benches::trace::Trace;

const HELP: &str = "\
usage: hit-ratio [--capacity N]... [--policy NAME]... [--skip-slow] FILE...
       hit-ratio --list

Each FILE is zstd over little-endian u64 differences between successive keys. Every access is a look-up, and an insert on a
miss; every entry has size 1. Capacities default to three sizes a trace. --policy keeps the caches of that name; --skip-slow
leaves out the slow ones (moka) on traces of more than two million accesses.";

/// Above so many accesses `--skip-slow` leaves the slow caches out.
const SLOW_LIMIT: usize = 2_000_000;

/// The largest capacity taken, so that a slip of the finger does not ask for all memory: caches may reserve room at once.
const MAX_CAPACITY: u64 = 1 << 30;

struct Options {
    capacities: Vec<usize>,
    candidates: Vec<Candidate>,
    skip_slow: bool,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    cli::finish(run())
}

fn run() -> Result<(), Failure> {
    let Some(options) = options()? else {
        return Ok(());
    };
    let mut bad = 0;
    for file in &options.files {
        match Trace::read(file) {
            Ok(trace) => replay(&options, &trace)?,
            Err(error) => {
                cli::complain(&error);
                bad += 1;
            }
        }
    }
    if bad > 0 {
        return Err(Failure::BadFiles { count: bad, total: options.files.len() });
    }
    Ok(())
}

/// Reads the command line; `None` if it asked for text only.
fn options() -> Result<Option<Options>, Failure> {
    let mut parser = lexopt::Parser::from_env();
    let (mut capacities, mut names, mut skip_slow, mut files) = (Vec::new(), Vec::new(), false, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("capacity") => capacities.push(cli::number(&mut parser, "--capacity", 1, MAX_CAPACITY)?),
            Long("policy") => names.push(parser.value()?.to_string_lossy().into_owned()),
            Long("skip-slow") => skip_slow = true,
            Long("list") => {
                cli::list(&catalogue::all())?;
                return Ok(None);
            }
            Short('h') | Long("help") => {
                cli::print(HELP)?;
                return Ok(None);
            }
            Value(file) => files.push(PathBuf::from(file)),
            other => return Err(other.unexpected().into()),
        }
    }
    let candidates = catalogue::select(catalogue::all(), &names)?;
    if files.is_empty() {
        return Err(Failure::NoFile);
    }
    Ok(Some(Options { capacities, candidates, skip_slow, files }))
}

fn replay(options: &Options, trace: &Trace) -> Result<(), Failure> {
    let capacities = match options.capacities.as_slice() {
        [] => default_capacities(trace),
        given => given.to_vec(),
    };
    for capacity in capacities {
        for candidate in &options.candidates {
            if options.skip_slow && candidate.is_slow() && trace.keys.len() > SLOW_LIMIT {
                continue;
            }
            let row = measure(candidate, capacity, trace)?;
            write_row(&mut io::stdout().lock(), &row)?;
        }
    }
    Ok(())
}

fn measure<'a>(candidate: &Candidate, capacity: usize, trace: &'a Trace) -> Result<HitRatioRow<'a>, Failure> {
    let mut built = (candidate.build)(capacity, Purpose::HitRatio);
    let tally = built.drive(|cache| cache.read_through(&trace.keys));
    if tally.wrong > 0 {
        return Err(Failure::WrongValues { cache: candidate.name, count: tally.wrong });
    }
    Ok(HitRatioRow {
        trace: &trace.name,
        capacity,
        cache: candidate.name,
        requests: tally.gets,
        hits: tally.hits,
        hit_ratio: rounded(tally.hits as f64 / tally.gets as f64, 6),
    })
}
