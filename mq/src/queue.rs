//! The queue itself.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder;
use crate::delivery::Received;
use crate::driver::Driver;
use crate::group::{DEFAULT_GROUP, Group, NO_GROUP, Start};
use crate::shared::{Settlement, Shared};
use crate::state::GroupId;
use crate::storage::{Directory, Storage};
use crate::{
    Config, ConfigError, Consumer, DeadLetter, GroupError, MessageId, OpenError, Producer, QueueError, Receipt,
    SettleError, Stats, Ticket,
};

/// A durable queue in this process: one directory, one log, one or more groups of consumers.
///
/// A handle: clones are the same queue. The directory is held until the last handle (queue, producer, consumer, delivery,
/// ticket) is gone. [`Queue::close`] writes what is left and stops everybody; dropping the handles instead loses nothing
/// that was confirmed, and forgets acks that were not written yet.
///
/// # Who does the work
/// A queue starts no thread. Whoever waits does what is to be done: a sender writes for all who wait, a receiver looks
/// at the clock. If nobody may wait, as in a program of tasks only, let [`Queue::driver`] run on a thread.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    #[cfg(any(test, feature = "tokio"))]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Opens the queue in this directory, which is made if it is not there. Blocks while the log is read.
    ///
    /// Leases end with the process that gave them: what was on lease is ready again, with its attempts counted.
    ///
    /// # Errors
    /// If the directory is in use, damaged, or of another version, if a setting is out of its range, or if the system
    /// says so. Nothing is repaired or skipped but a tail that was never confirmed.
    pub fn open(directory: impl AsRef<Path>, config: Config) -> Result<Self, OpenError> {
        Self::builder().config(config).open(directory)
    }

    /// A queue that keeps nothing: everything but durability, with no log and no copy of a body.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn in_memory(config: Config) -> Result<Self, ConfigError> {
        Self::builder().config(config).in_memory()
    }

    /// Reads the whole log of a queue that is not open and checks all of it; changes nothing. Records are judged as well as
    /// bytes: a checkpoint that makes no sense, or names messages that are not there, is found before somebody opens the
    /// queue.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] or [`OpenError::Record`] with the place of the first damage, or why it cannot be read;
    /// [`OpenError::NotFound`] if there is none.
    ///
    /// # Complexity
    /// As opening the queue: 13 bytes of memory a message, none for bodies.
    pub fn verify(directory: impl AsRef<Path>) -> Result<Verified, OpenError> {
        if !directory.as_ref().is_dir() {
            return Err(OpenError::NotFound);
        }
        Self::verify_storage(&Directory::open(directory)?)
    }

    /// The same for another storage.
    ///
    /// # Errors
    /// As of [`Queue::verify`].
    pub fn verify_storage(storage: &dyn Storage) -> Result<Verified, OpenError> {
        let report = Shared::verify(storage)?;
        if report.segments == 0 {
            return Err(OpenError::NotFound);
        }
        Ok(Verified { records: report.records, bytes: report.bytes, segments: report.segments as u64 })
    }

    /// For a queue with another clock or storage.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// One more producer.
    pub fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.shared))
    }

    /// One more consumer of the default group.
    pub fn consumer(&self) -> Consumer {
        Consumer::new(Arc::clone(&self.shared), self.default_id())
    }

    /// The group that every queue begins with, [`DEFAULT_GROUP`].
    pub fn default_group(&self) -> Group {
        self.handle(self.default_id())
    }

    /// The group of this name; if there is none, one that begins with the oldest message.
    ///
    /// # Errors
    /// As of [`Queue::group_from`].
    pub fn group(&self, name: &str) -> Result<Group, GroupError> {
        self.group_from(name, Start::Earliest)
    }

    /// The group of this name; if there is none, one that begins there. It is as durable as a message when this returns.
    ///
    /// # Errors
    /// [`GroupError::Name`] and [`GroupError::TooMany`], or if the queue is closed or failed.
    pub fn group_from(&self, name: &str, start: Start) -> Result<Group, GroupError> {
        self.shared.group(name, start).map(|id| self.handle(id))
    }

    /// Removes a group; messages that only it was not done with are gone. The default group, too, may be removed: a queue
    /// whose consumers are all in named groups should. What is sent while there is no group at all waits for the first.
    ///
    /// # Errors
    /// [`GroupError::Unknown`], or if the queue is closed or failed.
    pub fn remove_group(&self, name: &str) -> Result<(), GroupError> {
        self.shared.remove_group(name)
    }

    /// The names of the groups, in the order in which they were made.
    pub fn groups(&self) -> Vec<String> {
        self.shared.stats().groups.into_iter().map(|group| group.name).collect()
    }

    /// Acks a delivery by its receipt; see [`Delivery::ack`](crate::Delivery::ack).
    ///
    /// # Errors
    /// [`SettleError::Stale`] if the delivery is not the caller's any more, [`SettleError::OtherQueue`].
    pub fn ack(&self, receipt: Receipt) -> Result<(), SettleError> {
        self.shared.settle(receipt, Settlement::Ack)
    }

    /// As [`Queue::ack`]; the ticket is confirmed once the ack is durable.
    ///
    /// # Errors
    /// As of [`Queue::ack`].
    pub fn ack_durable(&self, receipt: Receipt) -> Result<Ticket, SettleError> {
        self.shared.ack_durable_one(receipt)
    }

    /// Gives a delivery back; see [`Delivery::nack`](crate::Delivery::nack).
    ///
    /// # Errors
    /// As of [`Queue::ack`].
    pub fn nack(&self, receipt: Receipt, delay: Duration) -> Result<(), SettleError> {
        self.shared.settle(receipt, Settlement::Nack(delay))
    }

    /// Makes a lease end this much time from now; see [`Delivery::extend`](crate::Delivery::extend).
    ///
    /// # Errors
    /// As of [`Queue::ack`].
    pub fn extend(&self, receipt: Receipt, lease: Duration) -> Result<(), SettleError> {
        self.shared.settle(receipt, Settlement::Extend(lease))
    }

    /// Gives a message up; see [`Delivery::dead_letter`](crate::Delivery::dead_letter).
    ///
    /// # Errors
    /// As of [`Queue::ack`].
    pub fn dead_letter(&self, receipt: Receipt, reason: &str) -> Result<(), SettleError> {
        self.shared.settle(receipt, Settlement::Dead(reason))
    }

    /// The dead letters of the default group; see [`Group::dead_letters`].
    ///
    /// # Errors
    /// As of [`Group::dead_letters`].
    pub fn dead_letters(&self, max: usize) -> Result<Vec<DeadLetter>, GroupError> {
        self.default_group().dead_letters(max)
    }

    /// Delivers a dead letter of the default group again; see [`Group::requeue`].
    ///
    /// # Errors
    /// As of [`Group::requeue`].
    pub fn requeue(&self, id: MessageId) -> Result<bool, GroupError> {
        self.default_group().requeue(id)
    }

    /// What the default group would deliver first; see [`Group::peek`].
    ///
    /// # Errors
    /// As of [`Group::peek`].
    pub fn peek(&self, max: usize) -> Result<Vec<Received>, GroupError> {
        self.default_group().peek(max)
    }

    /// Every group is done with everything sent so far, and nothing is kept for replay; dead letters stay. Returns how many
    /// messages went.
    ///
    /// # Errors
    /// If the queue is closed or failed.
    pub fn purge(&self) -> Result<u64, QueueError> {
        self.shared.purge_all()
    }

    /// Stops deliveries to the default group; see [`Group::pause`].
    ///
    /// # Errors
    /// As of [`Group::pause`].
    pub fn pause(&self) -> Result<(), GroupError> {
        self.default_group().pause()
    }

    /// Starts them again.
    ///
    /// # Errors
    /// As of [`Group::pause`].
    pub fn resume(&self) -> Result<(), GroupError> {
        self.default_group().resume()
    }

    /// What the queue holds and has done.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Writes acks and what else is not written, and blocks until it is as durable as a message that was sent.
    ///
    /// # Errors
    /// [`QueueError::DiskFull`], or if the queue is closed or failed.
    pub fn flush(&self) -> Result<(), QueueError> {
        self.shared.flush()
    }

    /// Does what is due: expired leases, delays, syncs, segments that can be given back. Returns after how much time
    /// there will be something to do again, at the latest; call it then, or more often, if nobody else waits.
    ///
    /// # Errors
    /// If the queue is closed or failed.
    pub fn tick(&self) -> Result<Duration, QueueError> {
        self.shared.tick()
    }

    /// What does all that on a thread or task of the host's.
    pub fn driver(&self) -> Driver {
        Driver::new(Arc::clone(&self.shared))
    }

    /// Refuses new messages and blocks until every group is done with the old ones, or this much time has passed; says
    /// whether it is empty. Receivers get what is left and then [`ReceiveError::Closed`](crate::ReceiveError::Closed).
    /// Dead letters stay, and so do delays: they are waited for. A group that is paused, or has no consumers, is waited for
    /// in vain. Empty, the queue is closed; otherwise it goes on to hand out and to refuse new messages, until
    /// [`Queue::close`] or another drain.
    ///
    /// # Errors
    /// If the queue is closed or failed.
    pub fn drain(&self, timeout: Duration) -> Result<bool, QueueError> {
        self.shared.drain(timeout)
    }

    /// Writes what is left and stops: whoever waits, and every later call, is told that the queue is closed. Leases end.
    /// The directory can be opened again, even if handles are left.
    ///
    /// # Errors
    /// If something could not be written; the queue is closed and its directory given back all the same.
    pub fn close(&self) -> Result<(), QueueError> {
        self.shared.close()
    }

    /// Recounts from scratch all that is known of messages and groups.
    ///
    /// # Panics
    /// If an invariant is broken, with its number.
    #[cfg(any(test, feature = "testing"))]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn check_invariants(&self) {
        self.shared.hub.core.lock().state.check_invariants();
    }

    fn default_id(&self) -> GroupId {
        self.shared.find_group(DEFAULT_GROUP).unwrap_or(NO_GROUP)
    }

    fn handle(&self, id: GroupId) -> Group {
        Group { shared: Arc::clone(&self.shared), id }
    }
}

/// What [`Queue::verify`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Messages, and what happened to them.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The files they are in.
    pub segments: u64,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
