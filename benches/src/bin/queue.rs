//! Races durable queues in interleaved rounds and prints what they come to, one JSON object a line.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lexopt::prelude::*;
use tenfold_benches::cli::{self, Failure};
use tenfold_benches::proxy_faults::process::{BECOME, KEEP, become_command, keep};
use tenfold_benches::queue::contest::{Cell, Contest, Pace, QueueError, WALRUS_FOLDER, Workplace};
use tenfold_benches::queue::disk::Disk;
use tenfold_benches::queue::recovery::{self, FILL, REOPEN};
use tenfold_benches::queue::scenario::Scenario;
use tenfold_benches::queue::{self, Candidate};
use tenfold_benches::report::write_row;

const HELP: &str = "\
usage: queue [--quick] [--only NAME]... [--scenario NAME]... [--size 100,1024] [--producers 1,16,64] [--rounds N]
             [--messages N] [--dir D]
       queue --list

All queues take turns, round after round, each turn with fresh files on a settled disk; a figure is the median of the rounds.
Files go to a folder below D, or among the temporary ones: give one on the disk that is meant. --quick takes one round of 100 ms
instead of 5 of 1 s, and fewer sizes and producers unless they are given. Scenarios: produce, batch, window, tasks, relaxed,
consume, end-to-end, recovery, idle, memory, all. --messages is how many `recovery` and `idle` hold, a million by default.";

const MAX_PRODUCERS: u64 = 10_000;
const MAX_SIZE: u64 = 1 << 20;
const MAX_ROUNDS: u64 = 1_000;
const MAX_MESSAGES: u64 = 100_000_000;

struct Options {
    scenarios: Vec<Scenario>,
    sizes: Option<Vec<usize>>,
    producers: Option<Vec<usize>>,
    pace: Pace,
    folder: PathBuf,
    candidates: Vec<Candidate>,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((role, [command, rest @ ..])) if role == KEEP => cli::finish(keep(command, rest).map_err(Into::into)),
        Some((role, [parent, command, rest @ ..])) if role == BECOME => {
            cli::finish(Err(become_command(parent, command, rest).into()))
        }
        Some((role, rest)) if role == FILL => play(FILL, rest),
        Some((role, rest)) if role == REOPEN => play(REOPEN, rest),
        _ => cli::finish(run()),
    }
}

fn play(role: &str, arguments: &[OsString]) -> ExitCode {
    match recovery::play(role, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            cli::complain(trouble.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let Some(options) = options()? else {
        return Ok(());
    };
    let workplace = Workplace::below(&options.folder).map_err(QueueError::Folder)?;
    if std::env::var_os(WALRUS_FOLDER).is_none() {
        // Only the environment can tell walrus where its files go, and only the one it was started with.
        return Err(again_with(workplace.path()).into());
    }
    let disk = Disk::of(workplace.path(), options.pace.patience).map_err(QueueError::Folder)?;
    let mut contest = Contest { pace: options.pace, workplace, disk };
    for &scenario in &options.scenarios {
        let sizes = options.sizes.clone().unwrap_or_else(|| scenario.sizes(options.pace.is_quick).to_vec());
        let of_scenario = || scenario.producers(options.pace.is_quick).to_vec();
        let producers = options.producers.clone().filter(|_| scenario.has_producers()).unwrap_or_else(of_scenario);
        for &size in &sizes {
            if scenario == Scenario::Recovery {
                for row in contest.recover(size, &options.candidates)? {
                    write_row(&mut io::stdout().lock(), &row)?;
                }
                continue;
            }
            if scenario == Scenario::Idle {
                for row in contest.idle(size, &options.candidates)? {
                    write_row(&mut io::stdout().lock(), &row)?;
                }
                continue;
            }
            for &producers in &producers {
                for row in contest.run(Cell { scenario, size, producers }, &options.candidates)? {
                    write_row(&mut io::stdout().lock(), &row)?;
                }
            }
        }
    }
    Ok(())
}

/// Becomes this binary again, with the folder in its environment. Returns only if it cannot.
fn again_with(folder: &Path) -> io::Error {
    match std::env::current_exe() {
        Ok(program) => Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(WALRUS_FOLDER, folder)
            .env("WALRUS_QUIET", "1")
            .exec(),
        Err(error) => error,
    }
}

/// Reads the command line; `None` if it asked for text only.
fn options() -> Result<Option<Options>, Failure> {
    let mut parser = lexopt::Parser::from_env();
    let (mut scenarios, mut names, mut folder) = (Vec::new(), Vec::new(), std::env::temp_dir());
    let (mut sizes, mut producers, mut rounds, mut messages, mut quick) = (None, None, None, None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("scenario") => {
                let name = parser.value()?.to_string_lossy().into_owned();
                if name == "all" {
                    scenarios.extend(Scenario::ALL);
                } else {
                    scenarios.push(name.parse()?);
                }
            }
            Long("only") => names.push(parser.value()?.to_string_lossy().into_owned()),
            Long("size") => sizes = Some(cli::numbers(&mut parser, "--size", 8, MAX_SIZE)?),
            Long("producers") => producers = Some(cli::numbers(&mut parser, "--producers", 1, MAX_PRODUCERS)?),
            Long("rounds") => rounds = Some(cli::number(&mut parser, "--rounds", 1, MAX_ROUNDS)?),
            Long("messages") => messages = Some(cli::number(&mut parser, "--messages", 1, MAX_MESSAGES)?),
            Long("dir") => folder = parser.value()?.into(),
            Long("quick") => quick = true,
            Long("list") => {
                queue::names().into_iter().try_for_each(cli::print)?;
                return Ok(None);
            }
            Short('h') | Long("help") => {
                cli::print(HELP)?;
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let pace = if quick { Pace::QUICK } else { Pace::FULL };
    let candidates = queue::select(&names)?;
    if scenarios.is_empty() {
        // With names of some, only where one of them takes part.
        let admits = |scenario: &Scenario| candidates.iter().any(|candidate| scenario.admits(candidate));
        scenarios.extend(Scenario::ALL.into_iter().filter(admits));
    }
    let pace = Pace {
        rounds: rounds.unwrap_or(pace.rounds),
        backlog: messages.map_or(pace.backlog, |messages| messages as u64),
        ..pace
    };
    Ok(Some(Options { scenarios, sizes, producers, pace, folder, candidates }))
}
