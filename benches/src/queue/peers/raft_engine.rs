//! raft-engine, TiKV's log, as a queue: a message is put under its number and deleted when it is done with.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raft_engine::{Config, Engine, LogBatch};

use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble};

/// All messages are one region's.
const REGION: u64 = 1;

struct RaftEngine {
    engine: Engine,
    is_synced: bool,
    next: AtomicU64,
    first: AtomicU64,
}

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let dir = setting.folder.join("log").to_string_lossy().into_owned();
    let engine = Engine::open(Config { dir, ..Config::default() })?;
    let (mut first, mut next) = (u64::MAX, 0);
    engine.scan_raw_messages(REGION, None, None, false, |key, _| {
        let number = key.try_into().map_or(0, u64::from_be_bytes);
        first = first.min(number);
        next = next.max(number + 1);
        true
    })?;
    let first = AtomicU64::new(first.min(next));
    Ok(Box::new(RaftEngine { engine, is_synced: setting.sync == Policy::Always, next: AtomicU64::new(next), first }))
}

impl RaftEngine {
    fn put_all(&self, bodies: &[Bytes]) -> Outcome {
        let mut batch = LogBatch::default();
        let number = self.next.fetch_add(bodies.len() as u64, Ordering::Relaxed);
        for (number, body) in (number..).zip(bodies) {
            batch.put(REGION, number.to_be_bytes().to_vec(), body.to_vec())?;
        }
        self.engine.write(&mut batch, self.is_synced)?;
        Ok(())
    }
}

impl Queue for RaftEngine {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(self))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(self))
    }
}

impl Sender for &RaftEngine {
    fn send(&mut self, body: &Bytes) -> Outcome {
        self.put_all(std::slice::from_ref(body))
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.put_all(bodies)?;
        Ok(true)
    }
}

impl Taker for &RaftEngine {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let claim = |first| (first < self.next.load(Ordering::Acquire)).then_some(first + 1);
        let Ok(number) = self.first.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim) else { return Ok(0) };
        let key = number.to_be_bytes();
        // The number is given before the message is there.
        let body = loop {
            if let Some(body) = self.engine.get(REGION, &key) {
                break body;
            }
            std::thread::yield_now();
        };
        look(&body);
        let mut batch = LogBatch::default();
        batch.delete(REGION, key.to_vec());
        self.engine.write(&mut batch, self.is_synced)?;
        Ok(1)
    }
}
