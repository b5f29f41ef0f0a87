//! Groups come, go, and are set to other positions.

use thiserror::Error;

use super::bits::BLOCK;
use super::block::Block;
use super::group::Group;
use super::{Event, GroupId, Sequence, State, UnknownGroup, find, find_mut};

/// Where a group begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the oldest message that is still kept.
    Oldest,
    /// At the next message to be sent.
    Latest,
    /// At this message, or the next one that is still kept.
    At(Sequence),
    /// At the first message sent at or after this time, or up to a second or 4096 messages before it.
    Since(u64),
}

/// Why there is no new group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum AddGroupError {
    /// There is a group of this name.
    #[error("there is a group of this name")]
    Taken(GroupId),
    /// [`Limits::max_groups`](super::Limits::max_groups) is reached.
    #[error("too many groups")]
    TooMany,
}

/// Slots that a [`GroupId`] can name.
const MAX_SLOTS: usize = 1 << GroupId::SLOT_BITS;

impl State {
    /// A new group, to which every message from `start` on is delivered that is still kept.
    ///
    /// # Errors
    /// If the name is taken, or there are too many groups.
    ///
    /// # Complexity
    /// Linear in the messages divided by 64.
    pub(crate) fn add_group(&mut self, name: &str, start: Start) -> Result<GroupId, AddGroupError> {
        if let Some(group) = self.group(name) {
            return Err(AddGroupError::Taken(group));
        }
        let count = self.groups.iter().flatten().count();
        if count >= (self.limits.max_groups as usize).min(MAX_SLOTS) {
            return Err(AddGroupError::TooMany);
        }
        let slot = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        let group = GroupId::new(slot, self.generations.get(slot).copied().unwrap_or(0));
        let floor = self.resolve(start);
        // The event comes before those of what it leads to.
        self.journal.push(Event::GroupAdded { group, name: name.to_owned(), floor });
        self.install(group, name.to_owned(), floor);
        self.sweep();
        self.rebuild(slot);
        self.arm_all();
        Ok(group)
    }

    /// The group of this name.
    pub(crate) fn group(&self, name: &str) -> Option<GroupId> {
        self.groups.iter().flatten().find(|group| group.name == name).map(|group| group.id)
    }

    /// All groups and their names.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (GroupId, &str)> + '_ {
        self.groups.iter().flatten().map(|group| (group.id, group.name.as_str()))
    }

    /// Removes the group; what only it needed is released. If it is the last group, the messages stay, even those that
    /// expire, until there is another.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn remove_group(&mut self, group: GroupId) -> Result<(), UnknownGroup> {
        find(&self.groups, group)?;
        self.journal.push(Event::GroupRemoved { group });
        self.uninstall(group)
    }

    /// Lets the group go on at `start`: it is done with all before, and every message from there on that is still kept
    /// is delivered to it as if for the first time. Receipts from before are stale. Its dead letters stay.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn seek(&mut self, group: GroupId, start: Start) -> Result<(), UnknownGroup> {
        let to = self.resolve(start);
        let delivery_base = find(&self.groups, group)?.delivery_max;
        self.journal.push(Event::Sought { group, to, delivery_base });
        self.set_position(group, to, delivery_base)?;
        self.rebuild(group.slot());
        self.arm_all();
        Ok(())
    }

    /// Drops all messages of the group, delayed and leased ones included; how many. Its dead letters stay.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn purge(&mut self, group: GroupId) -> Result<u64, UnknownGroup> {
        let purged = find(&self.groups, group)?.pending;
        self.seek(group, Start::Latest)?;
        Ok(purged)
    }

    /// Forgets all dead letters of the group; how many.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn purge_dead(&mut self, group: GroupId) -> Result<u64, UnknownGroup> {
        let dead: Vec<u64> = find(&self.groups, group)?.dead.iter_from(0).map(|(sequence, _)| sequence).collect();
        let count = dead.len() as u64;
        for sequence in dead {
            // It was there a moment ago.
            let _ = self.discard(group, Sequence(sequence));
        }
        Ok(count)
    }

    /// Keeps nothing for replay of what every group is done with by now.
    pub(crate) fn forget_retained(&mut self) {
        self.trim_to(self.index.next());
    }

    /// Delivers nothing to the group until it is resumed. Leases and delays go on.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn pause(&mut self, group: GroupId) -> Result<(), UnknownGroup> {
        self.set_paused(group, true)
    }

    /// Delivers to the group again.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn resume(&mut self, group: GroupId) -> Result<(), UnknownGroup> {
        self.set_paused(group, false)
    }

    fn set_paused(&mut self, group: GroupId, paused: bool) -> Result<(), UnknownGroup> {
        let found = find_mut(&mut self.groups, group)?;
        if found.paused != paused {
            found.paused = paused;
            self.journal.push(Event::Paused { group, paused });
        }
        Ok(())
    }

    fn resolve(&self, start: Start) -> u64 {
        let next = self.index.next();
        match start {
            Start::Oldest => self.index.first(),
            Start::Latest => next,
            Start::At(sequence) => sequence.0.min(next),
            Start::Since(time_ms) => self.times.find(time_ms).unwrap_or(next),
        }
    }

    /// Puts a group into its slot. Where its messages wait is worked out later.
    pub(super) fn install(&mut self, id: GroupId, name: String, floor: u64) {
        let slot = id.slot();
        if self.groups.len() <= slot {
            self.groups.resize_with(slot + 1, || None);
            self.generations.resize(slot + 1, 0);
        }
        self.generations[slot] = id.generation();
        self.groups[slot] = Some(Box::new(Group::new(id, name, floor)));
        self.hidden_holes = self.shown < self.index.next();
        let columns = self.groups.len();
        for (number, block) in self.index.blocks_mut() {
            block.widen(columns);
            set_position(block, number, slot, floor);
        }
    }

    pub(super) fn uninstall(&mut self, group: GroupId) -> Result<(), UnknownGroup> {
        find(&self.groups, group)?;
        let slot = group.slot();
        self.groups[slot] = None;
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        self.sweep();
        Ok(())
    }

    /// Changes what the group is done with. Where its messages wait is worked out later.
    pub(super) fn set_position(&mut self, id: GroupId, to: u64, delivery_base: u32) -> Result<(), UnknownGroup> {
        let group = find_mut(&mut self.groups, id)?;
        let slot = id.slot();
        group.floor = to;
        self.hidden_holes = self.shown < self.index.next();
        group.flights.clear();
        group.delivery_base = delivery_base;
        group.delivery_max = group.delivery_max.max(delivery_base);
        for (number, block) in self.index.blocks_mut() {
            set_position(block, number, slot, to);
            let start = number * BLOCK as u64;
            let dead = group.dead.iter_from(start).map(|(sequence, _)| sequence);
            for sequence in dead.take_while(|&sequence| sequence < start + BLOCK as u64) {
                block.settled[slot].set((sequence - start) as usize);
            }
        }
        self.sweep();
        Ok(())
    }

    /// Works out where the messages of the group wait.
    pub(super) fn rebuild(&mut self, slot: usize) {
        if let Some(group) = &mut self.groups[slot] {
            group.rebuild(&self.index, self.shown, self.now);
        }
    }
}

/// Settles for a group what lies before `floor` or is not kept, and nothing else.
fn set_position(block: &mut Block, number: u64, slot: usize, floor: u64) {
    block.settle_missing(slot);
    let below = floor.saturating_sub(number * BLOCK as u64).min(block.filled() as u64);
    block.settled[slot].set_below(below as usize);
}
