//! Checking a log without opening it for use: everything is read and nothing changed.

use std::io;

use super::Recovery;
use super::error::OpenError;
use super::recover::{Replay, read_all, take_lock};
use super::segment::parse_name;
use super::survey::Survey;
use crate::storage::Storage;

/// What [`verify`] found in a sound log.
pub(crate) type Report = Recovery;

/// Whether there is a file of a log. Looks at names alone: not even a lock is taken.
///
/// # Errors
/// Whatever the storage says.
pub(crate) fn is_begun(storage: &dyn Storage) -> io::Result<bool> {
    Ok(storage.list()?.iter().any(|name| parse_name(name).is_some()))
}

/// Reads the whole log, checks all of it and hands every record to `replay`.
///
/// # Errors
/// The first damage, or why the log could not be read; [`OpenError::InUse`] if it is open.
pub(crate) fn verify(storage: &dyn Storage, replay: &mut Replay<'_>) -> Result<Report, OpenError> {
    let _lock = take_lock(storage)?;
    let mut buffer = Vec::new();
    let survey = Survey::new(storage, &mut buffer)?;
    read_all(&survey, &mut buffer, replay)
}
