//! The first look at a directory: which segments there are, where the log ends, and whether anything is amiss.
//!
//! Closed segments (those with an end mark) are durable as a whole. Only the *open suffix* behind the last of them may
//! end in a torn tail; it is read here once, to find where, and which segments are live. The log ends at the first place
//! where the expected group is not. That is a torn tail if what is missing may never have been written, and damage if
//! it was:
//!
//! - some later group knew the log to be durable beyond this place, or
//! - the group was to be synced before anybody was told, and is what was written but for one bit. A torn group looks
//!   like that by chance once in a hundred thousand times, and more often where the part of it that is in a sector has
//!   but one bit that is set: a blank that ends one byte behind a sector's end. So a sector in which nothing of the group
//!   is left has never been written, rather than lost its only bit, and a queue opens again after a power cut.
//!
//! # Source
//! Pebble's log carries the synced offset for the first rule.

use std::collections::BTreeSet;

use super::error::{Damage, DamageReason, OpenError};
use super::position::Lsn;
use super::record::{
    ALIGNMENT, FLAG_INTERNAL, FLAG_SYNCED, GroupHeader, HEADER_BYTES, KIND_LIVE, KIND_RELEASED, each_frame, read_u32,
};
use super::segment::{End, SECTOR, Segment, file_name, parse_name};
use super::window::Window;
use crate::storage::Storage;
use crate::sync::Arc;

/// What is in the directory.
#[derive(Debug)]
pub(super) struct Survey {
    /// All names.
    pub(super) names: Vec<String>,
    /// All segments, in order, with their end marks.
    pub(super) segments: Vec<(Arc<Segment>, Option<End>)>,
    /// Index of the first segment of the open suffix.
    pub(super) suffix: usize,
    /// What is in the segments of the suffix that hold groups.
    pub(super) stretches: Vec<Stretch>,
    /// Up to where the log was known to be durable.
    pub(super) proven: Lsn,
    /// The highest session of any group, also behind the end.
    pub(super) last_session: u32,
    /// Where the log ends; `None` if there is no group at all.
    pub(super) cut: Option<Cut>,
    /// Live segments as of there.
    pub(super) live: BTreeSet<u32>,
}

/// The groups of one segment of the suffix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// Index of the segment.
    pub(super) index: usize,
    /// Of the first group.
    pub(super) first: Lsn,
    pub(super) end: End,
}

/// Where the log ends.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// Index of the segment.
    pub(super) index: usize,
    pub(super) end: End,
    /// Whether something was begun behind it.
    pub(super) is_torn: bool,
}

/// Where the next group of a chain must be, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) offset: u32,
    /// `None` if any is right.
    pub(super) lsn: Option<Lsn>,
    pub(super) session: u32,
}

/// Why a chain of groups ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No group that follows the one before.
    NoHeader,
    /// Its header is right, its records are not.
    Checksum(GroupHeader),
}

/// Told of each group: its header, where that is, its records.
pub(super) type Visit<'a> = dyn FnMut(&GroupHeader, u32, &[u8]) -> Result<(), OpenError> + 'a;

/// Follows groups from `chain` on, and leaves it where they end.
fn walk(segment: &Segment, buffer: &mut Vec<u8>, chain: &mut Chain, visit: &mut Visit<'_>) -> Result<Stop, OpenError> {
    let mut window = Window::new(segment, buffer);
    loop {
        let header = GroupHeader::decode(window.get(u64::from(chain.offset), HEADER_BYTES as usize)?)
            .filter(|header| follows(header, segment, chain));
        let Some(header) = header else {
            return Ok(Stop::NoHeader);
        };
        let group = window.get(u64::from(chain.offset), HEADER_BYTES as usize + header.len as usize)?;
        let records = group.get(HEADER_BYTES as usize..).unwrap_or_default();
        if records.len() < header.len as usize || crc32fast::hash(records) != header.checksum {
            return Ok(Stop::Checksum(header));
        }
        visit(&header, chain.offset, records)?;
        chain.offset = (u64::from(chain.offset) + header.span()).min(u64::from(segment.size)) as u32;
        chain.lsn = Some(Lsn(header.lsn.0 + header.span()));
        chain.session = header.session;
    }
}

fn follows(header: &GroupHeader, segment: &Segment, chain: &Chain) -> bool {
    header.segment == segment.number
        && header.session >= chain.session
        && chain.lsn.is_none_or(|lsn| lsn == header.lsn)
        && u64::from(chain.offset) + u64::from(HEADER_BYTES) + u64::from(header.len) <= u64::from(segment.data_end())
}

