//! Every bit of a small log flipped, every file of it cut at every byte: named with its place, or harmless.

use super::*;
use crate::log::ahead::walk_ahead;
use crate::log::record::GroupHeader;
use crate::log::survey::{Survey, walk_live};
use crate::storage::FaultyDisk;

/// A log over several segments, opened twice, that ends as after a kill, and all of its records.
fn small_log() -> (FaultyDisk, Vec<Known>) {
    let disk = FaultyDisk::new(1);
    let mut known = Vec::new();
    for session in 0..2_u64 {
        let (log, ..) = open_with(&disk, small()).unwrap();
        for number in 0..19 {
            let bodies = [body(session * 50 + number, (number * 31 % 500) as usize), body(number, 3)];
            known.extend(append(&log, Room::Ordinary, &[(1, &bodies[0]), (2, &bodies[1])]).unwrap());
            if number % 4 != 1 {
                log.commit().unwrap();
            }
        }
        if session == 0 {
            let first = log.segments()[0].0;
            log.release(first);
            log.maintain().unwrap();
            known.retain(|(address, ..)| address.segment != first);
        }
    }
    disk.crash();
    (disk, known)
}

fn files(disk: &FaultyDisk) -> Vec<(String, usize)> {
    let names = disk.list().unwrap();
    names.into_iter().map(|name| (name.clone(), disk.contents(&name).len())).collect()
}

/// What opening a damaged log came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Harmless,
    Damaged(Damage),
}

fn judge(disk: &FaultyDisk, known: &[Known], context: &str) -> Verdict {
    let verified = verify(disk);
    match open_with(disk, small()) {
        Ok((log, recovery, found)) => {
            assert_eq!(found, known, "{context}: silently lost or changed");
            assert_eq!(verified.unwrap(), recovery, "{context}");
            for (address, kind, body) in known {
                let record = log.read(*address).unwrap();
                assert_eq!((record.kind, &record.body[..]), (*kind, &body[..]), "{context}");
            }
            Verdict::Harmless
        }
        Err(OpenError::Damaged(damage)) => {
            assert!(matches!(verified, Err(OpenError::Damaged(same)) if same == damage), "{context}: {verified:?}");
            Verdict::Damaged(damage)
        }
        Err(error) => panic!("{context}: {error:?}"),
    }
}

#[test]
fn every_flipped_bit_is_named_or_harmless() {
    let (disk, known) = small_log();
    let mut bits = Vec::new();
    for (name, len) in files(&disk) {
        let bytes = disk.contents(&name);
        bits.extend((0..len as u64 * 8).filter_map(|bit| {
            let around = &bytes[(bit as usize / 8).saturating_sub(16)..(bit as usize / 8 + 16).min(len)];
            // Where nothing was ever written one bit is like the other.
            let is_blank = bit % 29 != 0 && around.iter().all(|byte| *byte == 0);
            (!is_blank).then(|| (name.clone(), bit))
        }));
    }
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let damaged = std::thread::scope(|scope| {
        let flip_some =
            |first| bits.iter().skip(first).step_by(threads).filter(|bit| is_named(&disk, bit, &known)).count();
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || flip_some(first))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
    });
    println!("{damaged} named, {} harmless", bits.len() - damaged);
    let bodies = known.iter().map(|(_, _, body)| body.len()).sum::<usize>();
    assert!(damaged >= bodies * 8, "every bit of a body matters");
}

/// Whether the flipped bit is named rather than harmless.
fn is_named(disk: &FaultyDisk, (name, bit): &(String, u64), known: &[Known]) -> bool {
    let copy = disk.crashed(*bit);
    copy.flip_bit(name, *bit);
    let Verdict::Damaged(damage) = judge(&copy, known, &format!("bit {bit} of {name}")) else { return false };
    assert_eq!(&segment::file_name(damage.segment), name, "bit {bit}: {damage}");
    // The place is that of the group, or of the segment's header or end mark, that the bit is in.
    assert!(damage.offset <= bit / 8 + 32, "bit {bit} of {name}: {damage}");
    true
}

/// The groups that are found, at most so many, and how it ended.
fn groups(survey: &Survey, ahead: bool, max: usize) -> (Vec<(GroupHeader, u32, Vec<u8>)>, String) {
    let mut groups = Vec::new();
    let visit = &mut |segment: &segment::Segment, header: &GroupHeader, offset, records: &[u8]| {
        assert_eq!(segment.number, header.segment);
        if groups.len() == max {
            return Err(OpenError::Config("refused"));
        }
        groups.push((*header, offset, records.to_vec()));
        Ok(())
    };
    let buffer = &mut Vec::new();
    let end = if ahead { walk_ahead(survey, buffer, visit) } else { walk_live(survey, buffer, visit) };
    (groups, format!("{end:?}"))
}

