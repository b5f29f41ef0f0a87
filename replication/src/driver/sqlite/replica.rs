//! A replica: gets its primary's log, syncs it, says so, and applies it a little later; and comes back after a failover.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::SqliteError;
use super::discarded;
use super::driver::{Nodes, blocking};
use super::log::LogReader;
use super::node::FileNode;
use super::record::Tail;
use crate::driver::{Ballot, Rejoined};
use crate::{Lsn, NodeId, Position, Role, Standing};

/// How often somebody looks who is woken by nobody.
const POLL: Duration = Duration::from_millis(5);

/// After an error.
const RETRY: Duration = Duration::from_millis(50);

/// What has been received and is to be applied: up to where, and when.
#[derive(Default)]
struct Backlog {
    due: Mutex<VecDeque<(Lsn, Instant)>>,
    grown: Notify,
}

impl Backlog {
    fn push(&self, lsn: Lsn, delay: Duration) {
        self.due.lock().push_back((lsn, crate::clock::deadline(delay)));
        self.grown.notify_one();
    }
}

/// Keeps a node up with whom it follows, until it is dropped.
pub(super) async fn serve(node: Arc<FileNode>, nodes: Nodes) -> Result<std::convert::Infallible, SqliteError> {
    let _lock = {
        let node = Arc::clone(&node);
        blocking(move || lock(&node)).await?
    };
    let backlog = Backlog::default();
    backlog.push(node.log.lock().end().lsn, Duration::ZERO);
    tokio::select! {
        never = receive(&node, &nodes, &backlog) => match never {},
        never = replay(&node, &backlog) => match never {},
    }
}

/// Two processes must not receive for one node.
fn lock(node: &FileNode) -> Result<Connection, SqliteError> {
    let db = Connection::open(node.dir.join("serving.db"))?;
    db.busy_timeout(Duration::from_millis(100))?;
    db.execute_batch("begin exclusive").map_err(|_| SqliteError::Busy)?;
    Ok(db)
}