impl Survey {
    /// Looks at everything, changes nothing.
    pub(super) fn new(storage: &dyn Storage, buffer: &mut Vec<u8>) -> Result<Self, OpenError> {
        let names = storage.list()?;
        let mut segments = Vec::new();
        for number in names.iter().filter_map(|name| parse_name(name)) {
            let segment = Segment::open(number, storage.open(&file_name(number))?)?;
            let end = segment.read_end()?;
            segments.push((Arc::new(segment), end));
        }
        segments.sort_unstable_by_key(|(segment, _)| segment.number);
        let suffix = segments.iter().rposition(|(_, end)| end.is_some()).map_or(0, |last| last + 1);
        let mut survey = Self {
            names,
            segments,
            suffix,
            stretches: Vec::new(),
            proven: Lsn(0),
            last_session: 0,
            cut: None,
            live: BTreeSet::new(),
        };
        survey.find_cut(buffer)?;
        survey.check_live()?;
        Ok(survey)
    }

    /// Follows the open suffix to the end of the log.
    fn find_cut(&mut self, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let closed = self.suffix.checked_sub(1).and_then(|index| self.segments[index].1.map(|end| (index, end)));
        let mut chain = Chain { offset: SECTOR, lsn: None, session: 0 };
        if let Some((index, end)) = closed {
            (chain.lsn, chain.session) = (Some(end.lsn), end.session);
            (self.proven, self.last_session) = (end.lsn, end.session);
            self.cut = Some(Cut { index, end, is_torn: false });
        }
        let mut stopped = None;
        for index in self.suffix..self.segments.len() {
            let segment = Arc::clone(&self.segments[index].0);
            chain.offset = SECTOR;
            let expected = chain.lsn;
            if self.is_behind_a_gap(index) {
                chain.lsn = None;
            }
            let (live, proven) = (&mut self.live, &mut self.proven);
            let mut first = None;
            let stop = walk(&segment, buffer, &mut chain, &mut |header, offset, records| {
                first.get_or_insert(header.lsn);
                *proven = header.durable().max(*proven);
                note_internal(live, &segment, header, offset, records)
            })?;
            if chain.offset == SECTOR {
                // Nothing of the log here; a number that was skipped, or the log ended in a segment before.
                is_damage(&segment, stop, &chain, buffer)?;
                chain.lsn = expected;
                continue;
            }
            let lsn = chain.lsn.unwrap_or_default();
            let end = End { offset: chain.offset, lsn, session: chain.session };
            self.stretches.push(Stretch { index, first: first.unwrap_or_default(), end });
            self.last_session = end.session;
            self.cut = Some(Cut { index, end, is_torn: false });
            stopped = Some((Arc::clone(&segment), stop, chain));
        }
        // Every segment begins with a list of the live ones: without any, nothing follows the last closed segment.
        if let Some((index, end)) = closed.filter(|_| self.live.is_empty()) {
            self.read_closed(index, end, buffer)?;
        }
        if let Some((segment, stop, chain)) = stopped {
            is_damage(&segment, stop, &chain, buffer)?;
            let torn = stop != Stop::NoHeader;
            if let Some(cut) = &mut self.cut {
                cut.is_torn = torn;
            }
        }
        self.look_behind(buffer)
    }

    /// Whether there may have been another segment between this one and the one before, which was released and of which
    /// not even a file is left. All before it was durable by then, and closed: behind a segment that is open, the log goes
    /// on where that ends or not at all.
    fn is_behind_a_gap(&self, index: usize) -> bool {
        let before = index.checked_sub(1).map(|before| &self.segments[before]);
        before.is_some_and(|(segment, end)| end.is_some() && segment.number + 1 != self.segments[index].0.number)
    }

    /// The lists in the last closed segment, the newest if nothing follows it.
    fn read_closed(&mut self, index: usize, end: End, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let segment = Arc::clone(&self.segments[index].0);
        let live = &mut self.live;
        walk_closed(&segment, end, None, buffer, &mut |header, offset, records| {
            note_internal(live, &segment, header, offset, records)
        })
    }

    /// Searches behind the end of the log for groups that prove that it went on.
    fn look_behind(&mut self, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let (first, mut offset, lsn, session) = match &self.cut {
            Some(cut) => (cut.index, cut.end.offset, cut.end.lsn, cut.end.session),
            None => (0, SECTOR, Lsn(u64::from(SECTOR)), 0),
        };
        let place = self.segments.get(first).map(|(segment, _)| (segment.number, u64::from(offset)));
        for (index, (segment, end)) in self.segments.iter().enumerate().skip(first) {
            let from = if index == first && end.is_some() { segment.data_end() } else { offset };
            offset = SECTOR;
            let Some((durable, later_session)) = search(segment, from, lsn, session, buffer)? else {
                continue;
            };
            self.last_session = self.last_session.max(later_session);
            if let Some(cut) = &mut self.cut {
                cut.is_torn = true;
            }
            if let Some((number, at)) = place.filter(|_| durable > lsn) {
                return Err(Damage::new(number, at, DamageReason::Gap).into());
            }
        }
        Ok(())
    }

