//! What is appended is there: in memory, in the files, after opening again; and bounds hold.

use super::*;
use crate::storage::Memory;

#[test]
fn everything_appended_is_read_back_and_found_again() {
    let storage = Memory::new();
    let mut known = Vec::new();
    for session in 0..5_u64 {
        let (log, recovery, found) = open_with(&storage, small()).unwrap();
        assert_eq!(found, known);
        assert_eq!(recovery.records, known.len() as u64);
        assert_eq!(recovery.torn, None);
        for number in 0..200 {
            let bodies = [body(session * 1000 + number, (number % 70) as usize), body(number, 20)];
            let added = append(&log, Room::Ordinary, &[(1, &bodies[0]), (2, &bodies[1])]).unwrap();
            known.extend(added);
            if number % 7 == 0 {
                log.commit().unwrap();
            }
        }
        let check = |log: &Log| {
            for (address, kind, body) in &known {
                let record = log.read(*address).unwrap();
                assert_eq!((record.kind, &record.body[..]), (*kind, &body[..]), "{address}");
            }
        };
        check(&log);
        log.commit().unwrap();
        log.forget(0, 0);
        assert_eq!(log.memory_bytes(), 0);
        check(&log);
        if session % 2 == 0 {
            log.close().unwrap();
        }
    }
    assert_eq!(verify(&storage).unwrap().records, known.len() as u64);
}

#[test]
fn a_directory_has_one_log() {
    let storage = Memory::new();
    let log = open_with(&storage, small()).unwrap().0;
    assert!(matches!(open_with(&storage, small()), Err(OpenError::InUse)));
    assert!(matches!(verify(&storage), Err(OpenError::InUse)));
    drop(log);
    open_with(&storage, small()).unwrap();
}

#[test]
fn released_segments_are_recycled_and_stay_away() {
    let storage = Memory::new();
    let (log, ..) = open_with(&storage, small()).unwrap();
    let mut known = Vec::new();
    for number in 0..2_000 {
        let added = append(&log, Room::Ordinary, &[(1, &body(number, 100))]).unwrap();
        known.extend(added);
        log.commit().unwrap();
        let last = known.last().unwrap().0.segment;
        let released = last.saturating_sub(3);
        if known[0].0.segment < released {
            for segment in known[0].0.segment..released {
                log.release(segment);
            }
            known.retain(|(address, ..)| address.segment >= released);
            log.maintain().unwrap();
            assert!(log.disk_bytes() < 64 << 10, "{}", log.disk_bytes());
        }
    }
    drop(log);
    let (_, recovery, found) = open_with(&storage, small()).unwrap();
    assert_eq!(found, known);
    assert!(recovery.segments <= 6, "{recovery:?}");
}

#[test]
fn a_batch_larger_than_a_segment_is_refused() {
    let (log, ..) = open_with(&Memory::new(), small()).unwrap();
    let large = vec![0; 4096];
    let error = log.append(Room::Ordinary, &mut |batch| _ = batch.put(1, &[&large])).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { bytes: 4099, max } if max < 4096), "{error:?}");
    // The largest that is not too large fits.
    let AppendError::TooLarge { max, .. } = error else { unreachable!() };
    append(&log, Room::Ordinary, &[(1, &large[..max - 3])]).unwrap();
    log.commit().unwrap();
}
