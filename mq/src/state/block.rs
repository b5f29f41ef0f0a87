//! 4096 messages next to each other, as few bytes each as possible.
//!
//! A waiting message is a [`Slot`] of 12 bytes and a bit in a few bitmaps. What only some messages have (a key, a
//! time before which or after which they are not delivered) lies in columns that exist once a message of the block
//! has it. Once few messages of a full block are left (a message scheduled for next year among millions that
//! passed), the block is squeezed: the slots of the others are given back, and a slot is found by its rank.

use super::bits::{BLOCK, Bits};

/// A block is squeezed once it needs no more than one in so many of the slots it has.
const SPARSE: usize = 8;

/// Where a message's record lies and what it is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) offset: u32,
    pub(super) size: u32,
    /// The place of the segment in [`Segments`](super::segments::Segments), above the flags.
    meta: u32,
}

const PRIORITY: u32 = 0b111;
/// Has a key.
pub(super) const KEYED: u32 = 1 << 3;
/// Must not be delivered before its time, which has not come.
pub(super) const UNDUE: u32 = 1 << 4;
/// Must not be delivered after its time.
pub(super) const EXPIRES: u32 = 1 << 5;
const FLAG_BITS: u32 = 6;

impl Slot {
    /// In the place of a message that was never seen: its record was released before a restart.
    pub(super) const ABSENT: Self = Self { offset: 0, size: 0, meta: u32::MAX };

    pub(super) fn new(place: u32, offset: u32, size: u32, priority: u8, flags: u32) -> Self {
        debug_assert!(place < 1 << (u32::BITS - FLAG_BITS), "more segments than fit");
        Self { offset, size, meta: place << FLAG_BITS | flags | (u32::from(priority) & PRIORITY) }
    }

    #[inline]
    pub(super) fn place(self) -> u32 {
        self.meta >> FLAG_BITS
    }

    #[inline]
    pub(super) fn priority(self) -> usize {
        (self.meta & PRIORITY) as usize
    }

    #[inline]
    pub(super) fn has(self, flag: u32) -> bool {
        self.meta & flag != 0
    }

    pub(super) fn is_absent(self) -> bool {
        self == Self::ABSENT
    }

    #[inline]
    pub(super) fn is_timed(self) -> bool {
        self.has(UNDUE | EXPIRES)
    }

    /// The cursor cannot deliver it without a closer look.
    fn is_special(self) -> bool {
        self.meta & (PRIORITY | KEYED | UNDUE | EXPIRES) != 0
    }
}

/// A number beside each message of a block; no memory while all are 0.
#[derive(Clone, Debug, Default)]
struct Column(Vec<u64>);

impl Column {
    fn get(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn set(&mut self, at: usize, value: u64) {
        if value == 0 && self.0.len() <= at {
            return;
        }
        if self.0.len() <= at {
            self.0.reserve_exact((at + 1).next_power_of_two() - self.0.len());
            self.0.resize(at + 1, 0);
        }
        self.0[at] = value;
    }

    fn squeeze(&mut self, positions: &[usize]) {
        if !self.0.is_empty() {
            self.0 = positions.iter().map(|&at| self.get(at)).collect();
        }
    }
}

/// What some messages have besides a slot; 0 where they have it not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extras {
    pub(super) key: u64,
    pub(super) due: u64,
    pub(super) expires: u64,
}

/// Messages `4096 n .. 4096 (n + 1)`.
///
/// # Invariants
/// - **B1** Slots lie in order of their messages: all up to `filled`, or, in a squeezed block, those of `members`.
/// - **B2** A kept message has a slot that is not absent; `kept_count` counts the bits of `kept`.
/// - **B3** A message whose slot has a priority, a key, a due or an expiry time has its bit in `special`.
#[derive(Clone, Debug)]
pub(super) struct Block {
    slots: Vec<Slot>,
    members: Option<Box<Bits>>,
    filled: usize,
    /// Messages that somebody still needs: the log must not give up their records.
    pub(super) kept: Bits,
    kept_count: usize,
    pub(super) special: Bits,
    /// For each place of a group, the messages it is done with. Only what lies at or above its floor counts.
    pub(super) settled: Vec<Bits>,
    keys: Column,
    dues: Column,
    expiries: Column,
}

