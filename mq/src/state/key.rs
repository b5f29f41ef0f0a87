//! Order by key: of the messages with one key, one is with a consumer at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::KeyHash;

/// Keys are hashes already, so one multiplication spreads them enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        // The odd number nearest to 2^64 divided by the golden ratio (Knuth, TAOCP 3, section 6.4).
        let product = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }
}

#[derive(Clone, Debug)]
struct Held {
    /// The message that is next or being worked on.
    holder: u64,
    /// Those that come after it, in the order in which they came up.
    waiting: VecDeque<u64>,
}

/// Why a message with a key cannot be delivered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its key is free.
    Free,
    /// It holds its key.
    Holder,
    /// Another message holds its key.
    Held,
    /// Its key is free, but no more keys may be held.
    TooMany,
}

/// What a message was to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Neither holder nor waiting.
    Nothing,
    /// It waited.
    Waiting,
    /// It held the key, which this one holds now.
    Holder(Option<u64>),
}

/// The keys of a group that are held: a message is leased, or is back and must come before the others of its key.
///
/// # Invariants
/// - **K1** `waiting` counts the messages that wait for a key.
/// - **K2** No message waits for a key that it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    held: HashMap<u64, Held, BuildHasherDefault<Spread>>,
    waiting: u64,
}

impl Keys {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Messages that wait for a key.
    #[inline]
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(super) fn turn(&self, key: KeyHash, sequence: u64, max_keys: usize) -> Turn {
        match self.held.get(&key.0) {
            Some(held) if held.holder == sequence => Turn::Holder,
            Some(_) => Turn::Held,
            None if self.held.len() >= max_keys => Turn::TooMany,
            None => Turn::Free,
        }
    }

    /// Gives a free key to the message; nothing if it holds it already.
    pub(super) fn hold(&mut self, key: KeyHash, sequence: u64) {
        let held = self.held.entry(key.0).or_insert_with(|| Held { holder: sequence, waiting: VecDeque::new() });
        debug_assert_eq!(held.holder, sequence, "K2: a held key was given away");
    }

    /// Lets the message wait for a key that another holds.
    pub(super) fn wait(&mut self, key: KeyHash, sequence: u64) {
        if let Some(held) = self.held.get_mut(&key.0) {
            held.waiting.push_back(sequence);
            self.waiting += 1;
        }
    }

    /// Takes a settled message out, whatever it was to its key.
    pub(super) fn settle(&mut self, key: KeyHash, sequence: u64) -> Left {
        let Some(held) = self.held.get_mut(&key.0) else { return Left::Nothing };
        if held.holder != sequence {
            let Some(at) = held.waiting.iter().position(|&other| other == sequence) else { return Left::Nothing };
            held.waiting.remove(at);
            self.waiting -= 1;
            return Left::Waiting;
        }
        match held.waiting.pop_front() {
            Some(next) => {
                self.waiting -= 1;
                held.holder = next;
                Left::Holder(Some(next))
            }
            None => {
                self.held.remove(&key.0);
                Left::Holder(None)
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the message waits for this key.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_waiting(&self, key: KeyHash, sequence: u64) -> bool {
        self.held.get(&key.0).is_some_and(|held| held.waiting.contains(&sequence))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_held_by(&self, key: KeyHash, sequence: u64) -> bool {
        self.held.get(&key.0).is_some_and(|held| held.holder == sequence)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.held.capacity() * (size_of::<Held>() + size_of::<u64>() + 1) + self.waiting as usize * size_of::<u64>()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_invariants(&self) {
        let waiting: usize = self.held.values().map(|held| held.waiting.len()).sum();
        assert_eq!(waiting as u64, self.waiting, "K1");
        assert!(self.held.values().all(|held| !held.waiting.contains(&held.holder)), "K2");
    }
}
