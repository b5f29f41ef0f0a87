//! What keeps a queue in shape: memory within its budget, the log no longer than it must be, syncs in time.
//!
//! There is no thread for it. Whoever just waited for the log looks after it if enough was appended meanwhile, a
//! receiver does before it sleeps, and [`Driver`](crate::Driver) does all the time.
//!
//! # Giving segments back
//! A segment goes when no message in it is needed. So that one straggler does not hold on to a whole segment, the messages
//! of a segment that is nearly empty are moved to the end of the log first (as Bitcask and raft-engine do). Before
//! segments go, a [checkpoint](crate::checkpoint) says what the acks in them said.

#[cfg(feature = "tokio")]
use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;

use crate::checkpoint::Part;
use crate::core::{Core, Keeper, Phase};
use crate::enqueue::{CHECKPOINT, MESSAGE};
use crate::log::{Address, AppendError, Log, Lsn, Room, RoomError};
use crate::shared::{Disk, Place, Shared, Spot};
use crate::standby::PILE_BYTES;
use crate::state::Sequence;
use crate::sync::atomic::Ordering;
use crate::wait::{Calls, Waiter};
use crate::{Durability, Failure, QueueError, Refusal};

/// Somebody looks after memory and segments when so many bytes were appended.
const ATTEND_BYTES: u64 = 1 << 20;
/// A segment is emptied by moving its messages when they are at most this share of it.
const NEARLY_DEAD_PER_CENT: u64 = 10;
/// Messages moved at a time.
const MOVE_MESSAGES: usize = 256;
/// The longest sleep of a driver: so soon is written what nobody waits for.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// Of whoever holds the upkeep.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// Of the latest checkpoint.
    pub(crate) serial: u64,
    /// The segments with its parts, first and last.
    pub(crate) pinned: Option<(u32, u32)>,
}

impl Shared {
    /// Counts what was appended; under the lock, so that no count gets lost but one that somebody just sets to 0.
    #[inline]
    pub(crate) fn appended(&self, bytes: u64) {
        if let Some(disk) = &self.disk {
            disk.unattended.store(disk.unattended.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        }
    }

    /// Looks after the log if it is time. Called by who may block.
    #[inline]
    pub(crate) fn attend(&self, disk: &Disk) {
        if disk.unattended.load(Ordering::Relaxed) >= ATTEND_BYTES {
            disk.unattended.store(0, Ordering::Relaxed);
            self.forget_bodies(disk);
            // What fails here fails again where somebody waits for it.
            let _ = self.upkeep(disk);
        }
        self.sync_in_time(disk);
    }

    /// Syncs if that is due.
    pub(crate) fn sync_in_time(&self, disk: &Disk) {
        if let Some(interval) = self.sync_interval() {
            // If it fails, all who wait are told.
            let _ = self.sync_if_due(disk, interval);
        }
    }

    /// After how long whoever looks at the clock is to sync, if that is to be done by the clock.
    pub(crate) fn sync_interval(&self) -> Option<Duration> {
        match self.config.durability {
            Durability::Interval(interval) if self.disk.is_some() => Some(interval),
            _ => None,
        }
    }

    fn forget_bodies(&self, disk: &Disk) {
        let max = usize::try_from(self.config.memory_bytes).unwrap_or(usize::MAX);
        let oldest = disk.log.segments().first().map_or(0, |(number, _)| *number);
        disk.log.forget(max, oldest);
    }

    fn sync_if_due(&self, disk: &Disk, interval: Duration) -> Result<(), Failure> {
        let (now, last) = (self.now(), disk.synced_ms.load(Ordering::Relaxed));
        let due = last.saturating_add(crate::clock::millis(interval));
        if now < due || disk.synced_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Ok(());
        }
        Ok(disk.log.sync()?)
    }

    /// Does what is due; after how long there will be something again.
    pub(crate) fn tick(&self) -> Result<Duration, QueueError> {
        self.do_what_is_due().map_err(|error| {
            // Somebody closed it meanwhile.
            if self.log().is_some_and(Log::is_closed) { QueueError::Closed } else { error }
        })
    }