    fn check_live(&self) -> Result<(), OpenError> {
        let there: BTreeSet<u32> = self.segments.iter().map(|(segment, _)| segment.number).collect();
        match self.live.difference(&there).next() {
            Some(&missing) => Err(Damage::new(missing, 0, DamageReason::Missing).into()),
            None => Ok(()),
        }
    }

    /// Whether the segment of this index belongs to the log.
    pub(super) fn is_live(&self, index: usize) -> bool {
        self.live.contains(&self.segments[index].0.number)
    }

    /// Sizes of all segments that belong to the log.
    pub(super) fn live_bytes(&self) -> u64 {
        let live = self.segments.iter().filter(|(segment, _)| self.live.contains(&segment.number));
        live.map(|(segment, _)| u64::from(segment.size)).sum()
    }
}

/// Told of each group: its segment, its header, where that is, its records.
pub(super) type VisitLive<'a, 's> = dyn FnMut(&'s Segment, &GroupHeader, u32, &[u8]) -> Result<(), OpenError> + 'a;

/// Follows the groups of all live segments to the end of the log.
pub(super) fn walk_live<'s>(
    survey: &'s Survey,
    buffer: &mut Vec<u8>,
    visit: &mut VisitLive<'_, 's>,
) -> Result<(), OpenError> {
    // The LSN that must come next, if the segment before is there.
    let mut expected = None;
    let mut previous = None;
    let count = survey.cut.as_ref().map_or(0, |cut| cut.index + 1);
    for (index, (segment, end)) in survey.segments.iter().enumerate().take(count) {
        // Between others there may have been one that was released, of which not even a file is left.
        if previous.replace(segment.number).is_some_and(|number: u32| number + 1 != segment.number) {
            expected = None;
        }
        if !survey.is_live(index) {
            expected = None;
            continue;
        }
        let visit = &mut |header: &GroupHeader, offset, records: &[u8]| visit(segment, header, offset, records);
        expected = match end {
            Some(end) => {
                walk_closed(segment, *end, expected, buffer, visit)?;
                Some(end.lsn)
            }
            None => {
                let mut chain = Chain { offset: SECTOR, lsn: expected, session: 0 };
                walk(segment, buffer, &mut chain, visit)?;
                // An open segment before the last closed one has lost its end mark.
                if index < survey.suffix {
                    let at = u64::from(segment.size);
                    return Err(Damage::new(segment.number, at, DamageReason::SegmentHeader).into());
                }
                chain.lsn
            }
        };
    }
    Ok(())
}

/// Follows the groups of a closed segment, which must be all there.
fn walk_closed(
    segment: &Segment,
    end: End,
    lsn: Option<Lsn>,
    buffer: &mut Vec<u8>,
    visit: &mut Visit<'_>,
) -> Result<(), OpenError> {
    let mut chain = Chain { offset: SECTOR, lsn, session: 0 };
    let stop = walk(segment, buffer, &mut chain, &mut |header, offset, records| {
        // Behind the end of a segment that was closed when a torn tail was cut.
        if offset < end.offset { visit(header, offset, records) } else { Ok(()) }
    })?;
    if chain.offset < end.offset {
        let reason = match stop {
            Stop::NoHeader => DamageReason::GroupHeader,
            Stop::Checksum(_) => DamageReason::Checksum,
        };
        return Err(Damage::new(segment.number, u64::from(chain.offset), reason).into());
    }
    Ok(())
}

/// Whether the group where a chain ended was damaged rather than never written, by what is left of itself.
fn is_damage(segment: &Segment, stop: Stop, chain: &Chain, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
    /// Groups longer than this are not tried for a flipped bit: chance might make one look so.
    const MAX_TRIED: u32 = 8 << 10;
    let mut window = Window::new(segment, buffer);
    let at = u64::from(chain.offset);
    let reason = match stop {
        Stop::NoHeader => GroupHeader::decode_flipped(window.get(at, HEADER_BYTES as usize)?)
            .filter(|header| header.flags & FLAG_SYNCED != 0 && follows(header, segment, chain))
            .map(|_| DamageReason::GroupHeader),
        Stop::Checksum(header) => {
            let tried = header.flags & FLAG_SYNCED != 0 && header.len <= MAX_TRIED;
            let group = if tried { window.get(at, HEADER_BYTES as usize + header.len as usize)? } else { &[] };
            let flipped = group.get(HEADER_BYTES as usize..).and_then(|records| flipped_byte(records, header.checksum));
            flipped.filter(|byte| !is_blank(group, at, HEADER_BYTES as usize + byte)).map(|_| DamageReason::Checksum)
        }
    };
    reason.map_or(Ok(()), |reason| Err(Damage::new(segment.number, at, reason).into()))
}

