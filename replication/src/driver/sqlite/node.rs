//! One node: a directory with a database, its log, and what it has promised.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::apply::{self, Keys, apply};
use super::confirmed::Confirmed;
use super::control::{Control, ControlFile};
use super::log::{Log, LogReader};
use super::record::Tail;
use super::state::State;
use super::{SqliteConfig, SqliteError};
use crate::driver::{Ballot, Observation, Promotion};
use crate::{ClusterId, History, Lsn, Mode, Node, NodeId, Role};

/// Records that are applied in one transaction.
const BATCH: usize = 256;

/// A node of this process, or one whose files this process can reach.
#[derive(Debug)]
pub(super) struct FileNode {
    pub(super) id: NodeId,
    pub(super) dir: PathBuf,
    pub(super) config: SqliteConfig,
    pub(super) control: ControlFile,
    pub(super) log: Mutex<Log>,
    pub(super) confirmed: Confirmed,
    applier: Mutex<Applier>,
    /// Looks where the database is.
    viewer: Mutex<Connection>,
    /// One writer of this process at a time; those of others wait for SQLite's lock.
    pub(super) writers: Arc<Semaphore>,
    /// How far the log and the database are, to wake who waits in this process.
    pub(super) appended: watch::Sender<Lsn>,
    pub(super) applied: watch::Sender<Lsn>,
    /// Of which primary a replica has heard, and until when that is lately.
    pub(super) heard: Mutex<Option<(NodeId, Instant)>>,
    pub(super) faults: Faults,
}

/// What applies records to the database.
#[derive(Debug)]
struct Applier {
    db: Connection,
    keys: Keys,
    /// Stands after the last one, as a rule.
    reader: Option<LogReader>,
}

impl Applier {
    fn new(db: Connection) -> Self {
        Self { db, keys: Keys::default(), reader: None }
    }
}

/// What is done to a node on purpose.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) is_down: AtomicBool,
    pub(super) went_down: Notify,
    /// Counts up when it is taken down: connections know whose they are.
    pub(super) incarnation: AtomicU64,
    pub(super) replay_delay_us: AtomicU64,
    pub(super) is_replay_paused: AtomicBool,
}

impl FileNode {
    /// A new node: a primary of this cluster with an empty database, or a replica that has nothing.
    pub(super) fn create(dir: &Path, id: NodeId, config: SqliteConfig, control: &Control) -> Result<Self, SqliteError> {
        std::fs::create_dir_all(dir)?;
        if control_path(dir).exists() {
            return Err(SqliteError::Exists(dir.into()));
        }
        let db = connect(dir, Access::Apply, &config)?;
        if !control.is_incomplete {
            State::create(&db, control.cluster)?;
        }
        Log::create(&log_dir(dir), Tail::default(), config.segment_bytes)?;
        // Last: a node without it is none.
        ControlFile::create(&control_path(dir), control, config.busy_timeout)?;
        Self::open(dir, id, config)
    }

    /// A node as it was left, also by a crash.
    pub(super) fn open(dir: &Path, id: NodeId, config: SqliteConfig) -> Result<Self, SqliteError> {
        if !control_path(dir).exists() {
            return Err(SqliteError::NotANode(dir.into()));
        }
        let node = Self {
            id,
            dir: dir.into(),
            control: ControlFile::open(&control_path(dir), config.busy_timeout)?,
            log: Mutex::new(Log::open(&log_dir(dir), config.segment_bytes)?),
            confirmed: Confirmed::open(&dir.join("confirmed.db"), config.busy_timeout)?,
            applier: Mutex::new(Applier::new(connect(dir, Access::Apply, &config)?)),
            viewer: Mutex::new(connect(dir, Access::View, &config)?),
            writers: Arc::new(Semaphore::new(1)),
            appended: watch::Sender::new(Lsn(0)),
            applied: watch::Sender::new(Lsn(0)),
            heard: Mutex::new(None),
            faults: Faults::default(),
            config,
        };
        let control = node.control.read()?;
        if !control.is_incomplete {
            // In this order: another process may be writing.
            let database = node.state()?.tail.lsn;
            let log = node.log_end()?.lsn;
            if log < database {
                return Err(SqliteError::LogBehind { log, database });
            }
            if control.role == Role::Primary {
                node.recover()?;
            }
        }
        Ok(node)
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        log_dir(&self.dir)
    }

