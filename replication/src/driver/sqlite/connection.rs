//! A connection: to the database of one node, its work done on threads where waiting is no harm.

use std::sync::Arc;

use rusqlite::{Connection, InterruptHandle, Params, Row};
use tokio::sync::OwnedSemaphorePermit;

use super::node::{Access as Opened, FileNode};
use super::state::State;
use super::writer::{Committed, Writer};
use super::{SqliteError, driver::blocking};
use crate::driver::{Access, Mark};
use crate::{Lsn, NodeId, Position};

/// A connection to one node's database.
///
/// Statements run on the runtime's threads for blocking work. On a connection that writes, each call outside of a
/// transaction is one of its own.
#[derive(Debug)]
pub struct SqliteConnection {
    node: Arc<FileNode>,
    incarnation: u64,
    /// Not here while it is at work, and after that was abandoned.
    handle: Option<Handle>,
    access: Access,
    transaction: Option<Transaction>,
    mark: Mark,
}

#[derive(Debug)]
enum Handle {
    Reader(Connection),
    Writer(Writer),
}

#[derive(Debug)]
struct Transaction {
    access: Access,
    /// Its turn among the writers of this process.
    _turn: Option<OwnedSemaphorePermit>,
}

/// How a transaction ended that did not fail.
#[derive(Clone, Copy, Debug)]
struct Ended {
    position: Position,
    wrote: bool,
    /// Of a write: as the mode asks for.
    is_confirmed: bool,
}

impl From<Committed> for Ended {
    fn from(Committed { position, is_confirmed }: Committed) -> Self {
        Self { position, wrote: true, is_confirmed }
    }
}

impl Ended {
    fn read(position: Position) -> Self {
        Self { position, wrote: false, is_confirmed: true }
    }
}

/// Stops the statement when nobody waits for it any more.
struct Interrupt(Option<InterruptHandle>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.interrupt();
        }
    }
}

impl Handle {
    fn db(&self) -> &Connection {
        match self {
            Self::Reader(db) => db,
            Self::Writer(writer) => &writer.db,
        }
    }

    fn begin(&mut self, access: Access) -> Result<Option<Position>, SqliteError> {
        match self {
            Self::Writer(writer) if access == Access::Write => {
                writer.begin()?;
                Ok(None)
            }
            Self::Reader(_) if access == Access::Write => Err(SqliteError::ReadOnly),
            _ => {
                self.db().execute_batch("begin")?;
                // The first statement chooses the snapshot.
                Ok(Some(State::read(self.db())?.position()))
            }
        }
    }

    fn roll_back(&mut self) -> Result<(), SqliteError> {
        match self {
            Self::Writer(writer) => writer.roll_back(),
            Self::Reader(db) if !db.is_autocommit() => Ok(db.execute_batch("rollback")?),
            Self::Reader(_) => Ok(()),
        }
    }

    fn commit(&mut self, access: Access) -> Result<Ended, SqliteError> {
        let here = State::read(self.db())?.position();
        match self {
            Self::Writer(writer) if access == Access::Write => {
                Ok(writer.commit()?.map_or(Ended::read(here), Ended::from))
            }
            _ => {
                self.roll_back()?;
                Ok(Ended::read(here))
            }
        }
    }
}

impl SqliteConnection {
    pub(super) fn open(node: Arc<FileNode>, access: Access) -> Result<Self, SqliteError> {
        let handle = match access {
            Access::Read => Handle::Reader(node.connect(Opened::Read)?),
            Access::Write => Handle::Writer(Writer::open(&node)?),
        };
        let incarnation = node.incarnation();
        Ok(Self { node, incarnation, handle: Some(handle), access, transaction: None, mark: Mark::default() })
    }

