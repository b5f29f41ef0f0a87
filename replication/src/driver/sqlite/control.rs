//! What a node has promised and what it is: a small database of its own, so that no load of the other holds it up.
//!
//! Its write lock orders what must not overtake each other, over threads and processes: a commit and the receipt of
//! records check the promise and append under it, a fence promises under it. A node that is fenced has therefore
//! appended all that it ever acknowledges.

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};

use super::SqliteError;
use crate::driver::Ballot;
use crate::{ClusterId, Epoch, History, Lsn, Mode, NodeId, Role, Switch};

/// What survives on a node beside its database and its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) cluster: ClusterId,
    pub(super) role: Role,
    pub(super) history: History,
    /// The highest ballot promised, and that under which it was made what it is.
    pub(super) promised: Option<Ballot>,
    pub(super) installed: Option<Ballot>,
    pub(super) mode: Mode,
    pub(super) replicas: Vec<NodeId>,
    /// Whom it follows, and where that is found.
    pub(super) upstream: Option<(NodeId, String)>,
    /// The database is being copied: what is there is of no use.
    pub(super) is_incomplete: bool,
}

impl Control {
    pub(super) fn is_writable(&self) -> bool {
        self.role == Role::Primary && self.promised == self.installed
    }

    pub(super) fn promise(&mut self, ballot: Ballot) -> Result<(), SqliteError> {
        if self.promised.is_some_and(|promised| promised > ballot) {
            return Err(SqliteError::Superseded);
        }
        self.promised = Some(ballot);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct ControlFile {
    db: Mutex<Connection>,
    /// Waits for no lock.
    reader: Mutex<Connection>,
}

impl ControlFile {
    pub(super) fn create(path: &Path, control: &Control, timeout: Duration) -> Result<Self, SqliteError> {
        let file = Self::connect(path, timeout)?;
        let db = file.db.lock();
        db.execute_batch(
            "create table if not exists control(id integer primary key, cluster integer, is_primary integer,
             epochs text, promised_epoch integer, promised_by integer, installed_epoch integer, installed_by integer,
             mode text, replicas text, upstream integer, upstream_address text, is_incomplete integer)",
        )?;
        write(&db, control)?;
        drop(db);
        Ok(file)
    }

    pub(super) fn open(path: &Path, timeout: Duration) -> Result<Self, SqliteError> {
        let file = Self::connect(path, timeout)?;
        file.read()?;
        Ok(file)
    }

    fn connect(path: &Path, timeout: Duration) -> Result<Self, SqliteError> {
        let connect = || -> Result<_, SqliteError> {
            let db = Connection::open(path)?;
            db.busy_timeout(timeout)?;
            db.execute_batch("pragma journal_mode = wal; pragma synchronous = full;")?;
            Ok(Mutex::new(db))
        };
        Ok(Self { db: connect()?, reader: connect()? })
    }

    pub(super) fn read(&self) -> Result<Control, SqliteError> {
        read(&self.reader.lock())
    }

    /// Runs it while nobody else does; nothing is changed.
    pub(super) fn locked<T>(&self, f: impl FnOnce(&Control) -> Result<T, SqliteError>) -> Result<T, SqliteError> {
        let db = self.db.lock();
        begin(&db)?;
        let result = read(&db).and_then(|control| f(&control));
        // What was done is done, whatever this says; whoever begins next tries it again.
        let _ = db.execute_batch("rollback");
        result
    }

    /// Changes it while nobody else does; it is durable when this returns. Nothing is changed on an error.
    pub(super) fn update<T>(&self, f: impl FnOnce(&mut Control) -> Result<T, SqliteError>) -> Result<T, SqliteError> {
        let db = self.db.lock();
        begin(&db)?;
        let change = || {
            let before = read(&db)?;
            let mut control = before.clone();
            let result = f(&mut control)?;
            if control != before {
                write(&db, &control)?;
            }
            db.execute_batch("commit")?;
            Ok(result)
        };
        let result = change();
        if result.is_err() && !db.is_autocommit() {
            db.execute_batch("rollback")?;
        }
        result
    }
}

fn begin(db: &Connection) -> Result<(), SqliteError> {
    if !db.is_autocommit() {
        db.execute_batch("rollback")?;
    }
    db.execute_batch("begin immediate").map_err(|error| {
        let error = SqliteError::from(error);
        if error.is_busy() { SqliteError::Busy } else { error }
    })
}

fn write(db: &Connection, control: &Control) -> Result<(), SqliteError> {
    let number = |number: u64| number as i64;
    let ballot = |ballot: Option<Ballot>| ballot.map(|ballot| (number(ballot.epoch.0), number(ballot.coordinator)));
    let ((promised_epoch, promised_by), (installed_epoch, installed_by)) =
        (ballot(control.promised).unzip(), ballot(control.installed).unzip());
    let sql = "insert or replace into control values (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    db.prepare_cached(sql)?.execute(rusqlite::params![
        number(control.cluster.0),
        control.role == Role::Primary,
        print_history(&control.history),
        promised_epoch,
        promised_by,
        installed_epoch,
        installed_by,
        print_mode(control.mode),
        control.replicas.iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(" "),
        control.upstream.as_ref().map(|(node, _)| node.0),
        control.upstream.as_ref().map(|(_, address)| address),
        control.is_incomplete,
    ])?;
    Ok(())
}

