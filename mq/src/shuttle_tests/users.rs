//! Those who use the queue at the same time.

use std::sync::Arc;
use std::time::Duration;

// Held for no longer than a call of the model takes, in which shuttle has nothing to choose.
use parking_lot::Mutex;

use super::model::{Model, Number};
use super::{End, GROUPS, LEASE, Plan, Random};
use crate::log::block_on;
use crate::sync::thread;
use crate::{Delivery, Fault, FaultyDisk, Message, Queue, ReceiveError, SettleError, Start};

#[derive(Clone)]
pub(super) struct Users {
    plan: Plan,
    queue: Queue,
    model: Arc<Mutex<Model>>,
}

/// Whoever gets it goes home.
struct Over;

impl Users {
    /// Makes the groups, and arms the fault.
    pub(super) fn new(plan: Plan, queue: Queue, disk: &FaultyDisk, model: Model) -> Self {
        for name in &GROUPS[1..plan.groups] {
            queue.group_from(name, Start::Earliest).unwrap();
        }
        queue.flush().unwrap();
        if let End::PowerCut(change) = plan.end {
            disk.fail_change(disk.changes() + change, Fault::PowerCut);
        }
        Self { plan, queue, model: Arc::new(Mutex::new(model)) }
    }

    /// Everybody works until the session ends.
    pub(super) fn work(self) -> Model {
        let mut threads = Vec::new();
        for sender in 0..self.plan.senders {
            let users = self.clone();
            threads.push(thread::spawn(move || users.send_all(sender)));
        }
        for group in 0..self.plan.groups {
            for consumer in 0..self.plan.consumers {
                let users = self.clone();
                threads.push(thread::spawn(move || users.receive_all(group, consumer)));
            }
        }
        if self.plan.is_driven {
            let users = self.clone();
            threads.push(thread::spawn(move || users.drive()));
        }
        if self.plan.end == End::Closed(0) {
            self.close();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.queue.shared().hub.core.lock().state.check_invariants();
        let Self { queue, model, .. } = self;
        let model = Arc::into_inner(model).expect("the others are gone").into_inner();
        model.check_stats(&queue.stats());
        model
    }

    fn close(&self) {
        if self.queue.close().is_err() {
            self.model.lock().fail();
        }
    }

    /// Something failed: nobody can go on.
    fn fail(&self) {
        self.model.lock().fail();
        self.close();
    }

    fn drive(&self) {
        if self.queue.driver().run().is_err() {
            self.fail();
        }
    }

    fn send_all(&self, sender: u8) {
        let mut random = Random(self.plan.seed ^ u64::from(sender) << 32);
        for index in 0..self.plan.messages {
            let number = Number { sender, index };
            let mut body = vec![index; [2, 100, 15 << 10][random.below(3) as usize]];
            body[..2].copy_from_slice(&[sender, index]);
            let message = Message::new(body).with_key(vec![sender]);
            match self.send(number, message, random.below(6)) {
                Ok(()) => {}
                Err(Over) => return,
            }
        }
    }

    fn send(&self, number: Number, message: Message, way: u64) -> Result<(), Over> {
        let producer = self.queue.producer();
        let before = self.model.lock().begin(number);
        let sent = match way {
            0 => block_on(producer.send_async(message)),
            1 => producer.send(message),
            2 => producer.send_batch([message]).map(|ids| ids[0]).map_err(|error| {
                let (refusal, _) = error.into_parts();
                crate::SendError::new(refusal, Message::default())
            }),
            way => match producer.submit(message) {
                Ok(ticket) => {
                    self.model.lock().taken(number, ticket.id());
                    // Nobody waits for the others, and they are sent all the same.
                    if way == 3 {
                        if ticket.wait().is_err() {
                            self.fail();
                            return Err(Over);
                        }
                        self.model.lock().confirmed(number, &before);
                    }
                    return Ok(());
                }
                Err(error) => Err(error),
            },
        };
        match sent {
            Ok(id) => {
                let mut model = self.model.lock();
                model.taken(number, id);
                model.confirmed(number, &before);
                Ok(())
            }
            Err(error) => {
                if !matches!(error.refusal(), crate::Refusal::Closed) {
                    self.fail();
                }
                Err(Over)
            }
        }
    }

    fn receive_all(&self, group: usize, number: u64) {
        let mut random = Random(self.plan.seed ^ (number + 1) << 40 ^ (group as u64 + 1) << 48);
        let consumer = self.queue.group(GROUPS[group]).map(|group| group.consumer());
        let Ok(consumer) = consumer else { return };
        loop {
            // A task needs somebody who looks at the clock: the driver, or a thread in its place.
            let as_task = (self.plan.is_driven || number > 0) && random.below(2) == 0;
            let received = if as_task { block_on(consumer.receive_async()) } else { consumer.receive() };
            let outcome = match received {
                Ok(delivery) => self.settle(group, delivery, &mut random),
                Err(ReceiveError::Closed) => Err(Over),
                Err(ReceiveError::Failed(_)) => {
                    self.fail();
                    Err(Over)
                }
                Err(error) => panic!("{error:?}"),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    fn settle(&self, group: usize, delivery: Delivery, random: &mut Random) -> Result<(), Over> {
        let number = self.model.lock().delivered(group, &delivery);
        let way = random.below(10);
        let settled = match way {
            0 => delivery.nack(Duration::ZERO),
            1 => delivery.nack(Duration::from_secs(1)),
            2 => {
                drop(delivery);
                Ok(())
            }
            _ => return self.ack(group, number, delivery, way),
        };
        self.outcome(settled)
    }

    fn ack(&self, group: usize, number: Number, delivery: Delivery, way: u64) -> Result<(), Over> {
        let attempt = delivery.attempt();
        if way == 3 {
            // Longer than the lease: somebody else may have it meanwhile.
            thread::park_timeout(LEASE + Duration::from_secs(1));
        }
        if way == 4 {
            self.outcome(delivery.extend(LEASE * 2))?;
        }
        self.model.lock().acking(group, number, attempt);
        let (settled, ticket) = match way {
            3..=6 => (delivery.ack(), None),
            _ => match delivery.ack_durable() {
                Ok(ticket) => (Ok(()), Some(ticket)),
                // It may be acked all the same, only not written.
                Err(SettleError::Failed(_)) => {
                    self.fail();
                    return Err(Over);
                }
                Err(error) => (Err(error), None),
            },
        };
        let count = self.model.lock().acked(group, number, attempt, settled.is_ok());
        self.outcome(settled)?;
        if let Some(ticket) = ticket {
            match ticket.wait() {
                Ok(_) if self.plan.durability == crate::Durability::Always => {
                    self.model.lock().durable(group, number);
                }
                Ok(_) => {}
                Err(_) => {
                    self.fail();
                    return Err(Over);
                }
            }
        }
        let is_over = match self.plan.end {
            End::Closed(acks) => count >= acks || count == self.plan.total() * self.plan.groups,
            _ => count == self.plan.total() * self.plan.groups,
        };
        if is_over {
            self.close();
            return Err(Over);
        }
        Ok(())
    }

    fn outcome(&self, settled: Result<(), SettleError>) -> Result<(), Over> {
        match settled {
            Ok(()) | Err(SettleError::Stale) => Ok(()),
            Err(SettleError::Closed) => Err(Over),
            Err(SettleError::Failed(_)) => {
                self.fail();
                Err(Over)
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}
