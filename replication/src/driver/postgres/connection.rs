//! A connection on which callers run statements, each with the question behind it where in the log that was.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};

use super::PgError;
use super::dial::{self, Dial};
use super::link::Link;
use super::probe::{self, Place, Probe};
use super::semi::{self, Confirmed, Semi};
use super::shown::{Committing, Pending, committing};
use super::statements::Statements;
use crate::clock::{deadline, left};
use crate::driver::{Access, Mark};
use crate::{ClusterId, Lsn, Position, Role};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(1);

const BEGIN_SNAPSHOT: &str = "begin isolation level repeatable read read only";

const HAS_WRITTEN: &str = "select pg_current_xact_id_if_assigned() is not null";

const COMMITTING: &str = concat!("select pg_current_wal_insert_lsn(), ", committing!());

/// A connection to one server.
///
/// Statements are prepared once for each connection. Outside of a transaction each is one of its own, and costs one round
/// trip, with the question where in the log it was.
///
/// What a session keeps beyond its transaction (`set`, temporary tables, advisory locks, `listen`) would be met by whoever
/// gets the connection next: use `set local`, `on commit drop` and locks of the transaction.
pub struct PgConnection {
    client: Client,
    /// Locked by nobody but whoever looks whether it is open.
    link: Mutex<Link>,
    probe: Probe,
    statements: Statements,
    access: Access,
    transaction: Option<Access>,
    /// A statement of the transaction has failed.
    has_failed: bool,
    /// Of no use any more: prepared statements are gone, this driver's perhaps as well, or nobody knows in which transaction
    /// it is.
    is_spoiled: bool,
    mark: Mark,
    /// What it is sure to show: as far as a replica at its other end was, which never goes back while it runs.
    shows: Option<Position>,
    /// Nobody asks where the next statements were.
    skips_mark: bool,
    /// In semi-synchronous mode.
    semi: Option<Semi>,
    /// Writes that no standby confirmed in time, of all connections of the driver.
    unconfirmed: Arc<AtomicU64>,
}

