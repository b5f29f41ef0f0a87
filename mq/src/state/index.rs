//! All messages, by number.

use std::collections::VecDeque;

use super::bits::BLOCK;
use super::block::{Block, EXPIRES, Extras, KEYED, Slot, UNDUE};
use super::segments::Segments;
use super::{Address, Entry, KeyHash};

/// Blocks kept for reuse: as many as a queue that runs empty again and again needs.
const SPARE: usize = 4;

/// The messages from the oldest that somebody needs to the newest.
///
/// # Invariants
/// - **X1** `kept` and `bytes` are the number and the sum of sizes of the kept messages, `timed` the number of those
///   that are undue or expire.
/// - **X2** The live counts of the segments are those of the kept messages.
/// - **X3** A block that is not there has no kept message; the first block is there or the last one.
/// - **X4** Blocks reach up to `next`, all but the last one are filled.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    blocks: VecDeque<Option<Box<Block>>>,
    /// The number of the first block.
    base: u64,
    /// The number of the next message.
    next: u64,
    pub(super) segments: Segments,
    kept: u64,
    bytes: u64,
    /// Kept messages that are undue or expire.
    timed: u64,
    #[expect(clippy::vec_box, reason = "they come out of boxes and go back into boxes")]
    spare: Vec<Box<Block>>,
    /// Nothing is dropped until the restart is over: what is released may turn out to be needed.
    holding: bool,
}

/// The block of a message and its place there.
#[inline]
pub(super) fn split(sequence: u64) -> (u64, usize) {
    (sequence / BLOCK as u64, (sequence % BLOCK as u64) as usize)
}

impl Index {
    /// An index for a restart: nothing is dropped before [`Index::stop_holding`].
    pub(super) fn holding() -> Self {
        let mut index = Self { holding: true, ..Self::default() };
        index.segments.hold(true);
        index
    }

    /// Whether a restart goes on.
    pub(super) fn is_holding(&self) -> bool {
        self.holding
    }

    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn timed(&self) -> u64 {
        self.timed
    }

    /// The first message that may be kept: all before are not.
    pub(super) fn first(&self) -> u64 {
        let start = self.base * BLOCK as u64;
        let Some(Some(block)) = self.blocks.front() else { return self.next };
        (start + block.kept.next_set(0) as u64).min(self.next)
    }

    #[inline]
    pub(super) fn block(&self, number: u64) -> Option<&Block> {
        let at = number.checked_sub(self.base)?;
        self.blocks.get(at as usize)?.as_deref()
    }

    #[inline]
    pub(super) fn block_mut(&mut self, number: u64) -> Option<&mut Block> {
        let at = number.checked_sub(self.base)?;
        self.blocks.get_mut(at as usize)?.as_deref_mut()
    }