impl Block {
    pub(super) fn new(groups: usize) -> Self {
        Self {
            slots: Vec::with_capacity(BLOCK),
            members: None,
            filled: 0,
            kept: Bits::EMPTY,
            kept_count: 0,
            special: Bits::EMPTY,
            settled: vec![Bits::EMPTY; groups],
            keys: Column::default(),
            dues: Column::default(),
            expiries: Column::default(),
        }
    }

    /// Makes a block that is no longer needed new again, without asking for memory.
    pub(super) fn reset(&mut self, groups: usize) {
        let mut slots = std::mem::take(&mut self.slots);
        let mut settled = std::mem::take(&mut self.settled);
        slots.clear();
        slots.reserve_exact(BLOCK);
        settled.clear();
        settled.resize(groups, Bits::EMPTY);
        *self = Self { slots, settled, ..Self::hollow() };
    }

    fn hollow() -> Self {
        Self { slots: Vec::new(), settled: Vec::new(), ..Self::new(0) }
    }

    /// The number of messages that came, kept or not.
    #[inline]
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    #[inline]
    pub(super) fn kept_count(&self) -> usize {
        self.kept_count
    }

    /// Appends a message; the block must not be full.
    #[inline]
    pub(super) fn push(&mut self, slot: Slot, extras: Option<Extras>) {
        debug_assert!(self.filled < BLOCK && self.members.is_none(), "pushed into a full block");
        let at = self.filled;
        self.slots.push(slot);
        self.filled += 1;
        self.keep(at);
        if slot.is_special() {
            self.special.set(at);
        }
        if let Some(extras) = extras {
            self.set_extras(at, extras);
        }
    }

    /// Appends `count` messages that are an offset and a size in the segment of this place and nothing else; the sum of
    /// their sizes. The block must have room for them.
    #[inline]
    pub(super) fn push_run(&mut self, count: usize, place: u32, spots: &mut impl Iterator<Item = (u32, u32)>) -> u64 {
        debug_assert!(count > 0 && self.filled + count <= BLOCK && self.members.is_none(), "pushed into a full block");
        let from = self.filled;
        let mut bytes = 0;
        for (offset, size) in spots.take(count) {
            self.slots.push(Slot::new(place, offset, size, 0, 0));
            bytes += u64::from(size);
        }
        self.filled = self.slots.len();
        self.kept.set_range(from, self.filled);
        self.kept_count += self.filled - from;
        bytes
    }

    /// Appends places of messages that were never seen until `filled` are there.
    pub(super) fn skip_to(&mut self, filled: usize) {
        self.slots.resize(filled.max(self.filled), Slot::ABSENT);
        self.filled = self.slots.len();
    }

    /// Gives a message that is there already, perhaps absent, this slot.
    pub(super) fn put(&mut self, at: usize, slot: Slot, extras: Extras) {
        debug_assert!(self.members.is_none(), "a squeezed block takes nothing in");
        self.slots[at] = slot;
        if slot.is_special() {
            self.special.set(at)
        } else {
            self.special.clear(at)
        };
        self.set_extras(at, extras);
    }

    fn set_extras(&mut self, at: usize, Extras { key, due, expires }: Extras) {
        self.keys.set(at, key);
        self.dues.set(at, due);
        self.expiries.set(at, expires);
    }

    /// Notes that the message is needed.
    #[inline]
    pub(super) fn keep(&mut self, at: usize) {
        if self.kept.set(at) {
            self.kept_count += 1;
        }
    }

    /// Notes that nobody needs the message; whether somebody did.
    #[inline]
    pub(super) fn release(&mut self, at: usize) -> bool {
        if !self.kept.clear(at) {
            return false;
        }
        self.kept_count -= 1;
        true
    }

