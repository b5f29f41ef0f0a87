//! The command line, read by hand: twelve options do not pay for a parser's build time.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What `cargo climb --help` prints.
pub(crate) const HELP: &str = "\
cargo climb [RUNG | FIRST..LAST] [OPTIONS]    climb all rungs, one, or a range; report in DIR
cargo climb ledger [OPTIONS]                  every requirement with its test and its last verdict
cargo climb plan --daily-users N              what N daily users ask of the nodes; arithmetic only

  --quick            shorter windows, wider tolerance
  --cost MODE        modelled (default) or real: without modelled service times
  --trace FILE       keys in the order of a trace: little-endian u64 differences, plain or zstd
  --zipf S           keys by Zipf's law with exponent S instead of the fitted web profile
  --engines LIST     real servers of this machine: postgres for rung 05, nats for rung 10, or both with a comma
  --seed N           repeat a run's random choices; default 1
  --json PATH        also write the report as JSON to PATH
  --out DIR          where reports go; default target/climb
  --listen ADDR      with one rung: serve it at ADDR of 127.0.0.0/8 until Enter or q
  --noisy            measure although the machine is busy, and mark the report so
  --daily-users N    for plan; 5e6 is understood
  --help             this text

exit code: 0 all claims hold, 1 a claim fails or a part broke, 2 wrong usage, 130 interrupted";

const DEFAULT_OUT: &str = "target/climb";

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Climb the rungs from the first to the last number.
    Climb { first: u8, last: u8 },
    /// Print the ledger.
    Ledger,
    /// Arithmetic for so many daily users.
    Plan { daily_users: f64 },
    /// Print the help.
    Help,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keys {
    /// The profile fitted to a web trace.
    Fitted,
    /// A trace file.
    Trace(PathBuf),
    /// Zipf's law with this exponent.
    Zipf(f64),
}

/// Real servers in the place of what the climb has by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Engines {
    /// Under the database servers of rung 05.
    pub(crate) postgres: bool,
    /// As the queue of rung 10.
    pub(crate) nats: bool,
}

/// A whole command line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Args {
    pub(crate) command: Command,
    pub(crate) quick: bool,
    pub(crate) real_cost: bool,
    pub(crate) keys: Keys,
    pub(crate) engines: Engines,
    pub(crate) seed: u64,
    pub(crate) json: Option<PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) noisy: bool,
}

/// A command line that means nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("`{0}` is no rung, command or option; see --help")]
    Unknown(String),
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("`{value}` is no value for {option}: {expected}")]
    BadValue { option: &'static str, value: String, expected: &'static str },
    #[error("rung {0:02} is not there; the rungs are {1}")]
    NoSuchRung(u8, String),
    #[error("--listen goes with one rung, such as `cargo climb 01 --listen 127.0.0.1:8080`")]
    ListenNeedsOneRung,
    #[error(
        "--engines {engine} goes with a climb of rung {rung:02}, such as `cargo climb {rung:02} --engines {engine}`"
    )]
    EngineNeedsRung { engine: &'static str, rung: u8 },
    #[error("plan needs --daily-users N")]
    PlanNeedsUsers,
    #[error("--trace and --zipf exclude each other")]
    TwoKeySources,
}

/// Reads the arguments after the program's name; `rungs` are the numbers that exist, ascending.
pub(crate) fn parse(words: impl IntoIterator<Item = String>, rungs: &[u8]) -> Result<Args, UsageError> {
    let mut words = words.into_iter();
    let mut args = Args {
        command: Command::Climb { first: 0, last: u8::MAX },
        quick: false,
        real_cost: false,
        keys: Keys::Fitted,
        engines: Engines::default(),
        seed: 1,
        json: None,
        out: PathBuf::from(DEFAULT_OUT),
        listen: None,
        noisy: false,
    };
    let mut daily_users = None;
    while let Some(word) = words.next() {
        let mut value = |option| words.next().ok_or(UsageError::NoValue(option));
        match word.as_str() {
            "--help" | "-h" | "help" => args.command = Command::Help,
            "--quick" => args.quick = true,
            "--noisy" => args.noisy = true,
            "--cost" => args.real_cost = cost(value("--cost")?)?,
            "--engines" => args.engines = engines(value("--engines")?)?,
            "--seed" => args.seed = number("--seed", value("--seed")?, "a whole number", |_| true)?,
            "--json" => args.json = Some(value("--json")?.into()),
            "--out" => args.out = value("--out")?.into(),
            "--listen" => args.listen = Some(listen(value("--listen")?)?),
            "--trace" => args.keys = keys(&args.keys, Keys::Trace(value("--trace")?.into()))?,
            "--zipf" => {
                let s = number("--zipf", value("--zipf")?, "0 to 4", |s| (0.0..=4.0).contains(s))?;
                args.keys = keys(&args.keys, Keys::Zipf(s))?;
            }
            "--daily-users" => {
                let expected = "a number above 0 and at most 1e12";
                let users = number("--daily-users", value("--daily-users")?, expected, |n| *n > 0.0 && *n <= 1e12)?;
                daily_users = Some(users);
            }
            "ledger" => args.command = Command::Ledger,
            "plan" => args.command = Command::Plan { daily_users: 0.0 },
            _ => args.command = range(&word, rungs)?,
        }
    }
    if let Command::Plan { daily_users: users } = &mut args.command {
        *users = daily_users.ok_or(UsageError::PlanNeedsUsers)?;
    }
    if args.listen.is_some() && !matches!(args.command, Command::Climb { first, last } if first == last) {
        return Err(UsageError::ListenNeedsOneRung);
    }
    for (engine, rung, is_wanted) in [("postgres", 5, args.engines.postgres), ("nats", 10, args.engines.nats)] {
        // What does not climb has no use for it: so be it.
        let is_missed = matches!(args.command, Command::Climb { first, last } if !(first..=last).contains(&rung));
        if is_wanted && is_missed {
            return Err(UsageError::EngineNeedsRung { engine, rung });
        }
    }
    Ok(args)
}

