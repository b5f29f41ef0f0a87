//! The end of the log after a crash: what was cut stays away, and what is released stays until that is durable.

use std::io::IoSlice;

use super::*;
use crate::storage::{Fault, FaultyDisk, Memory};

/// A log whose last group but one was lost, and the one behind it was not; what is durable of it, and where the lost one
/// was and the other one is.
fn torn_log(disk: &FaultyDisk, config: &LogConfig) -> (Vec<Known>, Address, Address) {
    let (log, ..) = open_with(disk, config.clone()).unwrap();
    let known = append(&log, Room::Ordinary, &[(1, b"durable")]).unwrap();
    log.commit().unwrap();
    log.sync().unwrap();
    let lost = append(&log, Room::Ordinary, &[(1, b"lost")]).unwrap()[0].0;
    log.commit().unwrap();
    let behind = append(&log, Room::Ordinary, &[(1, b"whole, but behind a hole")]).unwrap()[0].0;
    log.commit().unwrap();
    drop(log);
    let file = disk.open(&segment::file_name(lost.segment)).unwrap();
    file.write_at(u64::from(lost.offset) - 32, &[IoSlice::new(&[0; 36])]).unwrap();
    file.sync().unwrap();
    (known, Address { offset: lost.offset - 32, ..lost }, behind)
}

/// The next session's first group is exactly as long as the lost one, so that the old one follows it with the right LSN.
#[test]
fn a_group_behind_a_torn_tail_does_not_come_back() {
    let disk = FaultyDisk::new(7);
    let config = LogConfig { confirm: Confirm::Written, ..small() };
    let (mut known, cut, behind) = torn_log(&disk, &config);

    let (log, recovery, found) = open_with(&disk, config.clone()).unwrap();
    assert_eq!(found, known);
    assert_eq!(recovery.torn, Some(cut));
    // The session's first group lies where the lost one was and ends where the old one begins.
    let next = append(&log, Room::Ordinary, &[(1, b"new")]).unwrap();
    assert_eq!(next[0].0.offset, behind.offset);
    drop(log);
    let (log, _, found) = open_with(&disk, config.clone()).unwrap();
    assert_eq!(found, known, "nothing was committed since, and the old group does not count");
    known.extend(append(&log, Room::Ordinary, &[(1, b"newer")]).unwrap());
    log.commit().unwrap();
    drop(log);
    assert_eq!(open_with(&disk, config).unwrap().2, known);
}

/// Whatever a crash keeps right after the log was opened, the tail is cut once and for all.
#[test]
fn a_cut_is_durable_before_anything_is_appended() {
    for confirm in [Confirm::Synced, Confirm::Written] {
        let disk = FaultyDisk::new(8);
        let config = LogConfig { confirm, ..small() };
        let (known, ..) = torn_log(&disk, &LogConfig { confirm: Confirm::Written, ..small() });
        let (log, recovery, _) = open_with(&disk, config.clone()).unwrap();
        assert!(recovery.torn.is_some());
        for seed in 0..16 {
            let crashed = disk.crashed(seed);
            assert_eq!(verify(&crashed).unwrap().torn, None, "{confirm:?}, seed {seed}: the tail is torn still");
            let (again, recovery, found) = open_with(&crashed, config.clone()).unwrap();
            assert_eq!((recovery.torn, &found), (None, &known), "{confirm:?}, seed {seed}");
            drop(again);
        }
        drop(log);
    }
}

