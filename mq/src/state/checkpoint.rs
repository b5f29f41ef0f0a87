//! All of a state but its messages, in few bytes: what stands for all events before it.
//!
//! ```text
//! version u8 | next | trim | kept: blocks
//! slots | for each: generation, flag, and if there is a group
//!         name | floor | paused | delivery base and max | settled at or above the floor: blocks
//!         flights: count, (gap, delivery, attempt, timeless, until) each | dead letters: count, ... each
//! ids: count, (id u128, message, until) each
//! blocks: count, (gap, runs: count, lengths each; or 0 and 64 words) each
//! ```
//! Numbers are LEB128. Runs begin with clear bits; a block that is shorter as words is written so. A million waiting
//! messages take about a kilobyte.

use bytes::{Buf, BufMut, Bytes};

use super::bits::{BLOCK, Bits};
use super::dedup::Window;
use super::event::{put_reason, read_flag, read_reason, read_string, read_u16, read_u128};
use super::flight::{Flight, Phase};
use super::group::Group;
use super::index::{Index, split};
use super::recover::{Imported, Recovery};
use super::{Dead, GroupId, State};
use crate::codec::{DecodeError, put_bytes, put_varint, read_u8, read_u32, read_varint};

const VERSION: u8 = 1;
const WORDS: usize = BLOCK / 64;

/// A set of messages, by block.
type Blocks = Vec<(u64, Bits)>;

/// What an import reads before it changes anything.
struct Checkpoint {
    next: u64,
    trim: u64,
    kept: Blocks,
    slots: Vec<(u16, Option<(Group, Blocks)>)>,
    ids: Vec<(u128, u64, u64)>,
}

impl State {
    /// Appends a checkpoint. It stands for all events that were drained by now, so it must go into the log before any
    /// later one. What is leased is written as if it were back.
    pub(crate) fn export(&self, out: &mut (impl BufMut + ?Sized)) {
        out.put_u8(VERSION);
        put_varint(out, self.index.next());
        put_varint(out, self.retained.trim);
        put_blocks(out, &kept_blocks(&self.index));
        put_varint(out, self.groups.len() as u64);
        for (group, generation) in self.groups.iter().zip(&self.generations) {
            put_varint(out, (*generation).into());
            out.put_u8(group.is_some().into());
            if let Some(group) = group {
                put_group(out, group, &self.index);
            }
        }
        put_varint(out, self.window.iter().count() as u64);
        for (id, sequence, until) in self.window.iter() {
            out.put_u128_le(id);
            put_varint(out, sequence);
            put_varint(out, until);
        }
    }
}

impl Recovery {
    /// Takes a checkpoint for all that was applied before.
    ///
    /// # Errors
    /// If the bytes are no checkpoint; nothing has changed then.
    pub(crate) fn import(&mut self, mut bytes: Bytes) -> Result<Imported, DecodeError> {
        let checkpoint = Checkpoint::read(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(DecodeError::Trailing);
        }
        self.check_gap(checkpoint.next).map_err(|_| DecodeError::Range)?;
        Ok(self.take_over(checkpoint))
    }

    fn take_over(&mut self, checkpoint: Checkpoint) -> Imported {
        let Checkpoint { next, trim, kept, slots, ids } = checkpoint;
        let state = &mut self.state;
        state.groups.clear();
        state.generations.clear();
        let columns = slots.len();
        if state.index.next() < next {
            state.index.reserve(next, columns);
        }
        let imported = keep(&mut state.index, next, &kept);
        for (_, block) in state.index.blocks_mut() {
            block.widen(columns);
        }
        for (slot, (generation, group)) in slots.into_iter().enumerate() {
            state.generations.push(generation);
            state.groups.push(group.map(|(group, settled)| {
                settle(&mut state.index, slot, next, group.floor, &settled);
                Box::new(group)
            }));
        }
        state.retained.trim = trim.min(next);
        state.sweep();
        state.window = Window::default();
        for (id, sequence, until) in ids {
            state.window.put(id, sequence, until, state.limits.max_ids);
        }
        imported
    }
}

