//! SQLite on disk as the relational store: schema, constraints, transactions.
//!
//! One connection writes, a few read; write-ahead logging lets them work side by side. A commit is flushed to the
//! disk before it is acknowledged (`synchronous = FULL`), and foreign keys and CHECK rules are on.
//! [`Discipline::Sloppy`] turns all of that off: it is the negative control of rung 02, and what it loses is what a
//! transaction buys.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params_from_iter};
use tenfold_rig::Station;

use crate::database::{Batch, Database, DatabaseError, Intent, Reply, Rows, Statement, Value};
use crate::user::{User, UserId};

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    first_name TEXT NOT NULL CHECK (length(first_name) BETWEEN 1 AND 64),
    last_name TEXT NOT NULL CHECK (length(last_name) BETWEEN 1 AND 64),
    phone TEXT NOT NULL CHECK (length(phone) BETWEEN 3 AND 32),
    version INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1)
) STRICT;
CREATE TABLE IF NOT EXISTS accounts (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (id),
    balance INTEGER NOT NULL CHECK (balance >= 0)
) STRICT;
CREATE TABLE IF NOT EXISTS transfers (
    id INTEGER PRIMARY KEY,
    debit INTEGER NOT NULL REFERENCES accounts (id),
    credit INTEGER NOT NULL REFERENCES accounts (id),
    amount INTEGER NOT NULL CHECK (amount > 0),
    CHECK (debit <> credit)
) STRICT;
";

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS_KEPT: usize = 4;
const STATEMENTS_PER_BATCH: usize = 64;

/// How seriously the store takes a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Discipline {
    /// One transaction a batch, constraints on, flushed before it is acknowledged.
    #[default]
    Acid,
    /// Each statement by itself, constraints off, nothing flushed: the control that shows what breaks.
    Sloppy,
}

/// Counts since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct DatabaseStats {
    /// Read batches run.
    pub reads: u64,
    /// Write batches run.
    pub writes: u64,
}

/// A SQLite file with its connections.
pub struct Sqlite {
    shared: Arc<Shared>,
    station: Station,
}

struct Shared {
    path: PathBuf,
    discipline: Discipline,
    pause: Duration,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Sqlite {
    /// Opens or creates the file and its schema; adds no modelled time.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Storage`] if the file cannot be created, read or written.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::open_with(path, Discipline::Acid, Duration::ZERO, Station::instant())
    }

    /// Opens the file with a `discipline`, a `pause` between the statements of a write (so that a crash in the middle
    /// of a batch is likely and not a rare accident), and the `station` that models the server's capacity.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Storage`] if the file cannot be created, read or written.
    pub fn open_with(
        path: &Path,
        discipline: Discipline,
        pause: Duration,
        station: Station,
    ) -> Result<Self, DatabaseError> {
        let writer = Connection::open(path).map_err(refusal)?;
        writer.busy_timeout(BUSY_TIMEOUT).map_err(refusal)?;
        let strict = discipline == Discipline::Acid;
        let set = |name: &str, value: &str| writer.pragma_update(None, name, value).map_err(refusal);
        set("journal_mode", "WAL")?;
        set("synchronous", if strict { "FULL" } else { "OFF" })?;
        set("foreign_keys", if strict { "ON" } else { "OFF" })?;
        set("ignore_check_constraints", if strict { "OFF" } else { "ON" })?;
        writer.execute_batch(SCHEMA).map_err(refusal)?;
        let shared = Shared {
            path: path.to_owned(),
            discipline,
            pause,
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), station })
    }

    /// Fills an empty database with the sample users `1..=users`, each with one account of `balance`.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Storage`] if the file cannot be written; [`DatabaseError::Unique`] if it is not empty.
    pub fn seed(&self, users: u64, balance: u64) -> Result<(), DatabaseError> {
        let mut writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = writer.transaction().map_err(refusal)?;
        fill(&transaction, 1..=users, balance).map_err(refusal)?;
        transaction.commit().map_err(refusal)
    }

    /// Counts since the store was opened.
    pub fn stats(&self) -> DatabaseStats {
        DatabaseStats {
            reads: self.shared.reads.load(Ordering::Relaxed),
            writes: self.shared.writes.load(Ordering::Relaxed),
        }
    }
}

impl Database for Sqlite {
    fn run(&self, batch: Batch) -> Reply<'_, Vec<Rows>> {
        Box::pin(async move {
            self.station.serve().await.map_err(|_| DatabaseError::Unavailable)?;
            match batch.intent {
                // A point read takes microseconds: a hop to another thread would cost more than it.
                Intent::Read => self.shared.read(&batch),
                Intent::Write => {
                    let shared = Arc::clone(&self.shared);
                    tokio::task::spawn_blocking(move || shared.write(&batch))
                        .await
                        .unwrap_or(Err(DatabaseError::Unavailable))
                }
            }
        })
    }
}

