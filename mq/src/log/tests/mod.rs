//! The log as its owner sees it, on disks of all kinds.

mod basics;
mod crash;
mod damage;
mod faults;
mod tail;

use super::*;
use crate::storage::Storage;

/// A record as a test knows it.
pub(super) type Known = (Address, u8, Vec<u8>);

pub(super) fn verify(storage: &dyn Storage) -> Result<verify::Report, OpenError> {
    super::verify(storage, &mut |_, _, _, _| true)
}

pub(super) fn small() -> LogConfig {
    LogConfig { segment_bytes: 4096, ..LogConfig::default() }
}

pub(super) fn open_with(
    storage: &(impl Storage + Clone + 'static),
    config: LogConfig,
) -> Result<(Log, Recovery, Vec<Known>), OpenError> {
    let mut known = Vec::new();
    let (log, recovery) =
        Log::open(Arc::new(storage.clone()), config, Box::new(|_| {}), &mut |address, _, kind, body| {
            known.push((address, kind, body.to_vec()));
            true
        })?;
    Ok((log, recovery, known))
}

/// Appends, making room as an owner does.
pub(super) fn append(log: &Log, room: Room, records: &[(u8, &[u8])]) -> Result<Vec<Known>, RoomError> {
    loop {
        let mut places = Vec::new();
        let appended = log.append(room, &mut |batch| {
            places.clear();
            places.extend(records.iter().map(|(kind, body)| batch.put(*kind, &[body])));
        });
        match appended {
            Ok(appended) => {
                let known = places.iter().zip(records);
                return Ok(known.map(|(&at, (kind, body))| (appended.address(at), *kind, body.to_vec())).collect());
            }
            Err(AppendError::Busy) => log.make_room(room)?,
            Err(AppendError::Poisoned(poisoned)) => return Err(poisoned.into()),
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn body(number: u64, len: usize) -> Vec<u8> {
    number.to_le_bytes().iter().copied().cycle().take(len).collect()
}
