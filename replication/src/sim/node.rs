//! One simulated machine: its log, which survives it, and what it makes of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::world::Message;
use super::{Flaw, SimConfig};
use crate::driver::{Ballot, Observation};
use crate::{ClusterId, Epoch, History, Lsn, Mode, NodeId, Position, Role};

/// An entry of the log: one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) epoch: Epoch,
    /// Appends: to which key, which number.
    pub(super) appends: Vec<(u64, u64)>,
}

/// # Invariants
/// - I1: `log[i]` is at the place `i + 1`.
/// - I2: `visible <= log.len()`, and `lists` is what the log makes of them up to there.
#[derive(Debug)]
pub(super) struct SimNode {
    pub(super) id: NodeId,
    pub(super) is_alive: bool,
    pub(super) is_paused: bool,
    /// Counts restarts: connections know whose they are.
    pub(super) incarnation: u64,
    pub(super) role: Role,
    pub(super) history: History,
    pub(super) log: Vec<Record>,
    pub(super) visible: usize,
    lists: BTreeMap<u64, Vec<u64>>,
    /// What has been received and is to be applied: up to where, when.
    pub(super) pending: VecDeque<(usize, Duration)>,
    pub(super) replay_delay: Duration,
    /// Highest ballot promised, and that under which it was made what it is; both survive crashes.
    pub(super) promised: Option<Ballot>,
    pub(super) installed: Option<Ballot>,
    pub(super) mode: Mode,
    flaw: Option<Flaw>,
    pub(super) confirming: Vec<NodeId>,
    /// As primary: how far each replica has confirmed.
    pub(super) confirmed: BTreeMap<NodeId, usize>,
    /// As replica: whom it follows, and when it heard of it last.
    pub(super) following: Option<NodeId>,
    pub(super) heard_at: Option<Duration>,
    pub(super) inbox: Vec<(NodeId, Message)>,
}

impl SimNode {
    pub(super) fn new(id: NodeId, config: &SimConfig) -> Self {
        let is_primary = id == NodeId(0);
        Self {
            id,
            is_alive: true,
            is_paused: false,
            incarnation: 0,
            role: if is_primary { Role::Primary } else { Role::Replica },
            history: History::new(Epoch(1)),
            log: Vec::new(),
            visible: 0,
            lists: BTreeMap::new(),
            pending: VecDeque::new(),
            replay_delay: Duration::ZERO,
            promised: None,
            installed: None,
            mode: config.mode,
            flaw: config.flaw,
            confirming: (1..config.nodes).map(NodeId).collect(),
            confirmed: BTreeMap::new(),
            following: (!is_primary).then_some(NodeId(0)),
            heard_at: None,
            inbox: Vec::new(),
        }
    }

    pub(super) fn received(&self) -> Lsn {
        Lsn(self.log.len() as u64)
    }

    pub(super) fn replayed(&self) -> Lsn {
        Lsn(self.visible as u64)
    }

    /// Where the state that can be seen is.
    pub(super) fn position(&self) -> Position {
        Position::new(self.history.until(self.replayed()).current(), self.replayed())
    }

    pub(super) fn is_writable(&self) -> bool {
        let is_fenced = self.promised != self.installed && self.flaw != Some(Flaw::FenceForgotten);
        self.role == Role::Primary && !is_fenced
    }

    pub(super) fn list(&self, key: u64) -> Vec<u64> {
        self.lists.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn contents(&self) -> Vec<(u64, Vec<u64>)> {
        let mut lists: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (key, value) in self.log.iter().flat_map(|record| &record.appends) {
            lists.entry(*key).or_default().push(*value);
        }
        lists.into_iter().collect()
    }

    /// Makes the log visible up to here.
    pub(super) fn show(&mut self, until: usize) {
        while self.visible < until.min(self.log.len()) {
            for (key, value) in &self.log[self.visible].appends {
                self.lists.entry(*key).or_default().push(*value);
            }
            self.visible += 1;
        }
    }

    /// Cuts the log, and makes what is visible anew.
    pub(super) fn truncate(&mut self, length: usize) {
        self.log.truncate(length);
        self.history = self.history.until(self.received());
        self.pending.clear();
        self.lists.clear();
        let visible = std::mem::take(&mut self.visible);
        self.show(visible.min(length));
    }

    /// Whether a write at this place may be acknowledged.
    pub(super) fn is_confirmed(&self, lsn: usize) -> bool {
        match self.mode {
            _ if self.flaw == Some(Flaw::AcknowledgesEarly) => true,
            Mode::Asynchronous => true,
            Mode::SemiSynchronous { .. } => self.confirmations(lsn) >= 1,
            Mode::Quorum { replicas } => self.confirmations(lsn) >= usize::from(replicas.get()),
        }
    }

    fn confirmations(&self, lsn: usize) -> usize {
        let confirms = |node: &&NodeId| self.confirmed.get(node).is_some_and(|reached| *reached >= lsn);
        self.confirming.iter().filter(confirms).count()
    }

    pub(super) fn observe(&self, cluster: ClusterId, now: Duration, silence: Duration) -> Observation {
        let is_heard = self.heard_at.is_some_and(|at| now.saturating_sub(at) <= silence);
        let replayed = self.replayed();
        // A primary speaks of what may be seen, and what it has logged beyond that is on its way there.
        let received = self.received();
        Observation {
            cluster,
            role: self.role,
            history: self.history.clone(),
            received,
            replayed,
            writable: self.is_writable(),
            upstream: self.following.filter(|_| self.role == Role::Replica && is_heard),
            promised: self.promised,
        }
    }
}