async fn receive(node: &Arc<FileNode>, nodes: &Nodes, backlog: &Backlog) -> std::convert::Infallible {
    let mut reader = None;
    loop {
        let (this, nodes, mut held) = (Arc::clone(node), nodes.clone(), reader.take());
        let step = blocking(move || {
            this.check_up()?;
            let control = this.control.read()?;
            let Some((id, address)) = control.upstream.filter(|_| control.role == Role::Replica) else {
                return Ok(None);
            };
            let upstream = nodes.open(id, &address)?;
            let appended = upstream.appended.subscribe();
            if control.is_incomplete {
                this.copy_from(&upstream)?;
            }
            let received = match this.pull(&upstream, &mut held) {
                Err(SqliteError::LogGone) => {
                    held = None;
                    this.give_up_copy()?;
                    this.copy_from(&upstream)?;
                    None
                }
                pulled => pulled?,
            };
            Ok(Some((held, received, appended)))
        });
        match step.await {
            Ok(Some((held, Some(lsn), _))) => {
                reader = held;
                let delay = node.faults.replay_delay_us.load(Ordering::Relaxed);
                backlog.push(lsn, Duration::from_micros(delay));
            }
            Ok(Some((held, None, mut appended))) => {
                reader = held;
                let _ = tokio::time::timeout(POLL, appended.changed()).await;
            }
            Ok(None) => tokio::time::sleep(POLL).await,
            Err(_) => {
                // It is not heard: nobody has to wait for that to show.
                *node.heard.lock() = None;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn replay(node: &Arc<FileNode>, backlog: &Backlog) -> std::convert::Infallible {
    loop {
        let next = backlog.due.lock().front().copied();
        let Some((lsn, due)) = next else {
            backlog.grown.notified().await;
            continue;
        };
        tokio::time::sleep_until(due).await;
        let is_held = node.faults.is_replay_paused.load(Ordering::Relaxed) || node.check_up().is_err();
        if is_held {
            tokio::time::sleep(POLL).await;
            continue;
        }
        let this = Arc::clone(node);
        match blocking(move || this.replay_until(lsn)).await {
            Ok(()) => {
                backlog.due.lock().pop_front();
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

impl FileNode {
    fn replay_until(&self, lsn: Lsn) -> Result<(), SqliteError> {
        loop {
            if self.control.read()?.is_incomplete {
                return Ok(());
            }
            let end = self.log.lock().end().lsn;
            match self.apply_until(lsn.min(end)) {
                Ok(state) if state.tail.lsn >= lsn => return Ok(()),
                // The log was cut since.
                Ok(_) if self.log_end()?.lsn < lsn => return Ok(()),
                Ok(_) => {}
                Err(SqliteError::Diverged { .. } | SqliteError::Parted | SqliteError::Damaged { .. }) => {
                    return self.give_up_copy();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the database holds is not what its log says, or not to be had from the primary's: it is copied anew, and serves nobody
    /// until then.
    fn give_up_copy(&self) -> Result<(), SqliteError> {
        self.control.update(|control| {
            control.is_incomplete |= control.role == Role::Replica;
            Ok(())
        })?;
        self.faults.incarnation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Receives one batch; up to where, or `None` if there is no more.
    fn pull(&self, upstream: &Self, reader: &mut Option<LogReader>) -> Result<Option<Lsn>, SqliteError> {
        upstream.check_up()?;
        let theirs = upstream.control.read()?;
        if theirs.role != Role::Primary || theirs.cluster != self.control.read()?.cluster {
            return Err(SqliteError::NoPrimaryThere);
        }
        let mine = self.log_end()?;
        let held = LogReader::go_on(reader.take(), &upstream.log_dir(), mine)?;
        let reader = reader.insert(held);
        let until = upstream.state()?.tail.lsn;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < self.config.batch_bytes {
            let Some(record) = reader.next(until)? else { break };
            bytes += record.encoded_len();
            records.push(record);
        }
        let end = records.last().map_or(mine, |record| record.at);
        self.control.update(|control| {
            let is_followed = control.upstream.as_ref().is_some_and(|(node, _)| *node == upstream.id);
            if control.role != Role::Replica || !is_followed {
                return Err(SqliteError::Superseded);
            }
            if !records.is_empty() {
                self.log.lock().append(&records)?;
            }
            control.history = theirs.history.until(end.lsn);
            Ok(())
        })?;
        self.appended.send_replace(end.lsn);
        self.heard(upstream, end)?;
        self.forget_applied(end)?;
        Ok((!records.is_empty()).then_some(end.lsn))
    }

    fn heard(&self, upstream: &Self, end: Tail) -> Result<(), SqliteError> {
        *self.heard.lock() = Some((upstream.id, crate::clock::deadline(self.config.silence)));
        if upstream.confirmed.count(&[self.id], end.lsn)? == 0 {
            upstream.confirmed.set(self.id, end.lsn)?;
        }
        Ok(())
    }

    fn forget_applied(&self, end: Tail) -> Result<(), SqliteError> {
        if end.lsn.0 % 256 == 0 {
            let applied = self.state()?.tail.lsn;
            self.log.lock().forget(applied, self.config.keep_log_bytes)?;
        }
        Ok(())
    }

    pub(super) fn follow(&self, primary: NodeId, address: &str, ballot: Ballot) -> Result<(), SqliteError> {
        self.control.update(|control| {
            if control.role != Role::Replica {
                return Err(SqliteError::NotAReplica);
            }
            control.promise(ballot)?;
            control.upstream = Some((primary, address.into()));
            Ok(())
        })
    }

    /// Becomes a replica of this primary, whatever it was; what its log has beyond theirs is cut off and counted.
    pub(super) fn rejoin(&self, upstream: &Self, address: &str, ballot: Ballot) -> Result<Rejoined, SqliteError> {
        upstream.check_up()?;
        let theirs = upstream.control.read()?;
        if theirs.role != Role::Primary || upstream.id == self.id {
            return Err(SqliteError::NoPrimaryThere);
        }
        let (discarded, is_incomplete) = self.control.update(|control| {
            control.promise(ballot)?;
            if !control.is_incomplete && control.cluster != theirs.cluster {
                return Err(SqliteError::NoPrimaryThere);
            }
            let mut discarded = None;
            if !control.is_incomplete {
                let mine = self.log_end()?;
                let common = self.common_with(upstream, mine)?;
                if common < mine.lsn {
                    discarded::keep(self, common)?;
                    discarded = Some((common, mine.lsn));
                }
                // Changes have no way back: what the database has of them goes with a new copy.
                control.is_incomplete = self.state()?.tail.lsn > common;
                if !control.is_incomplete {
                    self.log.lock().cut(common)?;
                    control.history = theirs.history.until(common);
                }
            }
            control.role = Role::Replica;
            control.installed = None;
            control.upstream = Some((upstream.id, address.into()));
            Ok((discarded, control.is_incomplete))
        })?;
        self.faults.incarnation.fetch_add(1, Ordering::SeqCst);
        if is_incomplete {
            self.copy_from(upstream)?;
        }
        Ok(Rejoined { discarded })
    }

    /// Up to where both logs are the same.
    fn common_with(&self, upstream: &Self, mine: Tail) -> Result<Lsn, SqliteError> {
        let end = upstream.state()?.tail.lsn.min(mine.lsn);
        let standing = upstream.control.read()?.history.standing(Position::new(mine.epoch, mine.lsn));
        let most = match standing {
            Standing::Lost { kept } => kept.lsn.min(end),
            Standing::Kept | Standing::Unknown => end,
        };
        let is_same = |lsn: Lsn| -> Result<bool, SqliteError> {
            let tail = |node: &Self| LogReader::open(&node.log_dir(), lsn).map(|reader| reader.tail());
            match (tail(self), tail(upstream)) {
                (Ok(mine), Ok(theirs)) => Ok(mine == theirs),
                // Forgotten by one of them: the histories have to do.
                (Err(SqliteError::LogGone), _) | (_, Err(SqliteError::LogGone)) => Ok(true),
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        };
        let (mut same, mut other) = (0, most.0 + 1);
        if is_same(most)? {
            return Ok(most);
        }
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if is_same(Lsn(middle))? { same = middle } else { other = middle }
        }
        Ok(Lsn(same))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Promotion;
    use crate::driver::sqlite::SqliteConfig;
    use crate::driver::sqlite::writer::Writer;
    use crate::{ClusterId, Epoch, Mode, Node};

    fn ballot(epoch: u64) -> Ballot {
        Ballot { epoch: Epoch(epoch), coordinator: 1 }
    }

    fn reign(node: &Arc<FileNode>, epoch: u64) -> Writer {
        node.fence(ballot(epoch)).unwrap();
        let promotion = Promotion { ballot: ballot(epoch), mode: Mode::Asynchronous, replicas: Vec::new() };
        node.promote(&promotion).unwrap();
        Writer::open(node).unwrap()
    }

    fn insert(writer: &mut Writer, value: i64) {
        writer.begin().unwrap();
        writer.db.execute("insert into t(value) values (?1)", [value]).unwrap();
        writer.commit().unwrap().unwrap();
    }

    /// As when an old primary was cut off, had written on, and a replica that has followed it hears of the next one: between
    /// two looks of that replica.
    #[test]
    fn a_replica_of_another_primary_takes_nothing_more_from_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let place = |id: u16| dir.path().join(id.to_string());
        let make = |id: u16, control| {
            Arc::new(FileNode::create(&place(id), NodeId(id), SqliteConfig::default(), &control).unwrap())
        };
        let (cluster, mode) = (ClusterId(7), Mode::Asynchronous);
        let old = make(0, FileNode::new_primary(cluster, mode, Vec::new()));
        let mut writer = reign(&old, 2);
        writer.migrate("create table t(id integer primary key, value integer)").unwrap();
        let upstream = Node::new(NodeId(0), place(0).to_string_lossy());
        let [next, third] = [1, 2].map(|id| make(id, FileNode::new_replica(cluster, mode, &upstream)));
        let mut held = None;
        next.copy_from(&old).unwrap();
        third.copy_from(&old).unwrap();
        insert(&mut writer, 1);
        next.pull(&old, &mut None).unwrap();
        third.pull(&old, &mut held).unwrap();
        insert(&mut writer, 2);

        let mut writer = reign(&next, 3);
        third.fence(ballot(3)).unwrap();
        third.follow(NodeId(1), &place(1).to_string_lossy(), ballot(3)).unwrap();
        insert(&mut writer, 3);
        third.pull(&next, &mut held).unwrap();
        assert_eq!(third.log_end().unwrap(), next.log_end().unwrap());
    }
}
