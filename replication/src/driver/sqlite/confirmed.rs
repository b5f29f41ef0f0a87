//! How far each replica says that it has the log: kept beside the primary's files, where replicas of other processes find
//! it too. It need not survive: after a crash replicas say it again.

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::SqliteError;
use crate::{Lsn, NodeId};

#[derive(Debug)]
pub(super) struct Confirmed {
    db: Mutex<Connection>,
}

impl Confirmed {
    pub(super) fn open(path: &Path, timeout: Duration) -> Result<Self, SqliteError> {
        let db = Connection::open(path)?;
        db.busy_timeout(timeout)?;
        db.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = off;
             create table if not exists confirmed(node integer primary key, lsn integer not null)",
        )?;
        Ok(Self { db: Mutex::new(db) })
    }

    pub(super) fn set(&self, node: NodeId, lsn: Lsn) -> Result<(), SqliteError> {
        let db = self.db.lock();
        db.prepare_cached("insert or replace into confirmed values (?1, ?2)")?.execute((node.0, lsn.0 as i64))?;
        Ok(())
    }

    /// How many of these have the log up to there.
    pub(super) fn count(&self, nodes: &[NodeId], lsn: Lsn) -> Result<usize, SqliteError> {
        let db = self.db.lock();
        let mut statement = db.prepare_cached("select node from confirmed where lsn >= ?1")?;
        let confirming = statement.query_map([lsn.0 as i64], |row| row.get(0).map(NodeId))?;
        let confirming = confirming.collect::<Result<Vec<_>, _>>()?;
        Ok(confirming.iter().filter(|node| nodes.contains(node)).count())
    }

    pub(super) fn clear(&self) -> Result<(), SqliteError> {
        self.db.lock().execute_batch("delete from confirmed")?;
        Ok(())
    }
}