    fn do_what_is_due(&self) -> Result<Duration, QueueError> {
        let now = self.now();
        let (phase, deadline) = self.with_core(|core| {
            if let Some(disk) = &self.disk {
                core.confirmed(disk.log.confirmed(), now);
            }
            core.tick(now);
            (core.phase, core.next_deadline())
        });
        if phase == Phase::Closed {
            return Err(QueueError::Closed);
        }
        if let Some(disk) = &self.disk {
            match self.append_events() {
                Ok(_) | Err(Refusal::DiskFull) => {}
                Err(refusal) => return Err(refusal.into()),
            }
            disk.log.try_commit().map_err(Failure::from)?;
            self.with_core(|core| core.confirmed(disk.log.confirmed(), now));
            if let Some(interval) = self.sync_interval() {
                self.sync_if_due(disk, interval)?;
            }
            self.forget_bodies(disk);
            self.upkeep(disk)?;
        }
        let until = deadline.map_or(MAX_SLEEP, |deadline| self.time_to(deadline).min(MAX_SLEEP));
        Ok(self.sync_interval().map_or(until, |interval| until.min(interval)))
    }

    /// Sleeps until something is due, as the one who looks at the clock for all. Meanwhile writes what piles up.
    pub(crate) fn sleep_as_keeper(&self, wait: Duration) -> Result<(), QueueError> {
        let until = self.until(wait);
        loop {
            let left = self.left(until).unwrap_or(MAX_SLEEP);
            if left.is_zero() || !self.sleep_until_called(left) {
                return Ok(());
            }
            self.write_pile()?;
        }
    }

    /// Whether it was called to write.
    fn sleep_until_called(&self, wait: Duration) -> bool {
        let waiter = Waiter::thread();
        let wait = {
            let mut core = self.hub.core.lock();
            if core.phase == Phase::Closed {
                return false;
            }
            // What came since somebody looked calls only who sleeps already.
            let until = self.now().saturating_add(crate::clock::millis(wait));
            let until = core.next_deadline().map_or(until, |deadline| deadline.min(until));
            let wait = self.time_to(until).min(wait);
            core.keeper = Some(Keeper { waiter: std::sync::Arc::clone(&waiter), until: Some(until) });
            wait
        };
        let Some(disk) = &self.disk else {
            waiter.park(Some(wait));
            return false;
        };
        let post = disk.standby.join(waiter);
        if disk.log.unwritten() >= PILE_BYTES {
            return true;
        }
        post.waiter().park(Some(wait));
        post.is_called()
    }