fn engines(value: String) -> Result<Engines, UsageError> {
    let mut engines = Engines::default();
    for name in value.split(',') {
        match name {
            "postgres" => engines.postgres = true,
            "nats" => engines.nats = true,
            _ => return Err(UsageError::BadValue { option: "--engines", value, expected: "postgres, nats, or both" }),
        }
    }
    Ok(engines)
}

fn cost(value: String) -> Result<bool, UsageError> {
    match value.as_str() {
        "real" => Ok(true),
        "modelled" => Ok(false),
        _ => Err(UsageError::BadValue { option: "--cost", value, expected: "modelled or real" }),
    }
}

fn listen(value: String) -> Result<SocketAddr, UsageError> {
    let expected = "an address of this machine's loopback with a port, such as 127.0.0.1:8080";
    match value.parse::<SocketAddr>() {
        Ok(address) if address.is_ipv4() && address.ip().is_loopback() => Ok(address),
        _ => Err(UsageError::BadValue { option: "--listen", value, expected }),
    }
}

fn keys(before: &Keys, now: Keys) -> Result<Keys, UsageError> {
    let clash = *before != Keys::Fitted && std::mem::discriminant(before) != std::mem::discriminant(&now);
    if clash { Err(UsageError::TwoKeySources) } else { Ok(now) }
}

fn number<T: std::str::FromStr>(
    option: &'static str,
    value: String,
    expected: &'static str,
    fits: impl Fn(&T) -> bool,
) -> Result<T, UsageError> {
    match value.parse() {
        Ok(number) if fits(&number) => Ok(number),
        _ => Err(UsageError::BadValue { option, value, expected }),
    }
}

fn range(word: &str, rungs: &[u8]) -> Result<Command, UsageError> {
    let unknown = || UsageError::Unknown(word.to_owned());
    let (first, last) = word.split_once("..").unwrap_or((word, word));
    let rung = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u8>().ok() } else { None };
        number.ok_or_else(unknown)
    };
    let (first, last) = (rung(first)?, rung(last)?);
    if first > last {
        return Err(unknown());
    }
    for end in [first, last] {
        if !rungs.contains(&end) {
            let known: Vec<_> = rungs.iter().map(|rung| format!("{rung:02}")).collect();
            return Err(UsageError::NoSuchRung(end, known.join(", ")));
        }
    }
    Ok(Command::Climb { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, UsageError> {
        parse(line.split_whitespace().map(str::to_owned), &[1, 2, 3, 5, 6, 10])
    }

    #[test]
    fn reads_rungs_ranges_and_options_in_any_order() {
        assert_eq!(read("").unwrap().command, Command::Climb { first: 0, last: 255 });
        assert_eq!(read("06").unwrap().command, Command::Climb { first: 6, last: 6 });
        let args = read("--quick 01..03 --cost real --zipf 0.99 --seed 7 --json r.json").unwrap();
        assert_eq!(args.command, Command::Climb { first: 1, last: 3 });
        assert!(args.quick && args.real_cost && args.seed == 7 && args.keys == Keys::Zipf(0.99));
        assert_eq!(read("plan --daily-users 5e6").unwrap().command, Command::Plan { daily_users: 5e6 });
    }

    #[test]
    fn reads_one_engine_or_a_list() {
        let engines = |line: &str| read(line).map(|args| (args.engines.postgres, args.engines.nats));
        for line in ["10 --engines nats", "06..10 --engines nats", "--engines nats --quick"] {
            assert_eq!(engines(line), Ok((false, true)), "{line}");
        }
        assert_eq!(engines("05 --engines postgres"), Ok((true, false)));
        assert_eq!(engines("--engines nats,postgres"), Ok((true, true)));
        assert_eq!(engines("05..10 --engines postgres,nats"), Ok((true, true)));
        assert_eq!(engines("10"), Ok((false, false)));
        let needs = |engine, rung| Err(UsageError::EngineNeedsRung { engine, rung });
        assert_eq!(engines("06 --engines nats"), needs("nats", 10));
        assert_eq!(engines("10 --engines nats,postgres"), needs("postgres", 5));
        assert_eq!(engines("ledger --engines nats"), Ok((false, true)));
        for line in ["10 --engines", "10 --engines redis", "05 --engines postgres,", "05..10 --engines nats,redis"] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn refuses_what_means_nothing() {
        for line in ["up", "3..1", "..", "1..", "+1", "--speed", "--seed", "--seed x", "--cost free", "--zipf NaN"] {
            assert!(read(line).is_err(), "{line}");
        }
        for line in ["04", "01..04", "plan", "--listen 127.0.0.1:1", "01..02 --listen 127.0.0.1:1", "--zipf 9"] {
            assert!(read(line).is_err(), "{line}");
        }
        for line in ["01 --listen 0.0.0.0:80", "01 --listen 8080", "--trace f --zipf 1", "plan --daily-users -5"] {
            assert!(read(line).is_err(), "{line}");
        }
        assert!(read("04").unwrap_err().to_string().contains("01, 02, 03, 05, 06"));
    }
}
