//! Opening a queue: the state from the log.
//!
//! The log is read once, from its oldest segment on. Messages are restored, events applied, and a
//! [checkpoint](crate::checkpoint) takes the place of all events before it. The first opening writes one, so that every
//! queue has its identity in the log before anybody has a receipt.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::{Gathered, Gathering, Part};
use crate::clock::{Timeline, millis};
use crate::codec::DecodeError;
use crate::core::Core;
use crate::enqueue::{CHECKPOINT, EVENTS, MESSAGE};
use crate::group::DEFAULT_GROUP;
use crate::hash::{Sip, random};
use crate::log::{self, Address, Confirm, Damage, DamageReason, Log, LogConfig, Progress};
use crate::record::{self, Layout};
use crate::shared::{Disk, Hub, Shared, limits};
use crate::standby::Standby;
use crate::state::{Entry, Event, KeyHash, Recovery, Sequence, Start, State};
use crate::storage::Storage;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU64;
use crate::upkeep::Upkeep;
use crate::wait::Calls;
use crate::{Clock, Config, Durability, OpenError, QueueError};

impl Shared {
    /// A queue with its log in this storage; where there is none, one is begun unless it `must_exist`.
    pub(crate) fn open(
        config: Config,
        clock: Box<dyn Clock>,
        storage: Arc<dyn Storage>,
        must_exist: bool,
    ) -> Result<Self, OpenError> {
        if must_exist && !log::is_begun(&*storage)? {
            return Err(OpenError::NotFound);
        }
        let timeline = Timeline::new(clock);
        let now = timeline.now();
        let keys = Sip::new([random(), random()]);
        let mut replay = Replay::new(&config, keys);
        let read = Log::replay(storage, log_config(&config), &mut |address, _, kind, body| {
            replay.record(address, kind, body).map_err(|error| replay.error = Some(error)).is_ok()
        });
        let (read, _) = read.map_err(|error| open_error(error, replay.error))?;
        replay.check()?;
        let is_new = replay.identity.is_none();
        if is_new && must_exist {
            return Err(OpenError::NotFound);
        }
        let is_unfinished = replay.begun.is_some();
        let identity = replay.identity.unwrap_or_else(random);
        let upkeep = Upkeep { serial: replay.serial, pinned: replay.pinned };
        let mut state = replay.finish(Sip::new([identity, !identity]), now, &config);
        if is_new {
            // The first group there is: it cannot be one too many.
            let _ = state.add_group(DEFAULT_GROUP, Start::Oldest);
        }
        let core = Core::new(state, None, config.max_messages, config.max_bytes);
        let hub = Arc::new(Hub { core: Mutex::new(core), timeline });
        let observer = {
            let hub = Arc::clone(&hub);
            Box::new(move |progress| hub.progress(progress))
        };
        let log = read.begin(observer).map_err(|error| open_error(error, None))?;
        let disk = Disk {
            log,
            upkeep: Mutex::new(upkeep),
            unattended: AtomicU64::new(0),
            synced_ms: AtomicU64::new(now),
            standby: Standby::default(),
        };
        let shared = Self::new(config, identity, keys, hub, Some(disk));
        if is_new {
            shared.found()?;
        } else if is_unfinished {
            // What comes after half a checkpoint is put off by a restart until the next one: it should not become much.
            let _ = shared.found();
        }
        // Makes the reserve from which acks are written on a full disk; a disk that is full already has it or has not.
        if let Some(disk) = &shared.disk {
            let _ = disk.log.maintain();
        }
        Ok(shared)
    }

    /// Reads the log as opening the queue does, makes sense of all that is in it, and changes nothing.
    pub(crate) fn verify(storage: &dyn Storage) -> Result<log::Recovery, OpenError> {
        if !log::is_begun(storage)? {
            return Err(OpenError::NotFound);
        }
        let mut replay = Replay::new(&Config::default(), Sip::new([random(), random()]));
        let read = log::verify(storage, &mut |address, _, kind, body| {
            replay.record(address, kind, body).map_err(|error| replay.error = Some(error)).is_ok()
        });
        let recovery = read.map_err(|error| open_error(error, replay.error))?;
        replay.check()?;
        Ok(recovery)
    }