    /// Writes what senders have piled up that do not wait for it yet. If somebody is writing already, this comes next.
    fn write_pile(&self) -> Result<(), QueueError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        if let Err(poisoned) = disk.log.commit() {
            // Closed meanwhile: the next look says so.
            return if disk.log.is_closed() { Ok(()) } else { Err(Failure::from(poisoned).into()) };
        }
        self.attend(disk);
        Ok(())
    }

    /// The same as a task, which does not look at the clock for others.
    #[cfg(feature = "tokio")]
    pub(crate) async fn sleep_as_task(&self, wait: Duration) -> Result<(), QueueError> {
        let mut sleep = std::pin::pin!(tokio::time::sleep(wait.max(Duration::from_millis(1))));
        while self.sleep_until_called_async(sleep.as_mut()).await {
            self.write_pile()?;
        }
        Ok(())
    }

    #[cfg(feature = "tokio")]
    async fn sleep_until_called_async(&self, mut sleep: std::pin::Pin<&mut tokio::time::Sleep>) -> bool {
        let mut post = None;
        std::future::poll_fn(|context| {
            let sleep = sleep.as_mut().poll(context).map(|()| false);
            let (std::task::Poll::Pending, Some(disk)) = (sleep, &self.disk) else { return sleep };
            let is_called = match &post {
                None => {
                    post = Some(disk.standby.join(Waiter::task(context.waker(), crate::wait::Wish::default())));
                    disk.log.unwritten() >= PILE_BYTES
                }
                Some(post) => {
                    post.waiter().set_waker(context.waker());
                    post.is_called()
                }
            };
            if is_called { std::task::Poll::Ready(true) } else { sleep }
        })
        .await
    }

    /// Writes all there is.
    pub(crate) fn flush(&self) -> Result<(), QueueError> {
        if self.phase() == Phase::Closed {
            return Err(QueueError::Closed);
        }
        self.write_all()
    }

    fn write_all(&self) -> Result<(), QueueError> {
        let lsn = self.append_events()?;
        Ok(self.confirm(lsn)?)
    }

    pub(crate) fn drain(&self, timeout: Duration) -> Result<bool, QueueError> {
        let until = self.until(timeout);
        self.with_core(|core| match core.phase {
            Phase::Closed => Err(QueueError::Closed),
            _ => {
                core.phase = Phase::Draining;
                Ok(())
            }
        })?;
        self.write_all()?;
        let mut place = Place::new(&self.hub, Spot::Drained);
        loop {
            let wait = self.tick()?;
            {
                let mut core = self.hub.core.lock();
                if core.is_drained() {
                    break;
                }
                self.check_log()?;
                place.join(&mut core, None);
            }
            let left = self.left(until).unwrap_or(Duration::MAX);
            if left.is_zero() {
                return Ok(false);
            }
            place.park(Some(left.min(wait)));
        }
        drop(place);
        self.close().map(|()| true)
    }

    pub(crate) fn close(&self) -> Result<(), QueueError> {
        let was_open = {
            let mut calls = Calls::default();
            let mut core = self.hub.core.lock();
            let was_open = core.phase != Phase::Closed;
            core.phase = Phase::Closed;
            core.call_all(&mut calls);
            was_open
        };
        let (true, Some(disk)) = (was_open, &self.disk) else { return Ok(()) };
        // Whoever is at it is done first.
        let kept = self.write_all().and_then(|()| self.upkeep_with(disk, &mut disk.upkeep.lock()));
        let closed = disk.log.close().map_err(Failure::from);
        kept?;
        Ok(closed?)
    }

    /// Gives segments back that nobody needs. Returns at once if somebody is at it.
    pub(crate) fn upkeep(&self, disk: &Disk) -> Result<(), QueueError> {
        let Some(mut upkeep) = disk.upkeep.try_lock() else { return Ok(()) };
        self.upkeep_with(disk, &mut upkeep)
    }

    fn upkeep_with(&self, disk: &Disk, upkeep: &mut Upkeep) -> Result<(), QueueError> {
        let kept = self.empty_segments(disk, upkeep)?;
        if !kept.dead.is_empty() {
            self.checkpoint(disk, upkeep)?;
            kept.dead.iter().for_each(|segment| disk.log.release(*segment));
        }
        match disk.log.maintain() {
            Ok(_) | Err(RoomError::Full) => Ok(()),
            Err(RoomError::Poisoned(poisoned)) => Err(QueueError::Failed(poisoned.into())),
            Err(RoomError::Io(error)) => Err(QueueError::Failed(Failure::from(&error))),
        }
    }

    /// Moves the messages of nearly dead segments, and names the dead ones.
    fn empty_segments(&self, disk: &Disk, upkeep: &Upkeep) -> Result<Kept, QueueError> {
        let mut kept = Kept::default();
        let segments = disk.log.segments();
        for (segment, size) in segments.iter().take(segments.len().saturating_sub(1)) {
            let live = self.hub.core.lock().state.live(*segment);
            let is_nearly_dead = live.bytes * 100 <= u64::from(*size) * NEARLY_DEAD_PER_CENT;
            if live.messages > 0 && is_nearly_dead && !self.move_messages(disk, *segment)? {
                continue;
            }
            if live.messages == 0 || is_nearly_dead {
                kept.dead.push(*segment);
            }
        }
        // The latest checkpoint alone is no reason for another one.
        if let Some((first, last)) = upkeep.pinned {
            if kept.dead.iter().all(|segment| (first..=last).contains(segment)) {
                kept.dead.clear();
            }
        }
        Ok(kept)
    }

    /// Moves all messages of a segment to the end of the log; `false` if there is no room for that.
    fn move_messages(&self, disk: &Disk, segment: u32) -> Result<bool, QueueError> {
        loop {
            let survivors = self.hub.core.lock().state.survivors(segment, Sequence(0), MOVE_MESSAGES);
            if survivors.is_empty() {
                return Ok(true);
            }
            for (sequence, from) in survivors {
                let Ok(record) = disk.log.read(from) else { return Ok(false) };
                let mut core = self.hub.core.lock();
                if core.state.address(sequence).is_none_or(|(address, _)| address != from) {
                    // Nobody needs it any more. A second record would bring it back.
                    continue;
                }
                let appended = append(&disk.log, Room::Ordinary, MESSAGE, &[&record.body]);
                match appended {
                    Ok((address, _)) => {
                        core.state.relocate(sequence, from, address);
                    }
                    Err(AppendError::Busy) => {
                        drop(core);
                        match disk.log.make_room(Room::Ordinary) {
                            Ok(()) => break,
                            Err(RoomError::Poisoned(poisoned)) => return Err(QueueError::Failed(poisoned.into())),
                            Err(_) => return Ok(false),
                        }
                    }
                    Err(AppendError::TooLarge { .. }) => return Ok(false),
                    Err(AppendError::Poisoned(poisoned)) => return Err(QueueError::Failed(poisoned.into())),
                }
            }
        }
    }

    /// Appends a checkpoint, and makes it durable.
    pub(crate) fn checkpoint(&self, disk: &Disk, upkeep: &mut Upkeep) -> Result<(), QueueError> {
        let serial = upkeep.serial + 1;
        let (parts, first) = self.begin_checkpoint(disk, serial)?;
        let mut last = first;
        for part in &parts[1..] {
            last = loop {
                match append(&disk.log, Room::Reserve, CHECKPOINT, &[&part.head(), &part.bytes]) {
                    Ok((address, _)) => break address.segment,
                    Err(error) => self.overcome(disk, error)?,
                }
            };
        }
        disk.log.commit().map_err(Failure::from)?;
        disk.log.sync().map_err(Failure::from)?;
        upkeep.serial = serial;
        upkeep.pinned = Some((first, last));
        Ok(())
    }

    /// Takes the state down and appends the first part of it, so that it stands for all before; the segment it is in.
    fn begin_checkpoint(&self, disk: &Disk, serial: u64) -> Result<(Vec<Part>, u32), QueueError> {
        loop {
            let mut core = self.hub.core.lock();
            let Core { state, events, .. } = &mut *core;
            events.gather(state);
            let appended = events.append(&disk.log, Room::Reserve).and_then(|_| {
                let mut bytes = BytesMut::new();
                state.export(&mut bytes);
                let parts = Part::cut(self.identity, serial, bytes.freeze(), self.part_bytes());
                let (address, _) = append(&disk.log, Room::Reserve, CHECKPOINT, &[&parts[0].head(), &parts[0].bytes])?;
                Ok((parts, address.segment))
            });
            match appended {
                Ok(begun) => return Ok(begun),
                Err(error) => {
                    drop(core);
                    self.overcome(disk, error)?;
                }
            }
        }
    }

    /// Does what an append asked for.
    fn overcome(&self, disk: &Disk, error: AppendError) -> Result<(), QueueError> {
        match error {
            AppendError::Busy => match disk.log.make_room(Room::Reserve) {
                Ok(()) => Ok(()),
                Err(RoomError::Full) => Err(QueueError::DiskFull),
                Err(RoomError::Poisoned(poisoned)) => Err(QueueError::Failed(poisoned.into())),
                Err(RoomError::Io(error)) => Err(QueueError::Failed(Failure::from(&error))),
            },
            AppendError::TooLarge { .. } => Err(QueueError::DiskFull),
            AppendError::Poisoned(poisoned) => Err(QueueError::Failed(poisoned.into())),
        }
    }

    fn part_bytes(&self) -> usize {
        (self.config.segment_bytes as usize / 8).min(1 << 20)
    }

    /// The disk is full: gives back what can be given back and tries once more.
    pub(crate) fn make_room_by_upkeep(&self, disk: &Disk, room: Room) -> Result<(), Refusal> {
        match self.upkeep(disk) {
            Ok(()) | Err(QueueError::DiskFull) => {}
            Err(QueueError::Failed(failure)) => return Err(Refusal::Failed(failure)),
            Err(QueueError::Closed) => return Err(Refusal::Closed),
        }
        match disk.log.make_room(room) {
            Ok(()) => Ok(()),
            Err(RoomError::Poisoned(poisoned)) => Err(Refusal::Failed(poisoned.into())),
            Err(RoomError::Full) => Err(Refusal::DiskFull),
            Err(RoomError::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull => Err(Refusal::DiskFull),
            Err(RoomError::Io(error)) => Err(Refusal::Failed(Failure::from(&error))),
        }
    }
}

/// Segments that can be released once a checkpoint is written.
#[derive(Debug, Default)]
struct Kept {
    dead: Vec<u32>,
}

/// Appends one record; where it is, and up to where the log must be confirmed for it.
pub(crate) fn append(log: &Log, room: Room, kind: u8, parts: &[&[u8]]) -> Result<(Address, Lsn), AppendError> {
    let mut place = 0;
    let appended = log.append(room, &mut |batch| place = batch.put(kind, parts))?;
    Ok((appended.address(place), appended.lsn))
}

impl From<Failure> for QueueError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Refusal> for QueueError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(failure) => Self::Failed(failure),
            Refusal::Closed => Self::Closed,
            _ => Self::DiskFull,
        }
    }
}
