//! What is known of the nodes, as a snapshot that readers share.
//!
//! Each observation of a node makes the next snapshot. Nothing in it is a guess: how far a replica is at least, and up
//! to which moment it is complete, are lower bounds that only an observation raises. A replica whose bound is beyond
//! what a read needs can serve it without being asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::driver::{Ballot, Observation};
use crate::monitor::Witness;
use crate::vitals::Vitals;
use crate::{ClusterId, Epoch, History, Lsn, Node, NodeId, Position, Role, Standing};

/// Observations of the primary that are kept to date the log: with the default interval, six seconds of them.
const MAX_SAMPLES: usize = 128;

/// Failed observations in a row after which a node counts as unreachable: one may be chance.
const FAILURES_TO_UNREACHABLE: u32 = 2;

/// What is known of a shard's nodes.
///
/// # Invariants
/// - I1: the epoch of `history` never falls from one snapshot to the next.
/// - I2: the primary's observation is of that epoch.
/// - I3: the samples rise in time, and do not fall in position.
#[derive(Clone, Debug)]
pub struct Topology {
    pub(crate) version: u64,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) history: Option<History>,
    pub(crate) primary: Option<usize>,
    /// Who was the primary of this epoch when that was known last.
    pub(crate) reigning: Option<usize>,
    pub(crate) members: Vec<Member>,
    /// How far the primary's log was, at least, when it was asked.
    samples: VecDeque<(Instant, Lsn)>,
}

/// A node, and what is known of it.
#[derive(Clone, Debug)]
pub struct Member {
    pub(crate) node: Node,
    pub(crate) is_local: bool,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) bound: Arc<Bound>,
    pub(crate) seen: Option<Seen>,
    pub(crate) failures: u32,
    /// Up to when all writes are in it.
    pub(crate) complete_until: Option<Instant>,
}

/// What a node said last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) asked_at: Instant,
    pub(crate) role: Role,
    pub(crate) epoch: Epoch,
    pub(crate) received: Lsn,
    pub(crate) replayed: Lsn,
    pub(crate) writable: bool,
    pub(crate) upstream: Option<NodeId>,
    pub(crate) promised: Option<Ballot>,
    /// Whether its log is a part of the cluster's.
    pub(crate) is_kept: bool,
}

/// How far a node has replayed at least, within one epoch of the cluster: reads raise it between observations.
#[derive(Debug, Default)]
pub(crate) struct Bound(AtomicU64);

impl Bound {
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn raise(&self, lsn: Lsn) {
        self.0.fetch_max(lsn.0, Ordering::Relaxed);
    }
}

impl Topology {
    /// Nodes of which nothing is known yet. `zone` is where the reader stands.
    #[must_use]
    pub fn new(nodes: &[Node], zone: Option<&str>) -> Self {
        let member = |node: &Node| Member {
            node: node.clone(),
            is_local: zone.is_none() || node.zone().is_none() || zone == node.zone(),
            vitals: Arc::default(),
            bound: Arc::default(),
            seen: None,
            failures: 0,
            complete_until: None,
        };
        let members = nodes.iter().map(member).collect();
        Self {
            version: 0,
            cluster: None,
            history: None,
            primary: None,
            reigning: None,
            members,
            samples: VecDeque::new(),
        }
    }

