//! What a database file, its log and its node say no with.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::Lsn;
use crate::driver::Class;

/// Why something was not done on a node of database files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// SQLite refused a statement.
    #[error("the statement failed")]
    Sql(#[from] rusqlite::Error),
    /// A file could not be read or written.
    #[error("a file of the node cannot be used")]
    Io(#[from] std::io::Error),
    /// The node takes no writes: it is a replica, or fenced. Nothing was written.
    #[error("the node takes no writes")]
    ReadOnly,
    /// Another writer had the database for too long. Nothing was written.
    #[error("the database was not free in time")]
    Busy,
    /// Another task or process keeps this node up.
    #[error("the node is served already")]
    Served,
    /// The node was taken down.
    #[error("the node is down")]
    Down,
    /// The node was taken down while the connection was in use, or its statement was abandoned.
    #[error("the connection is lost")]
    ConnectionLost,
    /// The write is on the primary, and too few replicas have confirmed it in time.
    #[error("too few replicas confirmed the write in time")]
    Unconfirmed,
    /// The commit failed, and whether it will take effect shows when the node is opened again.
    #[error("the commit failed half-way")]
    CommitUnknown(#[source] rusqlite::Error),
    /// A higher ballot was promised.
    #[error("a higher ballot was promised")]
    Superseded,
    /// A primary was told to follow.
    #[error("the node is no replica")]
    NotAReplica,
    /// The node to follow is no primary, or of another cluster.
    #[error("the primary cannot be reached, or is none of this cluster")]
    NoPrimaryThere,
    /// A replica that has no copy yet, or one that was interrupted while it was copied.
    #[error("the node holds no complete copy")]
    Incomplete,
    /// What is to be created is there already.
    #[error("there is a node at {0} already")]
    Exists(PathBuf),
    /// There is no node at this place.
    #[error("there is no node at {0}")]
    NotANode(PathBuf),
    /// A table cannot be replicated whose rows have no name.
    #[error("table {table} has no primary key")]
    NoPrimaryKey {
        /// Which.
        table: Box<str>,
    },
    /// A row cannot be replicated whose name is null.
    #[error("a row of table {table} has a null in its primary key")]
    NullKey {
        /// Of which table.
        table: Box<str>,
    },
    /// A virtual table cannot be replicated.
    #[error("table {table} is virtual")]
    VirtualTable {
        /// Which.
        table: Box<str>,
    },
    /// Names that begin with `tenfold_` are the driver's own.
    #[error("{name} begins with tenfold_")]
    ReservedName {
        /// Of what.
        name: Box<str>,
    },
    /// The schema is changed by [`migrate`](super::SqliteConnection::migrate) alone.
    #[error("a transaction changed the schema")]
    SchemaChange,
    /// A migration changes the schema alone.
    #[error("a migration changed rows")]
    RowsInMigration,
    /// The closure began, ended or left a transaction.
    #[error("the statements ended their transaction themselves")]
    TransactionEnded,
    /// The transaction's changes are more than may stand in one record.
    #[error("the transaction changes {bytes} bytes, {max} are allowed")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// The log is damaged: more than a torn end.
    #[error("the log is damaged in {segment} at byte {offset}")]
    Damaged {
        /// In which file.
        segment: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The log ends before the database: it was cut by somebody else.
    #[error("the log ends at {}, the database is at {}", log.0, database.0)]
    LogBehind {
        /// The end of the log.
        log: Lsn,
        /// Where the database is.
        database: Lsn,
    },
    /// What was asked for was removed from the log: a copy of the database is needed.
    #[error("the log begins after what is asked for")]
    LogGone,
    /// The replica does not hold what a change was made from.
    #[error("record {} does not fit what the replica holds", lsn.0)]
    Diverged {
        /// The record.
        lsn: Lsn,
    },
    /// The two logs differ where they should be the same.
    #[error("the logs have parted")]
    Parted,
    /// A record that does not say what a record may say.
    #[error("a record has contents that cannot be read")]
    Malformed,
}

impl SqliteError {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Sql(error) => class_of(error),
            Self::ReadOnly => Class::ReadOnly,
            Self::Busy => Class::RolledBack,
            Self::Down | Self::Incomplete | Self::NotANode(_) => Class::NotSent,
            Self::ConnectionLost | Self::Io(_) | Self::NoPrimaryThere | Self::LogGone | Self::Parted => Class::Gone,
            Self::Damaged { .. } | Self::LogBehind { .. } | Self::Diverged { .. } | Self::Malformed => Class::Gone,
            Self::Unconfirmed | Self::CommitUnknown(_) => Class::Ambiguous,
            Self::Superseded => Class::Superseded,
            Self::NotAReplica | Self::Exists(_) | Self::Served => Class::Statement,
            Self::NoPrimaryKey { .. } | Self::NullKey { .. } | Self::VirtualTable { .. } => Class::Statement,
            Self::ReservedName { .. } => Class::Statement,
            Self::SchemaChange | Self::RowsInMigration | Self::TransactionEnded | Self::TooLarge { .. } => {
                Class::Statement
            }
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Busy) || matches!(self, Self::Sql(error) if class_of(error) == Class::RolledBack)
    }
}

fn class_of(error: &rusqlite::Error) -> Class {
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly) => Class::ReadOnly,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Class::RolledBack,
        Some(
            ErrorCode::OperationInterrupted
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => Class::Gone,
        _ => Class::Statement,
    }
}