    /// The node at its other end.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node.id
    }

    /// Runs statements: in the transaction that is under way, or in one of their own.
    ///
    /// On a connection that writes, `or replace` counts as a deletion and fires its triggers. Statements must not end
    /// the transaction, and the schema is changed by [`SqliteConnection::migrate`].
    ///
    /// # Errors
    /// [`SqliteError`]. Outside of a transaction nothing was written, unless it is [`SqliteError::Unconfirmed`] or
    /// [`SqliteError::CommitUnknown`].
    ///
    /// # Cancel safety
    /// Dropping it interrupts the statement and closes the connection.
    pub async fn run<T, F>(&mut self, f: F) -> Result<T, SqliteError>
    where
        F: FnOnce(&Connection) -> Result<T, SqliteError> + Send + 'static,
        T: Send + 'static,
    {
        if self.transaction.is_some() {
            return self
                .work(move |handle| {
                    if handle.db().is_autocommit() {
                        return Err(SqliteError::TransactionEnded);
                    }
                    let result = f(handle.db())?;
                    if handle.db().is_autocommit() { Err(SqliteError::TransactionEnded) } else { Ok(result) }
                })
                .await;
        }
        let access = self.access;
        let _turn = self.turn(access).await?;
        let (result, ended) = self
            .noting_ambiguity(move |handle| {
                handle.begin(access)?;
                match f(handle.db()) {
                    Ok(value) => handle.commit(access).map(|ended| (value, ended)),
                    Err(error) => {
                        handle.roll_back()?;
                        Err(error)
                    }
                }
            })
            .await?;
        self.note(ended)?;
        Ok(result)
    }

    /// Runs one statement; gives how many rows it changed.
    ///
    /// # Errors
    /// As [`SqliteConnection::run`].
    ///
    /// # Cancel safety
    /// As [`SqliteConnection::run`].
    pub async fn execute(
        &mut self,
        sql: impl Into<String>,
        params: impl Params + Send + 'static,
    ) -> Result<usize, SqliteError> {
        let sql = sql.into();
        self.run(move |db| Ok(db.prepare_cached(&sql)?.execute(params)?)).await
    }

    /// Runs one query, and makes something of each row.
    ///
    /// # Errors
    /// As [`SqliteConnection::run`].
    ///
    /// # Cancel safety
    /// As [`SqliteConnection::run`].
    pub async fn query<T: Send + 'static>(
        &mut self,
        sql: impl Into<String>,
        params: impl Params + Send + 'static,
        f: impl FnMut(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Vec<T>, SqliteError> {
        let sql = sql.into();
        self.run(move |db| Ok(db.prepare_cached(&sql)?.query_map(params, f)?.collect::<Result<_, _>>()?)).await
    }

    /// Changes the schema, by statements that every node runs. Each table needs a primary key; rows are not changed.
    ///
    /// A transaction of its own, on a connection that has what replicas have: foreign keys are off, and functions and
    /// collations of the caller's are not known. Names that begin with `tenfold_` are not to be had.
    ///
    /// # Errors
    /// [`SqliteError`]; [`SqliteError::TransactionEnded`] inside of a transaction.
    ///
    /// # Cancel safety
    /// As [`SqliteConnection::run`].
    pub async fn migrate(&mut self, sql: impl Into<String>) -> Result<(), SqliteError> {
        if self.transaction.is_some() {
            return Err(SqliteError::TransactionEnded);
        }
        self.check()?;
        let _turn = self.turn(self.access).await?;
        let (node, access, sql) = (Arc::clone(&self.node), self.access, sql.into());
        let mut fresh = blocking(move || Self::open(node, access)).await?;
        let migrated = fresh
            .noting_ambiguity(move |handle| match handle {
                Handle::Writer(writer) => writer.migrate(&sql),
                Handle::Reader(_) => Err(SqliteError::ReadOnly),
            })
            .await;
        self.mark.wrote |= fresh.mark.wrote;
        self.note(migrated?.into())
    }

    pub(super) fn is_open(&self) -> bool {
        self.handle.is_some()
            && self.transaction.is_none()
            && self.incarnation == self.node.incarnation()
            && self.node.check_up().is_ok()
    }

    pub(super) async fn begin(&mut self, access: Access) -> Result<(), SqliteError> {
        let turn = self.turn(access).await?;
        let position = self.work(move |handle| handle.begin(access)).await?;
        self.transaction = Some(Transaction { access, _turn: turn });
        position.map_or(Ok(()), |position| self.note(Ended::read(position)))
    }

    pub(super) async fn commit(&mut self) -> Result<(), SqliteError> {
        let transaction = self.transaction.take().ok_or(SqliteError::TransactionEnded)?;
        let ended = self.noting_ambiguity(move |handle| handle.commit(transaction.access)).await?;
        self.note(ended)
    }

    pub(super) async fn roll_back(&mut self) -> Result<(), SqliteError> {
        let _transaction = self.transaction.take();
        self.work(Handle::roll_back).await
    }

    pub(super) fn take_mark(&mut self) -> Mark {
        std::mem::take(&mut self.mark)
    }

    pub(super) async fn replayed(&mut self) -> Result<Lsn, SqliteError> {
        self.work(|handle| Ok(State::read(handle.db())?.tail.lsn)).await
    }

    pub(super) fn node(&self) -> &FileNode {
        &self.node
    }

    fn note(&mut self, ended: Ended) -> Result<(), SqliteError> {
        self.mark.position = self.mark.position.max(Some(ended.position));
        self.mark.wrote |= ended.wrote;
        if ended.is_confirmed { Ok(()) } else { Err(SqliteError::Unconfirmed) }
    }

    /// Waits in line with the other writers of this process.
    async fn turn(&mut self, access: Access) -> Result<Option<OwnedSemaphorePermit>, SqliteError> {
        if access == Access::Read || self.access == Access::Read {
            return Ok(None);
        }
        let turn = Arc::clone(&self.node.writers).acquire_owned();
        match tokio::time::timeout(self.node.config.busy_timeout, turn).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            _ => Err(SqliteError::Busy),
        }
    }

    async fn noting_ambiguity<T: Send + 'static>(
        &mut self,
        f: impl FnOnce(&mut Handle) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let result = self.work(f).await;
        self.mark.wrote |= matches!(result, Err(SqliteError::CommitUnknown(_)));
        result
    }

    async fn work<T: Send + 'static>(
        &mut self,
        f: impl FnOnce(&mut Handle) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        self.check()?;
        let mut handle = self.handle.take().ok_or(SqliteError::ConnectionLost)?;
        let mut interrupt = Interrupt(Some(handle.db().get_interrupt_handle()));
        let (handle, result) = blocking(move || {
            let result = f(&mut handle);
            Ok((handle, result))
        })
        .await?;
        interrupt.0 = None;
        self.handle = Some(handle);
        self.check()?;
        result
    }

    /// The connection is lost with the process that it stands for.
    fn check(&mut self) -> Result<(), SqliteError> {
        if self.incarnation == self.node.incarnation() && self.node.check_up().is_ok() {
            return Ok(());
        }
        self.handle = None;
        Err(SqliteError::ConnectionLost)
    }
}
