//! The command line, read by hand.

use std::collections::VecDeque;
use std::time::Duration;

use tenfold_mq::{Config, Durability, Queue};

use crate::Outcome;

/// Nobody else receives while this program runs, so a lease need not end.
const LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// All options of all commands.
pub(crate) struct Options {
    pub(crate) dir: String,
    pub(crate) sync: Durability,
    pub(crate) producers: usize,
    pub(crate) ack: bool,
    pub(crate) idle_exit: Option<Duration>,
}

impl Options {
    pub(crate) fn parse(mut words: VecDeque<String>) -> Option<Self> {
        let mut dir = None;
        let mut options =
            Self { dir: String::new(), sync: Durability::Always, producers: 1, ack: false, idle_exit: None };
        while let Some(word) = words.pop_front() {
            match word.as_str() {
                "--dir" => dir = Some(words.pop_front()?),
                "--sync" => {
                    options.sync = match words.pop_front()?.as_str() {
                        "always" => Durability::Always,
                        "interval" => Durability::Interval(Duration::from_millis(100)),
                        "os" => Durability::Os,
                        _ => return None,
                    };
                }
                "--producers" => options.producers = words.pop_front()?.parse().ok().filter(|count| *count > 0)?,
                "--ack" => options.ack = true,
                "--idle-exit-ms" => {
                    options.idle_exit = Some(Duration::from_millis(words.pop_front()?.parse().ok()?));
                }
                _ => return None,
            }
        }
        options.dir = dir?;
        Some(options)
    }

    pub(crate) fn open(&self, durability: Durability) -> Outcome<Queue> {
        // Looking at messages without acking them must not make them dead letters.
        let config = Config { durability, lease: LEASE, max_attempts: u32::MAX, ..Config::default() };
        Ok(Queue::open(&self.dir, config)?)
    }
}
