//! The whole queue on a disk that fails, against a model: the power goes, or a call fails, at every change of the disk in
//! turn.
//!
//! What must hold afterwards, in each group: every confirmed message that was not acked is delivered, once; one that was
//! acked durably is not; nothing is delivered that was not sent, with the body with which it was sent; messages of a key
//! come in order; an attempt that was written down is counted.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tenfold_mq::{
    Config, Delivery, Durability, Fault, FaultyDisk, Group, ManualClock, Message, OpenError, Queue, Received, Start,
};

use crate::support::{Random, SECOND, for_each_seed};

/// An operation failed, as it may once the disk does.
struct Failed;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Acked {
    #[default]
    No,
    /// The next thing that is written comes after it.
    Perhaps,
    /// The queue was opened again since: it was written then, or never will be.
    Unknown,
    Durably,
}

#[derive(Clone, Debug, Default)]
struct Fate {
    acked: Acked,
    attempts: u32,
    written_attempts: u32,
}

#[derive(Clone, Debug)]
struct Sent {
    message: Message,
    /// The sender was told so.
    is_confirmed: bool,
    /// It is on disk.
    is_written: bool,
    fates: [Fate; 2],
}

const GROUPS: [&str; 2] = ["default", "other"];

/// What the users of the queue know.
#[derive(Clone, Debug, Default)]
struct Model {
    sent: BTreeMap<u64, Sent>,
    /// Sends that failed: they may be in the queue all the same.
    unsure: Vec<Message>,
}

impl Model {
    fn add(&mut self, id: u64, message: Message, is_confirmed: bool) {
        let sent = Sent { message, is_confirmed, is_written: false, fates: Default::default() };
        assert!(self.sent.insert(id, sent).is_none(), "id {id} was given twice");
    }

    /// The message of this id, which may be one whose sending failed.
    fn find(&mut self, received: &Received) -> &mut Sent {
        let id = received.id().get();
        if self.sent.get(&id).is_none_or(|sent| sent.message.body() != received.body()) {
            let known = self.unsure.iter().position(|message| message.body() == received.body());
            let Some(at) = known else { panic!("{id} was never sent: {received:?}") };
            let message = self.unsure.remove(at);
            assert!(self.sent.remove(&id).is_none_or(|sent| !sent.is_written), "{id} is another's");
            self.add(id, message, false);
        }
        self.sent.get_mut(&id).expect("it was found or added")
    }

    /// All that was done so far is on disk.
    fn all_written(&mut self) {
        for sent in self.sent.values_mut() {
            sent.is_written = true;
            for fate in &mut sent.fates {
                fate.written_attempts = fate.attempts;
                if fate.acked == Acked::Perhaps {
                    fate.acked = Acked::Durably;
                }
            }
        }
    }

    fn delivered(&mut self, group: usize, received: &Received) {
        let fate = &mut self.find(received).fates[group];
        assert!(matches!(fate.acked, Acked::No | Acked::Unknown), "{} came back: {fate:?}", received.id());
        fate.acked = Acked::No;
        assert!(received.attempt() > fate.attempts, "attempt {} after {}", received.attempt(), fate.attempts);
        fate.attempts = received.attempt();
    }

    /// The queue is opened again: what was not written may have happened or not.
    fn reopen(&mut self) {
        for fate in self.sent.values_mut().flat_map(|sent| &mut sent.fates) {
            fate.attempts = fate.written_attempts;
            if fate.acked == Acked::Perhaps {
                fate.acked = Acked::Unknown;
            }
        }
        let is_lost = |sent: &Sent| !sent.is_confirmed && !sent.is_written;
        let lost: Vec<u64> = self.sent.iter().filter(|(_, sent)| is_lost(sent)).map(|(id, _)| *id).collect();
        for id in lost {
            self.unsure.extend(self.sent.remove(&id).map(|sent| sent.message));
        }
    }
}

struct Run<'a> {
    disk: FaultyDisk,
    clock: ManualClock,
    config: Config,
    model: &'a mut Model,
    random: Random,
    number: u32,
}

