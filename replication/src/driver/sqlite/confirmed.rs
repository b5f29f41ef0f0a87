//! How far each replica says that it has the log: kept beside the primary's files, where replicas of other processes find
//! it too. It need not survive: after a crash replicas say it again.
//!
//! Each says it of a reign, the ballot under which the primary was installed. A replica that was held up while the primary
//! was replaced, came back and was installed again speaks of a log that may have been cut since.

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::SqliteError;
use crate::driver::Ballot;
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
             create table if not exists confirmation(node integer primary key, lsn integer not null, epoch integer,
             coordinator integer)",
        )?;
        Ok(Self { db: Mutex::new(db) })
    }

    pub(super) fn set(&self, node: NodeId, lsn: Lsn, reign: Option<Ballot>) -> Result<(), SqliteError> {
        let db = self.db.lock();
        let (epoch, coordinator) = numbers(reign);
        let sql = "insert or replace into confirmation values (?1, ?2, ?3, ?4)";
        db.prepare_cached(sql)?.execute((node.0, lsn.0 as i64, epoch, coordinator))?;
        Ok(())
    }

    /// How many of these have the log of this reign up to there.
    pub(super) fn count(&self, nodes: &[NodeId], lsn: Lsn, reign: Option<Ballot>) -> Result<usize, SqliteError> {
        let db = self.db.lock();
        let (epoch, coordinator) = numbers(reign);
        let sql = "select node from confirmation where lsn >= ?1 and epoch is ?2 and coordinator is ?3";
        let mut statement = db.prepare_cached(sql)?;
        let confirming = statement.query_map((lsn.0 as i64, epoch, coordinator), |row| row.get(0).map(NodeId))?;
        let confirming = confirming.collect::<Result<Vec<_>, _>>()?;
        Ok(confirming.iter().filter(|node| nodes.contains(node)).count())
    }

    pub(super) fn clear(&self) -> Result<(), SqliteError> {
        self.db.lock().execute_batch("delete from confirmation")?;
        Ok(())
    }
}

fn numbers(reign: Option<Ballot>) -> (Option<i64>, Option<i64>) {
    reign.map(|ballot| (ballot.epoch.0 as i64, ballot.coordinator as i64)).unzip()
}
