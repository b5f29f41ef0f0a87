//! A replica: gets its primary's log, syncs it, says so, and applies it a little later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::SqliteError;
use super::control::Control;
use super::driver::{Nodes, blocking};
use super::log::LogReader;
use super::node::FileNode;
use super::record::{Record, Tail};
use crate::driver::Ballot;
use crate::{Lsn, Role};

/// How often somebody looks who is woken by nobody.
const POLL: Duration = Duration::from_millis(5);

/// After an error, at first and at most: during a failover it is over soon, as a rule.
const RETRY: Duration = Duration::from_millis(5);
const MAX_RETRY: Duration = Duration::from_millis(50);

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

/// What a look at the primary brought.
struct Received {
    /// Up to where; `None` if there is no more.
    until: Option<Lsn>,
    /// Of the primary, if that is in this process.
    appended: watch::Receiver<Lsn>,
}

/// What a primary has beyond the end of a replica's log, and what both were when it was read.
struct Batch {
    before: Control,
    theirs: Control,
    mine: Tail,
    records: Vec<Record>,
}

/// Keeps a node up with whom it follows, until it is dropped or the node is taken down.
pub(super) async fn serve(node: Arc<FileNode>, nodes: Nodes) -> Result<std::convert::Infallible, SqliteError> {
    let _lock = {
        let node = Arc::clone(&node);
        blocking(move || lock(&node)).await?
    };
    let mut down = std::pin::pin!(node.faults.went_down.notified());
    down.as_mut().enable();
    node.check_up()?;
    let backlog = Backlog::default();
    backlog.push(node.log.lock().end().lsn, Duration::ZERO);
    tokio::select! {
        () = down => Err(SqliteError::Down),
        never = receive(&node, &nodes, &backlog) => match never {},
        never = replay(&node, &backlog) => match never {},
    }
}

/// Two processes must not receive for one node.
fn lock(node: &FileNode) -> Result<Connection, SqliteError> {
    let db = Connection::open(node.dir.join("serving.db"))?;
    db.busy_timeout(Duration::from_millis(100))?;
    db.execute_batch("begin exclusive").map_err(|_| SqliteError::Served)?;
    Ok(db)
}

async fn receive(node: &Arc<FileNode>, nodes: &Nodes, backlog: &Backlog) -> std::convert::Infallible {
    let (mut reader, mut retry) = (None, RETRY);
    loop {
        let (this, nodes, mut held) = (Arc::clone(node), nodes.clone(), reader.take());
        let step = blocking(move || this.receive(&nodes, &mut held).map(|received| (held, received))).await;
        let Ok((held, received)) = step else {
            // It is not heard: nobody has to wait for that to show.
            *node.heard.lock() = None;
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(MAX_RETRY);
            continue;
        };
        (reader, retry) = (held, RETRY);
        match received {
            Some(Received { until: Some(lsn), .. }) => {
                let delay = node.faults.replay_delay_us.load(Ordering::Relaxed);
                backlog.push(lsn, Duration::from_micros(delay));
            }
            Some(Received { until: None, mut appended }) => {
                let _ = tokio::time::timeout(POLL, appended.changed()).await;
            }
            None => tokio::time::sleep(POLL).await,
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
            Err(_) => tokio::time::sleep(MAX_RETRY).await,
        }
    }
}

