//! Counts the bytes that each cache uses for an entry, and prints them, one JSON object a line.

use std::io;
use std::process::ExitCode;

use lexopt::prelude::*;
use tenfold_benches::cache::Batches;
use tenfold_benches::catalogue::{self, Candidate, Purpose};
use tenfold_benches::cli::{self, Failure};
use tenfold_benches::counting_alloc::CountingAlloc;
use tenfold_benches::report::{MemoryRow, rounded, write_row};
use tenfold_benches::rng::scramble;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc::new();

const HELP: &str = "\
usage: memory [--entries N] [--cache NAME]...
       memory --list

Fills each cache of capacity N (default 1000000) with N entries, u64 to u64, and counts the bytes in use; then inserts 4 N
more keys and counts again.";

const MAX_ENTRIES: u64 = 100_000_000;

/// Bytes of a key and its value.
const PAYLOAD_BYTES: f64 = 16.0;

/// How many times the capacity is inserted between the two counts.
const CHURN: usize = 4;

/// Keys handed to the cache in one batch.
const BATCH: usize = 1024;

fn main() -> ExitCode {
    cli::finish(run())
}

fn run() -> Result<(), Failure> {
    let mut parser = lexopt::Parser::from_env();
    let (mut entries, mut names) = (1_000_000, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("entries") => entries = cli::number(&mut parser, "--entries", 1, MAX_ENTRIES)?,
            Long("cache") => names.push(parser.value()?.to_string_lossy().into_owned()),
            Long("list") => return Ok(cli::list(&catalogue::timed())?),
            Short('h') | Long("help") => return Ok(cli::print(HELP)?),
            other => return Err(other.unexpected().into()),
        }
    }
    for candidate in catalogue::select(catalogue::timed(), &names)? {
        for row in measure(&candidate, entries) {
            write_row(&mut io::stdout().lock(), &row)?;
        }
    }
    Ok(())
}

fn measure(candidate: &Candidate, capacity: usize) -> [MemoryRow; 2] {
    // The harness's own memory is taken before the first count, so that the difference is the cache's alone.
    let mut keys = vec![0; BATCH];
    let before = ALLOCATOR.bytes_in_use();
    let mut built = (candidate.build)(capacity, Purpose::Speed);
    let mut phase = |phase, numbers| {
        let entries = built.drive(|cache| {
            insert(cache, &mut keys, numbers);
            cache.entry_count()
        });
        let bytes = ALLOCATOR.bytes_in_use().saturating_sub(before);
        let overhead = bytes as f64 / entries.max(1) as f64 - PAYLOAD_BYTES;
        MemoryRow { cache: candidate.name, entries, phase, overhead_bytes_per_entry: rounded(overhead, 1) }
    };
    let fresh = phase("fresh", 0..capacity as u64);
    let churned = phase("churned", capacity as u64..(capacity * (CHURN + 1)) as u64);
    [fresh, churned]
}

/// Inserts distinct keys in no particular order.
fn insert(cache: &mut dyn Batches, keys: &mut Vec<u64>, mut numbers: std::ops::Range<u64>) {
    while !numbers.is_empty() {
        keys.clear();
        keys.extend(numbers.by_ref().take(BATCH).map(scramble));
        cache.fill(keys);
    }
}