    /// Writes a checkpoint.
    fn found(&self) -> Result<(), OpenError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        self.checkpoint(disk, &mut disk.upkeep.lock()).map_err(|error| match error {
            QueueError::Failed(failure) => std::io::Error::from(failure).into(),
            _ => std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
        })
    }
}

impl Hub {
    /// The log has confirmed something, or never will again.
    fn progress(&self, progress: Progress) {
        let now = self.timeline.now();
        let mut calls = Calls::default();
        let mut core = self.core.lock();
        match progress {
            Progress::Confirmed(lsn) => {
                core.confirmed(lsn, now);
                core.call(&mut calls);
            }
            Progress::Poisoned => core.call_all(&mut calls),
        }
    }
}

/// The log's configuration for that of a queue.
fn log_config(config: &Config) -> LogConfig {
    let memory = usize::try_from(config.memory_bytes).unwrap_or(usize::MAX);
    let default = LogConfig::default();
    LogConfig {
        confirm: match config.durability {
            Durability::Always => Confirm::Synced,
            Durability::Interval(_) | Durability::Os => Confirm::Written,
        },
        segment_bytes: config.segment_bytes,
        spare_segments: config.spare_segments as usize,
        max_unwritten_bytes: default.max_unwritten_bytes.min(memory / 2),
        max_disk_bytes: config.max_disk_bytes,
    }
}

/// What to tell of a log that cannot be opened.
pub(crate) fn open_error(error: log::OpenError, decode: Option<DecodeError>) -> OpenError {
    match error {
        log::OpenError::InUse => OpenError::InUse,
        log::OpenError::Damaged(Damage { reason: DamageReason::Record, segment, offset, .. }) if decode.is_some() => {
            OpenError::Record { segment, offset, source: decode.unwrap_or(DecodeError::Unknown) }
        }
        log::OpenError::Damaged(damage) => OpenError::Damaged(damage),
        log::OpenError::NewerVersion { found, supported } => {
            OpenError::Version { found: found.into(), supported: supported.into() }
        }
        // The queue's own bounds are within the log's.
        log::OpenError::Config(_) => OpenError::Io(std::io::ErrorKind::InvalidInput.into()),
        log::OpenError::Io(error) => OpenError::Io(error),
    }
}

/// What is put off until a checkpoint in several parts is whole.
enum PutOff {
    Message(Sequence, Entry, Option<(Bytes, u64)>),
    Event(Event),
}

struct Replay {
    recovery: Recovery,
    keys: Sip,
    max_message_ids: usize,
    identity: Option<u64>,
    serial: u64,
    pinned: Option<(u32, u32)>,
    gathering: Gathering,
    /// The segment of the first part of the checkpoint that is being gathered, and what came since.
    begun: Option<(u32, Vec<PutOff>)>,
    /// Deduplication ids of messages since the last checkpoint, with when they were taken: they can be hashed only once
    /// the identity is known.
    ids: VecDeque<(Sequence, Bytes, u64)>,
    /// The last checkpoint, if it names messages that were not seen. Those of an earlier one may have gone since, and
    /// their segments before its own.
    lost: Option<Address>,
    error: Option<DecodeError>,
}

impl Replay {
    fn new(config: &Config, keys: Sip) -> Self {
        Self {
            recovery: Recovery::new(limits(config)),
            keys,
            max_message_ids: config.max_deduplication_ids as usize,
            identity: None,
            serial: 0,
            pinned: None,
            gathering: Gathering::default(),
            begun: None,
            ids: VecDeque::new(),
            lost: None,
            error: None,
        }
    }

    fn record(&mut self, address: Address, kind: u8, body: &[u8]) -> Result<(), DecodeError> {
        match kind {
            MESSAGE => self.message(address, body),
            EVENTS => {
                let mut body = Bytes::copy_from_slice(body);
                while !body.is_empty() {
                    let event = Event::decode(&mut body)?;
                    match &mut self.begun {
                        Some((_, put_off)) => put_off.push(PutOff::Event(event)),
                        None => self.event(&event),
                    }
                }
                Ok(())
            }
            CHECKPOINT => self.part(address, Part::decode(Bytes::copy_from_slice(body))?),
            _ => Err(DecodeError::Unknown),
        }
    }

