//! Groups and what is done to all of a group at once; looking at what there is.

use crate::core::{Core, Phase, Seat};
use crate::delivery::Received;
use crate::group::{Start, check_name};
use crate::shared::Shared;
use crate::state::{self, AddGroupError, Counts, DeadError, GroupId, Sequence, UnknownGroup};
use crate::{DeadLetter, GroupError, GroupStats, Message, MessageId, QueueError, Receipt, Stats};

/// Messages looked at to find some that can be delivered.
const MAX_PEEK: usize = 10_000;

impl Shared {
    /// Changes something and makes it as durable as a message.
    fn change<T>(&self, change: impl FnOnce(&mut Core) -> Result<T, GroupError>) -> Result<T, GroupError> {
        let changed = self.with_core(|core| {
            if core.phase == Phase::Closed {
                return Err(GroupError::Closed);
            }
            let changed = change(core)?;
            core.release_all();
            Ok(changed)
        })?;
        let lsn = self.append_events().map_err(|refusal| match QueueError::from(refusal) {
            QueueError::Closed => GroupError::Closed,
            QueueError::DiskFull => GroupError::DiskFull,
            QueueError::Failed(failure) => GroupError::Failed(failure),
        })?;
        self.confirm(lsn).map_err(GroupError::Failed)?;
        Ok(changed)
    }

    pub(crate) fn find_group(&self, name: &str) -> Option<GroupId> {
        self.hub.core.lock().state.group(name)
    }

    pub(crate) fn group(&self, name: &str, start: Start) -> Result<GroupId, GroupError> {
        check_name(name)?;
        if let Some(id) = self.find_group(name) {
            return Ok(id);
        }
        let start = self.start(start);
        self.change(|core| match core.state.add_group(name, start) {
            Ok(id) => {
                core.seats.push(Seat::new(id));
                Ok(id)
            }
            Err(AddGroupError::Taken(id)) => Ok(id),
            Err(AddGroupError::TooMany) => Err(GroupError::TooMany { max: self.config.max_groups }),
        })
    }

    pub(crate) fn remove_group(&self, name: &str) -> Result<(), GroupError> {
        self.change(|core| {
            let id = core.state.group(name).ok_or(GroupError::Unknown)?;
            core.state.remove_group(id)?;
            // Whoever waits is told: it looks again and finds no group.
            let Core { seats, orphans, .. } = core;
            seats.iter_mut().filter(|seat| seat.id == id).for_each(|seat| orphans.append(&mut seat.line));
            seats.retain(|seat| seat.id != id);
            Ok(())
        })
    }

    fn start(&self, start: Start) -> state::Start {
        match start {
            Start::Earliest => state::Start::Oldest,
            Start::Latest => state::Start::Latest,
            Start::At(id) => state::Start::At(Sequence(id.get())),
            Start::Since(time) => state::Start::Since(self.hub.timeline.at(time)),
        }
    }

    pub(crate) fn seek(&self, group: GroupId, start: Start) -> Result<(), GroupError> {
        let start = self.start(start);
        self.change(|core| Ok(core.state.seek(group, start)?))
    }

    pub(crate) fn pause(&self, group: GroupId, pause: Pause) -> Result<(), GroupError> {
        self.change(|core| {
            match pause {
                Pause::Pause => core.state.pause(group)?,
                Pause::Resume => core.state.resume(group)?,
            }
            Ok(())
        })
    }

    pub(crate) fn purge(&self, group: GroupId) -> Result<u64, GroupError> {
        self.confirm_sent()?;
        self.change(|core| Ok(core.state.purge(group)?))
    }

    pub(crate) fn purge_dead(&self, group: GroupId) -> Result<u64, GroupError> {
        self.change(|core| Ok(core.state.purge_dead(group)?))
    }

    pub(crate) fn purge_all(&self) -> Result<u64, QueueError> {
        let purged = self.confirm_sent().and_then(|()| self.purge_each());
        purged.map_err(|error| match error {
            GroupError::DiskFull => QueueError::DiskFull,
            GroupError::Failed(failure) => QueueError::Failed(failure),
            _ => QueueError::Closed,
        })
    }

    fn purge_each(&self) -> Result<u64, GroupError> {
        self.change(|core| {
            let before = core.state.len();
            let groups: Vec<GroupId> = core.state.groups().map(|(id, _)| id).collect();
            for group in groups {
                core.state.purge(group)?;
            }
            core.state.forget_retained();
            Ok(before - core.state.len())
        })
    }

