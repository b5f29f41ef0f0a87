//! Kill -9, a hundred times, on real files: a child process sends, receives and acks until it is killed in the middle of
//! it, and what it said to have done is held against what the next one finds.
//!
//! `TENFOLD_ROUNDS` asks for another number of kills; `scripts/soak kills` runs ten thousand. Every hundred kills the
//! queue is emptied and checked, so the time for a round and the memory for what was heard stay the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tenfold_mq::{Config, Durability, Message, Queue};

use crate::support::Random;

const DIRECTORY: &str = "TENFOLD_STORM_DIRECTORY";
const ROUND: &str = "TENFOLD_STORM_ROUND";
const SENDERS: u64 = 4;
const ROUNDS: u64 = 100;
/// Kills between two looks at everything.
const CHECK_EVERY: u64 = 100;

fn config(round: u64) -> Config {
    let durability = if round % 2 == 0 { Durability::Always } else { Durability::Os };
    Config {
        durability,
        segment_bytes: 64 << 10,
        max_message_bytes: 16 << 10,
        max_attempts: 100_000,
        ..Config::default()
    }
}

/// What the child does until it is killed. As a test of its own it does nothing.
#[test]
fn child() {
    let (Ok(directory), Ok(round)) = (std::env::var(DIRECTORY), std::env::var(ROUND)) else { return };
    let round: u64 = round.parse().unwrap();
    let queue = Queue::open(directory, config(round)).unwrap();
    let number = AtomicU64::new(round * 1_000_000);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (queue, number) = (&queue, &number);
            scope.spawn(move || {
                let producer = queue.producer();
                loop {
                    let body = format!("{sender}:{}:{}", number.fetch_add(1, Ordering::Relaxed), "x".repeat(300));
                    let id = producer.send(Message::new(body).with_key(sender.to_string())).unwrap();
                    say(&format!("sent {id}"));
                }
            });
        }
        for _ in 0..2 {
            let queue = &queue;
            scope.spawn(move || {
                let consumer = queue.consumer();
                loop {
                    let delivery = consumer.receive().unwrap();
                    let (id, key) = (delivery.id(), delivery.body()[0] - b'0');
                    say(&format!("received {id} {key}"));
                    if id.get() % 3 == 0 {
                        delivery.ack().unwrap();
                    } else {
                        delivery.ack_durable().unwrap().wait().unwrap();
                        say(&format!("acked {id} {key}"));
                    }
                }
            });
        }
    });
}

/// One line, whole or not at all but for the last one.
fn say(line: &str) {
    // The parent is gone: so is this process, soon.
    let _ = std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes());
    let _ = std::io::stdout().lock().flush();
}

/// What the children said since everything was checked.
#[derive(Default)]
struct Heard {
    /// The lowest id that was free when everything was checked: all before it were received and acked.
    floor: u64,
    sent: BTreeSet<u64>,
    received: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// Received in this round and not said to be acked: at its end, nobody knows.
    open: BTreeSet<u64>,
    unsure: BTreeSet<u64>,
    /// The last one acked of each key.
    last_acked: BTreeMap<u64, u64>,
    totals: Totals,
}

/// Over all rounds.
#[derive(Default)]
struct Totals {
    sent: usize,
    acked: usize,
    /// Deliveries of messages that had been received and not been said to be acked.
    redelivered: usize,
    /// What was left for the checks.
    left: usize,
}

