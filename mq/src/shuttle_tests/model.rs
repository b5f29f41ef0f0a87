//! What the users of a queue saw of each message, and what of it must hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{End, GROUPS, Plan};
use crate::{Durability, MessageId, Received};

/// A message: its sender, which is its key as well, and the how many-th of that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number {
    pub(super) sender: u8,
    pub(super) index: u8,
}

/// The number that a body begins with.
pub(super) fn number(received: &Received) -> Number {
    let body = received.body();
    let number = Number { sender: body[0], index: body[1] };
    assert!(body[2..].iter().all(|byte| *byte == number.index), "{number:?} has another's body");
    number
}

/// What a group did with the messages.
#[derive(Debug, Default)]
struct Seen {
    delivered: u64,
    redelivered: u64,
    /// Acks under way, with the attempt that is acked.
    acking: BTreeSet<(Number, u32)>,
    /// Acks that were taken.
    acked: BTreeMap<Number, u32>,
    /// Those of them that the queue said were durable.
    durable: BTreeSet<Number>,
}

#[derive(Debug)]
pub(super) struct Model {
    plan: Plan,
    /// Sends that were begun; each sender has one under way at a time.
    begun: BTreeSet<Number>,
    /// Sends that were taken.
    taken: BTreeMap<Number, MessageId>,
    /// Those of them that were confirmed.
    confirmed: BTreeSet<Number>,
    seen: [Seen; 2],
    /// Something failed, as it may after a power cut.
    pub(super) has_failed: bool,
}

impl Model {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            begun: BTreeSet::new(),
            taken: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            seen: Default::default(),
            has_failed: false,
        }
    }

    pub(super) fn fail(&mut self) {
        assert!(matches!(self.plan.end, End::PowerCut(_)), "nothing was to fail");
        self.has_failed = true;
    }

    /// What is acked by now: written along with the next message, and durable with it.
    pub(super) fn begin(&mut self, number: Number) -> [Vec<Number>; 2] {
        self.begun.insert(number);
        [0, 1].map(|group| self.seen[group].acked.keys().copied().collect())
    }

    pub(super) fn taken(&mut self, number: Number, id: MessageId) {
        assert!(self.taken.values().all(|other| *other != id), "{id} was given twice");
        self.taken.insert(number, id);
    }

    /// The message is confirmed, and so are the acks before it.
    pub(super) fn confirmed(&mut self, number: Number, before: &[Vec<Number>; 2]) {
        self.confirmed.insert(number);
        if self.plan.durability == Durability::Always {
            for (seen, acks) in self.seen.iter_mut().zip(before) {
                seen.durable.extend(acks);
            }
        }
    }

    pub(super) fn delivered(&mut self, group: usize, received: &Received) -> Number {
        let number = number(received);
        let attempt = received.attempt();
        assert!(self.begun.contains(&number), "{number:?} was never sent");
        if let Some(id) = self.taken.get(&number) {
            assert_eq!(*id, received.id(), "{number:?}");
        }
        let seen = &mut self.seen[group];
        // This may be told late: the lease over, another delivery acked.
        let acked = seen.acked.get(&number);
        assert!(acked.is_none_or(|acked| attempt < *acked), "{number:?} came back: attempt {attempt}, acked {acked:?}");
        for index in 0..number.index {
            let before = Number { index, ..number };
            let is_done = seen.acked.contains_key(&before) || seen.acking.iter().any(|(acking, _)| *acking == before);
            assert!(is_done, "{number:?} overtook {before:?} of its key");
        }
        seen.delivered += 1;
        seen.redelivered += u64::from(attempt > 1);
        number
    }

    pub(super) fn acking(&mut self, group: usize, number: Number, attempt: u32) {
        self.seen[group].acking.insert((number, attempt));
    }

    /// The ack was refused, or taken; how many are acked by now.
    pub(super) fn acked(&mut self, group: usize, number: Number, attempt: u32, is_taken: bool) -> usize {
        let seen = &mut self.seen[group];
        if is_taken {
            let before = seen.acked.insert(number, attempt);
            assert_eq!(before, None, "{number:?} was acked twice");
        }
        seen.acking.remove(&(number, attempt));
        self.seen.iter().map(|seen| seen.acked.len()).sum()
    }

    pub(super) fn durable(&mut self, group: usize, number: Number) {
        self.seen[group].durable.insert(number);
    }

    /// Everybody went home: what the queue counted is what they saw.
    pub(super) fn check_stats(&self, stats: &crate::Stats) {
        if self.has_failed {
            return;
        }
        assert_eq!((stats.sent, stats.refused <= 3), (self.taken.len() as u64, true), "{stats:?}");
        let seen = &self.seen[..self.plan.groups];
        let is_done = |number: &&Number| seen.iter().all(|seen| seen.acked.contains_key(number));
        let left = self.taken.len() - self.taken.keys().filter(is_done).count();
        assert_eq!(stats.messages, left as u64, "{stats:?}");
        for ((counts, seen), name) in stats.groups.iter().zip(seen).zip(GROUPS) {
            assert_eq!(counts.name, name);
            let counted = (counts.delivered, counts.redelivered, counts.acked);
            assert_eq!(counted, (seen.delivered, seen.redelivered, seen.acked.len() as u64), "{counts:?}");
            let waiting = counts.ready + counts.delayed + counts.held + counts.leased;
            assert_eq!(waiting, (self.taken.len() - seen.acked.len()) as u64, "{counts:?}");
        }
        if !matches!(self.plan.end, End::Closed(_)) {
            assert_eq!((left, self.taken.len()), (0, self.plan.total()));
        }
    }

    /// The queue was opened again, and this is what it had for the group, in order.
    pub(super) fn found(&mut self, group: usize, found: &[(Number, MessageId)]) {
        let seen = &self.seen[group];
        let mut last = BTreeMap::new();
        for (number, id) in found {
            assert!(self.begun.contains(number), "{number:?} was never sent");
            if let Some(known) = self.taken.get(number) {
                assert_eq!(known, id, "{number:?}");
            }
            let before = last.insert(number.sender, number.index);
            assert!(before.is_none_or(|before| before < number.index), "{number:?} after {before:?}");
            assert!(!seen.durable.contains(number), "{number:?} came back, although its ack was durable");
            assert!(self.has_failed || !seen.acked.contains_key(number), "{number:?} came back after a clean end");
        }
        let is_there = |number: &Number| found.iter().any(|(other, _)| other == number);
        for number in self.taken.keys() {
            let must = self.confirmed.contains(number) || !self.has_failed;
            let is_acked = seen.acked.contains_key(number) || seen.acking.iter().any(|(acking, _)| acking == number);
            assert!(!must || is_acked || is_there(number), "{number:?} is lost");
        }
    }
}
