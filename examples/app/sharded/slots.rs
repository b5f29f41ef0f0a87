//! What a shard's database keeps of its slots: the tables, and how rows of one user travel.

use std::sync::{Arc, Mutex, PoisonError};

use tenfold_replication::driver::Access;
use tenfold_replication::shard::{Holding, HoldingState, Slot, SlotStore};
use tenfold_rig::{Instant, now};

use super::driver::{Connection, ShardServerError, ShardServers};
use crate::database::{Rows, Statement, Value};

/// What sharding adds to the product's tables. Money does not travel between users here: they may be on different shards.
pub(super) const TABLES: &str = "
DROP TABLE transfers;
ALTER TABLE users ADD COLUMN slot INTEGER NOT NULL DEFAULT 0;
CREATE INDEX users_by_slot ON users (slot, id);
CREATE TABLE holding (slot INTEGER PRIMARY KEY, held TEXT NOT NULL) STRICT;
CREATE TABLE note (number INTEGER PRIMARY KEY AUTOINCREMENT, slot INTEGER NOT NULL, id INTEGER NOT NULL) STRICT;
";

/// A user's rows as one text.
const ROWS: &str = "json_array(u.id, u.first_name, u.last_name, u.phone, u.version, a.balance)";

/// The users' tables as the slots of a shard. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct UserSlots {
    closed: Arc<Mutex<Vec<(Slot, Instant)>>>,
}

impl UserSlots {
    /// When a slot was closed last, by this process.
    pub fn closed_at(&self, slot: Slot) -> Option<Instant> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.iter().rev().find(|(one, _)| *one == slot).map(|(_, at)| *at)
    }
}

/// The key by which a user is sharded.
pub fn key(id: u64) -> Vec<u8> {
    id.to_string().into_bytes()
}