/// What is asked of the server.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Count(&'a Statement, &'a [&'a (dyn ToSql + Sync)]),
    Rows(&'a Statement, &'a [&'a (dyn ToSql + Sync)]),
    Batch(&'a str),
}

enum Answer {
    Count(u64),
    Rows(Vec<Row>),
    Done,
}

async fn ask(client: &Client, ask: Ask<'_>) -> Result<Answer, tokio_postgres::Error> {
    match ask {
        Ask::Count(statement, params) => client.execute(statement, params).await.map(Answer::Count),
        Ask::Rows(statement, params) => client.query(statement, params).await.map(Answer::Rows),
        Ask::Batch(sql) => client.batch_execute(sql).await.map(|()| Answer::Done),
    }
}

impl PgConnection {
    pub(super) async fn open(
        dial: &dyn Dial,
        config: &Config,
        access: Access,
        max_statements: usize,
    ) -> Result<(Self, Place), PgError> {
        let (client, link, probe) = dial::connect(dial, config).await?;
        let mut connection = Self {
            client,
            link: Mutex::new(link),
            probe,
            statements: Statements::new(max_statements),
            access,
            transaction: None,
            has_failed: false,
            is_spoiled: false,
            mark: Mark::default(),
            shows: None,
            skips_mark: false,
            semi: None,
            unconfirmed: Arc::default(),
        };
        let place = connection.place().await?;
        if access == Access::Write {
            let rows = connection.link.get_mut().drive(connection.client.query_typed(semi::SETTING, &[])).await?;
            let setting: Option<&str> = rows.first().ok_or(PgError::Malformed)?.try_get(0)?;
            connection.semi = Semi::parse(setting.unwrap_or_default())?;
        }
        Ok((connection, place))
    }

    /// Runs a statement; gives how many rows it changed.
    ///
    /// # Errors
    /// [`PgError`]. Outside of a transaction nothing was written, unless it is [`PgError::Unconfirmed`] or
    /// [`PgError::AfterCommit`], or the connection was lost.
    ///
    /// # Cancel safety
    /// Dropping it leaves open whether the statement ran, and closes the connection.
    pub async fn execute(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, PgError> {
        let statement = self.prepare(sql).await?;
        match self.run(Ask::Count(&statement, params), Some(sql)).await? {
            Answer::Count(count) => Ok(count),
            Answer::Rows(_) | Answer::Done => Err(PgError::Malformed),
        }
    }

    /// Runs a statement; gives its rows.
    ///
    /// # Errors
    /// As [`PgConnection::execute`].
    ///
    /// # Cancel safety
    /// As [`PgConnection::execute`].
    pub async fn query(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        let statement = self.prepare(sql).await?;
        match self.run(Ask::Rows(&statement, params), Some(sql)).await? {
            Answer::Rows(rows) => Ok(rows),
            Answer::Count(_) | Answer::Done => Err(PgError::Malformed),
        }
    }

    /// Runs statements without parameters, as they stand: several at once, and those that no transaction may hold. Whoever
    /// wants a transaction uses [`Cluster::transaction`](crate::Cluster::transaction): one that is begun here and left open with
    /// something written, or ended here, is [`PgError::Transaction`] and leaves open what took effect.
    ///
    /// # Errors
    /// As [`PgConnection::execute`]; those before the one that failed may have taken effect, if they commit themselves.
    ///
    /// # Cancel safety
    /// As [`PgConnection::execute`].
    pub async fn batch(&mut self, sql: &str) -> Result<(), PgError> {
        self.run(Ask::Batch(sql), None).await.map(|_| ())
    }

    /// With others.
    pub(super) fn counting(mut self, unconfirmed: &Arc<AtomicU64>) -> Self {
        self.unconfirmed = Arc::clone(unconfirmed);
        self
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.probe.cluster
    }

    pub(super) fn is_open(&self) -> bool {
        let is_unused = self.transaction.is_none() && !self.has_failed;
        is_unused && !self.is_spoiled && self.link.lock().is_open()
    }

    pub(super) fn take_mark(&mut self) -> Mark {
        self.skips_mark = false;
        std::mem::take(&mut self.mark)
    }

    pub(super) fn skip_mark(&mut self, floor: Option<Position>) {
        let is_shown =
            |floor: Position| self.shows.is_some_and(|shown| shown.epoch == floor.epoch && shown.lsn >= floor.lsn);
        self.skips_mark = self.access == Access::Read && floor.is_none_or(is_shown);
    }

    pub(super) async fn begin(&mut self, access: Access) -> Result<(), PgError> {
        if self.transaction.is_some() {
            return Err(PgError::Transaction);
        }
        let sql = match access {
            Access::Read => BEGIN_SNAPSHOT,
            Access::Write => "begin",
        };
        self.link.get_mut().drive(self.client.batch_execute(sql)).await?;
        self.transaction = Some(access);
        self.has_failed = false;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), PgError> {
        let result = self.try_commit().await;
        self.note_failure(&result);
        result
    }

    /// Commits, and asks in the same flush before it whether there is something to commit, and behind it where that was.
    async fn try_commit(&mut self) -> Result<(), PgError> {
        let access = self.transaction.ok_or(PgError::Transaction)?;
        if self.has_failed {
            // The server would call a rollback a success. Someone may have gone back to a savepoint, though.
            let is_alive = self.link.get_mut().drive(self.client.batch_execute("select")).await;
            if is_alive.is_err() {
                self.roll_back().await?;
                return Err(PgError::Failed);
            }
        }
        self.transaction = None;
        self.has_failed = false;
        if access == Access::Read {
            self.link.get_mut().drive(self.client.batch_execute("commit")).await?;
            let place = self.place().await?;
            return self.note(place, false).await;
        }
        let written = self.prepare(HAS_WRITTEN).await?;
        let Self { client, link, probe, .. } = self;
        let (wrote, committed, place) = link
            .get_mut()
            .drive(async {
                tokio::join!(biased;
                    client.query(&written, &[]),
                    client.batch_execute("commit"),
                    client.query(probe.short_mark(), &[]),
                )
            })
            .await;
        committed?;
        if self.link.get_mut().take_out_of_step() {
            return Err(self.strayed());
        }
        // If it failed, so did the transaction, and the commit was a rollback.
        self.finish(place, has_written(&wrote?)).await
    }

    pub(super) async fn roll_back(&mut self) -> Result<(), PgError> {
        self.link.get_mut().drive(self.client.batch_execute("rollback")).await?;
        self.transaction = None;
        self.has_failed = false;
        if self.link.get_mut().take_out_of_step() { Err(self.strayed()) } else { Ok(()) }
    }

    /// The statements themselves have ended a transaction, or left one open: what of them took effect is not known.
    fn strayed(&mut self) -> PgError {
        self.mark.wrote = true;
        self.is_spoiled = true;
        PgError::Transaction
    }

    /// Waits until all up to there can be seen.
    pub(super) async fn wait(&mut self, lsn: Lsn, timeout: Duration) -> Result<Lsn, PgError> {
        let until = deadline(timeout);
        loop {
            let place = self.place().await?;
            if place.role == Role::Primary {
                return self.wait_for_commits(until).await;
            }
            if place.lsn >= lsn || left(until).is_zero() {
                return Ok(place.lsn);
            }
            tokio::time::sleep(left(until).min(POLL)).await;
        }
    }

    /// A primary shows a commit a little after it has logged it, and while standbys are waited for long after: so whoever
    /// is at it must be done.
    async fn wait_for_commits(&mut self, until: tokio::time::Instant) -> Result<Lsn, PgError> {
        let (end, committing) = self.committing().await?;
        let mut pending = Pending::new(end, committing);
        while !pending.is_shown() {
            if left(until).is_zero() {
                return Ok(Lsn(0));
            }
            tokio::time::sleep(left(until).min(POLL)).await;
            pending.look(&self.committing().await?.1);
        }
        Ok(end)
    }

    async fn committing(&mut self) -> Result<(Lsn, Committing), PgError> {
        let statement = self.prepare(COMMITTING).await?;
        let rows = self.link.get_mut().drive(self.client.query(&statement, &[])).await?;
        let row = rows.first().ok_or(PgError::Malformed)?;
        let lsn = Lsn(row.try_get::<_, tokio_postgres::types::PgLsn>(0)?.into());
        Ok((self.probe.layout.end_of_record(lsn), Committing::read(row, 1)?))
    }

    async fn run(&mut self, what: Ask<'_>, sql: Option<&str>) -> Result<Answer, PgError> {
        let result = if self.transaction.is_some() {
            let answer = self.link.get_mut().drive(ask(&self.client, what)).await;
            self.has_failed |= answer.is_err();
            answer.map_err(PgError::from)
        } else if self.access == Access::Read {
            self.run_alone(what).await
        } else if matches!(what, Ask::Batch(_)) {
            self.run_batch(what).await
        } else {
            self.run_as_transaction(what).await
        };
        if let (Err(error), Some(sql)) = (&result, sql) {
            if error.is_stale_statement() {
                self.statements.forget(sql);
            }
        }
        self.note_failure(&result);
        result
    }

    fn note_failure<T>(&mut self, result: &Result<T, PgError>) {
        self.is_spoiled |= result.as_ref().is_err_and(PgError::is_lost_statement);
    }

    async fn run_alone(&mut self, what: Ask<'_>) -> Result<Answer, PgError> {
        let Self { client, link, probe, .. } = self;
        if self.skips_mark {
            return Ok(link.get_mut().drive(ask(client, what)).await?);
        }
        let both = async { tokio::join!(biased; ask(client, what), client.query(probe.short_mark(), &[])) };
        let (answer, place) = link.get_mut().drive(both).await;
        let answer = answer?;
        let place = self.placed(&place?).await?;
        self.note(place, false).await?;
        Ok(answer)
    }

    /// Several statements, which may commit themselves: some may have before one failed. And they may have begun a transaction
    /// that is open still, which nobody would end.
    async fn run_batch(&mut self, what: Ask<'_>) -> Result<Answer, PgError> {
        let written = self.prepare(HAS_WRITTEN).await?;
        let Self { client, link, probe, .. } = self;
        let all = async {
            tokio::join!(biased;
                ask(client, what),
                client.query(&written, &[]),
                client.query(probe.short_mark(), &[]),
            )
        };
        let (answer, wrote, place) = link.get_mut().drive(all).await;
        if wrote.is_ok_and(|rows| has_written(&rows)) {
            self.roll_back().await?;
            return Err(self.strayed());
        }
        self.finish(place, true).await?;
        Ok(answer?)
    }

    /// In a transaction of its own, which is sent in one flush: so it is known whether it wrote.
    async fn run_as_transaction(&mut self, what: Ask<'_>) -> Result<Answer, PgError> {
        let written = self.prepare(HAS_WRITTEN).await?;
        let Self { client, link, probe, .. } = self;
        let all = async {
            tokio::join!(biased;
                client.batch_execute("begin"),
                ask(client, what),
                client.query(&written, &[]),
                client.batch_execute("commit"),
                client.query(probe.short_mark(), &[]),
            )
        };
        let (begun, answer, wrote, committed, place) = link.get_mut().drive(all).await;
        begun?;
        let answer = answer?;
        committed?;
        self.finish(place, has_written(&wrote?)).await?;
        Ok(answer)
    }

    /// Notes where a commit was, and whether it was confirmed. Whatever fails here does not undo it.
    async fn finish(&mut self, place: Result<Vec<Row>, tokio_postgres::Error>, wrote: bool) -> Result<(), PgError> {
        let is_cut_short = self.link.get_mut().take_unconfirmed();
        let confirmed = self.find_confirmed(place, wrote).await;
        self.mark.wrote |= confirmed.is_err() || is_cut_short;
        match confirmed {
            _ if is_cut_short => Err(PgError::Unconfirmed),
            Err(error @ PgError::Unconfirmed) => Err(error),
            confirmed => confirmed.map_err(|error| PgError::AfterCommit(Box::new(error))),
        }
    }

    async fn find_confirmed(
        &mut self,
        place: Result<Vec<Row>, tokio_postgres::Error>,
        wrote: bool,
    ) -> Result<(), PgError> {
        let place = self.placed(&place?).await?;
        self.note(place, wrote).await?;
        if wrote && place.role == Role::Primary { self.confirm().await } else { Ok(()) }
    }

    /// In semi-synchronous mode, waits for one standby to have what was committed, up to the time that is set.
    async fn confirm(&mut self) -> Result<(), PgError> {
        let Some(semi) = self.semi.clone() else { return Ok(()) };
        let until = deadline(semi.timeout);
        let statement = self.prepare(semi::CONFIRMED).await?;
        let mut wanted = None;
        loop {
            let rows = self.link.get_mut().drive(self.client.query(&statement, &[&semi.standbys])).await?;
            let confirmed = Confirmed::read(&rows)?;
            // Another primary may be about to go on without it.
            if confirmed.is_fenced {
                return Err(PgError::Unconfirmed);
            }
            if confirmed.by_standby >= *wanted.get_or_insert(confirmed.flushed) {
                return Ok(());
            }
            if left(until).is_zero() {
                self.unconfirmed.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            tokio::time::sleep(left(until).min(semi::POLL)).await;
        }
    }

    async fn note(&mut self, place: Place, wrote: bool) -> Result<(), PgError> {
        let place = if place.may_be_behind() { self.settled(place).await? } else { place };
        self.mark.position = self.mark.position.max(Some(place.position()));
        self.mark.wrote |= wrote;
        Ok(())
    }

    /// Waits for the end of the record that was being replayed when a statement looked.
    async fn settled(&mut self, first: Place) -> Result<Place, PgError> {
        let until = deadline(probe::RECORD_TIMEOUT);
        loop {
            let Self { client, link, probe, .. } = self;
            let both = async {
                tokio::join!(biased; client.query_typed(probe::REPLAY_STATE, &[]), client.query(probe.short_mark(), &[]))
            };
            let (state, place) = link.get_mut().drive(both).await;
            let place = self.placed(&place?).await?;
            let is_further = place.lsn > first.lsn || !place.may_be_behind();
            if is_further || probe::is_between_records(&state?)? {
                return Ok(place);
            }
            if left(until).is_zero() {
                // It has seen no more than was received.
                let received = place.received.ok_or(PgError::TooSlow(probe::RECORD_TIMEOUT))?;
                return Ok(Place { lsn: received, ..place });
            }
        }
    }

    /// Where the server is by the answer to the short question, or by that to the long one.
    async fn placed(&mut self, rows: &[Row]) -> Result<Place, PgError> {
        match self.probe.read_short(rows.first().ok_or(PgError::Malformed)?)? {
            Some(place) => Ok(self.shown(place)),
            None => self.place().await,
        }
    }

    async fn place(&mut self) -> Result<Place, PgError> {
        let rows = self.link.get_mut().drive(self.client.query(&self.probe.mark, &[])).await?;
        let place = self.probe.read(rows.first().ok_or(PgError::Malformed)?)?;
        self.probe.learn(place);
        Ok(self.shown(place))
    }

    /// A primary shows what is in its log a little later only.
    fn shown(&mut self, place: Place) -> Place {
        if place.role == Role::Replica {
            self.shows = self.shows.max(Some(place.position()));
        }
        place
    }

    async fn prepare(&mut self, sql: &str) -> Result<Statement, PgError> {
        if let Some(statement) = self.statements.find(sql) {
            return Ok(statement);
        }
        match self.link.get_mut().drive(self.client.prepare(sql)).await {
            Ok(statement) => {
                self.statements.keep(sql, &statement);
                Ok(statement)
            }
            Err(error) => {
                self.has_failed |= self.transaction.is_some();
                Err(error.into())
            }
        }
    }
}

/// What the answer to [`HAS_WRITTEN`] says; that it may have, if it says nothing.
fn has_written(rows: &[Row]) -> bool {
    rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(true)
}

impl fmt::Debug for PgConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access, transaction, mark, .. } = self;
        f.debug_struct("PgConnection")
            .field("access", access)
            .field("transaction", transaction)
            .field("mark", mark)
            .finish_non_exhaustive()
    }
}
