//! redb, a B-tree in one file, as a queue: the key is the message's number.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble};

const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("queue");

struct Redb {
    database: Database,
    durability: Durability,
    next: AtomicU64,
}

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let database = Database::create(setting.folder.join("queue.redb"))?;
    let transaction = database.begin_write()?;
    let next = transaction.open_table(MESSAGES)?.last()?.map_or(0, |(last, _)| last.value() + 1);
    transaction.commit()?;
    let durability = if setting.sync == Policy::Always { Durability::Immediate } else { Durability::None };
    Ok(Box::new(Redb { database, durability, next: AtomicU64::new(next) }))
}

impl Redb {
    fn begin(&self) -> Result<WriteTransaction, Trouble> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        Ok(transaction)
    }

    fn put_all(&self, bodies: &[Bytes]) -> Outcome {
        let transaction = self.begin()?;
        let mut table = transaction.open_table(MESSAGES)?;
        let number = self.next.fetch_add(bodies.len() as u64, Ordering::Relaxed);
        for (number, body) in (number..).zip(bodies) {
            table.insert(number, body.as_ref())?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }
}

impl Queue for Redb {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(self))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(self))
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        Ok(Some(self.database.begin_read()?.open_table(MESSAGES)?.len()?))
    }
}

impl Sender for &Redb {
    fn send(&mut self, body: &Bytes) -> Outcome {
        self.put_all(std::slice::from_ref(body))
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.put_all(bodies)?;
        Ok(true)
    }
}

impl Taker for &Redb {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let transaction = self.begin()?;
        let mut table = transaction.open_table(MESSAGES)?;
        let first = table.pop_first()?;
        let taken = first.map(|(_, body)| look(body.value())).into_iter().count();
        drop(table);
        transaction.commit()?;
        Ok(taken)
    }
}