impl FileNode {
    /// Receives once, if it follows anybody.
    fn receive(&self, nodes: &Nodes, reader: &mut Option<LogReader>) -> Result<Option<Received>, SqliteError> {
        self.check_up()?;
        let control = self.control.read()?;
        let Some((id, address)) = control.upstream.filter(|_| control.role == Role::Replica) else {
            return Ok(None);
        };
        let upstream = nodes.open(id, &address)?;
        let appended = upstream.appended.subscribe();
        if control.is_incomplete {
            self.copy_from(&upstream)?;
        }
        let until = match self.pull(&upstream, reader) {
            Err(SqliteError::LogGone) => {
                self.give_up_copy()?;
                self.copy_from(&upstream)?;
                None
            }
            Err(SqliteError::Parted) => {
                self.come_back_to(&upstream, &address)?;
                None
            }
            pulled => pulled?,
        };
        Ok(Some(Received { until, appended }))
    }

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
    pub(super) fn give_up_copy(&self) -> Result<(), SqliteError> {
        self.control.update(|control| {
            control.is_incomplete |= control.role == Role::Replica;
            Ok(())
        })?;
        self.faults.incarnation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Receives one batch; up to where, or `None` if there is no more.
    fn pull(&self, upstream: &Self, reader: &mut Option<LogReader>) -> Result<Option<Lsn>, SqliteError> {
        let batch = self.fetch(upstream, reader)?;
        self.take(upstream, &batch)
    }

    fn fetch(&self, upstream: &Self, reader: &mut Option<LogReader>) -> Result<Batch, SqliteError> {
        upstream.check_up()?;
        let before = self.control.read()?;
        let theirs = upstream.control.read()?;
        if theirs.role != Role::Primary || theirs.cluster != before.cluster {
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
        Ok(Batch { before, theirs, mine, records })
    }

    /// Takes it if it is what it was then. It may have heard of other primaries since it looked, and of this one again; its
    /// copy may have been given up, and its log been cut by another process.
    fn take(&self, upstream: &Self, batch: &Batch) -> Result<Option<Lsn>, SqliteError> {
        let Batch { before, theirs, mine, records } = batch;
        let end = records.last().map_or(*mine, |record| record.at);
        self.control.update(|control| {
            let is_followed = control.upstream.as_ref().is_some_and(|(node, _)| *node == upstream.id);
            let is_as_before = control.promised == before.promised && !control.is_incomplete;
            if control.role != Role::Replica || !is_followed || !is_as_before || self.log_end()? != *mine {
                return Err(SqliteError::Superseded);
            }
            if !records.is_empty() {
                self.log.lock().append(records)?;
            }
            control.history = theirs.history.until(end.lsn);
            Ok(())
        })?;
        self.appended.send_replace(end.lsn);
        self.heard(upstream, end, theirs.installed)?;
        self.forget_applied(end)?;
        Ok((!records.is_empty()).then_some(end.lsn))
    }

    /// Tells the primary what it has, in the reign in which it was received.
    fn heard(&self, upstream: &Self, end: Tail, reign: Option<Ballot>) -> Result<(), SqliteError> {
        *self.heard.lock() = Some((upstream.id, crate::clock::deadline(self.config.silence)));
        if upstream.confirmed.count(&[self.id], end.lsn, reign)? == 0 {
            upstream.confirmed.set(self.id, end.lsn, reign)?;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Promotion;
    use crate::driver::sqlite::discarded;
    use crate::driver::sqlite::record::Kind;
    use crate::driver::sqlite::state::State;
    use crate::driver::sqlite::writer::Writer;
    use crate::driver::sqlite::{SqliteConfig, changes};
    use crate::{ClusterId, Epoch, Mode, Node, NodeId};

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

    /// A primary and its replicas, each with a table and one row.
    struct Place {
        dir: tempfile::TempDir,
        nodes: Vec<Arc<FileNode>>,
        writer: Writer,
    }

    impl Place {
        fn with(replicas: u16) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (cluster, mode) = (ClusterId(7), Mode::Asynchronous);
            let make = |id: u16, control| {
                let dir = dir.path().join(id.to_string());
                Arc::new(FileNode::create(&dir, NodeId(id), SqliteConfig::default(), &control).unwrap())
            };
            let first = make(0, FileNode::new_primary(cluster, mode, Vec::new()));
            let mut writer = reign(&first, 2);
            writer.migrate("create table t(id integer primary key, value integer)").unwrap();
            let upstream = Node::new(NodeId(0), first.dir.to_string_lossy());
            let replicas = (1..=replicas).map(|id| make(id, FileNode::new_replica(cluster, mode, &upstream)));
            let nodes: Vec<_> = std::iter::once(Arc::clone(&first)).chain(replicas).collect();
            let mut place = Self { dir, nodes, writer };
            insert(&mut place.writer, 1);
            for replica in &place.nodes[1..] {
                replica.copy_from(&first).unwrap();
                replica.pull(&first, &mut None).unwrap();
            }
            place
        }

        fn address(&self, id: u16) -> String {
            self.dir.path().join(id.to_string()).to_string_lossy().into_owned()
        }
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

    /// One that is replaced, comes back and is replaced again is not told of what was confirmed before.
    #[test]
    fn what_was_confirmed_in_another_reign_counts_no_more() {
        let place = Place::with(1);
        let [first, replica] = [0, 1].map(|id| Arc::clone(&place.nodes[id]));
        let count = || {
            let control = first.control.read().unwrap();
            first.confirmed.count(&[NodeId(1)], first.log_end().unwrap().lsn, control.installed).unwrap()
        };
        assert_eq!(count(), 1);
        let stale = first.control.read().unwrap().installed;
        reign(&first, 4);
        assert_eq!(count(), 0);
        replica.heard(&first, first.log_end().unwrap(), stale).unwrap();
        assert_eq!(count(), 0, "a confirmation that was held up");
        replica.pull(&first, &mut None).unwrap();
        assert_eq!(count(), 1);
    }

    /// As when a thread is held up between the two.
    #[test]
    fn what_was_read_before_something_else_became_of_the_replica_is_not_taken() {
        let changes: [fn(&FileNode, &str); 4] = [
            |replica, address| {
                replica.fence(ballot(3)).unwrap();
                replica.follow(NodeId(0), address, ballot(3)).unwrap();
            },
            |replica, _| replica.give_up_copy().unwrap(),
            |replica, _| {
                let other = FileNode::open(&replica.dir, replica.id, SqliteConfig::default()).unwrap();
                other.log.lock().cut(Lsn(2)).unwrap();
            },
            |replica, _| drop(replica.fence(ballot(2)).unwrap()),
        ];
        for change in changes {
            let mut place = Place::with(1);
            let [first, replica] = [0, 1].map(|id| Arc::clone(&place.nodes[id]));
            insert(&mut place.writer, 2);
            replica.pull(&first, &mut None).unwrap();
            insert(&mut place.writer, 3);
            let batch = replica.fetch(&first, &mut None).unwrap();
            change(&replica, &place.address(0));
            assert!(matches!(replica.take(&first, &batch), Err(SqliteError::Superseded)));
            let control = first.control.read().unwrap();
            assert_eq!(first.confirmed.count(&[NodeId(1)], Lsn(4), control.installed).unwrap(), 0);
            assert!(replica.log_end().unwrap().lsn < Lsn(4));
        }
    }

    /// Another process that applies what was received is at its commit when the log is cut.
    #[test]
    fn nothing_is_applied_while_the_log_is_cut() {
        let mut place = Place::with(2);
        let [first, next, third] = [0, 1, 2].map(|id| Arc::clone(&place.nodes[id]));
        insert(&mut place.writer, 2);
        third.recover().unwrap();
        third.pull(&first, &mut None).unwrap();
        let mut writer = reign(&next, 3);
        insert(&mut writer, 3);

        let applying = Connection::open(third.dir.join("data.db")).unwrap();
        applying.execute_batch("begin immediate").unwrap();
        let state = State { tail: third.log_end().unwrap(), ..State::read(&applying).unwrap() };
        state.write(&applying).unwrap();
        let (rejoining, upstream, address) = (Arc::clone(&third), Arc::clone(&next), place.address(1));
        let rejoining = std::thread::spawn(move || rejoining.rejoin(&upstream, &address, ballot(3)).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        applying.execute_batch("commit").unwrap();
        let rejoined = rejoining.join().unwrap();
        assert_eq!(rejoined.discarded, Some((Lsn(2), Lsn(3))));
        third.pull(&next, &mut None).unwrap();
        assert_eq!(third.recover().unwrap().tail, next.log_end().unwrap());
    }

    #[test]
    fn a_replica_whose_database_is_not_what_its_log_says_does_not_reign() {
        let mut place = Place::with(1);
        let [first, replica] = [0, 1].map(|id| Arc::clone(&place.nodes[id]));
        insert(&mut place.writer, 2);
        replica.pull(&first, &mut None).unwrap();
        let tail = Tail { chain: [7; 16], ..replica.recover().unwrap().tail };
        let db = Connection::open(replica.dir.join("data.db")).unwrap();
        State { tail, ..State::read(&db).unwrap() }.write(&db).unwrap();
        replica.fence(ballot(3)).unwrap();
        let promotion = Promotion { ballot: ballot(3), mode: Mode::Asynchronous, replicas: Vec::new() };
        assert!(matches!(replica.promote(&promotion), Err(SqliteError::Parted)));
        assert!(matches!(replica.observe(), Err(SqliteError::Incomplete)));
    }

    /// Neither history tells: the record is of the same reign.
    #[test]
    fn a_replica_whose_log_has_parted_comes_back_by_itself() {
        for is_applied in [false, true] {
            let mut place = Place::with(1);
            let [first, replica] = [0, 1].map(|id| Arc::clone(&place.nodes[id]));
            let stray = Record::after(replica.log_end().unwrap(), Epoch(2), Kind::Changes, changes::encode(&[]));
            replica.log.lock().append(&[stray]).unwrap();
            if is_applied {
                replica.recover().unwrap();
            }
            insert(&mut place.writer, 2);
            insert(&mut place.writer, 3);
            let (nodes, mut held) = (Nodes::default(), None);
            // Of whom it has heard that a higher ballot is out, it takes nothing away.
            replica.fence(ballot(3)).unwrap();
            let follow = |control: &mut Control| {
                control.upstream = Some((NodeId(0), place.address(0)));
                Ok(())
            };
            replica.control.update(follow).unwrap();
            assert!(matches!(replica.receive(&nodes, &mut held), Err(SqliteError::Superseded)));
            drop(reign(&first, 3));
            for _ in 0..3 {
                replica.receive(&nodes, &mut held).unwrap();
            }
            assert_eq!(replica.recover().unwrap().tail, first.log_end().unwrap(), "applied: {is_applied}");
            assert_eq!(discarded::read(&replica).unwrap().len(), 1);
        }
    }
}
