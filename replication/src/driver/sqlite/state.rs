//! How far a database is in the log: a row of its own, changed in the transaction that changes the rest.

use rusqlite::Connection;

use super::SqliteError;
use super::record::Tail;
use crate::{ClusterId, Epoch, Lsn, Position};

/// Where it stands.
pub(super) const TABLE: &str = "tenfold_state";

/// The last transaction that a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) cluster: ClusterId,
    pub(super) tail: Tail,
}

impl State {
    pub(super) fn create(db: &Connection, cluster: ClusterId) -> Result<Self, SqliteError> {
        db.execute_batch(
            "create table tenfold_state(id integer primary key check (id = 0), cluster integer not null,
             lsn integer not null, epoch integer not null, chain blob not null)",
        )?;
        let state = Self { cluster, tail: Tail::default() };
        state.write(db)?;
        Ok(state)
    }

    pub(super) fn read(db: &Connection) -> Result<Self, SqliteError> {
        let mut statement =
            db.prepare_cached("select cluster, lsn, epoch, chain from main.tenfold_state where id = 0")?;
        let (cluster, lsn, epoch, chain): (i64, i64, i64, [u8; 16]) =
            statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let tail = Tail { lsn: Lsn(lsn as u64), epoch: Epoch(epoch as u64), chain };
        Ok(Self { cluster: ClusterId(cluster as u64), tail })
    }

    pub(super) fn write(&self, db: &Connection) -> Result<(), SqliteError> {
        let Tail { lsn, epoch, chain } = self.tail;
        let sql = "insert or replace into main.tenfold_state values (0, ?1, ?2, ?3, ?4)";
        let numbers = [self.cluster.0, lsn.0, epoch.0].map(|number| number as i64);
        db.prepare_cached(sql)?.execute((numbers[0], numbers[1], numbers[2], chain))?;
        Ok(())
    }

    pub(super) fn position(&self) -> Position {
        Position::new(self.tail.epoch, self.tail.lsn)
    }
}
