//! What the binaries share in reading their command lines.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;

use crate::catalogue::{Candidate, UnknownName};
use crate::pick::UnknownPicker;
use crate::pick::race::PickRaceError;
use crate::proxy_faults::contest::ContestError;
use crate::proxy_faults::proxy::UnknownProxy;
use crate::proxy_faults::scenario::UnknownScenario;
use crate::queue::UnknownQueue;
use crate::queue::contest::QueueError;
use crate::queue::scenario::UnknownScenario as UnknownQueueScenario;
use crate::race::RaceError;
use crate::routing::RoutingError;
use crate::routing::reads::UnknownEngine;
use crate::routing::scenario::UnknownScenario as UnknownRoutingScenario;
use crate::workload::UnknownWorkload;

/// Why a binary stops before it has measured what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// An unknown option, a missing value, a word that is no number.
    #[error(transparent)]
    Usage(#[from] lexopt::Error),
    /// A cache name that does not exist.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// A workload that does not exist.
    #[error(transparent)]
    Workload(#[from] UnknownWorkload),
    /// A proxy name that does not exist.
    #[error(transparent)]
    Proxy(#[from] UnknownProxy),
    /// A scenario that does not exist.
    #[error(transparent)]
    Scenario(#[from] UnknownScenario),
    /// A queue name that does not exist.
    #[error(transparent)]
    Queue(#[from] UnknownQueue),
    /// A scenario of queues that does not exist.
    #[error(transparent)]
    QueueScenario(#[from] UnknownQueueScenario),
    /// Queues could not be raced, or one lied.
    #[error(transparent)]
    Queues(#[from] QueueError),
    /// A picker name that does not exist.
    #[error(transparent)]
    Picker(#[from] UnknownPicker),
    /// A balancer picked wrongly.
    #[error(transparent)]
    Pick(#[from] PickRaceError),
    /// A scenario of routing that does not exist.
    #[error(transparent)]
    RoutingScenario(#[from] UnknownRoutingScenario),
    /// An engine that does not exist.
    #[error(transparent)]
    Engine(#[from] UnknownEngine),
    /// Servers could not be measured, or a promise was broken.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// A number that has to lie in a range.
    #[error("{option} takes a number from {min} to {max}, not {given}")]
    Range {
        /// The option.
        option: &'static str,
        /// The least value it takes.
        min: u64,
        /// The greatest value it takes.
        max: u64,
        /// What was given.
        given: u64,
    },
    /// No file was named.
    #[error("name at least one trace file")]
    NoFile,
    /// One or more files could not be used; each has been reported.
    #[error("{count} of {total} trace files could not be used")]
    BadFiles {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
    },
    /// The race could not be held, or a cache answered wrongly in it.
    #[error(transparent)]
    Race(#[from] RaceError),
    /// The proxies could not be run, or a run contradicted itself.
    #[error(transparent)]
    Contest(#[from] ContestError),
    /// A cache gave a value that does not belong to the key.
    #[error("{cache} gave {count} wrong values")]
    WrongValues {
        /// The cache.
        cache: &'static str,
        /// How many.
        count: u64,
    },
    /// Writing a row failed.
    #[error("cannot write")]
    Write(#[from] io::Error),
}

impl Failure {
    /// 2 for what the caller can correct on the command line, 1 for the rest.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Name(_)
            | Self::Workload(_)
            | Self::Proxy(_)
            | Self::Picker(_)
            | Self::Queue(_)
            | Self::QueueScenario(_)
            | Self::RoutingScenario(_)
            | Self::Engine(_)
            | Self::Scenario(_)
            | Self::Range { .. }
            | Self::NoFile
            | Self::BadFiles { .. } => 2,
            Self::Race(_)
            | Self::Pick(_)
            | Self::Contest(_)
            | Self::Queues(_)
            | Self::Routing(_)
            | Self::WrongValues { .. }
            | Self::Write(_) => 1,
        }
    }
}

/// Turns the outcome of a binary into its exit code, and says on stderr what went wrong.
///
/// A reader that closed the pipe has had what it wanted: not an error.
#[must_use]
pub fn finish(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Says on stderr what went wrong, with the causes.
pub fn complain(error: &dyn std::error::Error) {
    let mut line = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    remark(format_args!("{line}"));
}

/// Says a line on stderr.
pub fn remark(line: fmt::Arguments<'_>) {
    // There is nobody left to tell if stderr is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints the names of the caches, one a line.
///
/// # Errors
///
/// What writing to stdout gave.
pub fn list(candidates: &[Candidate]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    candidates.iter().try_for_each(|candidate| writeln!(out, "{}", candidate.name))
}

/// Prints a text.
///
/// # Errors
///
/// What writing to stdout gave.
pub fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Takes the next argument as a number in a range.
///
/// # Errors
///
/// [`Failure::Usage`] if it is missing or no number, [`Failure::Range`] if it lies outside.
pub fn number(parser: &mut lexopt::Parser, option: &'static str, min: u64, max: u64) -> Result<usize, Failure> {
    let given = parse(parser)?;
    in_range(option, given, min, max)
}

/// Takes the next argument as a list of numbers in a range, separated by commas.
///
/// # Errors
///
/// As [`number`].
pub fn numbers(parser: &mut lexopt::Parser, option: &'static str, min: u64, max: u64) -> Result<Vec<usize>, Failure> {
    let words = parser.value()?;
    let words = words.to_string_lossy();
    let parsed = words.split(',').map(|word| {
        let failed = |error| lexopt::Error::ParsingFailed { value: word.to_owned(), error };
        let given = word.parse::<u64>().map_err(|error| failed(error.into()))?;
        in_range(option, given, min, max)
    });
    parsed.collect()
}

fn parse<T>(parser: &mut lexopt::Parser) -> Result<T, lexopt::Error>
where
    T: FromStr,
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    lexopt::ValueExt::parse(&parser.value()?)
}

fn in_range(option: &'static str, given: u64, min: u64, max: u64) -> Result<usize, Failure> {
    match usize::try_from(given) {
        Ok(number) if (min..=max).contains(&given) => Ok(number),
        _ => Err(Failure::Range { option, min, max, given }),
    }
}