impl Heard {
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let what = words.next()?;
        let id = words.next()?.parse().ok()?;
        match what {
            "sent" => {
                assert!(self.sent.insert(id), "{id} was given twice");
                self.totals.sent += 1;
            }
            "received" => {
                let key = words.next()?.parse().ok()?;
                assert!(id >= self.floor && !self.acked.contains(&id), "{id} came back after it was acked");
                let last = self.last_acked.get(&key).copied().unwrap_or_default();
                assert!(id >= last, "{id} of key {key} came after {last}");
                self.totals.redelivered += usize::from(!self.received.insert(id));
                self.open.insert(id);
            }
            "acked" => {
                self.acked.insert(id);
                self.totals.acked += 1;
                self.open.remove(&id);
                self.last_acked.insert(words.next()?.parse().ok()?, id);
            }
            _ => return None,
        }
        Some(())
    }

    /// Lets a child work for so many lines, and kills it.
    fn storm(&mut self, directory: &Path, round: u64, lines: usize) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["storm::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let (mut heard, mut is_killed) = (0, false);
        while reader.read_line(&mut line).unwrap() > 0 {
            // What it had said before it was killed counts, but for a last line that is torn.
            if line.ends_with('\n') {
                heard += usize::from(self.line(line.trim_end()).is_some());
            }
            if heard >= lines && !is_killed {
                is_killed = true;
                child.kill().unwrap();
            }
            line.clear();
        }
        child.wait().unwrap();
        self.unsure.append(&mut self.open);
        assert!(is_killed, "the child ended by itself in round {round}");
    }

    /// Takes what is left, holds it against what was heard, and begins anew.
    fn check(&mut self, directory: &Path) {
        let queue = Queue::open(directory, config(0)).unwrap();
        let consumer = queue.consumer();
        let mut left = BTreeSet::new();
        let mut last = BTreeMap::new();
        while let Some(delivery) = consumer.try_receive().unwrap() {
            let id = delivery.id().get();
            assert!(left.insert(id), "{id} twice");
            assert!(id >= self.floor && !self.acked.contains(&id), "{id} came back");
            let before = last.insert(delivery.body()[0], id);
            assert!(before.is_none_or(|before| before < id), "{id} of a key came after {before:?}");
            delivery.ack().unwrap();
        }
        let is_gone = |id: &&u64| !left.contains(id) && !self.acked.contains(id) && !self.unsure.contains(id);
        let lost: Vec<_> = self.sent.iter().filter(is_gone).collect();
        assert!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), self.sent.len());
        queue.tick().unwrap();
        assert!(queue.stats().segments <= 3, "{:?}", queue.stats());
        // What comes later is above it.
        let last = queue.producer().send("the next one is a new one").unwrap();
        consumer.try_receive().unwrap().unwrap().ack().unwrap();
        queue.close().unwrap();
        self.totals.left += left.len();
        let totals = std::mem::take(&mut self.totals);
        *self = Self { floor: last.get() + 1, totals, ..Self::default() };
    }
}

/// How many kills, if not a hundred.
fn rounds() -> u64 {
    let rounds = std::env::var("TENFOLD_ROUNDS").ok();
    rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap_or_else(|_| panic!("TENFOLD_ROUNDS is no number: {rounds}")))
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_confirmed() {
    let directory = Directory::new("storm");
    let mut heard = Heard::default();
    let mut random = Random::new(7);
    let rounds = rounds();
    let (start, mut told) = (Instant::now(), Duration::ZERO);
    for round in 0..rounds {
        heard.storm(&directory.0, round, random.below(200) + 1);
        if (round + 1) % CHECK_EVERY == 0 || round + 1 == rounds {
            heard.check(&directory.0);
        }
        if start.elapsed() - told >= Duration::from_secs(1) || round + 1 == rounds {
            told = start.elapsed();
            let Totals { sent, acked, redelivered, left } = heard.totals;
            let done = round + 1;
            println!(
                "{} s: {done} of {rounds} kills; {sent} confirmed, {acked} acked, {left} left for checks; 0 lost, \
                 {redelivered} delivered again, none of them acked",
                told.as_secs()
            );
        }
    }
    let Totals { sent, acked, redelivered, .. } = heard.totals;
    assert!(rounds < ROUNDS || sent > 1_000 && acked > 500 && redelivered > 0, "{sent} sent, {acked} acked");
}

/// Removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tenfold-mq-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