    /// The blocks that are there from the one with this number on.
    pub(super) fn blocks_from(&self, number: u64) -> impl Iterator<Item = (u64, &Block)> + '_ {
        let skipped = number.saturating_sub(self.base);
        let skip = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.blocks.len());
        let numbers = self.base + skip as u64..;
        numbers.zip(self.blocks.range(skip..)).filter_map(|(number, block)| Some((number, block.as_deref()?)))
    }

    /// The blocks that are there, to be changed.
    pub(super) fn blocks_mut(&mut self) -> impl Iterator<Item = (u64, &mut Block)> + '_ {
        (self.base..).zip(self.blocks.iter_mut()).filter_map(|(number, block)| Some((number, block.as_deref_mut()?)))
    }

    /// The slot of a message that is kept.
    #[inline]
    pub(super) fn slot(&self, sequence: u64) -> Option<Slot> {
        let (number, at) = split(sequence);
        let block = self.block(number)?;
        block.kept.get(at).then(|| block.slot(at))
    }

    #[inline]
    pub(super) fn address(&self, slot: Slot) -> Address {
        Address { segment: self.segments.number(slot.place()), offset: slot.offset }
    }

    pub(super) fn key(&self, sequence: u64, slot: Slot) -> Option<KeyHash> {
        let (number, at) = split(sequence);
        let block = slot.has(KEYED).then(|| self.block(number)).flatten()?;
        Some(KeyHash(block.key(at)))
    }

    pub(super) fn due(&self, sequence: u64) -> u64 {
        let (number, at) = split(sequence);
        self.block(number).map_or(0, |block| block.due(at))
    }

    pub(super) fn expires(&self, sequence: u64) -> u64 {
        let (number, at) = split(sequence);
        self.block(number).map_or(0, |block| block.expires(at))
    }

    /// Appends a message and returns its number.
    #[inline]
    pub(super) fn insert(&mut self, entry: &Entry, groups: usize) -> u64 {
        let sequence = self.next;
        let (number, at) = split(sequence);
        if at == 0 {
            self.open_block(number, groups);
        }
        let (slot, extras) = self.slot_for(entry);
        if let Some(Some(block)) = self.blocks.back_mut() {
            block.push(slot, extras);
        }
        self.next += 1;
        sequence
    }

    /// Appends messages that are an offset and a size in this segment and nothing else.
    #[inline]
    pub(super) fn insert_run(
        &mut self,
        segment: u32,
        mut spots: impl ExactSizeIterator<Item = (u32, u32)>,
        groups: usize,
    ) {
        let place = self.segments.place(segment);
        let (count, mut bytes) = (spots.len(), 0);
        let mut left = count;
        while left > 0 {
            let (number, at) = split(self.next);
            if at == 0 {
                self.open_block(number, groups);
            }
            let fit = left.min(BLOCK - at);
            if let Some(Some(block)) = self.blocks.back_mut() {
                bytes += block.push_run(fit, place, &mut spots);
            }
            self.next += fit as u64;
            left -= fit;
        }
        self.kept += count as u64;
        self.bytes += bytes;
        self.segments.add_run(place, count as u64, bytes);
    }

    #[inline]
    fn slot_for(&mut self, entry: &Entry) -> (Slot, Option<Extras>) {
        let place = self.segments.add(entry.address.segment, entry.size);
        self.kept += 1;
        self.bytes += u64::from(entry.size);
        let mut flags = 0;
        let mut extras = None;
        if entry.key.is_some() || entry.due_ms != 0 || entry.expires_ms != 0 {
            flags |= if entry.key.is_some() { KEYED } else { 0 };
            flags |= if entry.due_ms != 0 { UNDUE } else { 0 };
            flags |= if entry.expires_ms != 0 { EXPIRES } else { 0 };
            let key = entry.key.map_or(0, |key| key.0);
            extras = Some(Extras { key, due: entry.due_ms, expires: entry.expires_ms });
        }
        let slot = Slot::new(place, entry.address.offset, entry.size, entry.priority, flags);
        if slot.is_timed() {
            self.timed += 1;
        }
        (slot, extras)
    }

    fn open_block(&mut self, number: u64, groups: usize) {
        if self.blocks.is_empty() {
            self.base = number;
        }
        let block = match self.spare.pop() {
            Some(mut block) => {
                block.reset(groups);
                block
            }
            None => Box::new(Block::new(groups)),
        };
        debug_assert_eq!(self.base + self.blocks.len() as u64, number, "X4: blocks are dense");
        self.blocks.push_back(Some(block));
    }

    /// Puts back a message that a restart found in the log: a new one, one of which an earlier record was seen, or
    /// one older than all that were seen.
    #[inline]
    pub(super) fn restore(&mut self, sequence: u64, entry: &Entry, groups: usize) {
        // Nearly all.
        if sequence == self.next && self.is_going_on() {
            self.insert(entry, groups);
            return;
        }
        self.restore_elsewhere(sequence, entry, groups);
    }

    /// Whether the block of the next message is there or is to be opened.
    #[inline]
    pub(super) fn is_going_on(&self) -> bool {
        split(self.next).1 == 0 || matches!(self.blocks.back(), Some(Some(_)))
    }

    fn restore_elsewhere(&mut self, sequence: u64, entry: &Entry, groups: usize) {
        self.reserve(sequence, groups);
        if sequence == self.next {
            self.insert(entry, groups);
            return;
        }
        self.release(sequence);
        let (number, at) = split(sequence);
        let (slot, extras) = self.slot_for(entry);
        if let Some(block) = self.block_mut(number) {
            block.put(at, slot, extras.unwrap_or_default());
            block.keep(at);
        }
    }

    /// Makes `next` at least `upto` and makes blocks for what was left out, as far as there are messages before.
    pub(super) fn reserve(&mut self, upto: u64, groups: usize) {
        let (number, _) = split(upto);
        if self.blocks.is_empty() {
            self.base = split(self.next.max(upto)).0;
        }
        while number < self.base {
            // Older than all before: blocks that are not there until a message is.
            self.base -= 1;
            self.blocks.push_front(None);
        }
        if self.next <= upto {
            self.skip_to(upto, groups);
        } else if self.block(number).is_none() {
            let mut block = Box::new(Block::new(groups));
            block.skip_to(BLOCK);
            let at = (number - self.base) as usize;
            self.blocks[at] = Some(block);
        }
    }

    fn skip_to(&mut self, upto: u64, groups: usize) {
        let (last, rest) = split(upto);
        while self.next < upto {
            if self.blocks.iter().all(Option::is_none) {
                self.blocks.clear();
                self.base = last;
                self.next = self.next.max(last * BLOCK as u64);
            }
            let (number, at) = split(self.next);
            let filled = if number == last { rest } else { BLOCK };
            if at == 0 && filled == BLOCK {
                self.blocks.push_back(None);
            } else {
                if at == 0 && filled > 0 {
                    self.open_block(number, groups);
                }
                self.fill(number, filled);
            }
            self.next = number * BLOCK as u64 + filled as u64;
        }
    }

    fn fill(&mut self, number: u64, filled: usize) {
        if let Some(block) = self.block_mut(number) {
            block.skip_to(filled);
        }
    }

    /// Notes that nobody needs the message; nothing if nobody did.
    #[inline]
    pub(super) fn release(&mut self, sequence: u64) {
        let (number, at) = split(sequence);
        let Some(block) = self.block_mut(number) else { return };
        if !block.release(at) {
            return;
        }
        let slot = block.slot(at);
        let left = block.kept_count();
        self.segments.remove(slot.place(), slot.size);
        self.kept -= 1;
        self.bytes -= u64::from(slot.size);
        if slot.is_timed() {
            self.timed -= 1;
        }
        // Powers of two keep the look at a thinning block rare.
        if left == 0 || left.is_power_of_two() {
            self.thin_out(number);
        }
    }

    /// The same for `first..end`, which are of one block and all kept.
    #[inline]
    pub(super) fn release_run(&mut self, first: u64, end: u64) {
        let (number, from) = split(first);
        let count = (end - first) as usize;
        // Not `block_mut`: the segments are changed meanwhile.
        let block = number.checked_sub(self.base).and_then(|at| self.blocks.get_mut(at as usize)?.as_deref_mut());
        let Some(block) = block else { return };
        let before = block.kept_count();
        let Some(slots) = block.release_run(from, from + count) else {
            return (first..end).for_each(|sequence| self.release(sequence));
        };
        let (mut place, mut messages, mut bytes) = (slots[0].place(), 0, 0);
        for slot in slots {
            if slot.place() != place {
                self.segments.remove_run(place, messages, bytes);
                self.bytes -= bytes;
                (place, messages, bytes) = (slot.place(), 0, 0);
            }
            messages += 1;
            bytes += u64::from(slot.size);
            self.timed -= u64::from(slot.is_timed());
        }
        self.segments.remove_run(place, messages, bytes);
        self.bytes -= bytes;
        self.kept -= count as u64;
        let left = before - count;
        // As for one: when a power of two is passed.
        if left == 0 || left.next_power_of_two() != before.next_power_of_two() {
            self.thin_out(number);
        }
    }

    /// Takes back that nobody needs the message, if its slot is still there.
    pub(super) fn revive(&mut self, sequence: u64) -> bool {
        let (number, at) = split(sequence);
        let Some(block) = self.block_mut(number) else { return false };
        if at >= block.filled() || block.kept.get(at) || block.slot(at).is_absent() {
            return at < block.filled() && block.kept.get(at);
        }
        block.keep(at);
        let slot = block.slot(at);
        let (segment, size) = (self.segments.number(slot.place()), slot.size);
        let place = self.segments.add(segment, size);
        debug_assert_eq!(place, slot.place(), "S1: the segment kept its place");
        self.kept += 1;
        self.bytes += u64::from(size);
        if slot.is_timed() {
            self.timed += 1;
        }
        true
    }

    fn thin_out(&mut self, number: u64) {
        if self.holding {
            return;
        }
        self.drop_if_empty(number);
        self.drop_front();
        // The first block is likely to go as a whole soon.
        if number > self.base {
            if let Some(block) = self.block_mut(number) {
                block.squeeze_if_few();
            }
        }
    }

    fn drop_if_empty(&mut self, number: u64) {
        if split(self.next).0 <= number {
            return;
        }
        let Some(at) = number.checked_sub(self.base) else { return };
        let Some(place) = self.blocks.get_mut(at as usize) else { return };
        if let Some(block) = place.take_if(|block| block.kept_count() == 0) {
            if self.spare.len() < SPARE {
                self.spare.push(block);
            }
        }
    }

    fn drop_front(&mut self) {
        while let Some(None) = self.blocks.front() {
            self.blocks.pop_front();
            self.base += 1;
        }
    }

    /// Drops what a restart held on to.
    pub(super) fn stop_holding(&mut self) {
        self.holding = false;
        self.segments.hold(false);
        let numbers: Vec<u64> = self.blocks_from(0).map(|(number, _)| number).collect();
        for number in numbers {
            self.thin_out(number);
        }
        self.drop_front();
    }

    /// Notes that the time of a kept message has come.
    pub(super) fn make_due(&mut self, sequence: u64) {
        let (number, at) = split(sequence);
        if let Some(block) = self.block_mut(number).filter(|block| block.kept.get(at)) {
            let was_timed = block.slot(at).is_timed();
            block.make_due(at);
            let is_timed = block.slot(at).is_timed();
            if was_timed && !is_timed {
                self.timed -= 1;
            }
        }
    }

    /// Moves a kept message that lies at `from`; whether it did.
    pub(super) fn relocate(&mut self, sequence: u64, from: Address, to: Address) -> bool {
        let Some(slot) = self.slot(sequence).filter(|&slot| self.address(slot) == from) else { return false };
        self.segments.remove(slot.place(), slot.size);
        let place = self.segments.add(to.segment, slot.size);
        let (number, at) = split(sequence);
        if let Some(block) = self.block_mut(number) {
            block.relocate(at, place, to.offset);
        }
        true
    }

    /// Bytes of memory for all messages.
    pub(super) fn memory_bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().flatten().map(|block| block.memory_bytes()).sum();
        blocks + self.blocks.capacity() * size_of::<Option<Box<Block>>>()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_invariants(&self) {
        let (mut kept, mut bytes, mut timed) = (0, 0, 0);
        let mut live = std::collections::BTreeMap::<u32, (u64, u64)>::new();
        for (number, block) in self.blocks_from(0) {
            block.check_invariants();
            for at in block.kept.iter() {
                let slot = block.slot(at);
                kept += 1;
                timed += u64::from(slot.is_timed());
                bytes += u64::from(slot.size);
                let counts = live.entry(self.address(slot).segment).or_default();
                *counts = (counts.0 + 1, counts.1 + u64::from(slot.size));
            }
            let end = (number + 1) * BLOCK as u64;
            let filled = if end <= self.next { BLOCK } else { split(self.next).1 };
            assert_eq!(block.filled(), filled, "X4: block {number} of {}", self.next);
            assert!(self.holding || end > self.next || block.kept_count() > 0, "X3: block {number} is empty");
        }
        assert_eq!((kept, bytes, timed), (self.kept, self.bytes, self.timed), "X1");
        let counted: Vec<_> = self.segments.iter().filter(|(_, live)| live.messages > 0).collect();
        let expected: Vec<_> = live.into_iter().map(|(number, (m, b))| (number, m, b)).collect();
        let counted: Vec<_> = counted.into_iter().map(|(number, l)| (number, l.messages, l.bytes)).collect();
        assert_eq!(counted, expected, "X2");
    }
}
