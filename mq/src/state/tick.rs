//! What time brings: messages come due and expire, delays and leases end, what was kept for replay grows old.

use super::block::{EXPIRES, Slot, UNDUE};
use super::flight::{Flight, Phase};
use super::wheel::Run;
use super::{Fate, GroupId, Sequence, State};
use crate::dead_letter::DeadReason;

/// What happened to a message in a group because of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Its lease ran out.
    LeaseEnded { group: GroupId, sequence: Sequence, fate: Fate },
    /// Its time to live was over before it was delivered.
    Expired { group: GroupId, sequence: Sequence },
}

impl State {
    /// Lets happen what is due by now, in order of the times at which it was due.
    ///
    /// Until it is called, nothing comes due, expires or ends. Messages that come due and delays that end are not
    /// reported; they show in [`State::ready`].
    pub(crate) fn tick(&mut self, now: u64, out: &mut Vec<Effect>) {
        let now = self.advance(now);
        let mut runs = Vec::new();
        self.timers.advance(now, &mut runs);
        for (time, sequence) in in_order(&runs) {
            self.message_due(sequence, time, out);
        }
        for slot in 0..self.groups.len() {
            self.tick_group(slot, now, out);
        }
        self.trim_old(now);
    }

    /// A time before which [`State::tick`] does nothing, and at which it may: never after the first thing that is due.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let groups = self.groups.iter().flatten().filter_map(|group| group.wheel.next_deadline());
        groups.chain(self.timers.next_deadline()).chain(self.next_trim()).min()
    }

    /// One of a message's times has come.
    fn message_due(&mut self, sequence: u64, time: u64, out: &mut Vec<Effect>) {
        let Some(slot) = self.index.slot(sequence) else { return };
        if slot.has(EXPIRES) && self.index.expires(sequence) <= time {
            self.expire(sequence, slot, out);
        }
        let Some(slot) = self.index.slot(sequence) else { return };
        if slot.has(UNDUE) && self.index.due(sequence) <= time {
            self.make_due(sequence);
        }
    }

    fn make_due(&mut self, sequence: u64) {
        self.index.make_due(sequence);
        let Some(slot) = self.index.slot(sequence) else { return };
        for group in self.groups.iter_mut().flatten() {
            if !group.is_settled(&self.index, sequence) {
                group.undue -= 1;
                group.ready_first(sequence, slot);
            }
        }
    }

    fn expire(&mut self, sequence: u64, slot: Slot, out: &mut Vec<Effect>) {
        for at in 0..self.groups.len() {
            let Some(group) = &mut self.groups[at] else { continue };
            if group.is_settled(&self.index, sequence) {
                continue;
            }
            let flight = group.flights.get(sequence);
            if flight.is_some_and(|flight| flight.phase == Phase::Leased || flight.timeless) {
                continue;
            }
            let id = group.id;
            let flight = group.withdraw(&mut self.index, sequence, slot);
            let base = group.delivery_base;
            self.expired(id, flight.unwrap_or(Flight::ready(sequence, base, 0)));
            out.push(Effect::Expired { group: id, sequence: Sequence(sequence) });
        }
    }

    /// After a restart: gives up what was delivered as often as the limit allows, and never came back. Whoever had it
    /// may have died of it.
    pub(super) fn bury_exhausted(&mut self) {
        let max = self.limits.max_attempts.min(u32::from(u16::MAX));
        if max == 0 {
            return;
        }
        for at in 0..self.groups.len() {
            let Some(group) = &mut self.groups[at] else { continue };
            let id = group.id;
            let exhausted = group.flights.sorted().into_iter().filter(|flight| u32::from(flight.attempt) >= max);
            for flight in exhausted.collect::<Vec<_>>() {
                let Some(slot) = self.index.slot(flight.sequence) else { continue };
                if let Some(group) = &mut self.groups[at] {
                    group.withdraw(&mut self.index, flight.sequence, slot);
                }
                self.die(id, flight, DeadReason::Attempts);
            }
        }
    }

    fn tick_group(&mut self, slot: usize, now: u64, out: &mut Vec<Effect>) {
        let Some(group) = &mut self.groups[slot] else { return };
        let mut runs = Vec::new();
        group.wheel.advance(now, &mut runs);
        let mut over = Vec::new();
        for run in &runs {
            for sequence in run.first..run.first + u64::from(run.count) {
                let Some(flight) = group.flights.get(sequence) else { continue };
                match flight.phase {
                    Phase::Ready => {}
                    _ if flight.until <= now => over.push((flight.until, sequence)),
                    // Extended, or delivered again since.
                    _ => group.wheel.arm(flight.until, sequence),
                }
            }
        }
        over.sort_unstable();
        over.dedup();
        for (_, sequence) in over {
            self.flight_over(slot, sequence, now, out);
        }
    }

    fn flight_over(&mut self, slot: usize, sequence: u64, now: u64, out: &mut Vec<Effect>) {
        let Some(group) = &mut self.groups[slot] else { return };
        let Some(flight) = group.flights.remove(sequence) else { return };
        let id = group.id;
        if flight.phase == Phase::Delayed {
            group.delayed -= 1;
            if let Some(slot) = self.index.slot(sequence) {
                group.ready_again(flight, slot);
            }
            return;
        }
        group.leased -= 1;
        let fate = self.come_back(id, flight, 0, now);
        out.push(Effect::LeaseEnded { group: id, sequence: Sequence(sequence), fate });
    }
}

/// All messages of the runs, by deadline and number.
fn in_order(runs: &[Run]) -> Vec<(u64, u64)> {
    let messages = |run: &Run| {
        let Run { deadline, first, count } = *run;
        (first..first + u64::from(count)).map(move |sequence| (deadline, sequence))
    };
    let mut all: Vec<(u64, u64)> = runs.iter().flat_map(messages).collect();
    all.sort_unstable();
    all
}