/// The byte in which one bit must be flipped for the bytes to have this checksum, if there is one.
///
/// What a flipped bit changes of a CRC depends on its distance from the end alone, and each bit before is one step of the
/// register further.
fn flipped_byte(bytes: &[u8], checksum: u32) -> Option<usize> {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let change = crc32fast::hash(bytes) ^ checksum;
    let mut of_bit = POLYNOMIAL;
    (0..bytes.len() * 8).rev().find_map(|bit| {
        let fits = of_bit == change;
        of_bit = of_bit >> 1 ^ if of_bit & 1 == 1 { POLYNOMIAL } else { 0 };
        fits.then_some(bit / 8)
    })
}

/// Whether nothing is left of a group, which is at this place, in the sector with this byte of it.
fn is_blank(group: &[u8], at: u64, byte: usize) -> bool {
    let sector = u64::from(SECTOR);
    let start = (at + byte as u64) / sector * sector;
    let from = start.saturating_sub(at) as usize;
    let to = group.len().min((start + sector - at) as usize);
    group[from..to].iter().all(|byte| *byte == 0)
}

/// The highest durable LSN that any group from here on knew of, among those behind `lsn` and of no earlier session, and
/// their highest session; `None` if there is no such group.
fn search(
    segment: &Segment,
    from: u32,
    lsn: Lsn,
    session: u32,
    buffer: &mut Vec<u8>,
) -> Result<Option<(Lsn, u32)>, OpenError> {
    const STEP: usize = 64 << 10;
    let mut window = Window::new(segment, buffer);
    let mut found: Option<(Lsn, u32)> = None;
    let mut offset = u64::from(from);
    while offset < u64::from(segment.data_end()) {
        // Headers that begin within the step may reach past it.
        let bytes = window.get(offset, STEP + HEADER_BYTES as usize)?;
        for place in bytes[..bytes.len().min(STEP)].chunks(ALIGNMENT as usize).enumerate().map(|(index, _)| index * 16)
        {
            if bytes.len() < place + HEADER_BYTES as usize || read_u32(bytes, place + 12) != segment.number {
                continue;
            }
            let header = GroupHeader::decode(&bytes[place..]);
            if let Some(header) = header.filter(|header| header.lsn >= lsn && header.session >= session) {
                let (durable, last) = found.unwrap_or_default();
                found = Some((durable.max(header.durable()), last.max(header.session)));
            }
        }
        offset += STEP as u64;
    }
    Ok(found)
}

/// More segments than this in a row are taken for nonsense: 8 TiB of them at the usual size.
const MAX_LIVE: u32 = 1 << 20;

/// Follows what the log says of its segments.
fn note_internal(
    live: &mut BTreeSet<u32>,
    segment: &Segment,
    header: &GroupHeader,
    offset: u32,
    records: &[u8],
) -> Result<(), OpenError> {
    if header.flags & FLAG_INTERNAL == 0 {
        return Ok(());
    }
    let nonsense = |at: usize| {
        let at = u64::from(offset) + u64::from(HEADER_BYTES) + at as u64;
        Damage::new(segment.number, at, DamageReason::Record)
    };
    let walked: Result<Result<(), Damage>, usize> = each_frame(records, |at, frame| {
        let body = &records[frame.body];
        match frame.kind {
            KIND_LIVE => {
                live.clear();
                for range in body.chunks_exact(8) {
                    let (first, count) = (read_u32(range, 0), read_u32(range, 4));
                    let end = first.checked_add(count).filter(|_| count <= MAX_LIVE).ok_or_else(|| nonsense(at))?;
                    live.extend(first..end);
                }
            }
            KIND_RELEASED => body.chunks_exact(4).for_each(|number| {
                live.remove(&read_u32(number, 0));
            }),
            _ => {}
        }
        Ok(())
    });
    Ok(walked.map_err(nonsense)??)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::flipped_byte;

    #[test]
    fn each_flipped_bit_is_found_and_two_are_not() {
        for len in [1, 2, 31, 300] {
            let bytes: Vec<u8> = (0..len).map(|at: usize| (at * 37) as u8).collect();
            let checksum = crc32fast::hash(&bytes);
            assert_eq!(flipped_byte(&bytes, checksum), None, "nothing is flipped");
            for bit in 0..len * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(flipped_byte(&flipped, checksum), Some(bit / 8));
                flipped[0] ^= if bit == 0 { 2 } else { 1 };
                assert_eq!(flipped_byte(&flipped, checksum), None, "bit {bit} and another");
            }
        }
        assert_eq!(flipped_byte(&[], 1), None);
    }
}