    #[inline]
    fn message(&mut self, address: Address, body: &[u8]) -> Result<(), DecodeError> {
        if let (Some(stamp), None) = (record::plain_stamp(body), &self.begun) {
            let restored =
                self.recovery.restore_plain(Sequence(stamp.sequence), address, body.len() as u32, stamp.taken_ms);
            return restored.map_err(|_| DecodeError::Range);
        }
        let Layout { stamp, priority, key, id, .. } = record::layout(body)?;
        let key = key.map(|range| KeyHash(self.keys.hash(&body[range]) as u64));
        let entry = Entry {
            address,
            size: body.len() as u32,
            priority,
            key,
            sent_ms: stamp.taken_ms,
            due_ms: stamp.due_ms,
            expires_ms: stamp.expires_ms,
        };
        let id = id.map(|range| (Bytes::copy_from_slice(&body[range]), stamp.taken_ms));
        let sequence = Sequence(stamp.sequence);
        match &mut self.begun {
            Some((_, put_off)) => put_off.push(PutOff::Message(sequence, entry, id)),
            None => return self.restore(sequence, &entry, id),
        }
        Ok(())
    }

    fn restore(&mut self, sequence: Sequence, entry: &Entry, id: Option<(Bytes, u64)>) -> Result<(), DecodeError> {
        self.recovery.restore(sequence, entry).map_err(|_| DecodeError::Range)?;
        if let Some((id, taken_ms)) = id {
            if self.ids.len() >= self.max_message_ids {
                self.ids.pop_front();
            }
            self.ids.push_back((sequence, id, taken_ms));
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        // What does not fit speaks of what a later checkpoint knows the end of.
        let _ = self.recovery.apply(event);
    }

    fn part(&mut self, address: Address, part: Part) -> Result<(), DecodeError> {
        let (identity, serial) = (part.identity, part.serial);
        if part.index == 0 {
            // If another one was begun, it was never finished.
            self.catch_up()?;
        }
        match self.gathering.add(part) {
            Gathered::Stray | Gathered::More => Ok(()),
            Gathered::Begun => {
                self.begun = Some((address.segment, Vec::new()));
                Ok(())
            }
            Gathered::Whole(state) => {
                let first = self.begun.as_ref().map_or(address.segment, |(segment, _)| *segment);
                let imported = self.recovery.import(state)?;
                self.lost = (imported.missing > 0).then_some(address);
                self.ids.clear();
                (self.identity, self.serial) = (Some(identity), serial);
                self.pinned = Some((first, address.segment));
                self.catch_up()
            }
        }
    }

    /// Whether all messages that are needed were there.
    fn check(&self) -> Result<(), OpenError> {
        match self.lost {
            Some(Address { segment, offset }) => {
                Err(OpenError::Record { segment, offset: offset.into(), source: DecodeError::Missing })
            }
            None => Ok(()),
        }
    }

    /// Does what was put off.
    fn catch_up(&mut self) -> Result<(), DecodeError> {
        let Some((_, put_off)) = self.begun.take() else { return Ok(()) };
        for what in put_off {
            match what {
                PutOff::Event(event) => self.event(&event),
                PutOff::Message(sequence, entry, id) => self.restore(sequence, &entry, id)?,
            }
        }
        Ok(())
    }

    fn finish(mut self, sip: Sip, now: u64, config: &Config) -> State {
        // A message whose number is too far away was refused when it came; nothing is left to fail.
        let _ = self.catch_up();
        let window = millis(config.deduplication_window);
        for (sequence, id, taken_ms) in std::mem::take(&mut self.ids) {
            let until_ms = taken_ms.saturating_add(window);
            if until_ms > now {
                self.event(&Event::Remembered { id: sip.hash(&id), sequence: sequence.0, until_ms });
            }
        }
        self.recovery.finish(now)
    }
}

#[cfg(test)]
mod tests;