    /// Notes that nobody needs the messages `from..end`, which are kept; their slots. `None`, and nothing is done, if the
    /// block is squeezed.
    #[inline]
    pub(super) fn release_run(&mut self, from: usize, end: usize) -> Option<&[Slot]> {
        if self.members.is_some() {
            return None;
        }
        self.kept.clear_range(from, end);
        self.kept_count -= end - from;
        Some(&self.slots[from..end])
    }

    /// Makes room for what so many groups are done with.
    pub(super) fn widen(&mut self, groups: usize) {
        self.settled.resize(groups.max(self.settled.len()), Bits::EMPTY);
    }

    /// Settles for a group what is not kept, and nothing else.
    pub(super) fn settle_missing(&mut self, group: usize) {
        self.settled[group].assign_missing(&self.kept, self.filled);
    }

    /// Settles for a group what is not kept, too.
    pub(super) fn settle_missing_too(&mut self, group: usize) {
        let mut missing = Bits::EMPTY;
        missing.assign_missing(&self.kept, self.filled);
        self.settled[group].unite(&missing);
    }

    /// The slot of a message that is kept.
    #[inline]
    pub(super) fn slot(&self, at: usize) -> Slot {
        self.slots[self.position(at)]
    }

    /// Changes the address of a kept message.
    pub(super) fn relocate(&mut self, at: usize, place: u32, offset: u32) {
        let position = self.position(at);
        let slot = &mut self.slots[position];
        (slot.offset, slot.meta) = (offset, place << FLAG_BITS | slot.meta & ((1 << FLAG_BITS) - 1));
    }

    /// Notes that the time of the kept message has come.
    pub(super) fn make_due(&mut self, at: usize) {
        let position = self.position(at);
        self.slots[position].meta &= !UNDUE;
        if !self.slots[position].is_special() {
            self.special.clear(at);
        }
    }

    #[inline]
    pub(super) fn key(&self, at: usize) -> u64 {
        self.keys.get(self.position(at))
    }

    pub(super) fn due(&self, at: usize) -> u64 {
        self.dues.get(self.position(at))
    }

    pub(super) fn expires(&self, at: usize) -> u64 {
        self.expiries.get(self.position(at))
    }

    #[inline]
    fn position(&self, at: usize) -> usize {
        match &self.members {
            None => at,
            Some(members) => members.rank(at),
        }
    }

    /// Gives back the slots of messages that are not kept, if that is most of them and the block is full.
    pub(super) fn squeeze_if_few(&mut self) {
        let held = self.slots.len();
        if self.filled < BLOCK || self.kept_count * SPARSE > held {
            return;
        }
        let positions: Vec<usize> = self.kept.iter().map(|at| self.position(at)).collect();
        self.slots = positions.iter().map(|&position| self.slots[position]).collect();
        for column in [&mut self.keys, &mut self.dues, &mut self.expiries] {
            column.squeeze(&positions);
        }
        self.members = Some(Box::new(self.kept.clone()));
    }

    /// Bytes on the heap and in the block itself.
    pub(super) fn memory_bytes(&self) -> usize {
        let columns = self.keys.0.capacity() + self.dues.0.capacity() + self.expiries.0.capacity();
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Slot>()
            + columns * size_of::<u64>()
            + self.settled.capacity() * size_of::<Bits>()
            + self.members.as_ref().map_or(0, |_| size_of::<Bits>())
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_invariants(&self) {
        let expected = self.members.as_ref().map_or(self.filled, |members| members.count());
        assert_eq!(self.slots.len(), expected, "B1: slots");
        if let Some(members) = &self.members {
            assert!(self.kept.is_subset(members), "B1: a kept message lost its slot");
        }
        assert_eq!(self.kept.count(), self.kept_count, "B2: kept");
        for at in self.kept.iter() {
            let slot = self.slot(at);
            assert!(at < self.filled && !slot.is_absent(), "B2: message {at} is kept and absent");
            assert_eq!(self.special.get(at), slot.is_special(), "B3: message {at} {slot:?}");
            assert_eq!(slot.has(EXPIRES), self.expires(at) != 0, "B3: expiry of {at}");
            assert!(!slot.has(UNDUE) || self.due(at) != 0, "B3: due time of {at}");
        }
    }
}
