//! What a group gave up: still kept, no longer delivered, until it is requeued or discarded.

use std::collections::BTreeMap;

use crate::dead_letter::DeadReason;

/// The longest reason that is kept, in bytes: dead letters stay in memory.
pub(crate) const MAX_REASON_BYTES: usize = 256;

/// A message that a group gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) reason: DeadReason,
    /// Deliveries that counted.
    pub(crate) attempts: u32,
    /// When it died.
    pub(crate) at_ms: u64,
    /// Deliveries in all, so that a requeued message does not use a number of delivery twice.
    pub(super) delivery: u32,
}

/// Dead letters by message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeadLetters {
    letters: BTreeMap<u64, Dead>,
}

impl DeadLetters {
    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    #[inline]
    pub(super) fn contains(&self, sequence: u64) -> bool {
        !self.letters.is_empty() && self.letters.contains_key(&sequence)
    }

    pub(super) fn insert(&mut self, sequence: u64, dead: Dead) {
        self.letters.insert(sequence, dead);
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Dead> {
        self.letters.remove(&sequence)
    }

    /// Takes out the oldest message if there are more than `max`.
    pub(super) fn pop_beyond(&mut self, max: u32) -> Option<u64> {
        if self.letters.len() <= max as usize {
            return None;
        }
        self.letters.pop_first().map(|(sequence, _)| sequence)
    }

    /// The dead letters from this message on, by message.
    pub(super) fn iter_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &Dead)> + '_ {
        self.letters.range(sequence..).map(|(&sequence, dead)| (sequence, dead))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // A node of the map is at worst half full.
        2 * self.letters.len() * (size_of::<u64>() + size_of::<Dead>())
    }
}

/// The reason, cut to [`MAX_REASON_BYTES`] at a character.
pub(super) fn bounded(reason: DeadReason) -> DeadReason {
    match reason {
        DeadReason::Rejected(mut text) if text.len() > MAX_REASON_BYTES => {
            text.truncate(kept_part(&text).len());
            DeadReason::Rejected(text)
        }
        other => other,
    }
}

/// What is kept of a text.
pub(crate) fn kept_part(text: &str) -> &str {
    let cut = (0..=text.len().min(MAX_REASON_BYTES)).rev().find(|&at| text.is_char_boundary(at));
    &text[..cut.unwrap_or(0)]
}