impl Run<'_> {
    fn open(&self) -> Result<Queue, OpenError> {
        let builder = Queue::builder().config(self.config.clone()).clock(self.clock.clone());
        builder.open_storage(self.disk.clone())
    }

    /// Works until something fails.
    fn work(&mut self, steps: usize) -> Result<(), Failed> {
        for _ in 0..3 {
            let queue = match self.open() {
                Ok(queue) => queue,
                Err(OpenError::Io(_)) => return Err(Failed),
                Err(error) => panic!("{error:?}"),
            };
            self.model.reopen();
            let other = queue.group_from(GROUPS[1], Start::Earliest).map_err(|_| Failed)?;
            let groups = [queue.default_group(), other];
            let mut held = Vec::new();
            for _ in 0..steps {
                self.step(&queue, &groups, &mut held)?;
            }
            if self.random.below(2) == 0 {
                queue.close().map_err(|_| Failed)?;
                self.model.all_written();
            }
        }
        Ok(())
    }

    fn step(&mut self, queue: &Queue, groups: &[Group; 2], held: &mut Vec<(usize, Delivery)>) -> Result<(), Failed> {
        match self.random.below(16) {
            0..=3 => self.send(queue)?,
            4 => self.send_batch(queue)?,
            5 => {
                let message = self.message();
                match queue.producer().submit(message.clone()) {
                    Ok(ticket) => self.model.add(ticket.id().get(), message, false),
                    Err(_) => return Err(Failed),
                }
            }
            6..=10 => self.receive(groups, held)?,
            11 if !held.is_empty() => {
                let at = self.random.below(held.len());
                let (group, delivery) = held.swap_remove(at);
                self.settle(group, delivery)?;
            }
            12 => {
                queue.flush().map_err(|_| Failed)?;
                self.written_if_always();
            }
            13 => {
                self.clock.advance(Duration::from_millis(self.random.below(4_000) as u64 + 20));
                queue.tick().map_err(|_| Failed)?;
                self.model.all_written();
            }
            _ => self.receive(groups, held)?,
        }
        Ok(())
    }

    fn message(&mut self) -> Message {
        self.number += 1;
        let length = self.random.below(10) * self.random.below(10) * self.random.below(100);
        let mut body = format!("{} ", self.number).into_bytes();
        body.resize(body.len() + length, self.number as u8);
        let mut message = Message::new(body);
        if self.random.below(3) == 0 {
            // Without a delay: one with a delay takes its place among those of its key when it comes due.
            return message.with_key(format!("key {}", self.random.below(3)));
        }
        if self.random.below(4) == 0 {
            message = message.with_delay(SECOND * self.random.below(5) as u32);
        }
        message
    }

    fn send(&mut self, queue: &Queue) -> Result<(), Failed> {
        let message = self.message();
        match queue.producer().send(message.clone()) {
            Ok(id) => {
                self.model.add(id.get(), message, true);
                self.written_if_always();
                Ok(())
            }
            Err(_) => {
                self.model.unsure.push(message);
                Err(Failed)
            }
        }
    }

    fn send_batch(&mut self, queue: &Queue) -> Result<(), Failed> {
        let messages: Vec<Message> = (0..self.random.below(8) + 1).map(|_| self.message()).collect();
        match queue.producer().send_batch(messages.clone()) {
            Ok(ids) => {
                for (id, message) in ids.into_iter().zip(messages) {
                    self.model.add(id.get(), message, true);
                }
                self.written_if_always();
                Ok(())
            }
            Err(_) => {
                self.model.unsure.extend(messages);
                Err(Failed)
            }
        }
    }

    fn receive(&mut self, groups: &[Group; 2], held: &mut Vec<(usize, Delivery)>) -> Result<(), Failed> {
        let group = self.random.below(2);
        let received = groups[group].consumer().try_receive().map_err(|_| Failed)?;
        let Some(delivery) = received else { return Ok(()) };
        self.model.delivered(group, &delivery);
        if self.random.below(3) == 0 {
            held.push((group, delivery));
            return Ok(());
        }
        self.settle(group, delivery)
    }

    fn settle(&mut self, group: usize, delivery: Delivery) -> Result<(), Failed> {
        let id = delivery.id().get();
        match self.random.below(6) {
            0 => {
                let _ = delivery.nack(SECOND * self.random.below(3) as u32);
            }
            1 => drop(delivery),
            2 => {
                let Ok(ticket) = delivery.ack_durable() else { return Ok(()) };
                self.fate(id, group).acked = Acked::Perhaps;
                ticket.wait().map_err(|_| Failed)?;
                self.written_if_always();
            }
            _ => {
                if delivery.ack().is_ok() {
                    self.fate(id, group).acked = Acked::Perhaps;
                }
            }
        }
        Ok(())
    }

    fn fate(&mut self, id: u64, group: usize) -> &mut Fate {
        &mut self.model.sent.get_mut(&id).expect("it was delivered").fates[group]
    }

    fn written_if_always(&mut self) {
        if self.config.durability == Durability::Always {
            self.model.all_written();
        }
    }

    /// Opens what is left, takes all there is, and finds nothing more afterwards.
    fn check(&mut self, context: &str) {
        let queue = self.open().unwrap_or_else(|error| panic!("{context}: {error:?}"));
        self.model.reopen();
        for (group, name) in GROUPS.iter().enumerate() {
            let handle = queue.group_from(name, Start::Earliest).unwrap();
            let consumer = handle.consumer();
            let mut last = BTreeMap::new();
            let mut seen = BTreeMap::new();
            for _ in 0..20 {
                self.clock.advance(SECOND * 10);
                while let Some(delivery) = consumer.try_receive().unwrap_or_else(|error| panic!("{context}: {error}")) {
                    let id = delivery.id().get();
                    assert!(seen.insert(id, ()).is_none(), "{context}: {id} twice");
                    self.model.delivered(group, &delivery);
                    if let Some(key) = delivery.message().key() {
                        let before = last.insert(key.clone(), id);
                        assert!(before.is_none_or(|before| before < id), "{context}: {id} after {before:?}");
                    }
                    delivery.ack_durable().unwrap().wait().unwrap();
                }
            }
            for (id, sent) in &self.model.sent {
                let must = sent.is_written && sent.fates[group].acked == Acked::No;
                assert!(!must || seen.contains_key(id), "{context}: {name} lost {id} {sent:?}");
            }
        }
        assert_eq!(queue.stats().messages, 0, "{context}");
        queue.close().unwrap();
        drop(queue);
        let queue = self.open().unwrap_or_else(|error| panic!("{context}: {error:?}"));
        assert_eq!(queue.stats().messages, 0, "{context}");
    }
}