/// The user of a key; none has the id 0.
fn id(key: &[u8]) -> u64 {
    std::str::from_utf8(key).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn number(slot: Slot) -> Value {
    Value::from(u64::from(slot.0))
}

fn integer(row: &[Value], column: usize) -> u64 {
    row.get(column).and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn text(row: &[Value], column: usize) -> Option<Vec<u8>> {
    Some(row.get(column)?.as_text()?.as_bytes().to_vec())
}

impl SlotStore<ShardServers> for UserSlots {
    async fn holding(
        &self,
        server: &mut Connection,
        slot: Slot,
        access: Access,
    ) -> Result<Option<Holding>, ShardServerError> {
        server.holding(slot, access).await
    }

    async fn holdings(&self, server: &mut Connection) -> Result<Vec<(Slot, Holding)>, ShardServerError> {
        let Rows { rows, .. } = server.look(Statement::new("SELECT slot, held FROM holding", [])).await?;
        let one =
            |row: &Vec<Value>| Some((Slot(u16::try_from(integer(row, 0)).ok()?), row.get(1)?.as_text()?.parse().ok()?));
        Ok(rows.iter().filter_map(one).collect())
    }

    async fn hold(&self, server: &mut Connection, slot: Slot, holding: Holding) -> Result<(), ShardServerError> {
        if holding.state == HoldingState::Closed {
            self.closed.lock().unwrap_or_else(PoisonError::into_inner).push((slot, now()));
        }
        let sql = "INSERT INTO holding VALUES (?1, ?2) ON CONFLICT (slot) DO UPDATE SET held = excluded.held";
        let held = Value::from(holding.to_string().as_str());
        server.hold(slot, holding, Statement::new(sql, [number(slot), held]));
        Ok(())
    }

    async fn note(&self, server: &mut Connection, slot: Slot, key: &[u8]) -> Result<(), ShardServerError> {
        server.put(Statement::new("INSERT INTO note (slot, id) VALUES (?1, ?2)", [number(slot), id(key).into()]));
        Ok(())
    }

    async fn noted(
        &self,
        server: &mut Connection,
        slot: Slot,
        most: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ShardServerError> {
        let sql = format!(
            "SELECT n.number, n.id, iif(u.id IS NULL, NULL, {ROWS}) FROM note n LEFT JOIN users u ON u.id = n.id \
             LEFT JOIN accounts a ON a.id = n.id WHERE n.slot = ?1 ORDER BY n.number LIMIT ?2"
        );
        let found = server.look(Statement::new(&sql, [number(slot), (most as u64).into()])).await?;
        let mut noted = Vec::new();
        for row in &found.rows {
            let key = key(integer(row, 1));
            server.keep(key.clone(), text(row, 2));
            noted.push((integer(row, 0), key));
        }
        Ok(noted)
    }

    async fn forget(&self, server: &mut Connection, slot: Slot, numbers: &[u64]) -> Result<(), ShardServerError> {
        let sql = "DELETE FROM note WHERE slot = ?1 AND number IN (SELECT value FROM json_each(?2))";
        server.put(Statement::new(sql, [number(slot), list(numbers)]));
        Ok(())
    }

    async fn keys(
        &self,
        server: &mut Connection,
        slot: Slot,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, ShardServerError> {
        let sql = format!(
            "SELECT u.id, {ROWS} FROM users u JOIN accounts a ON a.id = u.id \
             WHERE u.slot = ?1 AND u.id > ?2 ORDER BY u.id LIMIT ?3"
        );
        let after = after.map_or(0, id);
        let found = server.look(Statement::new(&sql, [number(slot), after.into(), (most as u64).into()])).await?;
        let mut keys = Vec::new();
        for row in &found.rows {
            let key = key(integer(row, 0));
            // Of the same snapshot, for the export that follows.
            server.keep(key.clone(), text(row, 1));
            keys.push(key);
        }
        Ok(keys)
    }

    async fn export(&self, server: &mut Connection, key: &[u8]) -> Result<Option<Vec<u8>>, ShardServerError> {
        if let Some(rows) = server.kept(key) {
            return Ok(rows);
        }
        let sql = format!("SELECT {ROWS} FROM users u JOIN accounts a ON a.id = u.id WHERE u.id = ?1");
        let found = server.look(Statement::new(&sql, [id(key).into()])).await?;
        Ok(found.rows.first().and_then(|row| text(row, 0)))
    }

    async fn import(
        &self,
        server: &mut Connection,
        slot: Slot,
        key: &[u8],
        rows: Option<&[u8]>,
    ) -> Result<(), ShardServerError> {
        server.import(slot, id(key), rows.map(|rows| String::from_utf8_lossy(rows).into_owned()));
        Ok(())
    }

    async fn purge(&self, server: &mut Connection, slot: Slot) -> Result<(), ShardServerError> {
        let sql = "DELETE FROM accounts WHERE id IN (SELECT id FROM users WHERE slot = ?1)";
        server.put(Statement::new(sql, [number(slot)]));
        server.put(Statement::new("DELETE FROM users WHERE slot = ?1", [number(slot)]));
        server.put(Statement::new("DELETE FROM note WHERE slot = ?1", [number(slot)]));
        Ok(())
    }
}

/// A page of users that a batch puts in the place of those that are there.
#[derive(Debug, Default)]
pub(super) struct Page {
    ids: Vec<u64>,
    rows: Vec<String>,
    slot: u16,
}

impl Page {
    pub(super) fn add(&mut self, slot: Slot, id: u64, rows: Option<String>) {
        self.slot = slot.0;
        self.ids.push(id);
        self.rows.extend(rows);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// As few statements as there are tables, however many users.
    pub(super) fn into_statements(self) -> Vec<Statement> {
        if self.is_empty() {
            return Vec::new();
        }
        let (ids, rows) = (list(&self.ids), Value::Text(format!("[{}]", self.rows.join(","))));
        let accounts = "DELETE FROM accounts WHERE id IN (SELECT value FROM json_each(?1))";
        let users = "DELETE FROM users WHERE id IN (SELECT value FROM json_each(?1))";
        let insert_users = "INSERT INTO users (id, first_name, last_name, phone, version, slot) \
                            SELECT value->>0, value->>1, value->>2, value->>3, value->>4, ?2 FROM json_each(?1)";
        let insert_accounts = "INSERT INTO accounts (id, user_id, balance) \
                               SELECT value->>0, value->>0, value->>5 FROM json_each(?1)";
        vec![
            Statement::new(accounts, [ids.clone()]),
            Statement::new(users, [ids]),
            Statement::new(insert_users, [rows.clone(), Value::from(u64::from(self.slot))]),
            Statement::new(insert_accounts, [rows]),
        ]
    }
}

/// Numbers as a JSON array.
fn list(numbers: &[u64]) -> Value {
    let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
    Value::Text(format!("[{}]", numbers.join(",")))
}