/// A segment whose last group was lost has the first group of a session only if there is room for one; if not, its end
/// mark says that nothing more is in it, and the segment behind it is gone.
#[test]
fn a_cut_without_room_behind_it_is_durable_too() {
    for seed in 0..16 {
        let disk = FaultyDisk::new(seed);
        let config = LogConfig { confirm: Confirm::Written, ..small() };
        let (log, ..) = open_with(&disk, config.clone()).unwrap();
        let first = log.segments()[0];
        let mut known = append(&log, Room::Ordinary, &[(1, b"durable")]).unwrap();
        log.commit().unwrap();
        // So long that behind it there is room for a header alone. In the first segment the LSN is the offset.
        let rest = vec![7; (u64::from(first.1) - 512 - log.appended().0 - 32 - 3 - 40) as usize];
        known.extend(append(&log, Room::Ordinary, &[(1, &rest)]).unwrap());
        log.commit().unwrap();
        log.sync().unwrap();
        let behind = append(&log, Room::Ordinary, &[(1, &[8; 100])]).unwrap();
        assert!(behind[0].0.segment > first.0, "it has a segment of its own");
        // Of the commit, which writes the group and then syncs and marks the segment before, nothing else happens.
        disk.fail_change(disk.changes(), Fault::PowerCut);
        assert!(log.commit().is_err());
        drop(log);
        disk.crash();

        let (log, _, mut found) = open_with(&disk, config.clone()).unwrap();
        assert!(found == known || found == [known, behind.clone()].concat(), "seed {seed}");
        let reopens = |disk: &FaultyDisk, found: &Vec<Known>| {
            for again in 0..8 {
                let (_, recovery, once_more) = open_with(&disk.crashed(again), config.clone()).unwrap();
                assert_eq!((recovery.torn, &once_more), (None, found), "seed {seed}, then {again}");
            }
        };
        reopens(&disk, &found);
        let name = segment::file_name(behind[0].0.segment);
        let stays_away = |again| found.len() > 2 || !disk.crashed(again).list().unwrap().contains(&name);
        assert!((0..8).all(stays_away), "seed {seed}: the segment that was cut off is there again");
        // It goes on, and every segment but the last has its end mark.
        for number in 0..20 {
            found.extend(append(&log, Room::Ordinary, &[(1, &body(number, 300))]).unwrap());
            log.commit().unwrap();
        }
        log.sync().unwrap();
        assert!(found.last().unwrap().0.segment > first.0 + 1);
        reopens(&disk, &found);
    }
}