    /// Counts up with each snapshot.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The cluster, once a node has named it.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The epochs of the cluster's log.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// The epoch of the primary.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.history.as_ref().map(History::current)
    }

    /// Who takes writes.
    #[must_use]
    pub fn primary(&self) -> Option<&Member> {
        self.primary.map(|index| &self.members[index])
    }

    /// What replicas say that can be reached.
    pub(crate) fn witnesses(&self) -> Vec<Witness> {
        let reigning = self.reigning.map(|index| self.members[index].node.id());
        let others = self.members.iter().enumerate().filter(|(index, _)| Some(*index) != self.reigning);
        let seen = others.filter(|(_, member)| member.is_reachable()).filter_map(|(_, member)| member.seen.as_ref());
        let hears = |seen: &Seen| seen.upstream.is_some() && (reigning.is_none() || seen.upstream == reigning);
        seen.map(|seen| Witness { asked_at: seen.asked_at, hears_primary: hears(seen) }).collect()
    }

    /// The highest ballot that any node has promised.
    pub(crate) fn highest_promise(&self) -> Option<Ballot> {
        self.members.iter().filter_map(Member::promised).max()
    }

    /// The index of a node.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.node.id() == node)
    }

    /// All nodes, in the order in which they were given.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Takes in what a node said, asked at `asked_at`. Nodes are indices of [`Topology::members`].
    ///
    /// # Panics
    /// If there is no such node.
    pub fn observe(&mut self, index: usize, observation: &Observation, asked_at: Instant) -> Observed {
        let before = self.members[index].seen.as_ref().map_or(Lsn(0), |seen| seen.replayed);
        self.observe_since(index, observation, asked_at, before)
    }

    /// [`Topology::observe`], of a node whose bound was `before` when it was asked.
    pub(crate) fn observe_since(
        &mut self,
        index: usize,
        observation: &Observation,
        asked_at: Instant,
        before: Lsn,
    ) -> Observed {
        if *self.cluster.get_or_insert(observation.cluster) != observation.cluster {
            self.fail(index);
            return Observed::Foreign;
        }
        if self.members[index].seen.as_ref().is_some_and(|seen| seen.asked_at > asked_at) {
            return Observed::Late;
        }
        self.version += 1;
        let epoch = observation.history.current();
        let is_new_epoch = self.epoch().is_none_or(|known| epoch > known);
        if is_new_epoch {
            self.enter(observation.history.clone());
        }
        let standing = self.standing(Position::new(epoch, observation.received));
        let member = &mut self.members[index];
        member.failures = 0;
        member.seen = Some(Seen {
            asked_at,
            role: observation.role,
            epoch,
            received: observation.received,
            replayed: observation.replayed,
            writable: observation.writable,
            upstream: observation.upstream,
            promised: observation.promised,
            is_kept: standing == Standing::Kept,
        });
        let is_kept = standing == Standing::Kept;
        // A server that was killed may come back with less than it had shown, one that was restored with far less.
        let went_back = observation.replayed < before;
        if !is_kept || went_back {
            member.bound = Arc::default();
            member.complete_until = None;
        }
        if is_kept {
            member.bound.raise(observation.replayed);
        }
        let is_primary = observation.role == Role::Primary && is_kept && self.epoch() == Some(epoch);
        let verdict = self.place(index, is_primary, observation);
        if self.primary == Some(index) {
            // All that anybody may have seen by then, also what it does not show to everybody yet.
            self.sample(asked_at, observation.received);
        }
        self.date();
        if is_new_epoch { Observed::NewEpoch } else { verdict }
    }

    /// Takes in that a node did not answer.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn fail(&mut self, index: usize) {
        self.version += 1;
        let member = &mut self.members[index];
        member.failures = member.failures.saturating_add(1);
        if self.primary == Some(index) && member.failures >= FAILURES_TO_UNREACHABLE {
            self.primary = None;
        }
    }

    /// The node is not the primary any more, as it said when a write was refused.
    pub(crate) fn demote(&mut self, index: usize) {
        if self.primary == Some(index) {
            self.version += 1;
            self.primary = None;
        }
    }

    /// Whose log it is from now on. Bounds begin anew: a node that parted from the log had more than it will have. Dates as
    /// well: when the new primary took its first write is not known, so nobody is sure to be complete up to any moment.
    fn enter(&mut self, history: History) {
        self.primary = None;
        self.reigning = None;
        self.samples.clear();
        for member in &mut self.members {
            member.bound = Arc::default();
            member.complete_until = None;
            let Some(seen) = &mut member.seen else { continue };
            seen.is_kept = history.standing(Position::new(seen.epoch, seen.received)) == Standing::Kept;
            if seen.is_kept {
                member.bound.raise(seen.replayed);
            }
        }
        self.history = Some(history);
    }

    fn standing(&self, position: Position) -> Standing {
        self.history.as_ref().map_or(Standing::Unknown, |history| history.standing(position))
    }

    fn place(&mut self, index: usize, is_primary: bool, observation: &Observation) -> Observed {
        match self.primary {
            // Two in one epoch: whoever was there first stays, until it is unreachable or says that it is none.
            Some(other) if is_primary && other != index => return Observed::SecondPrimary,
            Some(other) if other == index && !(is_primary && observation.writable) => self.primary = None,
            None if is_primary && observation.writable => self.primary = Some(index),
            _ => {}
        }
        if is_primary && self.primary.is_none_or(|primary| primary == index) {
            self.reigning = Some(index);
        }
        let is_stale = observation.role == Role::Primary && observation.writable && !is_primary;
        if is_stale { Observed::StalePrimary } else { Observed::Fine }
    }

    fn sample(&mut self, asked_at: Instant, lsn: Lsn) {
        if self.samples.back().is_some_and(|(at, last)| *at >= asked_at || *last > lsn) {
            return;
        }
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((asked_at, lsn));
    }

    /// Dates what each node holds: it is complete up to the last moment at which the primary's log was no longer.
    fn date(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.is_kept()) {
            let bound = member.bound.lsn();
            let count = self.samples.partition_point(|(_, lsn)| *lsn <= bound);
            let moment = count.checked_sub(1).map(|last| self.samples[last].0);
            member.complete_until = member.complete_until.max(moment);
        }
    }
}