/// Keeps below `next` what is in `kept` and nothing else.
fn keep(index: &mut Index, next: u64, kept: &Blocks) -> Imported {
    let mut released = Vec::new();
    for (number, block) in index.blocks_from(0) {
        let start = number * BLOCK as u64;
        let bits = find(kept, number);
        released
            .extend(block.kept.iter().filter(|&at| !bits.is_some_and(|bits| bits.get(at))).map(|at| start + at as u64));
    }
    for sequence in released.into_iter().filter(|&sequence| sequence < next) {
        index.release(sequence);
    }
    let mut imported = Imported::default();
    for (number, bits) in kept {
        let start = number * BLOCK as u64;
        for sequence in bits.iter().map(|at| start + at as u64).filter(|&sequence| sequence < next) {
            if !index.revive(sequence) {
                imported.missing += 1;
            }
        }
    }
    imported
}

/// Settles for a group below `next` what is below its floor or in `settled` and nothing else; nothing above.
fn settle(index: &mut Index, slot: usize, next: u64, floor: u64, settled: &Blocks) {
    for (number, block) in index.blocks_mut() {
        let start = number * BLOCK as u64;
        let mut bits = find(settled, number).cloned().unwrap_or(Bits::EMPTY);
        bits.set_below(floor.saturating_sub(start).min(BLOCK as u64) as usize);
        for at in next.saturating_sub(start).min(BLOCK as u64) as usize..BLOCK {
            bits.clear(at);
        }
        block.settled[slot] = bits;
    }
}

fn find(blocks: &Blocks, number: u64) -> Option<&Bits> {
    blocks.binary_search_by_key(&number, |(number, _)| *number).ok().map(|at| &blocks[at].1)
}

fn kept_blocks(index: &Index) -> Blocks {
    let blocks = index.blocks_from(0).filter(|(_, block)| block.kept_count() > 0);
    blocks.map(|(number, block)| (number, block.kept.clone())).collect()
}

/// What the group is done with and is still kept, at or above its floor.
fn settled_blocks(group: &Group, index: &Index) -> Blocks {
    let mut blocks = Vec::new();
    for (number, block) in index.blocks_from(split(group.floor).0) {
        let below = group.floor.saturating_sub(number * BLOCK as u64) as usize;
        let mut bits = Bits::EMPTY;
        for at in block.kept.iter().filter(|&at| at >= below && block.settled[group.slot()].get(at)) {
            bits.set(at);
        }
        if bits.next_set(0) < BLOCK {
            blocks.push((number, bits));
        }
    }
    blocks
}

fn put_group(out: &mut (impl BufMut + ?Sized), group: &Group, index: &Index) {
    put_bytes(out, group.name.as_bytes());
    put_varint(out, group.id.0.into());
    put_varint(out, group.floor);
    out.put_u8(group.paused.into());
    put_varint(out, group.delivery_base.into());
    put_varint(out, group.delivery_max.into());
    put_blocks(out, &settled_blocks(group, index));
    let flights = group.flights.sorted();
    put_varint(out, flights.len() as u64);
    for flight in flights {
        put_varint(out, flight.sequence);
        put_varint(out, flight.delivery.into());
        put_varint(out, flight.attempt.into());
        out.put_u8(flight.timeless.into());
        put_varint(out, if flight.phase == Phase::Delayed { flight.until } else { 0 });
    }
    put_varint(out, group.dead.len() as u64);
    for (sequence, dead) in group.dead.iter_from(0) {
        put_varint(out, sequence);
        put_varint(out, dead.delivery.into());
        put_varint(out, dead.attempts.into());
        put_varint(out, dead.at_ms);
        put_reason(out, &dead.reason);
    }
}

fn put_blocks(out: &mut (impl BufMut + ?Sized), blocks: &Blocks) {
    put_varint(out, blocks.len() as u64);
    let mut next = 0;
    for (number, bits) in blocks {
        put_varint(out, number - next);
        next = number + 1;
        let runs = runs(bits);
        // Half of the lengths take two bytes at worst.
        if runs.len() * 2 > WORDS * 8 {
            put_varint(out, 0);
            bits.words().iter().for_each(|&word| out.put_u64_le(word));
        } else {
            put_varint(out, runs.len() as u64);
            runs.iter().for_each(|&length| put_varint(out, length as u64));
        }
    }
}

/// Lengths of runs, clear and set in turn, the last one set.
fn runs(bits: &Bits) -> Vec<usize> {
    let (mut runs, mut at) = (Vec::new(), 0);
    loop {
        let set = bits.next_set(at);
        if set == BLOCK {
            return runs;
        }
        let clear = bits.next_clear(set);
        runs.extend([set - at, clear - set]);
        at = clear;
    }
}