fn config(durability: Durability) -> Config {
    Config {
        durability,
        segment_bytes: 64 << 10,
        max_message_bytes: 16 << 10,
        memory_bytes: 4 << 20,
        max_attempts: 10_000,
        lease: SECOND * 3,
        ..Config::default()
    }
}

const POLICIES: [Durability; 2] = [Durability::Always, Durability::Interval(Duration::from_millis(10))];

/// Runs the script with this fault at this change; whether it came to that.
fn fault_at(seed: u64, steps: usize, durability: Durability, fault: Option<(u64, Fault)>) -> (u64, bool) {
    let disk = FaultyDisk::new(seed);
    if let Some((index, fault)) = fault {
        disk.fail_change(index, fault);
    }
    let mut model = Model::default();
    let clock = ManualClock::new();
    let config = config(durability);
    let mut run = Run { disk: disk.clone(), clock, config, model: &mut model, random: Random::new(seed), number: 0 };
    let failed = run.work(steps).is_err();
    let changes = disk.changes();
    disk.crash();
    run.check(&format!("seed {seed}, {durability:?}, {fault:?}"));
    (changes, failed)
}

#[test]
fn a_power_cut_at_every_change_of_the_disk() {
    for (seed, durability) in [(1, POLICIES[0]), (2, POLICIES[1])] {
        let (changes, failed) = fault_at(seed, 40, durability, None);
        assert!(!failed && changes > 80, "{changes}");
        for index in 0..changes {
            let (_, failed) = fault_at(seed, 40, durability, Some((index, Fault::PowerCut)));
            assert!(failed, "change {index} went unnoticed");
        }
    }
}

#[test]
fn a_failed_call_at_any_change_of_the_disk() {
    for_each_seed(|seed| {
        let durability = POLICIES[seed as usize % 2];
        let (changes, _) = fault_at(seed, 60, durability, None);
        let mut random = Random::new(seed);
        for _ in 0..8 {
            let index = random.below(changes as usize) as u64;
            let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
            fault_at(seed, 60, durability, Some((index, Fault::Error(kinds[random.below(2)]))));
        }
    });
}

#[test]
fn a_crash_after_any_amount_of_work() {
    for_each_seed(|seed| {
        for steps in [100, 400] {
            fault_at(seed, steps, POLICIES[seed as usize % 2], None);
        }
    });
}
