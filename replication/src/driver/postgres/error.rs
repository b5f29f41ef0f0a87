//! What statements and control calls fail with, and what that says of their effect.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::driver::Class;

/// Why something was not done on a PostgreSQL server.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PgError {
    /// The server refused a statement, or its answer could not be read.
    #[error("the statement failed")]
    Sql(#[from] tokio_postgres::Error),
    /// The server could not be connected to.
    #[error("the server cannot be connected to")]
    Connect(#[source] tokio_postgres::Error),
    /// The address is no connection string, or one of several servers.
    #[error("the address is no connection string of one server")]
    Address(#[source] Option<tokio_postgres::Error>),
    /// The connection is lost, or its last statement was abandoned.
    #[error("the connection is lost")]
    ConnectionLost,
    /// The write is on the primary, and the wait for its standbys was cut short.
    #[error("the wait for replicas to confirm the write was cut short")]
    Unconfirmed,
    /// The write is on the primary, and what was asked behind its commit failed: where in the log it is, or whether replicas
    /// have it.
    #[error("the write is committed, and what was asked behind it failed")]
    AfterCommit(#[source] Box<PgError>),
    /// The transaction had failed before its commit: it was rolled back.
    #[error("the transaction had failed before its commit")]
    Failed,
    /// A transaction was begun in another one, or ended without one; or statements of the caller's have ended one, or left one
    /// open: what of them took effect is not known then.
    #[error("no transaction is under way, or one is already")]
    Transaction,
    /// The role may not see how far the server is: it needs to be a member of pg_monitor.
    #[error("the role is no member of pg_monitor")]
    NotMonitor,
    /// The server said something of itself that cannot be read.
    #[error("the server's answer cannot be read")]
    Malformed,
    /// A higher ballot was promised.
    #[error("a higher ballot was promised")]
    Superseded,
    /// A primary was told to follow.
    #[error("the node is no replica")]
    NotAReplica,
    /// The node to follow is no primary, or of another cluster.
    #[error("the node to follow is no primary of this cluster")]
    NoPrimaryThere,
    /// The node did not get there in time.
    #[error("the node did not do so within {0:?}")]
    TooSlow(Duration),
    /// A role or a database has a setting of its own for `default_transaction_read_only`, which a fence cannot override.
    #[error("a role or database overrides default_transaction_read_only")]
    Overridden,
    /// A former primary must be rewound, and no [`Server`](super::Server) was given that can do so.
    #[error("nobody can rewind the node: the driver was given no server")]
    NoServer,
    /// A file or a program on the node's machine cannot be used.
    #[error("a file or program of the node cannot be used")]
    Io(#[from] io::Error),
    /// A program failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said last.
        message: Box<str>,
    },
}

impl PgError {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Sql(error) => class_of(error),
            Self::Connect(error) if is_refusal(error) => Class::NotSent,
            Self::Connect(_) | Self::ConnectionLost | Self::Malformed | Self::TooSlow(_) => Class::Gone,
            Self::NoPrimaryThere | Self::Io(_) | Self::Program { .. } => Class::Gone,
            Self::Unconfirmed | Self::AfterCommit(_) | Self::Transaction => Class::Ambiguous,
            Self::Superseded => Class::Superseded,
            Self::Failed | Self::Address(_) | Self::NotMonitor | Self::NotAReplica => Class::Statement,
            Self::Overridden | Self::NoServer => Class::Statement,
        }
    }

    /// The error of the server, if it is one.
    #[must_use]
    pub fn server(&self) -> Option<&DbError> {
        match self {
            Self::Sql(error) | Self::Connect(error) => error.as_db_error(),
            Self::AfterCommit(error) => error.server(),
            _ => None,
        }
    }

    /// Whether a prepared statement does not fit the schema any more: prepared anew, it will.
    pub(super) fn is_stale_statement(&self) -> bool {
        self.server().is_some_and(is_stale_statement)
    }

    /// Whether the server has no such prepared statement: somebody has discarded it, and perhaps all.
    pub(super) fn is_lost_statement(&self) -> bool {
        self.server().is_some_and(|error| error.code() == &SqlState::INVALID_SQL_STATEMENT_NAME)
    }
}

fn is_stale_statement(error: &DbError) -> bool {
    // The text of "cached plan must not change result type" depends on the server's language.
    let is_changed =
        error.code() == &SqlState::FEATURE_NOT_SUPPORTED && error.routine() == Some("RevalidateCachedQuery");
    is_changed || error.code() == &SqlState::INVALID_SQL_STATEMENT_NAME
}

/// Nobody listens there: what was to be sent was not.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound))
}

fn class_of(error: &tokio_postgres::Error) -> Class {
    if let Some(error) = error.as_db_error() {
        return if is_stale_statement(error) { Class::RolledBack } else { class_of_code(error.code()) };
    }
    // Mistakes of the caller, found before something was sent or after it was received. What they are called is all that
    // the client says of them.
    let text = error.to_string();
    let is_callers = ["error serializing parameter", "error deserializing column", "expected ", "invalid column"];
    if is_callers.iter().any(|start| text.starts_with(start)) { Class::Statement } else { Class::Gone }
}

fn class_of_code(code: &SqlState) -> Class {
    match code.code() {
        "40003" => Class::Ambiguous,
        "25006" => Class::ReadOnly,
        // The server ends the connection.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "53300" => Class::Gone,
        other if other.starts_with("08") => Class::Gone,
        other if other.starts_with("40") => Class::RolledBack,
        _ => Class::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_whether_there_was_an_effect() {
        for (code, class) in [
            ("40001", Class::RolledBack),
            ("40P01", Class::RolledBack),
            ("40003", Class::Ambiguous),
            ("25006", Class::ReadOnly),
            ("57P01", Class::Gone),
            ("08006", Class::Gone),
            ("23505", Class::Statement),
            ("57014", Class::Statement),
            ("25P02", Class::Statement),
            ("0A000", Class::Statement),
        ] {
            assert_eq!(class_of_code(&SqlState::from_code(code)), class, "{code}");
        }
    }
}
