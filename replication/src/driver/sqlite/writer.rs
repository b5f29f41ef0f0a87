//! The primary's transactions: what they change goes to the log, and is synced there, before they are committed.
//!
//! ```text
//!   begin immediate
//!   the caller's statements                        triggers note keys
//!   read what they changed, note the place         in the same transaction
//!   ┌ lock of the node's promise: is it still a primary?
//!   │ commit: SQLite checks deferred keys, and if they hold
//!   │   append to the log, sync                    a crash before this: nothing happened
//!   │   the commit itself                          a crash before this: opening the node applies the record
//!   └
//!   wait for replicas, as the mode asks
//! ```
//!
//! So the log is never behind the database, and ahead of it by one transaction at most, which nobody was told of. Replicas
//! read the log up to where the primary's database is. What a deferred key forbids never gets into the log; if the
//! commit itself fails, as on a full disk, the record is cut off again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::SqliteError;
use super::capture::{self, Capture};
use super::changes;
use super::control::Control;
use super::node::{Access, FileNode};
use super::record::{Kind, Record, Tail};
use super::schema;
use super::state::State;
use crate::{Mode, Position};

/// How often replicas' confirmations are looked at.
const POLL: Duration = Duration::from_millis(1);

/// A connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) db: Connection,
    node: Arc<FileNode>,
    capture: Option<Capture>,
    gate: Arc<Mutex<Gate>>,
}

/// A transaction that is committed: whatever fails from then on, it is not undone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    pub(super) position: Position,
    /// By as many replicas as the mode asks for, in the reign in which it was written.
    pub(super) is_confirmed: bool,
}

/// What becomes of a commit against which SQLite has found nothing.
#[derive(Debug)]
enum Gate {
    /// It does not come from here: it is rolled back, since the log would not have it.
    Closed,
    /// It goes on.
    Open,
    /// It goes on once this is in the log.
    Log(Record),
    /// The log did not take it: it was rolled back.
    Refused(SqliteError),
}

impl Gate {
    /// Whether the commit is to be rolled back.
    fn refuses(&mut self, node: &FileNode) -> bool {
        if let Self::Log(record) = self {
            let appended = node.log.lock().append(std::slice::from_ref(record));
            *self = match appended {
                Ok(()) => Self::Open,
                Err(error) => Self::Refused(error),
            };
        }
        !matches!(self, Self::Open)
    }
}

impl Writer {
    pub(super) fn open(node: &Arc<FileNode>) -> Result<Self, SqliteError> {
        let mut db = node.connect(Access::Write)?;
        let gate = Arc::new(Mutex::new(Gate::Open));
        let (hook, logger) = (Arc::clone(&gate), Arc::clone(node));
        db.commit_hook(Some(move || hook.lock().refuses(&logger)))?;
        Ok(Self { db, node: Arc::clone(node), capture: None, gate })
    }

    /// Begins a transaction that has the database to itself.
    pub(super) fn begin(&mut self) -> Result<(), SqliteError> {
        if !self.node.control.read()?.is_writable() {
            return Err(SqliteError::ReadOnly);
        }
        *self.gate.lock() = Gate::Open;
        self.roll_back_rest()?;
        self.begin_immediate()?;
        // A process that died between the log and the database has left a record.
        if self.node.log_end()? != State::read(&self.db)?.tail {
            self.roll_back()?;
            self.node.recover()?;
            self.begin_immediate()?;
        }
        if let Err(error) = self.prepare() {
            self.roll_back()?;
            return Err(error);
        }
        *self.gate.lock() = Gate::Closed;
        Ok(())
    }

    fn begin_immediate(&self) -> Result<(), SqliteError> {
        self.db.execute_batch("begin immediate").map_err(|error| {
            let error = SqliteError::from(error);
            if error.is_busy() { SqliteError::Busy } else { error }
        })
    }

    /// Makes the triggers fit the schema, which another process may have changed.
    fn prepare(&mut self) -> Result<(), SqliteError> {
        let is_current = match &self.capture {
            Some(capture) => capture.is_current(&self.db)?,
            None => false,
        };
        if !is_current {
            self.capture = None;
            self.capture = Some(Capture::install(&self.db)?);
        }
        Ok(())
    }

    fn roll_back_rest(&self) -> Result<(), SqliteError> {
        if !self.db.is_autocommit() {
            self.db.execute_batch("rollback")?;
        }
        Ok(())
    }

    /// Undoes it, and what its statements may have done to the transaction.
    pub(super) fn roll_back(&mut self) -> Result<(), SqliteError> {
        self.roll_back_rest()?;
        // Triggers may have been made in the transaction that was undone.
        self.capture = None;
        Ok(())
    }

    /// Commits: `None` if nothing was changed. After an error, the transaction is undone.
    pub(super) fn commit(&mut self) -> Result<Option<Committed>, SqliteError> {
        let result = self.try_commit();
        if result.is_err() {
            // The error says more, and whoever begins next tries it again.
            let _ = self.roll_back();
        }
        result
    }

