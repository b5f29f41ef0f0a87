//! A shard's database in memory, one node each, and processes that end in the middle of a call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tenfold_replication::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use tenfold_replication::shard::{Holding, Slot, SlotStore};
use tenfold_replication::{ClusterId, Epoch, History, Lsn, Node, Position, Role};
use tokio::sync::{Notify, OwnedMutexGuard};

/// What is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Numbers by key, with the key's slot.
    pub(crate) rows: BTreeMap<String, (Slot, i64)>,
    pub(crate) holdings: BTreeMap<Slot, Holding>,
    pub(crate) notes: BTreeMap<u64, (Slot, String)>,
    last_note: u64,
    lsn: u64,
}

/// One database; writers take turns.
#[derive(Clone, Default)]
pub(crate) struct Db {
    pub(crate) tables: Arc<Mutex<Tables>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What becomes of a commit that is on its way when its process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never arrives.
    Lost,
    /// It is done, and nobody hears of it.
    Done,
    /// It is done so much later.
    Late(Duration),
}

/// One process, which may end at its n-th call.
pub(crate) struct Process {
    calls: AtomicU64,
    ends_at: u64,
    fate: Fate,
    pub(crate) ended: Notify,
}

#[derive(Clone)]
pub(crate) struct TableDriver {
    db: Db,
    process: Arc<Process>,
}

pub(crate) struct Connection {
    driver: TableDriver,
    transaction: Option<(Tables, Option<OwnedMutexGuard<()>>)>,
    mark: Mark,
}

#[derive(Debug, thiserror::Error)]
#[error("no such call")]
pub(crate) struct NoSuchCall;

impl Process {
    pub(crate) fn ending_at(call: u64, fate: Fate) -> Arc<Self> {
        Arc::new(Self { calls: AtomicU64::new(0), ends_at: call, fate, ended: Notify::new() })
    }

    pub(crate) fn that_lives() -> Arc<Self> {
        Self::ending_at(u64::MAX, Fate::Done)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether it ends at this call.
    async fn call(&self) -> bool {
        tokio::task::yield_now().await;
        self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.ends_at
    }

    /// Never comes back.
    async fn end(&self) {
        self.ended.notify_one();
        std::future::pending().await
    }

    async fn statement(&self) {
        if self.call().await {
            self.end().await;
        }
    }
}

impl TableDriver {
    pub(crate) fn new(db: Db, process: Arc<Process>) -> Self {
        Self { db, process }
    }
}

impl Connection {
    pub(crate) async fn tables(&mut self) -> &mut Tables {
        self.driver.process.statement().await;
        &mut self.transaction.as_mut().expect("all runs in transactions").0
    }
}

impl Driver for TableDriver {
    type Connection = Connection;
    type Error = NoSuchCall;

    async fn connect(&self, _: &Node, _: Access) -> Result<Connected<Connection>, NoSuchCall> {
        let connection = Connection { driver: self.clone(), transaction: None, mark: Mark::default() };
        Ok(Connected { connection, cluster: ClusterId(1), role: Role::Primary, epoch: Epoch(1) })
    }

    fn is_open(&self, connection: &Connection) -> bool {
        connection.transaction.is_none()
    }

    async fn begin(&self, connection: &mut Connection, access: Access) -> Result<(), NoSuchCall> {
        self.process.statement().await;
        let turn = match access {
            Access::Write => Some(Arc::clone(&self.db.turn).lock_owned().await),
            Access::Read => None,
        };
        connection.transaction = Some((self.db.tables.lock().clone(), turn));
        Ok(())
    }

