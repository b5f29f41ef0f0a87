//! The seam between the product and its store: a batch of SQL statements in, rows or a typed refusal out.
//!
//! One trait, [`Database`], is implemented by SQLite in the same process and by the client of a database server. A
//! [`Batch`] is one transaction, so a caller on the far end of a socket gets atomicity without holding a
//! transaction open across the network.

use std::pin::Pin;

use serde::{Deserialize, Serialize};

/// A future that borrows its store; boxed so that [`Database`] can be a trait object.
pub type Reply<'a, T, E = DatabaseError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// One SQL value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// UTF-8 text.
    Text(String),
}

impl Value {
    /// The integer, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<u64> for Value {
    /// Values past `i64::MAX` saturate: no id or amount of the product reaches them.
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One SQL statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The text, with `?1`, `?2`, … for parameters.
    pub sql: String,
    /// One value a parameter.
    pub params: Vec<Value>,
    /// If given, exactly this many rows must change or the whole batch is rolled back.
    pub must_change: Option<u64>,
}

impl Statement {
    /// A statement without a condition on the rows it changes.
    pub fn new(sql: &str, params: impl IntoIterator<Item = Value>) -> Self {
        Self { sql: sql.to_owned(), params: params.into_iter().collect(), must_change: None }
    }

    /// Rolls the batch back unless exactly `rows` rows change.
    #[must_use]
    pub fn must_change(mut self, rows: u64) -> Self {
        self.must_change = Some(rows);
        self
    }
}

/// What a batch means to do; a read-only batch may run on a connection that cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// Only reads; a write in it is refused by the store.
    Read,
    /// May write; takes the write lock from the start, so two of them never deadlock on an upgrade.
    Write,
}

/// Statements that succeed or fail together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// What it means to do.
    pub intent: Intent,
    /// Run in order, inside one transaction.
    pub statements: Vec<Statement>,
}

impl Batch {
    /// A read-only batch of one statement.
    pub fn read(statement: Statement) -> Self {
        Self { intent: Intent::Read, statements: vec![statement] }
    }

    /// A transaction that may write.
    pub fn write(statements: impl IntoIterator<Item = Statement>) -> Self {
        Self { intent: Intent::Write, statements: statements.into_iter().collect() }
    }
}

/// What one statement did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rows {
    /// The rows it returned; empty for a plain write.
    pub rows: Vec<Vec<Value>>,
    /// How many rows it changed.
    pub changed: u64,
}

/// Why a batch did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DatabaseError {
    /// A row points at a row that is not there.
    #[error("a foreign key names a row that does not exist")]
    ForeignKey,
    /// A value breaks a CHECK or NOT NULL rule of the schema.
    #[error("a value breaks a rule of the schema")]
    Check,
    /// The key is taken.
    #[error("the key exists already")]
    Unique,
    /// A statement changed another number of rows than its batch allows.
    #[error("statement {statement} changed {changed} rows, not the number it must")]
    Guard {
        /// The statement's place in the batch, from 0.
        statement: usize,
        /// What it would have changed.
        changed: u64,
    },
    /// The SQL is wrong, or a read-only batch tried to write.
    #[error("the statement was refused")]
    Statement,
    /// The batch touches keys that may be on different shards: no transaction spans those.
    #[error("no transaction spans shards")]
    AcrossShards,
    /// The store could not be reached, or is gone.
    #[error("the database cannot be reached")]
    Unavailable,
    /// No answer came in time; a write may or may not have happened.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The store answered something that is not an answer.
    #[error("the database answered something that cannot be read")]
    Garbled,
    /// The disk failed, or the file is damaged.
    #[error("the database failed to read or write its file")]
    Storage,
}

/// A place that runs batches.
pub trait Database: Send + Sync {
    /// Runs `batch` as one transaction and returns one [`Rows`] for each statement.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] means that nothing of the batch happened, with one exception: after
    /// [`DatabaseError::TimedOut`] or [`DatabaseError::Unavailable`] a write may have happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer, not the work: a write may still happen.
    fn run(&self, batch: Batch) -> Reply<'_, Vec<Rows>>;
}

impl<D: Database + ?Sized> Database for std::sync::Arc<D> {
    fn run(&self, batch: Batch) -> Reply<'_, Vec<Rows>> {
        (**self).run(batch)
    }
}
