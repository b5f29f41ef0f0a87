//! Breaks the backends of reverse proxies under load and prints what their users saw, one JSON object a line.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use tenfold_benches::cli::{self, Failure};
use tenfold_benches::proxy_faults::contest::{CONNECTIONS, Contest, Pace};
use tenfold_benches::proxy_faults::fleet::{BACKEND, program};
use tenfold_benches::proxy_faults::process::{BECOME, KEEP, become_command, keep};
use tenfold_benches::proxy_faults::proxy::{self, Candidate, Engine, Programs};
use tenfold_benches::proxy_faults::scenario::Scenario;
use tenfold_benches::proxy_faults::{backend, tenfold};
use tenfold_benches::report::write_row;

const HELP: &str = "\
usage: proxy-faults [--proxy NAME]... [--scenario NAME]... [--rounds N] [--quick] [--explain N] [--binary FILE]
       proxy-faults --list

All proxies take turns, round after round; a figure is the median of the rounds. --proxy takes a name of --list or the first
word of several (tenfold, haproxy, nginx, direct); --scenario one of throughput, calm, kill, hang, grey, errors, rolling,
all-failing. Both may be given more than once; without them all take part. --quick takes one short round instead of 5, and
its figures mean little. --explain tells on stderr, of each run, when backends left and joined and the first N requests that
failed or were slow. A proxy that is not installed, or cannot be built, is left out and said to be. --binary takes ours from
a file, another build say, instead of building it.";

const MAX_ROUNDS: u64 = 1_000;
const MAX_EXPLAINED: u64 = 100_000;

struct Options {
    candidates: Vec<Candidate>,
    scenarios: Vec<Scenario>,
    rounds: usize,
    pace: Pace,
    explained: usize,
    binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((role, rest)) if role == KEEP => cli::finish(as_keeper(rest)),
        Some((role, rest)) if role == BECOME => cli::finish(as_another(rest)),
        Some((role, rest)) if role == BACKEND => cli::finish(as_backend(rest)),
        _ => cli::finish(run()),
    }
}

fn as_keeper(arguments: &[OsString]) -> Result<(), Failure> {
    let [command, rest @ ..] = arguments else { return Err(lexopt::Error::from("a keeper needs a command").into()) };
    Ok(keep(command, rest)?)
}

fn as_another(arguments: &[OsString]) -> Result<(), Failure> {
    let [parent, command, rest @ ..] = arguments else {
        return Err(lexopt::Error::from("a parent and a command are needed").into());
    };
    Err(become_command(parent, command, rest).into())
}

fn as_backend(arguments: &[OsString]) -> Result<(), Failure> {
    let word = |index: usize| arguments.get(index).map(|word| word.to_string_lossy()).unwrap_or_default();
    let usage = |_| lexopt::Error::from("a backend needs an address and a number");
    let address: SocketAddr = word(0).parse().map_err(|_| usage(()))?;
    let number = word(1).parse().map_err(|_| usage(()))?;
    Ok(backend::serve(address, number)?)
}

fn run() -> Result<(), Failure> {
    let Some(options) = options()? else {
        return Ok(());
    };
    let Options { candidates, scenarios, rounds, pace, explained, binary } = options;
    let programs = find_programs(&candidates, binary);
    let contest = Contest { candidates, programs, rounds, pace, explained };
    let mut out = io::stdout().lock();
    for scenario in scenarios {
        if scenario == Scenario::Throughput {
            for connections in CONNECTIONS {
                contest.throughput(connections)?.iter().try_for_each(|row| write_row(&mut out, row))?;
            }
        } else {
            contest.faults(scenario)?.iter().try_for_each(|row| write_row(&mut out, row))?;
        }
    }
    Ok(())
}

/// Looks for the programs that the candidates need, and says which are not there.
fn find_programs(candidates: &[Candidate], binary: Option<PathBuf>) -> Programs {
    let needs = |wanted: fn(&Engine) -> bool| candidates.iter().any(|candidate| wanted(&candidate.engine));
    let installed = |name: &str| {
        let found = program(name);
        if found.is_none() {
            cli::remark(format_args!("left out: {name} is not installed"));
        }
        found
    };
    let mut programs = Programs { tenfold: binary, ..Programs::default() };
    if needs(|engine| matches!(engine, Engine::Haproxy(_))) {
        programs.haproxy = installed("haproxy");
    }
    if needs(|engine| matches!(engine, Engine::Nginx(_))) {
        programs.nginx = installed("nginx");
    }
    if programs.tenfold.is_none() && needs(|engine| matches!(engine, Engine::Tenfold(_))) {
        match tenfold::build() {
            Ok(path) => programs.tenfold = Some(path),
            Err(error) => cli::remark(format_args!("left out: tenfold, as {error}")),
        }
    }
    programs
}

/// Reads the command line; `None` if it asked for text only.
fn options() -> Result<Option<Options>, Failure> {
    let mut parser = lexopt::Parser::from_env();
    let (mut names, mut scenarios, mut rounds, mut quick) = (Vec::new(), Vec::new(), None, false);
    let (mut explained, mut binary) = (0, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("proxy") => names.push(parser.value()?.to_string_lossy().into_owned()),
            Long("scenario") => scenarios.push(parser.value()?.to_string_lossy().parse::<Scenario>()?),
            Long("rounds") => rounds = Some(cli::number(&mut parser, "--rounds", 1, MAX_ROUNDS)?),
            Long("explain") => explained = cli::number(&mut parser, "--explain", 1, MAX_EXPLAINED)?,
            Long("binary") => binary = Some(PathBuf::from(parser.value()?)),
            Long("quick") => quick = true,
            Long("list") => {
                proxy::CANDIDATES.iter().try_for_each(|candidate| cli::print(candidate.name))?;
                return Ok(None);
            }
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
    let (default_rounds, pace) = if quick { (1, Pace::QUICK) } else { (5, Pace::FULL) };
    let candidates = proxy::select(&names)?;
    let rounds = rounds.unwrap_or(default_rounds);
    Ok(Some(Options { candidates, scenarios, rounds, pace, explained, binary }))
}
