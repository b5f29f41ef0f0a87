//! fjall, a log-structured store, as a queue: the key is the message's number. The first number is kept in memory, for the way
//! from the beginning leads over everything that was deleted.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;

use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble};

struct Fjall {
    database: Database,
    messages: Keyspace,
    is_synced: bool,
    next: AtomicU64,
    /// What is below was confirmed: the store shows a message before it is on the disk.
    confirmed: AtomicU64,
    first: Mutex<u64>,
}

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let database = Database::builder(setting.folder.join("store")).open()?;
    let messages = database.keyspace("queue", KeyspaceCreateOptions::default)?;
    let number = |guard: Option<fjall::Guard>| -> Result<Option<u64>, Trouble> {
        let Some(guard) = guard else { return Ok(None) };
        let key: [u8; 8] = guard.key()?.as_ref().try_into()?;
        Ok(Some(u64::from_be_bytes(key)))
    };
    let next = number(messages.last_key_value())?.map_or(0, |last| last + 1);
    let first = number(messages.first_key_value())?.unwrap_or(next);
    let is_synced = setting.sync == Policy::Always;
    let (next, confirmed) = (AtomicU64::new(next), AtomicU64::new(next));
    Ok(Box::new(Fjall { database, messages, is_synced, next, confirmed, first: Mutex::new(first) }))
}

impl Fjall {
    fn confirm(&self) -> Outcome {
        if self.is_synced {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Queue for Fjall {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(self))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(self))
    }
}

impl Sender for &Fjall {
    fn send(&mut self, body: &Bytes) -> Outcome {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.messages.insert(number.to_be_bytes(), body.as_ref())?;
        self.confirm()?;
        self.confirmed.fetch_max(number + 1, Ordering::Release);
        Ok(())
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        let mut batch = self.database.batch();
        let number = self.next.fetch_add(bodies.len() as u64, Ordering::Relaxed);
        for (number, body) in (number..).zip(bodies) {
            batch.insert(&self.messages, number.to_be_bytes(), body.as_ref());
        }
        batch.commit()?;
        self.confirm()?;
        self.confirmed.fetch_max(number + bodies.len() as u64, Ordering::Release);
        Ok(true)
    }
}

impl Taker for &Fjall {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let mut first = self.first.lock();
        if *first >= self.confirmed.load(Ordering::Acquire) {
            return Ok(0);
        }
        let Some(body) = self.messages.get(first.to_be_bytes())? else { return Ok(0) };
        look(&body);
        self.messages.remove(first.to_be_bytes())?;
        *first += 1;
        drop(first);
        self.confirm()?;
        Ok(1)
    }
}