    pub(super) fn connect(&self, access: Access) -> Result<Connection, SqliteError> {
        connect(&self.dir, access, &self.config)
    }

    pub(super) fn check_up(&self) -> Result<(), SqliteError> {
        if self.faults.is_down.load(Ordering::SeqCst) { Err(SqliteError::Down) } else { Ok(()) }
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.faults.incarnation.load(Ordering::SeqCst)
    }

    /// How far the database is.
    pub(super) fn state(&self) -> Result<State, SqliteError> {
        State::read(&self.viewer.lock())
    }

    /// How far the log is, with what other processes have appended.
    pub(super) fn log_end(&self) -> Result<Tail, SqliteError> {
        let mut log = self.log.lock();
        log.refresh()?;
        Ok(log.end())
    }

    /// Applies what the log has and the database has not: a commit that a crash interrupted, or a replica's backlog.
    pub(super) fn recover(&self) -> Result<State, SqliteError> {
        loop {
            let end = self.log_end()?.lsn;
            let state = self.apply_until(end)?;
            if state.tail.lsn >= end {
                return Ok(state);
            }
        }
    }

    /// Applies one batch of records, up to a place.
    pub(super) fn apply_until(&self, until: Lsn) -> Result<State, SqliteError> {
        let mut applier = self.applier.lock();
        let Applier { db, keys, reader: held } = &mut *applier;
        let state = State::read(db)?;
        if state.tail.lsn >= until {
            return Ok(state);
        }
        // Read under the database's lock: what a writer cuts off again, as its commit failed, is gone by then.
        let state = apply(db, keys, |state| {
            let reader = LogReader::go_on(held.take(), &self.log_dir(), state.tail)?;
            let reader = held.insert(reader);
            let (mut records, mut bytes) = (Vec::new(), 0);
            while records.len() < BATCH && bytes < self.config.batch_bytes {
                let Some(record) = reader.next(until)? else { break };
                bytes += record.encoded_len();
                records.push(record);
            }
            Ok(records)
        })?;
        self.applied.send_replace(state.tail.lsn);
        Ok(state)
    }

    /// Runs it while nobody writes to the database or applies something to it, in no process.
    pub(super) fn held_still<T>(&self, f: impl FnOnce() -> Result<T, SqliteError>) -> Result<T, SqliteError> {
        let db = &self.applier.lock().db;
        db.execute_batch("begin immediate").map_err(|error| {
            let error = SqliteError::from(error);
            if error.is_busy() { SqliteError::Busy } else { error }
        })?;
        let result = f();
        let ended = db.execute_batch("rollback");
        let result = result?;
        ended?;
        Ok(result)
    }

    /// Where the database is, if that is where its log ends.
    fn end_of_both(&self) -> Result<Lsn, SqliteError> {
        let (log, database) = (self.log_end()?, self.state()?.tail);
        match database {
            database if database == log => Ok(log.lsn),
            // It is applied when this is asked for again.
            database if database.lsn < log.lsn => Err(SqliteError::Busy),
            _ => Err(SqliteError::Parted),
        }
    }

