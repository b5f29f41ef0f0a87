//! What a power cut takes under [`Durability::Interval`] and [`Durability::Os`]: no more than their documentation says, and
//! always the newest, so that what is left has no holes.

use std::io;
use std::time::Duration;

use tenfold_mq::{Clock, Config, Durability, Fault, FaultyDisk, ManualClock, OpenError, Queue, Storage};

use crate::support::{Random, for_each_seed, small};

const INTERVAL: Duration = Duration::from_millis(50);
const POLICIES: [Durability; 2] = [Durability::Interval(INTERVAL), Durability::Os];

/// Something failed: the power is off.
struct Off;

/// One life of a queue, of which nothing is received, so that ids are places in the order of sending.
struct Life {
    disk: FaultyDisk,
    clock: ManualClock,
    config: Config,
    random: Random,
    /// When each message was confirmed.
    confirmed: Vec<Duration>,
    /// So many of them the power must not take.
    safe: usize,
}

impl Life {
    fn new(seed: u64, durability: Durability) -> Self {
        let (disk, clock) = (FaultyDisk::new(seed), ManualClock::new());
        let config = Config { durability, ..small() };
        Self { disk, clock, config, random: Random::new(seed), confirmed: Vec::new(), safe: 0 }
    }

    fn open(&self, context: &str) -> Queue {
        let builder = Queue::builder().config(self.config.clone()).clock(self.clock.clone());
        builder.open_storage(self.disk.clone()).unwrap_or_else(|error| panic!("{context}: {error:?}"))
    }

    fn work(&mut self, steps: usize) -> Result<(), Off> {
        let builder = Queue::builder().config(self.config.clone()).clock(self.clock.clone());
        let queue = builder.open_storage(self.disk.clone()).map_err(|_| Off)?;
        for _ in 0..steps {
            let body = vec![7; self.random.below(9_000)];
            match self.random.below(8) {
                0..=2 => {
                    queue.producer().send(body).map_err(|_| Off)?;
                    self.confirmed.push(self.clock.elapsed());
                }
                3 => {
                    // Nobody waits for these: they are in the log, and not known to be written.
                    let ticket = queue.producer().submit(body).map_err(|_| Off)?;
                    ticket.wait().map_err(|_| Off)?;
                    self.confirmed.push(self.clock.elapsed());
                }
                4 => {
                    let bodies: Vec<_> = (0..self.random.below(6) + 1).map(|_| body.clone()).collect();
                    let ids = queue.producer().send_batch(bodies).map_err(|_| Off)?;
                    self.confirmed.extend(ids.iter().map(|_| self.clock.elapsed()));
                }
                5 => self.clock.advance(Duration::from_millis(self.random.below(30) as u64)),
                6 if self.config.durability == Durability::Os && self.random.below(4) == 0 => self.write_back()?,
                // As a driver does.
                _ => {
                    queue.tick().map_err(|_| Off)?;
                    self.looked_at_the_clock();
                }
            }
        }
        Ok(())
    }

    /// What the system does by itself, some time.
    fn write_back(&mut self) -> Result<(), Off> {
        let write = || {
            for name in self.disk.list()? {
                self.disk.open(&name)?.sync()?;
            }
            io::Result::Ok(())
        };
        write().map_err(|_| Off)?;
        self.safe = self.confirmed.len();
        Ok(())
    }

    /// What was confirmed an interval ago is on disk by now.
    fn looked_at_the_clock(&mut self) {
        if let Durability::Interval(interval) = self.config.durability {
            let now = self.clock.elapsed();
            self.safe = self.confirmed.iter().take_while(|time| **time + interval <= now).count();
        }
    }

    /// So many messages are left after the power cut.
    fn left(&self, context: &str) -> usize {
        match Queue::verify_storage(&self.disk) {
            Ok(_) => {}
            Err(OpenError::NotFound) if self.confirmed.is_empty() => {}
            Err(error) => panic!("{context}: {error:?}"),
        }
        let queue = self.open(context);
        let consumer = queue.consumer();
        let mut left = 0;
        while let Some(delivery) = consumer.try_receive().unwrap() {
            assert_eq!(delivery.id().get(), left as u64, "{context}: there is a hole");
            delivery.ack().unwrap();
            left += 1;
        }
        // What comes now stays, behind whatever was torn.
        let id = queue.producer().send("after").unwrap();
        assert_eq!(id.get(), left as u64, "{context}");
        queue.close().unwrap();
        drop(queue);
        self.disk.crash();
        let queue = self.open(&format!("{context}, opened again"));
        assert_eq!(queue.stats().messages, 1, "{context}: closed means on disk");
        left
    }
}

fn cut_at(seed: u64, durability: Durability, steps: usize, index: Option<u64>) -> u64 {
    let mut life = Life::new(seed, durability);
    if let Some(index) = index {
        life.disk.fail_change(index, Fault::PowerCut);
    }
    let _ = life.work(steps);
    let changes = life.disk.changes();
    life.disk.crash();
    let context = format!("seed {seed}, {durability:?}, cut at {index:?}");
    let left = life.left(&context);
    assert!(left >= life.safe, "{context}: {left} of {} that were safe", life.safe);
    changes
}

#[test]
fn a_power_cut_takes_no_more_than_the_interval_or_what_the_system_has_not_written() {
    for durability in POLICIES {
        for seed in 0..4 {
            let changes = cut_at(seed, durability, 60, None);
            for index in 0..changes {
                cut_at(seed, durability, 60, Some(index));
            }
        }
    }
}

#[test]
fn a_power_cut_after_any_amount_of_work_takes_no_more() {
    for_each_seed(|seed| {
        for durability in POLICIES {
            for steps in [20, 100, 300] {
                cut_at(seed, durability, steps, None);
            }
        }
    });
}

#[test]
fn a_process_that_dies_takes_nothing_that_was_confirmed() {
    for_each_seed(|seed| {
        for durability in POLICIES {
            let mut life = Life::new(seed, durability);
            let _ = life.work(200);
            // Its files are as it wrote them: no power was cut.
            let left = life.open(&format!("seed {seed}")).stats().messages;
            assert_eq!(left, life.confirmed.len() as u64, "seed {seed}, {durability:?}");
        }
    });
}
