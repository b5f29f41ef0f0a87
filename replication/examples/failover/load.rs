//! Sessions that append to lists and read them, and what is to be said of that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tenfold_replication::driver::sqlite::{SqliteDriver, SqliteError};
use tenfold_replication::sim::{History, SessionId, Violation};
use tenfold_replication::{Checkout, Cluster, Error, Mode, ReadOptions, Session, ShardId};

use super::Failure;
use super::clock::now;

const KEYS: u64 = 3;

/// What all sessions share.
pub(crate) struct Run {
    cluster: Cluster<SqliteDriver>,
    history: Mutex<History>,
    next_number: Mutex<u64>,
    /// When writes and reads succeeded.
    writes: Mutex<Vec<Instant>>,
    reads: Mutex<Vec<Instant>>,
    until: Instant,
}

async fn list(mut c: Checkout<SqliteDriver>, key: u64) -> Result<Vec<u64>, SqliteError> {
    let list = c.query("select number from entry where key = ?1 order by id", [key as i64], |row| row.get::<_, i64>(0));
    Ok(list.await?.into_iter().map(|number| number as u64).collect())
}

impl Run {
    pub(crate) fn new(cluster: Cluster<SqliteDriver>, until: Instant) -> Self {
        Self {
            cluster,
            history: Mutex::default(),
            next_number: Mutex::default(),
            writes: Mutex::default(),
            reads: Mutex::default(),
            until,
        }
    }

    pub(crate) async fn client(self: Arc<Self>, id: SessionId) -> (SessionId, Session) {
        let session = Session::new();
        for round in u64::from(id.0).. {
            if now() >= self.until {
                break;
            }
            self.append(id, &session, round % KEYS).await;
            let _ = self.read(id, &session, &ReadOptions::new(), round % KEYS).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (id, session)
    }

    async fn append(&self, id: SessionId, session: &Session, key: u64) {
        let number = {
            let mut next = self.next_number.lock();
            *next += 1;
            *next
        };
        self.history.lock().invoke(id, number);
        let sql = "insert into entry(key, number) values (?1, ?2)";
        let write = self.cluster.write(session, |mut c| async move {
            c.execute(sql, (key as i64, number as i64)).await?;
            Ok(c.node_id())
        });
        let result = write.await;
        let (mut history, now) = (self.history.lock(), now());
        match (result, session.position(ShardId(0))) {
            (Ok(node), Some(position)) => {
                history.acknowledge(id, key, number, position, node, now);
                self.writes.lock().push(now);
            }
            (Err(Error::Lost(lost)), _) => {
                history.fail(number);
                history.lose(id, lost);
            }
            (Err(error), _) if !error.is_ambiguous() => history.fail(number),
            _ => {}
        }
    }

    async fn read(
        &self,
        id: SessionId,
        session: &Session,
        options: &ReadOptions,
        key: u64,
    ) -> Result<Vec<u64>, Error<SqliteError>> {
        let read = self.cluster.read_with(session, options, |c| list(c, key)).await;
        let mut history = self.history.lock();
        match &read {
            Ok(list) => {
                history.read(id, key, list.clone());
                self.reads.lock().push(now());
            }
            Err(Error::Lost(lost)) => history.lose(id, *lost),
            Err(_) => {}
        }
        read
    }

    /// Whatever is lost of a session is told at the latest now.
    pub(crate) async fn tell_losses(&self, id: SessionId, session: &Session) -> Result<(), Failure> {
        let primary = ReadOptions::new().from_primary();
        while let Err(error) = self.read(id, session, &primary, 0).await {
            if !matches!(error, Error::Lost(_)) {
                return Err(error.into());
            }
        }
        Ok(())
    }

    pub(crate) async fn report(&self, mode: Mode, kill: &str, json: &str) -> Result<(), Failure> {
        let (mut lists, primary) = (Vec::new(), ReadOptions::new().from_primary());
        for key in 0..KEYS {
            lists.push((key, self.cluster.read_with(&Session::new(), &primary, |c| list(c, key)).await?));
        }
        let checked = self.history.lock().check(&lists, !matches!(mode, Mode::Quorum { .. }));
        let violations = checked.as_ref().err().cloned().unwrap_or_default();
        let count = |is: fn(&Violation) -> bool| violations.iter().filter(|violation| is(violation)).count();
        let lost = count(|violation| matches!(violation, Violation::LostWrite { .. }));
        let (writes, reads) = (self.writes.lock().clone(), self.reads.lock().clone());
        let figures = [
            ("acknowledged_writes", writes.len()),
            ("reads", reads.len()),
            ("lost_and_told", checked.as_ref().map_or(0, |summary| summary.lost)),
            ("lost_and_not_told", lost),
            ("doubled", count(|violation| matches!(violation, Violation::Doubled(_)))),
            ("stale_reads_of_own_writes", count(|violation| matches!(violation, Violation::StaleRead { .. }))),
            ("violations", violations.len()),
            ("writes_unavailable_ms", longest_gap(&writes)),
            ("reads_unavailable_ms", longest_gap(&reads)),
        ];
        let figures: Vec<_> = figures.iter().map(|(name, figure)| format!("  \"{name}\": {figure}")).collect();
        let mode = match mode {
            Mode::Asynchronous => "asynchronous",
            Mode::SemiSynchronous { .. } => "semi-synchronous",
            Mode::Quorum { .. } => "quorum",
        };
        let text = format!(
            "{{\n  \"engine\": \"sqlite\",\n  \"mode\": \"{mode}\",\n  \"kill\": \"{kill}\",\n{}\n}}\n",
            figures.join(",\n")
        );
        print!("{text}");
        if !json.is_empty() {
            std::fs::write(json, text)?;
        }
        if violations.is_empty() { Ok(()) } else { Err(format!("{violations:?}").into()) }
    }
}

/// Between two successes, in milliseconds.
fn longest_gap(successes: &[Instant]) -> usize {
    let gaps = successes.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0]));
    gaps.max().unwrap_or_default().as_millis() as usize
}
