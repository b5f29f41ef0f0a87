//! Messages that were sent twice: ids are remembered for a while.

use std::collections::{HashMap, VecDeque};

use super::Sequence;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    sequence: u64,
    until: u64,
}

/// Deduplication ids (128-bit hashes of them) and the messages they were first sent with.
///
/// # Invariants
/// - **D1** Every known id is in `order` with its `until`; entries of `order` whose id is not known or is known until
///   another time are skipped.
/// - **D2** `order` has at most twice as many entries as ids are known, and 64.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    ids: HashMap<u128, Known>,
    /// By when they came; with one length of the window that is also by when they are forgotten.
    order: VecDeque<(u64, u128)>,
}

impl Window {
    /// The message that this id was sent with, if that is not forgotten.
    pub(super) fn find(&self, id: u128, now: u64) -> Option<Sequence> {
        self.ids.get(&id).filter(|known| known.until > now).map(|known| Sequence(known.sequence))
    }

    /// Remembers the id, unless it is known: then returns the message it was sent with.
    pub(super) fn remember(&mut self, id: u128, sequence: u64, until: u64, now: u64, max: u32) -> Option<Sequence> {
        self.forget(now);
        if let Some(known) = self.find(id, now) {
            return Some(known);
        }
        if until > now {
            self.put(id, sequence, until, max);
        }
        None
    }

    /// Remembers the id, unless it is known for as long: after a restart nobody knows yet what time it is, and the
    /// record of a message that was moved may come behind that of a later one with the same id.
    pub(super) fn put(&mut self, id: u128, sequence: u64, until: u64, max: u32) {
        if self.ids.get(&id).is_some_and(|known| known.until >= until) {
            return;
        }
        self.ids.insert(id, Known { sequence, until });
        self.order.push_back((until, id));
        while self.ids.len() > max as usize || self.order.len() > 2 * self.ids.len() + 64 {
            self.pop_front();
        }
    }

    /// Takes an id out, if it is this message's: the message was not confirmed.
    pub(super) fn take_back(&mut self, id: u128, sequence: u64) {
        if self.ids.get(&id).is_some_and(|known| known.sequence == sequence) {
            self.ids.remove(&id);
        }
    }

    fn forget(&mut self, now: u64) {
        while self.order.front().is_some_and(|&(until, _)| until <= now) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        let Some((until, id)) = self.order.pop_front() else { return };
        if self.ids.get(&id).is_some_and(|known| known.until == until) {
            self.ids.remove(&id);
        }
    }

    /// Id, message and when it is forgotten, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, u64, u64)> + '_ {
        self.order.iter().filter_map(|&(until, id)| {
            let known = self.ids.get(&id).filter(|known| known.until == until)?;
            Some((id, known.sequence, until))
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let known = size_of::<u128>() + size_of::<Known>() + 1;
        self.ids.capacity() * known + self.order.capacity() * size_of::<(u64, u128)>()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_invariants(&self) {
        for (&id, known) in &self.ids {
            assert!(self.order.contains(&(known.until, id)), "D1: {id} is not in order");
        }
        assert!(self.order.len() <= 2 * self.ids.len() + 64, "D2");
    }
}