fn read(db: &Connection) -> Result<Control, SqliteError> {
    let mut statement = db.prepare_cached("select * from control where id = 0")?;
    let control = statement.query_row([], |row| {
        let ballot = |at: usize| -> rusqlite::Result<Option<Ballot>> {
            let (epoch, coordinator) = (row.get::<_, Option<i64>>(at)?, row.get::<_, Option<i64>>(at + 1)?);
            let parts = epoch.zip(coordinator);
            Ok(parts.map(|(epoch, by)| Ballot { epoch: Epoch(epoch as u64), coordinator: by as u64 }))
        };
        let (epochs, mode, replicas): (String, String, String) = (row.get(3)?, row.get(8)?, row.get(9)?);
        let (node, address): (Option<u16>, Option<String>) = (row.get(10)?, row.get(11)?);
        let parsed = parse_history(&epochs).zip(parse_mode(&mode)).zip(parse_nodes(&replicas));
        let cluster = ClusterId(row.get::<_, i64>(1)? as u64);
        let role = if row.get(2)? { Role::Primary } else { Role::Replica };
        let (promised, installed, is_incomplete) = (ballot(4)?, ballot(6)?, row.get(12)?);
        let upstream = node.map(NodeId).zip(address);
        Ok(parsed.map(|((history, mode), replicas)| Control {
            cluster,
            role,
            history,
            promised,
            installed,
            mode,
            replicas,
            upstream,
            is_incomplete,
        }))
    });
    control.optional()?.flatten().ok_or(SqliteError::Malformed)
}

/// `1:100 3:150 4`: epochs with where they ended, and the current one.
fn print_history(history: &History) -> String {
    let switches = history.switches().iter().map(|switch| format!("{}:{} ", switch.epoch.0, switch.at.0));
    switches.chain([history.current().0.to_string()]).collect()
}

fn parse_history(text: &str) -> Option<History> {
    let mut words: Vec<_> = text.split(' ').collect();
    let current = Epoch(words.pop()?.parse().ok()?);
    let switch = |word: &str| {
        let (epoch, at) = word.split_once(':')?;
        Some(Switch { epoch: Epoch(epoch.parse().ok()?), at: Lsn(at.parse().ok()?) })
    };
    let switches = words.into_iter().map(switch).collect::<Option<Vec<_>>>()?;
    History::of(switches, current).ok()
}

fn print_mode(mode: Mode) -> String {
    match mode {
        Mode::Asynchronous => "asynchronous".into(),
        Mode::SemiSynchronous { timeout } => format!("semi {}", timeout.as_micros()),
        Mode::Quorum { replicas } => format!("quorum {replicas}"),
    }
}

fn parse_mode(text: &str) -> Option<Mode> {
    match text.split_once(' ') {
        None if text == "asynchronous" => Some(Mode::Asynchronous),
        Some(("semi", micros)) => Some(Mode::SemiSynchronous { timeout: Duration::from_micros(micros.parse().ok()?) }),
        Some(("quorum", replicas)) => Some(Mode::Quorum { replicas: replicas.parse().ok()? }),
        _ => None,
    }
}

fn parse_nodes(text: &str) -> Option<Vec<NodeId>> {
    text.split_terminator(' ').map(|word| word.parse().ok().map(NodeId)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.db");
        let ballot = |epoch| Some(Ballot { epoch: Epoch(epoch), coordinator: u64::MAX });
        let switches = [Switch { epoch: Epoch(1), at: Lsn(7) }, Switch { epoch: Epoch(3), at: Lsn(9) }];
        let mut control = Control {
            cluster: ClusterId(u64::MAX),
            role: Role::Replica,
            history: History::of(switches, Epoch(4)).unwrap(),
            promised: ballot(5),
            installed: None,
            mode: Mode::quorum(2),
            replicas: vec![NodeId(1), NodeId(65535)],
            upstream: Some((NodeId(0), "some where".into())),
            is_incomplete: true,
        };
        let timeout = Duration::from_secs(1);
        ControlFile::create(&path, &control, timeout).unwrap();
        for mode in [Mode::Asynchronous, Mode::SemiSynchronous { timeout: Duration::from_millis(3) }] {
            let file = ControlFile::open(&path, timeout).unwrap();
            assert_eq!(file.read().unwrap(), control);
            control = Control { mode, replicas: vec![], installed: ballot(5), upstream: None, ..control };
            file.update(|stored| {
                *stored = control.clone();
                Ok(())
            })
            .unwrap();
            let refused = file.update(|stored| {
                stored.is_incomplete = false;
                stored.promise(Ballot { epoch: Epoch(4), coordinator: 0 })
            });
            assert!(matches!(refused, Err(SqliteError::Superseded)));
        }
        assert_eq!(ControlFile::open(&path, timeout).unwrap().read().unwrap(), control);
    }
}
