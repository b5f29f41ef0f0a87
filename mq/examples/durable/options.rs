//! The command line, read by hand.

use std::collections::VecDeque;
use std::time::Duration;

use tenfold_mq::{Config, Durability, OpenError, Queue};

/// Nobody else receives while this program runs, so a lease need not end.
const LEASE: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) const USAGE: &str = "\
usage: durable send --dir D [--sync always|interval|os] [--producers N]
       durable recv --dir D [--ack] [--idle-exit-ms N]
       durable stat --dir D
       durable verify --dir D
       durable --help";

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Send,
    Receive,
    Stat,
    Verify,
    Help,
}

/// All options of all commands.
pub(crate) struct Options {
    pub(crate) command: Command,
    pub(crate) dir: String,
    pub(crate) sync: Durability,
    pub(crate) producers: usize,
    pub(crate) ack: bool,
    pub(crate) idle_exit: Option<Duration>,
}

impl Options {
    /// Reads the arguments, or says what is wrong with them.
    pub(crate) fn parse(mut words: VecDeque<String>) -> Result<Self, String> {
        let command = match words.pop_front().ok_or("a command is missing")?.as_str() {
            "send" => Command::Send,
            "recv" => Command::Receive,
            "stat" => Command::Stat,
            "verify" => Command::Verify,
            "--help" | "-h" | "help" => Command::Help,
            other => return Err(format!("no command `{other}`")),
        };
        let mut options =
            Self { command, dir: String::new(), sync: Durability::Always, producers: 1, ack: false, idle_exit: None };
        while let Some(word) = words.pop_front() {
            options.take(&word, &mut words)?;
        }
        if options.dir.is_empty() && options.command != Command::Help {
            return Err("--dir is missing".to_owned());
        }
        Ok(options)
    }

    /// Takes an option, and what belongs to it.
    fn take(&mut self, option: &str, words: &mut VecDeque<String>) -> Result<(), String> {
        let mut value = || words.pop_front().ok_or(format!("{option} needs a value"));
        let wrong = |value: &str, wanted: &str| format!("{option} is {wanted}, not `{value}`");
        match (option, self.command) {
            ("--help" | "-h", _) => self.command = Command::Help,
            ("--dir", _) => self.dir = value()?,
            ("--sync", Command::Send) => {
                self.sync = match value()?.as_str() {
                    "always" => Durability::Always,
                    "interval" => Durability::Interval(Duration::from_millis(100)),
                    "os" => Durability::Os,
                    other => return Err(wrong(other, "always, interval or os")),
                };
            }
            ("--producers", Command::Send) => {
                let value = value()?;
                let count = value.parse().ok().filter(|count| (1..=MAX_PRODUCERS).contains(count));
                self.producers = count.ok_or_else(|| wrong(&value, "a number from 1 to 1024"))?;
            }
            ("--ack", Command::Receive) => self.ack = true,
            ("--idle-exit-ms", Command::Receive) => {
                let value = value()?;
                let millis = value.parse().map_err(|_| wrong(&value, "a number of milliseconds"))?;
                self.idle_exit = Some(Duration::from_millis(millis));
            }
            _ => return Err(format!("no option `{option}` of this command")),
        }
        Ok(())
    }

    /// Opens the queue; only a sender begins one where there is none.
    pub(crate) fn open(&self, durability: Durability) -> Result<Queue, OpenError> {
        // Looking at messages without acking them must not make them dead letters.
        let config = Config { durability, lease: LEASE, max_attempts: u32::MAX, ..Config::default() };
        let builder = Queue::builder().config(config);
        let builder = if self.command == Command::Send { builder } else { builder.must_exist() };
        builder.open(&self.dir)
    }
}

/// Each is a thread.
const MAX_PRODUCERS: usize = 1024;