    async fn commit(&self, connection: &mut Connection) -> Result<(), NoSuchCall> {
        let Some((mut tables, turn)) = connection.transaction.take() else { return Err(NoSuchCall) };
        let wrote = turn.is_some();
        tables.lsn += u64::from(wrote);
        let position = Some(Position::new(Epoch(1), Lsn(tables.lsn)));
        let db = self.db.clone();
        let land = move || {
            if wrote {
                *db.tables.lock() = tables;
            }
            drop(turn);
        };
        if self.process.call().await {
            match self.process.fate {
                Fate::Lost => drop(land),
                Fate::Done => land(),
                Fate::Late(after) => drop(tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    land();
                })),
            }
            self.process.end().await;
        } else {
            land();
        }
        connection.mark = Mark { position, wrote };
        Ok(())
    }

    async fn roll_back(&self, connection: &mut Connection) -> Result<(), NoSuchCall> {
        self.process.statement().await;
        connection.transaction = None;
        Ok(())
    }

    fn take_mark(&self, connection: &mut Connection) -> Mark {
        std::mem::take(&mut connection.mark)
    }

    async fn wait(&self, _: &mut Connection, _: Lsn, _: Duration) -> Result<Lsn, NoSuchCall> {
        Ok(Lsn(self.db.tables.lock().lsn))
    }

    fn classify(&self, _: &NoSuchCall) -> Class {
        Class::Statement
    }

    async fn observe(&self, _: &Node) -> Result<Observation, NoSuchCall> {
        let here = Lsn(self.db.tables.lock().lsn);
        Ok(Observation {
            cluster: ClusterId(1),
            role: Role::Primary,
            history: History::new(Epoch(1)),
            received: here,
            replayed: here,
            writable: true,
            upstream: None,
            promised: None,
        })
    }

    async fn fence(&self, _: &Node, _: Ballot) -> Result<Observation, NoSuchCall> {
        Err(NoSuchCall)
    }

    async fn promote(&self, _: &Node, _: &Promotion) -> Result<Observation, NoSuchCall> {
        Err(NoSuchCall)
    }

    async fn follow(&self, _: &Node, _: &Node, _: Ballot) -> Result<(), NoSuchCall> {
        Err(NoSuchCall)
    }

    async fn rejoin(&self, _: &Node, _: &Node, _: Ballot) -> Result<Rejoined, NoSuchCall> {
        Err(NoSuchCall)
    }
}

/// The tables above.
pub(crate) struct Counters;

fn text(key: &[u8]) -> String {
    String::from_utf8(key.to_vec()).unwrap()
}

impl SlotStore<TableDriver> for Counters {
    async fn holding(&self, c: &mut Connection, slot: Slot, _: Access) -> Result<Option<Holding>, NoSuchCall> {
        Ok(c.tables().await.holdings.get(&slot).copied())
    }

    async fn holdings(&self, c: &mut Connection) -> Result<Vec<(Slot, Holding)>, NoSuchCall> {
        Ok(c.tables().await.holdings.iter().map(|(slot, holding)| (*slot, *holding)).collect())
    }

    async fn hold(&self, c: &mut Connection, slot: Slot, holding: Holding) -> Result<(), NoSuchCall> {
        c.tables().await.holdings.insert(slot, holding);
        Ok(())
    }

    async fn note(&self, c: &mut Connection, slot: Slot, key: &[u8]) -> Result<(), NoSuchCall> {
        let tables = c.tables().await;
        tables.last_note += 1;
        tables.notes.insert(tables.last_note, (slot, text(key)));
        Ok(())
    }

    async fn noted(&self, c: &mut Connection, slot: Slot, most: usize) -> Result<Vec<(u64, Vec<u8>)>, NoSuchCall> {
        let notes = c.tables().await.notes.iter().filter(|(_, (of, _))| *of == slot).take(most);
        Ok(notes.map(|(number, (_, key))| (*number, key.clone().into())).collect())
    }

    async fn forget(&self, c: &mut Connection, _: Slot, numbers: &[u64]) -> Result<(), NoSuchCall> {
        c.tables().await.notes.retain(|number, _| !numbers.contains(number));
        Ok(())
    }

    async fn keys(
        &self,
        c: &mut Connection,
        slot: Slot,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, NoSuchCall> {
        let rows = c.tables().await.rows.iter().filter(|(_, (of, _))| *of == slot);
        let keys = rows.map(|(key, _)| key.clone().into_bytes());
        Ok(keys.filter(|key| after.is_none_or(|after| key.as_slice() > after)).take(most).collect())
    }

    async fn export(&self, c: &mut Connection, key: &[u8]) -> Result<Option<Vec<u8>>, NoSuchCall> {
        Ok(c.tables().await.rows.get(&text(key)).map(|(_, number)| number.to_le_bytes().to_vec()))
    }

    async fn import(&self, c: &mut Connection, slot: Slot, key: &[u8], rows: Option<&[u8]>) -> Result<(), NoSuchCall> {
        let tables = c.tables().await;
        match rows {
            Some(number) => {
                tables.rows.insert(text(key), (slot, i64::from_le_bytes(number.try_into().unwrap())));
            }
            None => drop(tables.rows.remove(&text(key))),
        }
        Ok(())
    }

    async fn purge(&self, c: &mut Connection, slot: Slot) -> Result<(), NoSuchCall> {
        let tables = c.tables().await;
        tables.rows.retain(|_, (of, _)| *of != slot);
        tables.notes.retain(|_, (of, _)| *of != slot);
        Ok(())
    }
}
