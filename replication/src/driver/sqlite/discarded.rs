//! What a former primary alone had, kept when it rejoins: transactions that were acknowledged, perhaps, and lost.
//!
//! Beside the database, `discarded/` has a log for each rejoin that cut something off, named after the places that it
//! holds. Nothing removes them but whoever has seen to them.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;

use super::SqliteError;
use super::changes::{self, Cell};
use super::log::{Log, LogReader};
use super::node::FileNode;
use super::record::{Kind, Record};
use crate::{Lsn, Position};

/// A transaction that a failover lost, as the former primary had it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Discarded {
    /// Where it was: the place that [`Error::Lost`](crate::Error::Lost) names.
    pub position: Position,
    /// What it did to rows, by table.
    pub tables: Vec<DiscardedRows>,
    /// What it did to the schema, if it was a migration.
    pub migration: Option<String>,
}

/// The rows of one table as a discarded transaction left them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DiscardedRows {
    /// Which table.
    pub table: String,
    /// The names of the values in `rows`.
    pub columns: Vec<String>,
    /// Rows that it wrote.
    pub rows: Vec<Vec<Value>>,
    /// Primary keys of rows that it deleted.
    pub deleted: Vec<Vec<Value>>,
}

/// Copies what the log has beyond `common`, before that is cut off.
pub(super) fn keep(node: &FileNode, common: Lsn) -> Result<(), SqliteError> {
    let mut reader = match LogReader::open(&node.log_dir(), common) {
        // The log begins later: what is still there is kept by nobody, and counted all the same.
        Err(SqliteError::LogGone) => return Ok(()),
        reader => reader?,
    };
    let end = node.log_end()?.lsn;
    let dir = dir(node).join(format!("{:020}-{:020}", common.0, end.0));
    if dir.exists() {
        return Ok(());
    }
    let draft = dir.with_extension("draft");
    let mut log = Log::create(&draft, reader.tail(), node.config.segment_bytes)?;
    while let Some(record) = reader.next(end)? {
        log.append(std::slice::from_ref(&record))?;
    }
    fs::rename(draft, dir)?;
    Ok(fs::File::open(self::dir(node))?.sync_all()?)
}

/// All that was kept, in the order in which it was written.
pub(super) fn read(node: &FileNode) -> Result<Vec<Discarded>, SqliteError> {
    let mut found = Vec::new();
    for dir in logs(&dir(node))? {
        let start = dir.file_name().and_then(|name| name.to_str()?.split_once('-')?.0.parse().ok());
        let mut reader = LogReader::open(&dir, Lsn(start.ok_or(SqliteError::Malformed)?))?;
        while let Some(record) = reader.next(Lsn(u64::MAX))? {
            found.push(discarded(record)?);
        }
    }
    Ok(found)
}

fn discarded(record: Record) -> Result<Discarded, SqliteError> {
    let position = Position::new(record.at.epoch, record.at.lsn);
    match record.kind {
        Kind::Changes => {
            let tables = changes::decode(&record.payload)?.into_iter().map(|table| DiscardedRows {
                table: table.table,
                columns: table.columns,
                rows: values(table.rows),
                deleted: values(table.gone),
            });
            Ok(Discarded { position, tables: tables.collect(), migration: None })
        }
        Kind::Schema => {
            let sql = String::from_utf8(record.payload).map_err(|_| SqliteError::Malformed)?;
            Ok(Discarded { position, tables: Vec::new(), migration: Some(sql) })
        }
    }
}

fn values(rows: Vec<Vec<Cell>>) -> Vec<Vec<Value>> {
    rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect()
}

/// Text that is no UTF-8 is given as a blob.
fn value(cell: Cell) -> Value {
    match cell {
        Cell::Value(value) => value,
        Cell::Text(bytes) => String::from_utf8(bytes).map_or_else(|error| Value::Blob(error.into_bytes()), Value::Text),
    }
}

fn dir(node: &FileNode) -> PathBuf {
    node.dir.join("discarded")
}

/// Those that are whole.
fn logs(dir: &Path) -> Result<Vec<PathBuf>, SqliteError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let mut logs = entries.collect::<Result<Vec<_>, _>>()?;
    logs.retain(|path| path.extension().is_none());
    logs.sort();
    Ok(logs)
}
