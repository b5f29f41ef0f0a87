//! Looking without touching: counts, messages, dead letters, segments.

use super::bits::BLOCK;
use super::block::UNDUE;
use super::flight::Phase as FlightPhase;
use super::index::split;
use super::{Address, Dead, GroupId, Live, Sequence, State, UnknownGroup, find};

/// What a group has in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Can be delivered now. Messages whose key is held count, as long as the group has not come to them.
    pub(crate) ready: u64,
    /// Wait for a time: sent with a delay, or given back with one.
    pub(crate) delayed: u64,
    /// With consumers.
    pub(crate) leased: u64,
    /// Wait for a message of their key.
    pub(crate) waiting: u64,
    /// Dead letters.
    pub(crate) dead: u64,
    /// The oldest message that the group is not done with.
    pub(crate) floor: Sequence,
    pub(crate) paused: bool,
}

/// Where a message is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It can be delivered, or waits for its key.
    Ready,
    /// It waits until then.
    Delayed { until_ms: u64 },
    /// It is with a consumer until then.
    Leased { until_ms: u64 },
}

/// A message that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peeked {
    pub(crate) sequence: Sequence,
    pub(crate) address: Address,
    pub(crate) size: u32,
    /// Deliveries so far that count.
    pub(crate) attempts: u32,
    pub(crate) phase: Phase,
}

impl State {
    /// Messages that are kept.
    pub(crate) fn len(&self) -> u64 {
        self.index.kept()
    }

    /// The sum of their sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// Those of them that are kept only for replay, and the sum of their sizes.
    pub(crate) fn retained(&self) -> (u64, u64) {
        (self.retained.messages, self.retained.bytes)
    }

    /// Messages of the group that could be taken now; see [`Counts::ready`]. 0 if there is no such group or it is
    /// paused.
    #[inline]
    pub(crate) fn ready(&self, group: GroupId) -> u64 {
        find(&self.groups, group).map_or(0, |group| if group.paused { 0 } else { group.ready() })
    }

    /// # Errors
    /// If there is no such group.
    pub(crate) fn counts(&self, group: GroupId) -> Result<Counts, UnknownGroup> {
        let group = find(&self.groups, group)?;
        Ok(Counts {
            ready: group.ready(),
            delayed: group.delayed + group.undue,
            leased: group.leased,
            waiting: group.keys.waiting(),
            dead: group.dead.len() as u64,
            floor: Sequence(group.floor),
            paused: group.paused,
        })
    }

    /// Up to `max` messages of the group from this one on, in order of their numbers.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn peek(&self, group: GroupId, from: Sequence, max: usize) -> Result<Vec<Peeked>, UnknownGroup> {
        let group = find(&self.groups, group)?;
        let mut out = Vec::new();
        let from = from.0.max(group.floor);
        for (number, block) in self.index.blocks_from(split(from).0) {
            let start = number * BLOCK as u64;
            let settled = &block.settled[group.slot()];
            let mut at = settled.next_clear(from.saturating_sub(start) as usize);
            while at < BLOCK && start + (at as u64) < self.shown {
                if out.len() == max {
                    return Ok(out);
                }
                let (sequence, slot) = (start + at as u64, block.slot(at));
                let flight = group.flights.get(sequence);
                let phase = match flight.map(|flight| (flight.phase, flight.until)) {
                    Some((FlightPhase::Leased, until_ms)) => Phase::Leased { until_ms },
                    Some((FlightPhase::Delayed, until_ms)) => Phase::Delayed { until_ms },
                    _ if slot.has(UNDUE) => Phase::Delayed { until_ms: block.due(at) },
                    _ => Phase::Ready,
                };
                out.push(Peeked {
                    sequence: Sequence(sequence),
                    address: self.index.address(slot),
                    size: slot.size,
                    attempts: flight.map_or(0, |flight| flight.attempt.into()),
                    phase,
                });
                at = settled.next_clear(at + 1);
            }
        }
        Ok(out)
    }

    /// The dead letters of the group from this message on.
    ///
    /// # Errors
    /// If there is no such group.
    pub(crate) fn dead_letters(
        &self,
        group: GroupId,
        from: Sequence,
    ) -> Result<impl Iterator<Item = (Sequence, &Dead)> + '_, UnknownGroup> {
        let group = find(&self.groups, group)?;
        Ok(group.dead.iter_from(from.0).map(|(sequence, dead)| (Sequence(sequence), dead)))
    }

    /// Where the record of a message lies that is still kept, and its size.
    pub(crate) fn address(&self, sequence: Sequence) -> Option<(Address, u32)> {
        self.index.slot(sequence.0).map(|slot| (self.index.address(slot), slot.size))
    }

    /// What is needed of a segment of the log. With no messages it may be released, as far as messages go.
    pub(crate) fn live(&self, segment: u32) -> Live {
        self.index.segments.live(segment)
    }

    /// Up to `max` messages whose record lies in this segment, from this message on: those to be moved before it can be
    /// released.
    ///
    /// # Complexity
    /// Linear in the messages; call it for segments of which little is live.
    pub(crate) fn survivors(&self, segment: u32, from: Sequence, max: usize) -> Vec<(Sequence, Address)> {
        let mut out = Vec::new();
        let live = self.live(segment).messages;
        if live == 0 {
            return out;
        }
        for (number, block) in self.index.blocks_from(split(from.0).0) {
            let start = number * BLOCK as u64;
            for at in block.kept.iter().filter(|&at| start + at as u64 >= from.0) {
                let address = self.index.address(block.slot(at));
                if address.segment == segment {
                    out.push((Sequence(start + at as u64), address));
                    if out.len() == max || out.len() as u64 == live {
                        return out;
                    }
                }
            }
        }
        out
    }

    /// Notes that a message's record was written again at `to`; whether it was still kept and lay at `from`. If not, the
    /// new record is of no use.
    pub(crate) fn relocate(&mut self, sequence: Sequence, from: Address, to: Address) -> bool {
        self.index.relocate(sequence.0, from, to)
    }

    /// Bytes of memory, as far as they grow with messages, groups and ids.
    pub(crate) fn memory_bytes(&self) -> usize {
        let groups: usize = self.groups.iter().flatten().map(|group| group.memory_bytes()).sum();
        self.index.memory_bytes() + self.timers.memory_bytes() + self.window.memory_bytes() + groups
    }
}