    /// Replaces a database that is incomplete by a copy of another, which is consistent with the place that stands in it.
    pub(super) fn copy_from(&self, upstream: &Self) -> Result<State, SqliteError> {
        let mut applier = self.applier.lock();
        let target = &mut applier.db;
        let control = self.control.read()?;
        if control.role == Role::Primary {
            return Err(SqliteError::NotAReplica);
        }
        // Somebody else has copied it while this one waited for the lock.
        if !control.is_incomplete {
            return State::read(target);
        }
        let source = upstream.connect(Access::Read)?;
        let backup = rusqlite::backup::Backup::new(&source, target)?;
        let deadline = crate::clock::deadline(self.config.copy_timeout);
        while backup.step(-1)? != rusqlite::backup::StepResult::Done {
            if crate::clock::left(deadline).is_zero() {
                return Err(SqliteError::Busy);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(backup);
        target.flush_prepared_statement_cache();
        applier.keys = Keys::default();
        let target = &applier.db;
        let state = State::read(target)?;
        let theirs = upstream.control.read()?;
        self.control.update(|control| {
            // Locked before: nobody is to look while the old files are gone.
            let mut log = self.log.lock();
            *log = Log::create(&self.log_dir(), state.tail, self.config.segment_bytes)?;
            drop(log);
            control.cluster = state.cluster;
            control.history = theirs.history.until(state.tail.lsn);
            control.is_incomplete = false;
            Ok(())
        })?;
        self.applied.send_replace(state.tail.lsn);
        Ok(state)
    }

    pub(super) fn observe(&self) -> Result<Observation, SqliteError> {
        let control = self.control.read()?;
        if control.is_incomplete {
            return Err(SqliteError::Incomplete);
        }
        let replayed = self.state()?.tail.lsn;
        let received = match control.role {
            Role::Primary => replayed,
            Role::Replica => self.log_end()?.lsn,
        };
        let heard = *self.heard.lock();
        let upstream = heard.filter(|(node, until)| {
            !crate::clock::left(*until).is_zero() && control.upstream.as_ref().is_some_and(|(of, _)| of == node)
        });
        Ok(Observation {
            cluster: control.cluster,
            role: control.role,
            writable: control.is_writable(),
            history: control.history,
            received,
            replayed,
            upstream: upstream.map(|(node, _)| node).filter(|_| control.role == Role::Replica),
            promised: control.promised,
        })
    }

    pub(super) fn fence(&self, ballot: Ballot) -> Result<Observation, SqliteError> {
        self.control.update(|control| {
            control.promise(ballot)?;
            control.upstream = None;
            if control.installed == Some(ballot) {
                control.installed = None;
            }
            Ok(())
        })?;
        *self.heard.lock() = None;
        self.observe()
    }

    pub(super) fn promote(&self, promotion: &Promotion) -> Result<Observation, SqliteError> {
        let control = self.control.read()?;
        if control.promised != Some(promotion.ballot) {
            return Err(SqliteError::Superseded);
        }
        if control.is_incomplete {
            return Err(SqliteError::Incomplete);
        }
        self.recover()?;
        self.confirmed.clear()?;
        let promoted = self.control.update(|control| self.reign(control, promotion));
        if matches!(promoted, Err(SqliteError::Parted)) {
            self.give_up_copy()?;
        }
        promoted?;
        self.observe()
    }

    fn reign(&self, control: &mut Control, promotion: &Promotion) -> Result<(), SqliteError> {
        let ballot = promotion.ballot;
        if control.promised != Some(ballot) {
            return Err(SqliteError::Superseded);
        }
        if control.is_incomplete {
            return Err(SqliteError::Incomplete);
        }
        // What was confirmed is in the log: a database that holds something else in its place must not reign.
        let end = self.end_of_both()?;
        if ballot.epoch > control.history.current() {
            let history = control.history.until(end).promoted(ballot.epoch, end);
            control.history = history.map_err(|_| SqliteError::Parted)?;
        }
        control.role = Role::Primary;
        control.installed = Some(ballot);
        control.mode = promotion.mode;
        control.replicas.clone_from(&promotion.replicas);
        control.upstream = None;
        Ok(())
    }

    pub(super) fn new_primary(cluster: ClusterId, mode: Mode, replicas: Vec<NodeId>) -> Control {
        Control {
            cluster,
            role: Role::Primary,
            history: History::new(crate::Epoch(1)),
            promised: None,
            installed: None,
            mode,
            replicas,
            upstream: None,
            is_incomplete: false,
        }
    }

    /// Has nothing yet, and follows this primary.
    pub(super) fn new_replica(cluster: ClusterId, mode: Mode, primary: &Node) -> Control {
        Control {
            role: Role::Replica,
            upstream: Some((primary.id(), primary.address().into())),
            is_incomplete: true,
            ..Self::new_primary(cluster, mode, Vec::new())
        }
    }
}

/// What a connection to the database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Apply,
    View,
}

fn connect(dir: &Path, access: Access, config: &SqliteConfig) -> Result<Connection, SqliteError> {
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        _ => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    let db = Connection::open_with_flags(dir.join("data.db"), mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(config.busy_timeout)?;
    if access != Access::Read {
        // The log is synced before; what a power cut takes from the database is in there.
        db.execute_batch("pragma journal_mode = wal; pragma synchronous = normal;")?;
    }
    match access {
        Access::Read => db.execute_batch("pragma query_only = on")?,
        Access::Write => db.execute_batch("pragma recursive_triggers = on; pragma foreign_keys = on;")?,
        Access::Apply => apply::prepare(&db)?,
        Access::View => {}
    }
    Ok(db)
}

fn control_path(dir: &Path) -> PathBuf {
    dir.join("control.db")
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}