impl Shared {
    fn read(&self, batch: &Batch) -> Result<Vec<Rows>, DatabaseError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match kept {
            Some(reader) => reader,
            None => self.open_reader()?,
        };
        let outcome = in_transaction(&mut reader, TransactionBehavior::Deferred, batch, Duration::ZERO);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT {
            readers.push(reader);
        }
        outcome
    }

    fn write(&self, batch: &Batch) -> Result<Vec<Rows>, DatabaseError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match self.discipline {
            Discipline::Acid => in_transaction(&mut writer, TransactionBehavior::Immediate, batch, self.pause),
            Discipline::Sloppy => run_all(&writer, batch, self.pause),
        }
    }

    fn open_reader(&self) -> Result<Connection, DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags).map_err(refusal)?;
        reader.busy_timeout(BUSY_TIMEOUT).map_err(refusal)?;
        Ok(reader)
    }
}

/// Inserts the sample users with these ids, each with one account of `balance`.
pub(crate) fn fill(
    connection: &Connection,
    users: impl IntoIterator<Item = u64>,
    balance: u64,
) -> rusqlite::Result<()> {
    let mut user =
        connection.prepare("INSERT INTO users (id, first_name, last_name, phone) VALUES (?1, ?2, ?3, ?4)")?;
    let mut account = connection.prepare("INSERT INTO accounts (id, user_id, balance) VALUES (?1, ?1, ?2)")?;
    for id in users {
        let sample = User::sample(UserId(id));
        user.execute((id as i64, sample.first_name, sample.last_name, sample.phone))?;
        account.execute((id as i64, balance as i64))?;
    }
    Ok(())
}

fn in_transaction(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    batch: &Batch,
    pause: Duration,
) -> Result<Vec<Rows>, DatabaseError> {
    let transaction = connection.transaction_with_behavior(behavior).map_err(refusal)?;
    // Dropping the transaction on the way out of an error rolls it back.
    let rows = run_all(&transaction, batch, pause)?;
    transaction.commit().map_err(refusal)?;
    Ok(rows)
}

/// Runs the statements of a batch one after the other, in whatever transaction the connection is.
pub(crate) fn run_all(connection: &Connection, batch: &Batch, pause: Duration) -> Result<Vec<Rows>, DatabaseError> {
    if batch.statements.len() > STATEMENTS_PER_BATCH {
        return Err(DatabaseError::Statement);
    }
    let mut results = Vec::with_capacity(batch.statements.len());
    for (index, statement) in batch.statements.iter().enumerate() {
        if index > 0 && !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let rows = run_one(connection, statement)?;
        if statement.must_change.is_some_and(|expected| expected != rows.changed) {
            return Err(DatabaseError::Guard { statement: index, changed: rows.changed });
        }
        results.push(rows);
    }
    Ok(results)
}

fn run_one(connection: &Connection, statement: &Statement) -> Result<Rows, DatabaseError> {
    let mut prepared = connection.prepare_cached(&statement.sql).map_err(refusal)?;
    if prepared.parameter_count() != statement.params.len() {
        return Err(DatabaseError::Statement);
    }
    let params = params_from_iter(statement.params.iter().map(|value| match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(number) => rusqlite::types::Value::Integer(*number),
        Value::Text(text) => rusqlite::types::Value::Text(text.clone()),
    }));
    let columns = prepared.column_count();
    if columns == 0 {
        let changed = prepared.execute(params).map_err(refusal)? as u64;
        return Ok(Rows { rows: Vec::new(), changed });
    }
    let before = connection.total_changes();
    let mut found = prepared.query(params).map_err(refusal)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(refusal)? {
        rows.push((0..columns).map(|column| value(row.get_ref(column))).collect::<Result<_, _>>()?);
    }
    drop(found);
    Ok(Rows { rows, changed: connection.total_changes() - before })
}

fn value(found: rusqlite::Result<ValueRef<'_>>) -> Result<Value, DatabaseError> {
    match found.map_err(refusal)? {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Integer(number)),
        ValueRef::Text(text) => {
            Ok(Value::Text(std::str::from_utf8(text).map_err(|_| DatabaseError::Storage)?.to_owned()))
        }
        ValueRef::Real(_) | ValueRef::Blob(_) => Err(DatabaseError::Statement),
    }
}

fn refusal(error: rusqlite::Error) -> DatabaseError {
    use rusqlite::ffi;
    let Some(failure) = error.sqlite_error() else {
        return DatabaseError::Statement;
    };
    match failure.extended_code {
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => return DatabaseError::ForeignKey,
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => return DatabaseError::Unique,
        _ => {}
    }
    match failure.code {
        ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => DatabaseError::Check,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => DatabaseError::Unavailable,
        ErrorCode::Unknown | ErrorCode::ReadOnly => DatabaseError::Statement,
        _ => DatabaseError::Storage,
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.shared.path).field("stats", &self.stats()).finish()
    }
}