/// What an observation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing of note.
    Fine,
    /// The first of an epoch.
    NewEpoch,
    /// Older than one that was taken in before.
    Late,
    /// Of a node of another cluster.
    Foreign,
    /// A primary of an epoch that is over, or of a log that was left, which would take writes.
    StalePrimary,
    /// A primary beside that of the same epoch.
    SecondPrimary,
}

impl Member {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What it is, as it said last.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.seen.as_ref().map(|seen| seen.role)
    }

    /// How far it has replayed its log, at least.
    #[must_use]
    pub fn replayed(&self) -> Lsn {
        self.bound.lsn()
    }

    /// How far its log reached when it was asked last.
    #[must_use]
    pub fn received(&self) -> Option<Lsn> {
        self.seen.as_ref().map(|seen| seen.received)
    }

    /// How old its state is, at most; `None` while nothing is known of that.
    ///
    /// Measured by the reader's clock alone: no clock of another machine has a part in it.
    #[must_use]
    pub fn staleness(&self, now: Instant) -> Option<Duration> {
        self.complete_until.map(|until| now.saturating_duration_since(until))
    }

    /// Whether it takes writes, as a primary that is not fenced.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.writable)
    }

    /// The primary whose log it gets.
    #[must_use]
    pub fn upstream(&self) -> Option<NodeId> {
        self.seen.as_ref().and_then(|seen| seen.upstream)
    }

    /// The highest ballot that it has promised.
    #[must_use]
    pub fn promised(&self) -> Option<Ballot> {
        self.seen.as_ref().and_then(|seen| seen.promised)
    }

    /// Whether its log is a part of the cluster's: not that of an old primary which wrote on alone.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.is_kept)
    }

    /// Whether it answered lately.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.seen.is_some() && self.failures < FAILURES_TO_UNREACHABLE
    }

    /// Statements that it works on for this process.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.vitals.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(role: Role, history: &History, lsn: u64) -> Observation {
        Observation {
            cluster: ClusterId(1),
            role,
            history: history.clone(),
            received: Lsn(lsn),
            replayed: Lsn(lsn),
            writable: role == Role::Primary,
            upstream: None,
            promised: None,
        }
    }

    fn topology() -> Topology {
        let nodes = [0, 1, 2].map(|id| Node::new(NodeId(id), "nowhere"));
        Topology::new(&nodes, None)
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn dates_a_replica_by_the_primarys_log() {
        let (mut topology, start, history) = (topology(), crate::clock::some_moment(), History::new(Epoch(1)));
        for (ms, lsn) in [(0, 10), (50, 20), (100, 30)] {
            topology.observe(0, &observation(Role::Primary, &history, lsn), after(start, ms));
        }
        topology.observe(1, &observation(Role::Replica, &history, 25), after(start, 110));
        let now = after(start, 120);
        assert_eq!(topology.members[1].staleness(now), Some(Duration::from_millis(70)));
        assert_eq!(topology.members[2].staleness(now), None);
        // Nothing is written: the same position is complete up to the next question.
        topology.observe(1, &observation(Role::Replica, &history, 30), after(start, 130));
        topology.observe(0, &observation(Role::Primary, &history, 30), after(start, 150));
        assert_eq!(topology.members[1].staleness(after(start, 160)), Some(Duration::from_millis(10)));
    }

    #[test]
    fn a_replica_that_comes_back_with_less_is_dated_anew() {
        let (mut topology, start, history) = (topology(), crate::clock::some_moment(), History::new(Epoch(1)));
        for (ms, lsn) in [(0, 10), (50, 20), (100, 30)] {
            topology.observe(0, &observation(Role::Primary, &history, lsn), after(start, ms));
        }
        topology.observe(1, &observation(Role::Replica, &history, 30), after(start, 110));
        topology.observe(1, &observation(Role::Replica, &history, 10), after(start, 120));
        assert_eq!(topology.members[1].replayed(), Lsn(10));
        assert_eq!(topology.members[1].staleness(after(start, 120)), Some(Duration::from_millis(120)));
        // A wait had raised its bound between the two.
        topology.members[1].bound.raise(Lsn(25));
        topology.observe_since(1, &observation(Role::Replica, &history, 20), after(start, 130), Lsn(25));
        assert_eq!(topology.members[1].replayed(), Lsn(20));
    }

    /// The next primary may have taken writes while the one before still looked well.
    #[test]
    fn a_new_epoch_dates_everybody_anew() {
        let (mut topology, start, first) = (topology(), crate::clock::some_moment(), History::new(Epoch(1)));
        topology.observe(0, &observation(Role::Primary, &first, 30), after(start, 10));
        topology.observe(2, &observation(Role::Replica, &first, 30), after(start, 20));
        assert!(topology.members[2].staleness(after(start, 30)).is_some());
        let second = first.promoted(Epoch(2), Lsn(30)).unwrap();
        topology.observe(1, &observation(Role::Primary, &second, 35), after(start, 40));
        assert_eq!(topology.members[2].staleness(after(start, 50)), None);
        topology.observe(2, &observation(Role::Replica, &second, 35), after(start, 60));
        assert_eq!(topology.members[2].staleness(after(start, 60)), Some(Duration::from_millis(20)));
    }

    #[test]
    fn an_old_primary_that_returns_is_none_and_serves_nothing() {
        let (mut topology, start, first) = (topology(), crate::clock::some_moment(), History::new(Epoch(1)));
        topology.observe(0, &observation(Role::Primary, &first, 30), start);
        assert_eq!(topology.primary().map(|member| member.node.id()), Some(NodeId(0)));
        let second = first.clone().promoted(Epoch(2), Lsn(25)).unwrap();
        let observed = topology.observe(1, &observation(Role::Primary, &second, 26), after(start, 1));
        assert_eq!(observed, Observed::NewEpoch);
        assert_eq!(topology.primary, Some(1));
        assert!(!topology.members[0].is_kept() && topology.members[0].replayed() == Lsn(0));
        let observed = topology.observe(0, &observation(Role::Primary, &first, 31), after(start, 2));
        assert_eq!((observed, topology.primary), (Observed::StalePrimary, Some(1)));
        // Rejoined, it has less than before, and that is its bound.
        topology.observe(0, &observation(Role::Replica, &second, 26), after(start, 3));
        assert!(topology.members[0].is_kept() && topology.members[0].replayed() == Lsn(26));
    }

    #[test]
    fn a_replica_that_stayed_behind_the_switch_is_kept() {
        let (mut topology, start, first) = (topology(), crate::clock::some_moment(), History::new(Epoch(1)));
        topology.observe(2, &observation(Role::Replica, &first, 20), start);
        let second = first.promoted(Epoch(2), Lsn(25)).unwrap();
        topology.observe(1, &observation(Role::Primary, &second, 26), after(start, 1));
        assert!(topology.members[2].is_kept() && topology.members[2].replayed() == Lsn(20));
    }

    #[test]
    fn the_primary_is_gone_after_two_failures_and_back_with_an_answer() {
        let (mut topology, start, history) = (topology(), crate::clock::some_moment(), History::new(Epoch(1)));
        topology.observe(0, &observation(Role::Primary, &history, 1), start);
        topology.fail(0);
        assert_eq!(topology.primary, Some(0));
        topology.fail(0);
        assert_eq!(topology.primary, None);
        topology.observe(0, &observation(Role::Primary, &history, 1), after(start, 9));
        assert_eq!(topology.primary, Some(0));
        let fenced = Observation { writable: false, ..observation(Role::Primary, &history, 1) };
        topology.observe(0, &fenced, after(start, 10));
        assert_eq!(topology.primary, None);
    }

    #[test]
    fn of_two_primaries_of_one_epoch_the_first_stays() {
        let (mut topology, start, history) = (topology(), crate::clock::some_moment(), History::new(Epoch(2)));
        topology.observe(0, &observation(Role::Primary, &history, 1), start);
        assert_eq!(topology.observe(1, &observation(Role::Primary, &history, 9), start), Observed::SecondPrimary);
        assert_eq!(topology.primary, Some(0));
    }

    #[test]
    fn another_clusters_node_and_a_late_answer_change_nothing() {
        let (mut topology, start, history) = (topology(), crate::clock::some_moment(), History::new(Epoch(1)));
        topology.observe(0, &observation(Role::Primary, &history, 5), after(start, 5));
        let foreign = Observation { cluster: ClusterId(2), ..observation(Role::Replica, &history, 9) };
        assert_eq!(topology.observe(1, &foreign, start), Observed::Foreign);
        assert_eq!(topology.observe(0, &observation(Role::Replica, &history, 9), start), Observed::Late);
        assert_eq!((topology.primary, topology.members[1].seen.is_none()), (Some(0), true));
    }
}