    /// What was sent is shown, so that a purge sees it.
    fn confirm_sent(&self) -> Result<(), GroupError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        self.confirm(disk.log.appended()).map_err(GroupError::Failed)?;
        let now = self.now();
        self.with_core(|core| core.confirmed(disk.log.confirmed(), now));
        Ok(())
    }

    pub(crate) fn peek(&self, group: GroupId, max: usize) -> Result<Vec<Received>, GroupError> {
        let now = self.now();
        let peeked = self.with_core(|core| {
            if let Some(disk) = &self.disk {
                core.confirmed(disk.log.confirmed(), now);
            }
            core.tick(now);
            core.state.peek(group, Sequence(0), MAX_PEEK)
        })?;
        let ready = peeked.into_iter().filter(|peeked| peeked.phase == state::Phase::Ready);
        let received = ready.map(|peeked| {
            let id = MessageId::new(peeked.sequence.0);
            // No delivery has the number 0.
            let receipt = Receipt { queue: self.mark, group: group.0, id, delivery: 0 };
            let message = self.look_up(peeked.sequence)?;
            Some(Received { message, receipt, attempt: peeked.attempts })
        });
        Ok(received.flatten().take(max).collect())
    }

    /// A message by its number, if it is still there and can be read.
    fn look_up(&self, sequence: Sequence) -> Option<Message> {
        let core = self.hub.core.lock();
        let (address, _) = core.state.address(sequence)?;
        if let Some(bodies) = &core.bodies {
            return bodies.get(address).cloned();
        }
        drop(core);
        self.read_at(address).ok()
    }

    pub(crate) fn dead_letters(&self, group: GroupId, max: usize) -> Result<Vec<DeadLetter>, GroupError> {
        let now = self.now();
        let dead: Vec<_> = self.with_core(|core| {
            core.tick(now);
            let dead = core.state.dead_letters(group, Sequence(0))?;
            Ok::<_, UnknownGroup>(dead.take(max).map(|(sequence, dead)| (sequence, dead.clone())).collect())
        })?;
        let letter = |(sequence, dead): (Sequence, state::Dead)| {
            let message = self.look_up(sequence).unwrap_or_default();
            DeadLetter::new(MessageId::new(sequence.0), dead.reason, dead.attempts, message)
        };
        Ok(dead.into_iter().map(letter).collect())
    }

    pub(crate) fn requeue(&self, group: GroupId, id: MessageId) -> Result<bool, GroupError> {
        self.change(|core| found(core.state.requeue(group, Sequence(id.get()))))
    }

    pub(crate) fn discard(&self, group: GroupId, id: MessageId) -> Result<bool, GroupError> {
        self.change(|core| found(core.state.discard(group, Sequence(id.get()))))
    }

    pub(crate) fn group_stats(&self, group: GroupId) -> Option<GroupStats> {
        self.stats_of(|id| id == group).groups.pop()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats_of(|_| true)
    }

    fn stats_of(&self, is_wanted: impl Fn(GroupId) -> bool) -> Stats {
        let now = self.now();
        let mut stats = Stats::default();
        if let Some(disk) = &self.disk {
            stats.body_bytes = disk.log.memory_bytes() as u64;
            stats.disk_bytes = disk.log.disk_bytes();
            stats.segments = disk.log.segments().len() as u32;
        }
        self.with_core(|core| {
            if let Some(disk) = &self.disk {
                core.confirmed(disk.log.confirmed(), now);
            }
            core.tick(now);
            let (retained, retained_bytes) = core.state.retained();
            stats.messages = core.state.len() - retained;
            stats.message_bytes = core.state.bytes() - retained_bytes;
            (stats.retained, stats.retained_bytes) = (retained, retained_bytes);
            stats.index_bytes = core.state.memory_bytes() as u64;
            if core.bodies.is_some() {
                stats.body_bytes = core.state.bytes();
            }
            (stats.sent, stats.duplicates, stats.refused) = (core.sent, core.duplicates, core.refused);
            stats.groups = core
                .seats
                .iter()
                .filter(|seat| is_wanted(seat.id))
                .filter_map(|seat| Some(group_stats(core, seat, &core.state.counts(seat.id).ok()?)))
                .collect();
        });
        stats
    }
}

fn group_stats(core: &Core, seat: &Seat, counts: &Counts) -> GroupStats {
    let name = core.state.groups().find(|(id, _)| *id == seat.id).map_or("", |(_, name)| name);
    GroupStats {
        name: name.to_owned(),
        ready: counts.ready,
        delayed: counts.delayed,
        leased: counts.leased,
        held: counts.waiting,
        dead: counts.dead,
        is_paused: counts.paused,
        waiting: seat.line.len() as u64,
        delivered: seat.delivered,
        redelivered: seat.redelivered,
        acked: seat.acked,
        expired_leases: seat.ended_leases,
    }
}

/// Whether deliveries stop or go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    Pause,
    Resume,
}

fn found(outcome: Result<(), DeadError>) -> Result<bool, GroupError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(DeadError::UnknownMessage) => Ok(false),
        Err(DeadError::UnknownGroup(error)) => Err(error.into()),
    }
}

impl From<UnknownGroup> for GroupError {
    fn from(UnknownGroup: UnknownGroup) -> Self {
        Self::Unknown
    }
}