    fn try_commit(&mut self) -> Result<Option<Committed>, SqliteError> {
        if self.db.is_autocommit() {
            return Err(SqliteError::TransactionEnded);
        }
        let capture = self.capture.as_ref().ok_or(SqliteError::TransactionEnded)?;
        if !capture.is_current(&self.db)? {
            return Err(SqliteError::SchemaChange);
        }
        let changes = capture.take(&self.db, self.node.config.max_transaction_bytes)?;
        if changes.is_empty() {
            *self.gate.lock() = Gate::Open;
            self.db.execute_batch("commit")?;
            return Ok(None);
        }
        self.log_and_commit(Kind::Changes, changes::encode(&changes)).map(Some)
    }

    /// Changes the schema in a transaction of its own, by statements that replicas run as well. The last that a writer
    /// does: keys are not looked at any more.
    pub(super) fn migrate(&mut self, sql: &str) -> Result<Committed, SqliteError> {
        // As replicas do: a dropped table takes nothing along.
        self.db.execute_batch("pragma foreign_keys = off")?;
        self.begin()?;
        let result = self.migrate_in_transaction(sql);
        self.capture = None;
        if result.is_err() {
            let _ = self.roll_back();
        }
        result
    }

    fn migrate_in_transaction(&mut self, sql: &str) -> Result<Committed, SqliteError> {
        capture::uninstall(&self.db)?;
        let before = self.db.total_changes();
        self.db.execute_batch(sql)?;
        if self.db.is_autocommit() {
            return Err(SqliteError::TransactionEnded);
        }
        schema::tables(&self.db)?;
        if let Some(name) = schema::reserved(&self.db)? {
            return Err(SqliteError::ReservedName { name: name.into() });
        }
        if self.db.total_changes() != before {
            return Err(SqliteError::RowsInMigration);
        }
        self.log_and_commit(Kind::Schema, sql.as_bytes().to_vec())
    }

    fn log_and_commit(&mut self, kind: Kind, payload: Vec<u8>) -> Result<Committed, SqliteError> {
        let max = self.node.config.max_transaction_bytes;
        if payload.len() > max.saturating_mul(2) {
            return Err(SqliteError::TooLarge { bytes: payload.len(), max });
        }
        let state = State::read(&self.db)?;
        let node = Arc::clone(&self.node);
        let (tail, control) = node.control.locked(|control| {
            if !control.is_writable() {
                return Err(SqliteError::ReadOnly);
            }
            let record = Record::after(state.tail, control.history.current(), kind, payload);
            let tail = record.at;
            State { tail, ..state }.write(&self.db)?;
            self.commit_logged(record, state.tail)?;
            Ok((tail, control.clone()))
        })?;
        node.appended.send_replace(tail.lsn);
        node.applied.send_replace(tail.lsn);
        let is_confirmed = self.is_confirmed(tail, &control);
        self.forget(tail);
        Ok(Committed { position: Position::new(tail.epoch, tail.lsn), is_confirmed })
    }

    fn commit_logged(&self, record: Record, before: Tail) -> Result<(), SqliteError> {
        *self.gate.lock() = Gate::Log(record);
        let committed = self.db.execute_batch("commit");
        let gate = std::mem::replace(&mut *self.gate.lock(), Gate::Closed);
        match (committed, gate) {
            (Ok(()), _) => Ok(()),
            (Err(_), Gate::Refused(error)) => Err(error),
            (Err(error), Gate::Log(_) | Gate::Closed) => Err(error.into()),
            (Err(error), Gate::Open) => {
                let cut = self.node.log.lock().cut(before.lsn);
                Err(if cut.is_ok() { error.into() } else { SqliteError::CommitUnknown(error) })
            }
        }
    }

    /// Waits until so many replicas have it as the mode asks for. What cannot be found out is looked at again: of a write
    /// that is committed, an error must not say that it failed.
    fn is_confirmed(&self, tail: Tail, control: &Control) -> bool {
        let node = &self.node;
        let (needed, timeout, is_optional) = match control.mode {
            Mode::Asynchronous => return true,
            Mode::SemiSynchronous { timeout } => (1, timeout, true),
            Mode::Quorum { replicas } => (usize::from(replicas.get()), node.config.confirm_timeout, false),
        };
        let deadline = crate::clock::deadline(timeout);
        loop {
            let confirming = node.confirmed.count(&control.replicas, tail.lsn, control.installed);
            let has_enough = confirming.is_ok_and(|count| count >= needed);
            let is_over = crate::clock::left(deadline).is_zero();
            // Another primary may have been named before the last confirmation came, and this one again since then.
            match node.control.read().map(|now| now.is_writable() && now.installed == control.installed) {
                Ok(false) => return false,
                Ok(true) if has_enough => return true,
                is_reigning if is_over => return is_optional && is_reigning.is_ok(),
                _ => std::thread::sleep(POLL),
            }
        }
    }

    /// Now and then. The write is done: what stays too long is no reason for it to fail.
    fn forget(&self, tail: Tail) {
        if tail.lsn.0 % 256 == 0 {
            let _ = self.node.log.lock().forget(tail.lsn, self.node.config.keep_log_bytes);
        }
    }
}
