//! tenfold's queue.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use tenfold_mq::{Config, Consumer, Delivery, Durability, Message, Producer, QueueError, Ticket};

use super::load::{BATCH, Bodies, Lap, Load, WINDOW};
use super::scenario::Scenario;
use super::{Candidate, Origin, Outcome, Policy, Queue, Sender, Setting, Taker, Trouble, drive};

/// All of them.
pub const CANDIDATES: &[Candidate] = &[
    candidate("tenfold", Policy::Always, None, |setting| Tenfold::open(setting, default_config(setting))),
    candidate("tenfold", Policy::Interval, None, |setting| Tenfold::open(setting, default_config(setting))),
    candidate("tenfold", Policy::Os, None, |setting| Tenfold::open(setting, default_config(setting))),
    candidate("tenfold", Policy::None, None, Tenfold::in_memory),
    candidate("tenfold-spilled", Policy::Always, Some(Scenario::Recovery), |setting| {
        Tenfold::open(setting, Config { memory_bytes: 4 << 20, ..default_config(setting) })
    }),
];

/// Messages that a queue in memory holds before its producers wait.
const CHANNEL: u64 = super::baseline::CHANNEL as u64;

/// Deliveries that a consumer keeps before it acks them, the newest first: acks come out of order.
const HELD_BACK: usize = 8;

const fn candidate(
    name: &'static str,
    sync: Policy,
    only_in: Option<Scenario>,
    open: fn(&Setting<'_>) -> Result<Box<dyn Queue>, Trouble>,
) -> Candidate {
    Candidate { name, sync, origin: Origin::Ours, is_server: false, only_in, open }
}

/// As it comes, but for what the scenario is about.
fn default_config(setting: &Setting<'_>) -> Config {
    let durability = match setting.sync {
        Policy::Interval => Durability::Interval(Duration::from_secs(1)),
        Policy::Os => Durability::Os,
        _ => Durability::Always,
    };
    let prefetch = if setting.scenario == Scenario::Consume { 64 } else { 1 };
    Config { durability, prefetch, ..Config::default() }
}

/// A queue and the thread that drives it, as a host would have one.
struct Tenfold {
    queue: tenfold_mq::Queue,
    driver: Option<JoinHandle<Result<(), QueueError>>>,
    sync: Policy,
}

impl Tenfold {
    fn open(setting: &Setting<'_>, config: Config) -> Result<Box<dyn Queue>, Trouble> {
        let queue = tenfold_mq::Queue::open(setting.folder.join("queue"), config)?;
        let driver = queue.driver();
        let driver = Some(thread::spawn(move || driver.run()));
        Ok(Box::new(Self { queue, driver, sync: setting.sync }))
    }

    fn in_memory(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
        let config = Config { max_messages: CHANNEL, ..Config::default() };
        let queue = tenfold_mq::Queue::in_memory(config)?;
        Ok(Box::new(Self { queue, driver: None, sync: setting.sync }))
    }
}

impl Drop for Tenfold {
    fn drop(&mut self) {
        // A queue that failed has said so to whoever sent or received.
        let _ = self.queue.close();
        if let Some(driver) = self.driver.take() {
            let _ = driver.join();
        }
    }
}

impl Queue for Tenfold {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(self.queue.producer()))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        let consumer = self.queue.consumer();
        Some(Box::new(TenfoldTaker { consumer, is_durable: self.sync == Policy::Always, held_back: Vec::new() }))
    }

    fn window(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let producer = self.queue.producer();
        let tickets = RefCell::new(VecDeque::<Ticket>::with_capacity(WINDOW));
        let submit = |body: &Bytes| {
            let mut tickets = tickets.borrow_mut();
            if tickets.len() == WINDOW {
                // The oldest half: waiting for one waits for those before it.
                tickets[WINDOW / 2 - 1].wait()?;
                tickets.drain(..WINDOW / 2);
            }
            tickets.push_back(producer.submit(body.clone())?);
            Ok(())
        };
        let settle = || {
            let last = tickets.borrow_mut().drain(..).next_back();
            last.map_or(Ok(()), |ticket| ticket.wait().map(drop).map_err(Trouble::from))
        };
        drive::window(load, submit, settle).map(Some)
    }

    fn tasks(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let runtime = drive::runtime()?;
        let make = || {
            let producer = Arc::new(self.queue.producer());
            Ok(move |body: Bytes| {
                let producer = Arc::clone(&producer);
                async move { producer.send_async(body).await.map(drop).map_err(Trouble::from) }
            })
        };
        drive::tasks(&runtime, load, make).map(Some)
    }

    fn delayed(&self, bodies: &Bodies, count: u64, delay: Duration) -> Outcome {
        let producer = self.queue.producer();
        for first in (0..count).step_by(BATCH) {
            let numbers = first..count.min(first + BATCH as u64);
            let batch = numbers.map(|number| Message::new(bodies.get(number).clone()).with_delay(delay));
            Producer::send_batch(&producer, batch)?;
        }
        Ok(())
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        Ok(Some(self.queue.stats().messages))
    }
}

impl Sender for Producer {
    fn send(&mut self, body: &Bytes) -> Outcome {
        Self::send(self, body.clone())?;
        Ok(())
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        let ids = Self::send_batch(self, bodies.iter().cloned())?;
        Ok(ids.len() == bodies.len())
    }
}

struct TenfoldTaker {
    consumer: Consumer,
    is_durable: bool,
    held_back: Vec<Delivery>,
}

impl TenfoldTaker {
    fn done(&mut self, delivery: Delivery) -> Outcome {
        if self.is_durable {
            delivery.ack_durable()?.wait()?;
            return Ok(());
        }
        self.held_back.push(delivery);
        if self.held_back.len() < HELD_BACK { Ok(()) } else { self.settle() }
    }
}

impl Taker for TenfoldTaker {
    fn take(&mut self, max: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        if max > 1 {
            let batch = self.consumer.try_receive_batch(max)?;
            batch.iter().for_each(|received| look(received.body()));
            return Ok(batch.ack()?);
        }
        let Some(delivery) = self.consumer.try_receive()? else { return Ok(0) };
        look(delivery.body());
        self.done(delivery)?;
        Ok(1)
    }

    fn take_waiting(&mut self, timeout: Duration, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let Some(delivery) = self.consumer.receive_timeout(timeout)? else { return Ok(0) };
        look(delivery.body());
        // Nobody waits for this ack: it goes to the disk with the next message.
        delivery.ack()?;
        Ok(1)
    }

    fn settle(&mut self) -> Outcome {
        while let Some(delivery) = self.held_back.pop() {
            delivery.ack()?;
        }
        Ok(())
    }
}