/// A group that lacks a sector is torn, also if that would have had one bit that is set: a space at the end of a text,
/// the first byte of a small number.
#[test]
fn a_sector_that_was_not_written_is_no_flipped_bit() {
    let mut torn = 0;
    for seed in 0..64 {
        let disk = FaultyDisk::new(seed);
        let (log, ..) = open_with(&disk, small()).unwrap();
        let known = append(&log, Room::Ordinary, &[(1, b"durable")]).unwrap();
        log.commit().unwrap();
        // The header and the frame, and all but the last byte, fill the sector.
        let left = 512 - (log.appended().0 % 512) as usize - 32 - 3;
        let mut body = body(seed, left + 1);
        body[left] = 1 << (seed % 8);
        append(&log, Room::Ordinary, &[(1, &body)]).unwrap();
        disk.fail_change(disk.changes(), Fault::PowerCut);
        assert!(log.commit().is_err());
        drop(log);
        disk.crash();
        let (_, recovery, found) = open_with(&disk, small()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(found.starts_with(&known));
        torn += usize::from(recovery.torn.is_some());
    }
    assert!(torn > 8, "{torn} groups were torn");
}

/// A log that was written and never synced, over several segments, as a kill leaves it: all of it is in the page cache.
fn unsynced_log(disk: &FaultyDisk, config: &LogConfig) -> Vec<Known> {
    let (log, ..) = open_with(disk, config.clone()).unwrap();
    let mut known = Vec::new();
    for number in 0..30 {
        known.extend(append(&log, Room::Ordinary, &[(1, &body(number, 300))]).unwrap());
        log.commit().unwrap();
    }
    assert!(log.segments().len() >= 3);
    known
}

/// The next session builds upon what it found, so that must not go any more.
#[test]
fn what_was_found_is_durable_before_anything_is_appended() {
    let config = LogConfig { confirm: Confirm::Written, ..small() };
    let disk = FaultyDisk::new(9);
    let known = unsynced_log(&disk, &config);
    let (log, ..) = open_with(&disk, config.clone()).unwrap();
    for seed in 0..16 {
        assert_eq!(open_with(&disk.crashed(seed), config.clone()).unwrap().2, known, "seed {seed}");
    }
    drop(log);
}

/// Recovery is cut short itself: nothing says of what may be lost that it was durable.
#[test]
fn a_power_cut_at_every_change_of_recovery() {
    let config = LogConfig { confirm: Confirm::Written, ..small() };
    for change in 0.. {
        for seed in 0..8 {
            let disk = FaultyDisk::new(seed);
            let known = unsynced_log(&disk, &config);
            disk.fail_change(disk.changes() + change, Fault::PowerCut);
            let is_done = open_with(&disk, config.clone()).is_ok();
            disk.crash();
            let opened = open_with(&disk, config.clone());
            let found = opened.unwrap_or_else(|error| panic!("change {change}, seed {seed}: {error}")).2;
            assert!(known.starts_with(&found), "change {change}, seed {seed}");
            if is_done {
                assert!(change > 5, "recovery writes more than {change} times");
                assert_eq!(found, known);
                return;
            }
        }
    }
}

#[test]
fn a_released_segment_stays_until_that_is_durable() {
    let storage = Memory::new();
    let (log, ..) = open_with(&storage, LogConfig { confirm: Confirm::Written, ..small() }).unwrap();
    let fill = |segments: u32| {
        let last = log.segments().last().unwrap().0 + segments;
        while log.segments().last().unwrap().0 < last {
            append(&log, Room::Ordinary, &[(1, &[0; 200])]).unwrap();
        }
    };
    fill(2);
    let first = log.segments()[0].0;
    let is_there = |number: u32| storage.list().unwrap().contains(&segment::file_name(number));
    log.release(first);
    log.say_released().unwrap();
    log.commit().unwrap();
    // Room is made several times, by recycling what may be.
    fill(3);
    assert!(is_there(first), "a power cut now would leave a log that lacks a segment and does not know why");
    log.sync().unwrap();
    fill(2);
    assert!(!is_there(first));
    // Whoever has the time need not wait for somebody else's sync.
    let next = log.segments()[0].0;
    log.release(next);
    assert_eq!(log.maintain().unwrap().recycled, 1);
    assert!(!is_there(next));
}

/// An end mark says that all of its segment is durable, so whatever it stands behind must be.
#[test]
fn an_end_mark_comes_after_the_sync() {
    let mut marked = 0;
    for change in 0..40 {
        for seed in 0..4 {
            let disk = FaultyDisk::new(seed);
            let config = LogConfig { confirm: Confirm::Written, ..small() };
            let (log, ..) = open_with(&disk, config.clone()).unwrap();
            let mut known = Vec::new();
            disk.fail_change(disk.changes() + change, Fault::PowerCut);
            // A segment and a half, then a sync.
            let filled = (0..20).try_for_each(|number| {
                known.extend(append(&log, Room::Ordinary, &[(1, &body(number, 250))])?);
                Ok::<_, RoomError>(log.commit()?)
            });
            let _ = filled.and_then(|()| Ok(log.sync()?));
            drop(log);
            // Of what is pending the end mark is kept, and of the rest anything.
            let crashed = disk.crashed(seed);
            for name in crashed.list().unwrap() {
                let Some(number) = segment::parse_name(&name) else { continue };
                let segment = segment::Segment::open(number, crashed.open(&name).unwrap()).unwrap();
                marked += usize::from(segment.read_end().unwrap().is_some());
            }
            let found = open_with(&crashed, config).unwrap_or_else(|error| panic!("{change}, {seed}: {error}")).2;
            assert!(known.starts_with(&found), "{change}, {seed}");
        }
    }
    assert!(marked > 4, "{marked} crashes come after the mark");
}