#[test]
fn reading_ahead_finds_the_same_in_the_same_order() {
    let (disk, _) = small_log();
    let survey = Survey::new(&disk, &mut Vec::new()).unwrap();
    let all = groups(&survey, false, usize::MAX).0.len();
    assert!(all > 10, "{all} groups");
    for max in 0..=all {
        assert_eq!(groups(&survey, true, max), groups(&survey, false, max), "at most {max}");
    }
    let mut damaged = 0;
    for (name, len) in files(&disk) {
        for bit in (0..len as u64 * 8).step_by(97) {
            let copy = disk.crashed(bit);
            copy.flip_bit(&name, bit);
            let Ok(survey) = Survey::new(&copy, &mut Vec::new()) else { continue };
            let found = groups(&survey, true, usize::MAX);
            damaged += usize::from(found.1.contains("Damaged"));
            assert_eq!(found, groups(&survey, false, usize::MAX), "bit {bit} of {name}");
        }
    }
    assert!(damaged > 10, "{damaged} were damaged");
}

#[test]
fn every_truncation_is_named_or_harmless() {
    let (disk, known) = small_log();
    for (name, len) in files(&disk) {
        let is_segment = segment::parse_name(&name).is_some();
        for cut in (0..len as u64).step_by(if is_segment { 1 } else { 61 }) {
            let copy = disk.crashed(cut);
            copy.truncate(&name, cut);
            let verdict = judge(&copy, &known, &format!("{name} cut at {cut}"));
            assert_eq!(matches!(verdict, Verdict::Damaged(_)), is_segment, "{name} cut at {cut}: {verdict:?}");
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_named() {
    let (disk, known) = small_log();
    let numbers: Vec<u32> = files(&disk).iter().filter_map(|(name, _)| segment::parse_name(name)).collect();
    assert!(numbers.len() > 1);
    for &number in &numbers[..numbers.len() - 1] {
        let copy = disk.crashed(0);
        copy.remove(&segment::file_name(number)).unwrap();
        let Verdict::Damaged(damage) = judge(&copy, &known, "gone") else { panic!("{number} is not missed") };
        // In the open suffix, what it held is missed behind the segment before.
        let missing = damage == Damage::new(number, 0, DamageReason::Missing);
        assert!(missing || damage.reason == DamageReason::Gap && damage.segment < number, "{number}: {damage}");
    }
}

#[test]
fn what_is_damaged_while_the_log_is_open_is_not_delivered() {
    let (disk, known) = small_log();
    let (log, ..) = open_with(&disk, small()).unwrap();
    let (address, kind, body) = known.iter().find(|(_, _, body)| body.len() > 100).unwrap();
    let name = segment::file_name(address.segment);
    for bit in 0..8 * 64 {
        let bit = (u64::from(address.offset) + 8) * 8 + bit;
        disk.flip_bit(&name, bit);
        match log.read(*address) {
            Err(ReadError::Damaged(damage)) => assert_eq!(damage.reason, DamageReason::Checksum),
            other => panic!("{other:?}"),
        }
        disk.flip_bit(&name, bit);
    }
    let record = log.read(*address).unwrap();
    assert_eq!((record.kind, &record.body[..]), (*kind, &body[..]));
}

#[test]
fn a_refused_log_is_left_as_it_was() {
    let (disk, _) = small_log();
    let (name, _) = files(&disk).into_iter().find(|(name, _)| segment::parse_name(name).is_some()).unwrap();
    disk.flip_bit(&name, 600 * 8);
    let changes = disk.changes();
    assert!(matches!(open_with(&disk, small()), Err(OpenError::Damaged(_))));
    assert_eq!(disk.changes(), changes);
}

#[test]
fn a_newer_version_is_refused() {
    let (disk, _) = small_log();
    let (name, _) = files(&disk).into_iter().find(|(name, _)| segment::parse_name(name).is_some()).unwrap();
    let file = disk.open(&name).unwrap();
    let mut header = disk.contents(&name)[..24].to_vec();
    header[8..10].copy_from_slice(&(segment::VERSION + 1).to_le_bytes());
    let checksum = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    file.write_at(0, &[std::io::IoSlice::new(&header)]).unwrap();
    let changes = disk.changes();
    let refused = open_with(&disk, small()).map(drop);
    assert!(matches!(refused, Err(OpenError::NewerVersion { found: 2, supported: 1 })), "{refused:?}");
    assert_eq!(disk.changes(), changes, "it is left as it was");
}
