//! A disk that fails while the log is open: a failed sync is final, a full disk loses nothing, a failed read is told.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::storage::{Directory, Fault, FaultyDisk};

#[test]
fn a_failed_sync_is_final_and_everybody_learns_it() {
    for confirm in [Confirm::Synced, Confirm::Written] {
        let disk = FaultyDisk::new(3);
        let (log, ..) = open_with(&disk, LogConfig { confirm, ..small() }).unwrap();
        append(&log, Room::Ordinary, &[(1, b"kept")]).unwrap();
        log.commit().unwrap();
        log.sync().unwrap();
        let confirmed = log.confirmed();
        append(&log, Room::Ordinary, &[(1, b"doubtful")]).unwrap();
        let lsn = log.appended();
        let mut waiting = pin!(log.confirmation(lsn));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending(), "it lets others come first");
        // The write, then the sync.
        disk.fail_change(disk.changes() + 1, Fault::Error(ErrorKind::Other));
        let failed = match confirm {
            Confirm::Synced => log.wait(lsn),
            Confirm::Written => log.wait(lsn).and_then(|()| log.sync()),
        };
        assert_eq!(failed.unwrap_err().io_error().kind(), ErrorKind::Other);
        if confirm == Confirm::Synced {
            assert!(matches!(waiting.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
            assert_eq!(log.confirmed(), confirmed);
        }
        // The disk is well again, the log is not.
        assert!(log.sync().is_err() && log.close().is_err());
        assert!(matches!(log.append(Room::Ordinary, &mut |_| {}), Err(AppendError::Poisoned(_))));
        assert!(matches!(log.make_room(Room::Reserve), Err(RoomError::Poisoned(_))));
        assert!(matches!(log.maintain(), Err(RoomError::Poisoned(_))));
        assert_eq!(log.durable(), confirmed);
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_and_can_be_drained() {
    let disk = FaultyDisk::new(4);
    let mut known = Vec::new();
    let (log, ..) = open_with(&disk, small()).unwrap();
    log.maintain().unwrap();
    disk.set_capacity(40 << 10);
    let refused = loop {
        match append(&log, Room::Ordinary, &[(1, &body(known.len() as u64, 200))]) {
            Ok(added) => known.extend(added),
            Err(error) => break error,
        }
        log.commit().unwrap();
    };
    assert!(matches!(refused, RoomError::Full), "{refused:?}");
    assert!(known.len() > 50);
    drop(log);

    // A full disk opens, and its messages can be read and done with, for which there is the reserve.
    let (log, _, found) = open_with(&disk, small()).unwrap();
    assert_eq!(found, known);
    assert!(matches!(append(&log, Room::Ordinary, &[(1, &[0; 1000])]), Err(RoomError::Full)));
    append(&log, Room::Reserve, &[(2, &[0; 1000])]).unwrap();
    log.commit().unwrap();
    let segments = log.segments();
    for (number, _) in &segments[..segments.len() - 1] {
        log.release(*number);
    }
    log.maintain().unwrap();
    known.retain(|(address, ..)| log.segments().iter().any(|(number, _)| *number == address.segment));
    known.extend(append(&log, Room::Ordinary, &[(1, &[1; 1000])]).unwrap());
    log.commit().unwrap();
    drop(log);
    let (_, _, found) = open_with(&disk, small()).unwrap();
    assert_eq!(found.iter().filter(|(_, kind, _)| *kind == 1).cloned().collect::<Vec<_>>(), known);
}

#[test]
fn the_share_of_the_disk_is_kept() {
    let disk = FaultyDisk::new(5);
    let max = 30 << 10;
    let (log, ..) = open_with(&disk, LogConfig { max_disk_bytes: max, ..small() }).unwrap();
    while append(&log, Room::Ordinary, &[(1, &[3; 300])]).is_ok() {}
    log.commit().unwrap();
    assert!(log.disk_bytes() <= max && log.disk_bytes() > max - (8 << 10), "{}", log.disk_bytes());
}

#[test]
fn a_failed_read_is_told_and_may_be_tried_again() {
    let disk = FaultyDisk::new(6);
    let (log, ..) = open_with(&disk, small()).unwrap();
    let known = append(&log, Room::Ordinary, &[(1, b"body")]).unwrap();
    log.commit().unwrap();
    log.forget(0, 0);
    disk.fail_read(disk.reads(), ErrorKind::Other);
    assert!(matches!(log.read(known[0].0), Err(ReadError::Io(_))));
    assert_eq!(&log.read(known[0].0).unwrap().body[..], b"body");
    drop(log);
    // At every read of opening the log, too: it says so, and the next try finds everything.
    for read in 0.. {
        let copy = disk.crashed(read);
        copy.fail_read(read, ErrorKind::Other);
        match open_with(&copy, small()) {
            Err(OpenError::Io(_)) => assert_eq!(open_with(&copy, small()).unwrap().2, known),
            other => {
                assert_eq!(other.unwrap().2, known);
                assert!(read > 5);
                break;
            }
        }
    }
}

#[test]
fn two_logs_cannot_have_one_directory() {
    let path = std::env::temp_dir().join(format!("tenfold-mq-log-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let open = || {
        let directory = Arc::new(Directory::open(&path).unwrap());
        let mut count = 0;
        Log::open(directory, LogConfig::default(), Box::new(|_| {}), &mut |_, _, _, _| {
            count += 1;
            true
        })
        .map(|(log, _)| (log, count))
    };
    let (log, _) = open().unwrap();
    append(&log, Room::Ordinary, &[(1, b"one")]).unwrap();
    log.commit().unwrap();
    assert!(matches!(open(), Err(OpenError::InUse)));
    drop(log);
    let (log, count) = open().unwrap();
    assert_eq!(count, 1);
    drop(log);
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_sync_covers_what_was_confirmed_before_appends_went_on_in_another_segment() {
    for seed in 0..8 {
        let disk = FaultyDisk::new(seed);
        let config = LogConfig { confirm: Confirm::Written, ..small() };
        let (log, ..) = open_with(&disk, config.clone()).unwrap();
        let known = append(&log, Room::Ordinary, &[(1, b"written")]).unwrap();
        log.commit().unwrap();
        while log.0.tail.lock().segment().number == known[0].0.segment {
            append(&log, Room::Ordinary, &[(1, &[7; 500])]).unwrap();
        }
        log.sync().unwrap();
        assert!(log.durable() >= log.confirmed());
        // Now the next segment says that it was durable.
        log.commit().unwrap();
        drop(log);
        disk.crash();
        let (_, _, found) = open_with(&disk, config).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(found.starts_with(&known), "seed {seed}: it was synced and is lost");
    }
}

#[test]
fn a_closed_log_touches_nothing_any_more() {
    let disk = FaultyDisk::new(5);
    let (log, ..) = open_with(&disk, small()).unwrap();
    for number in 0..40 {
        append(&log, Room::Ordinary, &[(1, &body(number, 500))]).unwrap();
    }
    log.commit().unwrap();
    let first = log.segments()[0].0;
    log.release(first);
    log.close().unwrap();
    let changes = disk.changes();
    // Another one has the directory, and files of the same names.
    let (other, _, known) = open_with(&disk, small()).unwrap();
    assert_eq!(known.len(), 40);
    let others = disk.changes() - changes;
    assert!(log.append(Room::Ordinary, &mut |batch| _ = batch.put(1, &[b"x"])).is_err());
    assert!(log.maintain().is_err() && log.make_room(Room::Reserve).is_err() && log.sync().is_err());
    assert!(log.try_commit().is_err() && log.close().is_err());
    assert_eq!(disk.changes(), changes + others);
    assert_eq!(verify(&disk).err().map(|error| error.to_string()), Some("the directory is in use".to_owned()));
    drop(other);
}
