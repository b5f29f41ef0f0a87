//! Sessions that append to lists and read them, and what they saw.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tenfold_replication::sim::{History, SessionId};
use tenfold_replication::{Cluster, Error, Mode, ReadOptions, Session, ShardId};

use super::clock::now;
use super::engine::Engine;
use super::verdict::{Times, Verdict};
use super::{Failure, LONG};

/// Lists that are appended to at the same time.
const LISTS: u64 = 3;
/// Numbers that a list may have: the next go to new ones, so that reads stay as cheap as they are.
const LIST_LENGTH: u64 = 200;

/// What all sessions share.
pub(crate) struct Run<E: Engine> {
    cluster: Cluster<E::Driver>,
    until: Instant,
    next_number: AtomicU64,
    seen: Mutex<Seen>,
}

/// What happened.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) history: History,
    /// What was acknowledged, and when; and when reads succeeded.
    pub(crate) writes: Vec<(u64, Instant)>,
    pub(crate) reads: Vec<Instant>,
    pub(crate) failed_writes: usize,
    pub(crate) failed_reads: usize,
}

type ReadResult<E> = Result<Vec<u64>, Error<<<E as Engine>::Driver as tenfold_replication::driver::Driver>::Error>>;

fn list_of(number: u64) -> u64 {
    number / (LISTS * LIST_LENGTH) * LISTS + number % LISTS
}

impl<E: Engine> Run<E> {
    pub(crate) fn new(cluster: Cluster<E::Driver>, until: Instant) -> Self {
        Self { cluster, until, next_number: AtomicU64::new(0), seen: Mutex::default() }
    }

    pub(crate) async fn client(self: Arc<Self>, id: SessionId) -> (SessionId, Session) {
        let session = Session::new();
        while now() < self.until {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            self.append(id, &session, number).await;
            let read = self.read(id, &session, &ReadOptions::new(), list_of(number)).await;
            if read.is_err_and(|error| !matches!(error, Error::Lost(_))) {
                self.seen.lock().failed_reads += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (id, session)
    }

    async fn append(&self, id: SessionId, session: &Session, number: u64) {
        let key = list_of(number);
        self.seen.lock().history.invoke(id, number);
        let result = self.cluster.write(session, |c| E::append(c, key, number)).await;
        let now = now();
        let mut seen = self.seen.lock();
        match (result, session.position(ShardId(0))) {
            (Ok(node), Some(position)) => {
                seen.history.acknowledge(id, key, number, position, node, now);
                seen.writes.push((number, now));
            }
            // The loss is of before: this one was not tried.
            (Err(Error::Lost(lost)), _) => {
                seen.history.fail(number);
                seen.history.lose(id, lost);
            }
            (result, _) => {
                seen.failed_writes += 1;
                if result.is_err_and(|error| !error.is_ambiguous()) {
                    seen.history.fail(number);
                }
            }
        }
    }

    async fn read(&self, id: SessionId, session: &Session, options: &ReadOptions, key: u64) -> ReadResult<E> {
        let read = self.cluster.read_with(session, options, |c| E::list(c, key)).await;
        let now = now();
        let mut seen = self.seen.lock();
        match &read {
            Ok(list) => {
                seen.history.read(id, key, list.clone());
                seen.reads.push(now);
            }
            Err(Error::Lost(lost)) => seen.history.lose(id, *lost),
            Err(_) => {}
        }
        read
    }

    /// Whatever is lost of a session is told at the latest now.
    pub(crate) async fn tell_losses(&self, id: SessionId, session: &Session) -> Result<(), Failure> {
        while let Err(error) = self.read(id, session, &from_primary(), 0).await {
            if !matches!(error, Error::Lost(_)) {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// What all of it was worth, held against the lists as they are in the end.
    pub(crate) async fn verdict(&self, mode: Mode, times: &Times) -> Result<Verdict, Failure> {
        let keys: BTreeSet<_> = (0..self.next_number.load(Ordering::Relaxed)).map(list_of).collect();
        let mut lists = Vec::new();
        for key in keys {
            let list = self.cluster.read_with(&Session::new(), &from_primary(), |c| E::list(c, key)).await?;
            lists.push((key, list));
        }
        Ok(Verdict::of(&self.seen.lock(), &lists, mode, times, E::HAS_OWN_PLACES))
    }
}

fn from_primary() -> ReadOptions {
    ReadOptions::new().from_primary().timeout(LONG)
}