impl Checkpoint {
    fn read(from: &mut Bytes) -> Result<Self, DecodeError> {
        if read_u8(from)? != VERSION {
            return Err(DecodeError::Unknown);
        }
        let (next, trim, kept) = (read_varint(from)?, read_varint(from)?, read_blocks(from)?);
        let mut slots = Vec::new();
        for slot in 0..read_count(from)? {
            let generation = read_u16(from)?;
            let group = if read_flag(from)? { Some(read_group(from, slot, generation)?) } else { None };
            slots.push((generation, group));
        }
        let mut ids = Vec::new();
        for _ in 0..read_count(from)? {
            ids.push((read_u128(from)?, read_varint(from)?, read_varint(from)?));
        }
        Ok(Self { next, trim, kept, slots, ids })
    }
}

fn read_group(from: &mut Bytes, slot: usize, generation: u16) -> Result<(Group, Blocks), DecodeError> {
    let name = read_string(from)?;
    let id = GroupId(read_u32(from)?);
    if id.slot() != slot || id.generation() != generation {
        return Err(DecodeError::Range);
    }
    let mut group = Group::new(id, name, read_varint(from)?);
    group.paused = read_flag(from)?;
    (group.delivery_base, group.delivery_max) = (read_u32(from)?, read_u32(from)?);
    let settled = read_blocks(from)?;
    let mut after = 0;
    for _ in 0..read_count(from)? {
        let sequence = read_next(from, &mut after)?;
        let mut flight = Flight::ready(sequence, read_u32(from)?, read_u16(from)?);
        flight.timeless = read_flag(from)?;
        flight.until = read_varint(from)?;
        if flight.until > 0 {
            flight.phase = Phase::Delayed;
        }
        group.flights.insert(flight);
    }
    let mut after = 0;
    for _ in 0..read_count(from)? {
        let sequence = read_next(from, &mut after)?;
        let (delivery, attempts, at_ms) = (read_u32(from)?, read_u32(from)?, read_varint(from)?);
        group.dead.insert(sequence, Dead { reason: read_reason(from)?, attempts, at_ms, delivery });
    }
    Ok((group, settled))
}

/// A number of things, each of which takes a byte at least.
fn read_count(from: &mut Bytes) -> Result<usize, DecodeError> {
    let count = usize::try_from(read_varint(from)?).map_err(|_| DecodeError::Range)?;
    if count > from.len() { Err(DecodeError::Short) } else { Ok(count) }
}

/// A message's number, larger than those before.
fn read_next(from: &mut Bytes, after: &mut u64) -> Result<u64, DecodeError> {
    let sequence = read_varint(from)?;
    // The largest number is the mark of no message.
    if sequence < *after || sequence == u64::MAX {
        return Err(DecodeError::Range);
    }
    *after = sequence + 1;
    Ok(sequence)
}

fn read_blocks(from: &mut Bytes) -> Result<Blocks, DecodeError> {
    let (mut blocks, mut next) = (Vec::new(), 0_u64);
    for _ in 0..read_count(from)? {
        let number = next.checked_add(read_varint(from)?).filter(|&number| number < u64::MAX / BLOCK as u64);
        let number = number.ok_or(DecodeError::Range)?;
        next = number + 1;
        let count = read_count(from)?;
        let bits = if count == 0 { read_words(from)? } else { read_runs(from, count)? };
        blocks.push((number, bits));
    }
    Ok(blocks)
}

fn read_words(from: &mut Bytes) -> Result<Bits, DecodeError> {
    if from.len() < WORDS * 8 {
        return Err(DecodeError::Short);
    }
    Ok(Bits::from_words((0..WORDS).map(|_| from.get_u64_le())))
}

fn read_runs(from: &mut Bytes, count: usize) -> Result<Bits, DecodeError> {
    let (mut bits, mut at) = (Bits::EMPTY, 0_usize);
    for run in 0..count {
        let length = usize::try_from(read_varint(from)?).unwrap_or(BLOCK + 1);
        let end = at.saturating_add(length);
        if end > BLOCK {
            return Err(DecodeError::Range);
        }
        if run % 2 == 1 {
            (at..end).for_each(|at| {
                bits.set(at);
            });
        }
        at = end;
    }
    Ok(bits)
}
