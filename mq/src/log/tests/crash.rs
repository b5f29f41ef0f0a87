//! A crash at every write and sync of a scripted workload; what is found afterwards is checked against a model.

use std::collections::BTreeSet;

use super::*;
use crate::storage::{Fault, FaultyDisk};

/// What the owner of a log knows.
#[derive(Debug, Default)]
struct Model {
    /// Batches, in order of their append.
    batches: Vec<Vec<Known>>,
    /// So many of them are confirmed.
    confirmed: usize,
    /// Segments released, whether or not that is durable.
    released: BTreeSet<u32>,
}

impl Model {
    /// Takes what was found for the truth after checking that it may be: all that was confirmed, nothing invented, no
    /// half of a batch, in order.
    fn adopt(&mut self, found: &[Known], context: &str) {
        let mut rest = found;
        let mut kept = Vec::new();
        let mut ended = false;
        for (index, batch) in self.batches.iter().enumerate() {
            let there = rest.starts_with(batch);
            let released = batch.iter().any(|(address, ..)| self.released.contains(&address.segment));
            if !there {
                assert!(released || index >= self.confirmed, "{context}: lost batch {index} of {}", self.confirmed);
                ended |= !released;
                continue;
            }
            assert!(!ended, "{context}: batch {index} is there and one before it is not");
            rest = &rest[batch.len()..];
            kept.push(batch.clone());
        }
        assert!(rest.is_empty(), "{context}: {} records are invented", rest.len());
        self.confirmed = kept.len();
        self.batches = kept;
    }

    fn append(&mut self, log: &Log, records: &[(u8, &[u8])]) -> Result<(), RoomError> {
        let known = append(log, Room::Ordinary, records)?;
        self.batches.push(known);
        Ok(())
    }

    fn commit(&mut self, log: &Log) -> Result<(), RoomError> {
        // What is appended may be confirmed by others, so it counts from the moment the commit has returned.
        log.commit()?;
        if log.0.config.confirm == Confirm::Written {
            log.sync()?;
        }
        self.confirmed = self.batches.len();
        Ok(())
    }

    /// Releases all but the last two segments.
    fn release(&mut self, log: &Log) -> Result<(), RoomError> {
        let segments = log.segments();
        for (number, _) in &segments[..segments.len().saturating_sub(2)] {
            if self.released.insert(*number) {
                log.release(*number);
            }
        }
        log.maintain()?;
        self.confirmed = self.batches.len();
        Ok(())
    }
}

/// A workload that rolls through segments, recycles them, and opens the log again; ends at the first failure.
fn script(disk: &FaultyDisk, confirm: Confirm, model: &mut Model) -> Result<(), RoomError> {
    let config = LogConfig { confirm, ..small() };
    for session in 0..3_u64 {
        let (log, _, found) = match open_with(disk, config.clone()) {
            Ok(opened) => opened,
            Err(OpenError::Io(error)) => return Err(error.into()),
            Err(error) => panic!("{error}"),
        };
        model.adopt(&found, "opened again");
        for number in 0..12 {
            let seed = session * 100 + number;
            let bodies = [body(seed, (seed * 37 % 700) as usize), body(seed + 1, 9)];
            let count = 1 + (number % 2) as usize;
            let records: Vec<(u8, &[u8])> = bodies[..count].iter().map(|body| (1, &body[..])).collect();
            model.append(&log, &records)?;
            if number % 3 != 1 {
                model.commit(&log)?;
            }
            if number == 9 {
                model.release(&log)?;
            }
        }
        if session == 1 {
            log.close()?;
            model.confirmed = model.batches.len();
        }
    }
    Ok(())
}

/// Opens what is left, checks it, goes on with it, and checks that once more.
fn check(disk: &FaultyDisk, confirm: Confirm, mut model: Model, context: &str) {
    let config = LogConfig { confirm, ..small() };
    for round in 0..2 {
        verify(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        let (log, _, found) =
            open_with(disk, config.clone()).unwrap_or_else(|error| panic!("{context}, round {round}: {error}"));
        model.adopt(&found, context);
        for (address, kind, body) in &found {
            let record = log.read(*address).unwrap_or_else(|error| panic!("{context}: {address}: {error}"));
            assert_eq!((record.kind, &record.body[..]), (*kind, &body[..]), "{context}");
        }
        for number in 0..5 {
            model.append(&log, &[(2, &body(number, 300))]).unwrap();
            model.commit(&log).unwrap();
        }
        drop(log);
        disk.crash();
    }
    let (_, recovery, found) = open_with(disk, config).unwrap();
    model.adopt(&found, context);
    assert_eq!(recovery.torn, None, "{context}: everything was synced");
}

fn changes_of_script(confirm: Confirm) -> u64 {
    let disk = FaultyDisk::new(0);
    let mut model = Model::default();
    script(&disk, confirm, &mut model).unwrap();
    assert!(model.released.len() >= 3, "the script rolls through segments: {:?}", model.released);
    disk.changes()
}

/// Seeds of crashes at each place.
fn seeds() -> u64 {
    std::env::var("TENFOLD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4)
}

fn crash_everywhere(confirm: Confirm, fault: Fault, short_writes: u64) {
    let changes = changes_of_script(confirm);
    println!("{changes} places");
    for place in 0..changes {
        for seed in 0..seeds() {
            let context = format!("{confirm:?} {fault:?} at {place}, seed {seed}");
            let disk = FaultyDisk::new(seed);
            disk.set_short_writes(short_writes);
            disk.fail_change(place, fault);
            let mut model = Model::default();
            let _ = script(&disk, confirm, &mut model);
            disk.set_short_writes(0);
            // With an error that was not the power, the process may go on with the same page cache, or lose it.
            if fault == Fault::PowerCut || seed % 2 == 0 {
                disk.crash();
            }
            check(&disk, confirm, model, &context);
        }
    }
}

#[test]
fn a_power_cut_at_every_change_loses_nothing_confirmed() {
    crash_everywhere(Confirm::Synced, Fault::PowerCut, 0);
}

#[test]
fn a_power_cut_at_every_change_loses_nothing_that_was_synced() {
    crash_everywhere(Confirm::Written, Fault::PowerCut, 0);
}

#[test]
fn short_writes_and_a_power_cut() {
    crash_everywhere(Confirm::Synced, Fault::PowerCut, 3);
}

#[test]
fn an_error_at_every_change_loses_nothing_confirmed() {
    crash_everywhere(Confirm::Synced, Fault::Error(std::io::ErrorKind::Other), 0);
    crash_everywhere(Confirm::Written, Fault::Error(std::io::ErrorKind::Other), 0);
}

#[test]
fn no_space_at_every_change_loses_nothing_confirmed() {
    crash_everywhere(Confirm::Synced, Fault::Error(std::io::ErrorKind::StorageFull), 0);
}
