//! A table in SQLite with leases: what one writes before one takes a queue.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queue (
        id INTEGER PRIMARY KEY, visible_at INTEGER NOT NULL, tries INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS queue_visible ON queue (visible_at, id);";
const INSERT: &str = "INSERT INTO queue (visible_at, tries, body) VALUES (0, 0, ?1)";
const CLAIM: &str = "
    UPDATE queue SET visible_at = unixepoch() + 30, tries = tries + 1
    WHERE id = (SELECT id FROM queue WHERE visible_at <= unixepoch() ORDER BY visible_at, id LIMIT 1)
    RETURNING id, body";
const ACK: &str = "DELETE FROM queue WHERE id = ?1";

/// The table.
pub(super) struct Table(Connection);

impl Table {
    pub(super) fn open(setting: &Setting<'_>) -> Result<Self, Trouble> {
        let connection = Connection::open(setting.folder.join("queue.sqlite"))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        let level = if setting.sync == Policy::Always { "full" } else { "normal" };
        connection.pragma_update(None, "synchronous", level)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    pub(super) fn insert(&self, body: &[u8]) -> rusqlite::Result<()> {
        self.0.prepare_cached(INSERT)?.execute(params![body]).map(drop)
    }

    pub(super) fn claim(&self) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.0.prepare_cached(CLAIM)?.query_row([], row).optional()
    }

    pub(super) fn ack(&self, id: i64) -> rusqlite::Result<()> {
        self.0.prepare_cached(ACK)?.execute([id]).map(drop)
    }

    pub(super) fn count(&self) -> rusqlite::Result<u64> {
        self.0.query_row("SELECT count(*) FROM queue", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// All that is done by `work` in one transaction.
    pub(super) fn together<R>(&self, work: impl FnOnce(&Self) -> rusqlite::Result<R>) -> rusqlite::Result<R> {
        self.0.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let done = work(self)?;
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(done)
    }
}

struct Sqlite(Mutex<Table>);

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    Ok(Box::new(Sqlite(Mutex::new(Table::open(setting)?))))
}

impl Queue for Sqlite {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(&self.0))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(&self.0))
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        Ok(Some(self.0.lock().count()?))
    }
}

impl Sender for &Mutex<Table> {
    fn send(&mut self, body: &Bytes) -> Outcome {
        Ok(self.lock().insert(body)?)
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.lock().together(|table| bodies.iter().try_for_each(|body| table.insert(body)))?;
        Ok(true)
    }
}

impl Taker for &Mutex<Table> {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let Some((id, body)) = self.lock().claim()? else { return Ok(0) };
        look(&body);
        self.lock().ack(id)?;
        Ok(1)
    }
}
