//! The next primary: fence, wait, promote. A state machine without I/O: answers and the time go in, calls come out.
//!
//! ```text
//!            fence all                  enough, and all or the time to settle
//!   crash  ───────────> fencing ──────────────────────────────────────────────> promoting ──> promoted
//!                          ^  fence the others
//!                          │
//!            fence the     │ the target has all of its log, or it is too late
//!            primary       │
//!   planned ─────────> draining
//! ```
//!
//! Fencing is the first phase of a Paxos ballot: a node that has promised one helps no lower one, neither by
//! acknowledging a write nor by being promoted. Enough are fenced when each write that may have been acknowledged is on
//! one of them; the most advanced then has them all. A planned change needs as many: the primary that its coordinator
//! knows may have been replaced by another one, without having noticed.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::driver::{Ballot, Observation, Promotion};
use crate::{Lsn, Mode, NodeId, Position, Role};

/// How a failover proceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct FailoverConfig {
    /// When enough nodes are fenced, so long others are waited for that may be further. Default 30 ms. Without a quorum,
    /// replicas that answered lately are waited for besides, up to [`fence_timeout`](Self::fence_timeout): the furthest may
    /// be the last to answer, as it has the most to apply.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub settle: Duration,
    /// How long fencing may take, and how long a replica may take to follow another primary. Default 2 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub fence_timeout: Duration,
    /// How long a node may take to rejoin, with a copy of the whole database if it comes to that. Default 60 s. Shorter: a
    /// node that was cut off while it rejoined is told again sooner; longer: larger databases can be copied.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub rejoin_timeout: Duration,
    /// How long a promotion may take. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub promote_timeout: Duration,
    /// How long a planned change may wait for its target to have the whole log, while no write is taken. Default 1 s;
    /// then the old primary goes on.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub drain_timeout: Duration,
    /// After a failed failover, the next one begins so much later, and up to twice that. Default 200 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub retry: Duration,
    /// How often a node is told again what it has not done: to follow, or to rejoin. Default 500 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub repair_interval: Duration,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(30),
            fence_timeout: Duration::from_secs(2),
            rejoin_timeout: Duration::from_secs(60),
            promote_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(1),
            retry: Duration::from_millis(200),
            repair_interval: Duration::from_millis(500),
        }
    }
}

/// A failover that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promoted {
    /// The new primary, or the old one if a planned change was given up.
    pub node: NodeId,
    /// The first place of its reign is beyond this one.
    pub from: Position,
    /// How far the log of the old primary was known to reach beyond that: what is lost at least, in units of the log.
    pub known_lost: u64,
}

/// Why there is no new primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FailoverError {
    /// Another coordinator has the higher ballot, or has named another primary already.
    #[error("another coordinator is about it")]
    Superseded,
    /// Too few replicas could be fenced to be sure that one of them has all that was acknowledged.
    #[error("{fenced} replicas could be fenced, {needed} are needed")]
    TooFew {
        /// Replicas that promised.
        fenced: usize,
        /// Nodes that would have to.
        needed: usize,
    },
    /// The mode asks for more confirmations than there are replicas.
    #[error("the mode asks for more replicas than there are")]
    Impossible,
    /// The node did not become primary, or not in time. It may yet.
    #[error("the promotion failed or took too long")]
    NotPromoted,
    /// The target did not get the whole log in time; the old primary goes on.
    #[error("the target did not catch up in time")]
    NotCaughtUp,
    /// The primary that is to be changed did not promise to stop, or not in time. It goes on, unless it has promised and was
    /// not heard: then a supervisor makes it primary anew.
    #[error("the primary could not be fenced in time")]
    NotFenced,
    /// There is no such node, or no primary to change from.
    #[error("there is nothing to change from, or to")]
    NoSuchNode,
    /// Somebody else holds the writes back, or writes did not end in time.
    #[error("the writes under way did not end in time")]
    Busy,
}

/// What the coordinator does next. Nodes are indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Fence(usize),
    Observe(usize),
    Promote(usize, Promotion),
}

/// What came of a call.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Fenced(usize, Result<Observation, Refusal>),
    Observed(usize, Option<Observation>),
    Promoted(Result<Observation, Refusal>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Superseded,
    Failed,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The primary has promised, or is to; the target is to reach this place.
    Draining {
        target: usize,
        until: Option<Lsn>,
    },
    Fencing,
    Promoting {
        candidate: usize,
    },
    Done(Result<Promoted, FailoverError>),
}

/// One ballot, from the first fence to the promotion.
///
/// # Invariants
/// - I1: nobody is promoted before as many nodes have promised as the mode needs.
/// - I2: no fenced node is further than the one that is promoted.
/// - I3: no fenced node has been in the epoch of the ballot.
/// - I4: of a planned change, the primary is fenced before anybody else is asked.
#[derive(Clone, Debug)]
pub(crate) struct Failover {
    config: FailoverConfig,
    ballot: Ballot,
    mode: Mode,
    nodes: Vec<NodeId>,
    primary: Option<usize>,
    primary_lsn: Lsn,
    /// Whom a planned change is for.
    target: Option<usize>,
    /// Who answered lately.
    awaited: Vec<bool>,
    phase: Phase,
    fenced: Vec<Option<Result<Observation, Refusal>>>,
    deadline: Instant,
    /// When enough were fenced.
    enough_at: Option<Instant>,
    calls: Vec<Call>,
}

impl Failover {
    /// After the primary was lost. `primary_lsn` is how far its log was known to reach.
    pub(crate) fn crash(
        config: FailoverConfig,
        ballot: Ballot,
        mode: Mode,
        nodes: Vec<NodeId>,
        primary: Option<usize>,
        primary_lsn: Lsn,
        now: Instant,
    ) -> Self {
        let count = nodes.len();
        let calls = (0..count).map(Call::Fence).collect();
        let phase = Phase::Fencing;
        let deadline = now + config.fence_timeout;
        let fenced = vec![None; count];
        Self {
            config,
            ballot,
            mode,
            nodes,
            primary,
            primary_lsn,
            target: None,
            awaited: vec![true; count],
            phase,
            fenced,
            deadline,
            enough_at: None,
            calls,
        }
    }

    /// Nodes that have not answered lately are not waited for beyond the time to settle.
    pub(crate) fn awaiting(self, awaited: Vec<bool>) -> Self {
        Self { awaited, ..self }
    }

    /// From a primary that is well to a replica, or to itself under a new ballot.
    pub(crate) fn planned(
        config: FailoverConfig,
        ballot: Ballot,
        mode: Mode,
        nodes: Vec<NodeId>,
        (primary, target): (usize, usize),
        now: Instant,
    ) -> Self {
        let deadline = now + config.drain_timeout;
        let crash = Self::crash(config, ballot, mode, nodes, Some(primary), Lsn(0), now);
        let phase = Phase::Draining { target, until: None };
        Self { target: Some(target), phase, deadline, calls: vec![Call::Fence(primary)], ..crash }
    }

    /// What is to be called now; each once.
    pub(crate) fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    pub(crate) fn outcome(&self) -> Option<Result<Promoted, FailoverError>> {
        match self.phase {
            Phase::Done(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// When to look again, if nothing is answered before.
    pub(crate) fn wake_at(&self) -> Instant {
        let enough_at = self.enough_at.filter(|_| self.target.is_none() && self.is_heard());
        enough_at.map_or(self.deadline, |at| (at + self.config.settle).min(self.deadline))
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Draining { until: None, .. } if now >= self.deadline => self.fail(FailoverError::NotFenced),
            Phase::Draining { .. } if now >= self.deadline => self.fence_others(now),
            Phase::Fencing => self.choose(now),
            Phase::Promoting { .. } if now >= self.deadline => self.fail(FailoverError::NotPromoted),
            _ => {}
        }
    }

    pub(crate) fn answer(&mut self, answer: Answer, now: Instant) {
        match (answer, self.phase.clone()) {
            (Answer::Fenced(_, Err(Refusal::Superseded)) | Answer::Promoted(Err(Refusal::Superseded)), _) => {
                self.fail(FailoverError::Superseded);
            }
            (Answer::Fenced(_, Ok(observation)), _) if observation.history.current() >= self.ballot.epoch => {
                self.fail(FailoverError::Superseded);
            }
            (Answer::Fenced(node, result), Phase::Draining { target, .. }) if Some(node) == self.primary => {
                self.primary_fenced(node, target, result, now);
            }
            (Answer::Observed(node, observation), Phase::Draining { target, until: Some(until) }) if node == target => {
                if observation.is_some_and(|observation| observation.received >= until) {
                    self.fence_others(now);
                } else {
                    self.calls.push(Call::Observe(target));
                }
            }
            (Answer::Fenced(node, result), Phase::Fencing) => {
                self.fenced[node] = Some(result);
                self.choose(now);
            }
            (Answer::Promoted(result), Phase::Promoting { candidate }) => self.promoted(candidate, result),
            _ => {}
        }
    }

    fn primary_fenced(&mut self, primary: usize, target: usize, result: Result<Observation, Refusal>, now: Instant) {
        match &result {
            Err(_) => return self.fail(FailoverError::NotFenced),
            Ok(observation) if observation.role != Role::Primary => return self.fail(FailoverError::Superseded),
            Ok(observation) => self.primary_lsn = observation.received,
        }
        self.fenced[primary] = Some(result);
        if target == primary {
            return self.fence_others(now);
        }
        self.phase = Phase::Draining { target, until: Some(self.primary_lsn) };
        self.calls.push(Call::Observe(target));
    }

    /// Of a planned change: the target has the whole log, or it is too far behind, and then the primary goes on. Who has
    /// the longest log is found as after a crash.
    fn fence_others(&mut self, now: Instant) {
        self.phase = Phase::Fencing;
        self.deadline = now + self.config.fence_timeout;
        let others = (0..self.nodes.len()).filter(|node| self.fenced[*node].is_none());
        self.calls.extend(others.map(Call::Fence));
        self.choose(now);
    }

    /// Whether enough are fenced, and who is the furthest.
    fn choose(&mut self, now: Instant) {
        let replicas = self.nodes.len() - 1;
        let Some(needed) = self.mode.fences_needed(replicas) else { return self.fail(FailoverError::Impossible) };
        let candidates: Vec<_> = self.candidates().collect();
        let is_over = now >= self.deadline;
        if candidates.len() < needed {
            if is_over || self.fenced.iter().all(Option::is_some) {
                self.fail(FailoverError::TooFew { fenced: candidates.len(), needed });
            }
            return;
        }
        let enough_at = *self.enough_at.get_or_insert(now);
        let is_settled = match self.target {
            // The primary is fenced: there is nobody else to wait for.
            Some(target) => self.fenced[target].is_some(),
            None => now >= enough_at + self.config.settle && self.is_heard(),
        };
        let is_complete =
            self.fenced.iter().enumerate().all(|(node, fenced)| fenced.is_some() || Some(node) == self.primary);
        if !is_over && !is_settled && !is_complete {
            return;
        }
        let preference = |node| (Some(node) == self.target, Some(node) == self.primary, std::cmp::Reverse(node));
        let furthest = candidates.into_iter().max_by_key(|(node, position)| (*position, preference(*node)));
        if let Some((candidate, _)) = furthest {
            self.promote(candidate, now);
        }
    }

    /// Whether nobody is to be waited for who may be further: in a quorum, enough of them have all that was acknowledged.
    fn is_heard(&self) -> bool {
        let mut replicas = self.fenced.iter().enumerate().filter(|(node, _)| Some(*node) != self.primary);
        matches!(self.mode, Mode::Quorum { .. })
            || replicas.all(|(node, fenced)| fenced.is_some() || !self.awaited[node])
    }

    /// Fenced nodes, and where their logs end. A former primary that is back is one of them: nothing is lost with it.
    fn candidates(&self) -> impl Iterator<Item = (usize, Position)> {
        let fenced = self.fenced.iter().enumerate();
        fenced.filter_map(|(node, fenced)| {
            let observation = fenced.as_ref()?.as_ref().ok()?;
            let epoch = match observation.role {
                // It has begun its reign, even if it has written nothing yet.
                Role::Primary => observation.history.current(),
                Role::Replica => observation.history.until(observation.received).current(),
            };
            Some((node, Position::new(epoch, observation.received)))
        })
    }

    fn promote(&mut self, candidate: usize, now: Instant) {
        let others = self.nodes.iter().enumerate().filter(|(node, _)| *node != candidate);
        let replicas = others.map(|(_, id)| *id).collect();
        self.calls.push(Call::Promote(candidate, Promotion { ballot: self.ballot, mode: self.mode, replicas }));
        self.phase = Phase::Promoting { candidate };
        self.deadline = now + self.config.promote_timeout;
        self.enough_at = None;
    }

    fn promoted(&mut self, candidate: usize, result: Result<Observation, Refusal>) {
        let Ok(observation) = result else { return self.fail(FailoverError::NotPromoted) };
        if self.target.is_some_and(|target| target != candidate) {
            return self.fail(FailoverError::NotCaughtUp);
        }
        let last = observation.history.switches().last().map(|switch| Position::new(switch.epoch, switch.at));
        let from = last.unwrap_or(Position::new(observation.history.current(), observation.received));
        let is_same = Some(candidate) == self.primary;
        let known_lost = if is_same { 0 } else { self.primary_lsn.0.saturating_sub(from.lsn.0) };
        self.phase = Phase::Done(Ok(Promoted { node: self.nodes[candidate], from, known_lost }));
    }

    fn fail(&mut self, error: FailoverError) {
        self.calls.clear();
        self.phase = Phase::Done(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterId, Epoch, History};

    const BALLOT: Ballot = Ballot { epoch: Epoch(2), coordinator: 1 };

    fn observation(role: Role, epoch: u64, received: u64) -> Observation {
        Observation {
            cluster: ClusterId(1),
            role,
            history: History::new(Epoch(epoch)),
            received: Lsn(received),
            replayed: Lsn(received),
            writable: false,
            upstream: None,
            promised: Some(BALLOT),
        }
    }

    fn ids(count: u16) -> Vec<NodeId> {
        (0..count).map(NodeId).collect()
    }

    fn crash(mode: Mode, nodes: u16, now: Instant) -> Failover {
        let mut failover = Failover::crash(FailoverConfig::default(), BALLOT, mode, ids(nodes), Some(0), Lsn(100), now);
        assert_eq!(failover.calls().len(), usize::from(nodes));
        failover
    }

    fn fenced(node: usize, received: u64) -> Answer {
        Answer::Fenced(node, Ok(observation(Role::Replica, 1, received)))
    }

    #[test]
    fn promotes_the_most_advanced_and_counts_what_is_known_to_be_lost() {
        let now = crate::clock::some_moment();
        let mut failover = crash(Mode::Asynchronous, 3, now);
        failover.answer(Answer::Fenced(0, Err(Refusal::Failed)), now);
        failover.answer(fenced(1, 90), now);
        assert!(failover.calls().is_empty(), "the other may be further");
        failover.answer(fenced(2, 95), now);
        let calls = failover.calls();
        assert!(matches!(&calls[..], [Call::Promote(2, promotion)] if promotion.replicas == [NodeId(0), NodeId(1)]));
        let mut after = observation(Role::Primary, 1, 95);
        after.history = after.history.promoted(Epoch(2), Lsn(95)).unwrap();
        failover.answer(Answer::Promoted(Ok(after)), now);
        let promoted = failover.outcome().unwrap().unwrap();
        assert_eq!((promoted.node, promoted.known_lost), (NodeId(2), 5));
    }

    #[test]
    fn a_later_epoch_is_further_than_a_longer_log() {
        let now = crate::clock::some_moment();
        let mut failover = crash(Mode::Asynchronous, 3, now);
        failover.answer(Answer::Fenced(1, Ok(observation(Role::Replica, 0, 95))), now);
        failover.answer(fenced(2, 80), now);
        assert!(matches!(failover.calls()[..], [Call::Promote(2, _)]));
    }

    #[test]
    fn waits_to_settle_and_no_longer_for_nodes_that_were_silent() {
        let now = crate::clock::some_moment();
        let mut failover = crash(Mode::Asynchronous, 4, now).awaiting(vec![false, true, false, false]);
        failover.answer(fenced(1, 90), now);
        assert_eq!(failover.wake_at(), now + FailoverConfig::default().settle);
        failover.tick(failover.wake_at());
        assert!(matches!(failover.calls()[..], [Call::Promote(1, _)]));
    }

    #[test]
    fn without_a_quorum_waits_for_whoever_may_be_further_and_answered_lately() {
        let (now, config) = (crate::clock::some_moment(), FailoverConfig::default());
        for mode in [Mode::Asynchronous, Mode::SemiSynchronous { timeout: Duration::from_millis(1) }] {
            let mut failover = crash(mode, 3, now);
            failover.answer(fenced(2, 80), now);
            assert_eq!(failover.wake_at(), now + config.fence_timeout);
            failover.tick(now + config.settle * 2);
            assert!(failover.calls().is_empty(), "what replica 1 has may have been acknowledged");
            failover.answer(fenced(1, 90), now + config.settle * 2);
            assert!(matches!(failover.calls()[..], [Call::Promote(1, _)]));

            let mut failover = crash(mode, 3, now);
            failover.answer(fenced(2, 80), now);
            failover.tick(failover.wake_at());
            assert!(matches!(failover.calls()[..], [Call::Promote(2, _)]), "not for ever");
        }
        let mut failover = crash(Mode::quorum(1), 4, now);
        failover.answer(fenced(1, 90), now);
        failover.answer(fenced(2, 80), now);
        failover.answer(Answer::Fenced(0, Ok(observation(Role::Primary, 1, 95))), now);
        failover.tick(now + config.settle);
        assert!(matches!(failover.calls()[..], [Call::Promote(0, _)]), "each acknowledged write is on one of three");
    }

    #[test]
    fn a_quorum_needs_as_many_as_must_meet_each_acknowledgement() {
        let now = crate::clock::some_moment();
        // Of four replicas two confirm: three must promise.
        let mut failover = crash(Mode::quorum(2), 5, now);
        failover.answer(fenced(1, 90), now);
        failover.answer(fenced(2, 91), now);
        failover.tick(now + FailoverConfig::default().settle * 3);
        assert!(failover.calls().is_empty());
        failover.answer(Answer::Fenced(0, Err(Refusal::Failed)), now);
        failover.answer(Answer::Fenced(3, Err(Refusal::Failed)), now);
        failover.answer(Answer::Fenced(4, Err(Refusal::Failed)), now);
        assert_eq!(failover.outcome(), Some(Err(FailoverError::TooFew { fenced: 2, needed: 3 })));
        let mut failover = crash(Mode::quorum(3), 3, now);
        failover.tick(now);
        assert_eq!(failover.outcome(), Some(Err(FailoverError::Impossible)));
    }

    #[test]
    fn another_coordinator_ends_it() {
        let now = crate::clock::some_moment();
        let mut failover = crash(Mode::Asynchronous, 3, now);
        failover.answer(Answer::Fenced(1, Err(Refusal::Superseded)), now);
        assert_eq!(failover.outcome(), Some(Err(FailoverError::Superseded)));
    }

    fn planned(now: Instant) -> Failover {
        let config = FailoverConfig::default();
        let mut failover = Failover::planned(config, BALLOT, Mode::Asynchronous, ids(3), (0, 2), now);
        assert_eq!(failover.calls(), [Call::Fence(0)]);
        failover.answer(Answer::Fenced(0, Ok(observation(Role::Primary, 1, 50))), now);
        assert_eq!(failover.calls(), [Call::Observe(2)]);
        failover
    }

    #[test]
    fn a_planned_change_waits_for_the_whole_log() {
        let now = crate::clock::some_moment();
        let mut failover = planned(now);
        failover.answer(Answer::Observed(2, Some(observation(Role::Replica, 1, 49))), now);
        assert_eq!(failover.calls(), [Call::Observe(2)]);
        failover.answer(Answer::Observed(2, Some(observation(Role::Replica, 1, 50))), now);
        assert_eq!(failover.calls(), [Call::Fence(1), Call::Fence(2)]);
        failover.answer(fenced(2, 50), now);
        assert!(matches!(failover.calls()[..], [Call::Promote(2, _)]));
    }

    #[test]
    fn a_planned_change_that_takes_too_long_is_taken_back() {
        let now = crate::clock::some_moment();
        let mut failover = planned(now);
        failover.tick(failover.wake_at());
        assert_eq!(failover.calls(), [Call::Fence(1), Call::Fence(2)]);
        failover.answer(fenced(1, 50), now);
        failover.answer(fenced(2, 40), now);
        assert!(matches!(failover.calls()[..], [Call::Promote(0, _)]));
        failover.answer(Answer::Promoted(Ok(observation(Role::Primary, 1, 50))), now);
        assert_eq!(failover.outcome(), Some(Err(FailoverError::NotCaughtUp)));
    }

    /// It may acknowledge writes still, which the target does not have.
    #[test]
    fn a_planned_change_of_a_primary_that_does_not_promise_promotes_nobody() {
        let (now, config) = (crate::clock::some_moment(), FailoverConfig::default());
        let planned = || Failover::planned(config.clone(), BALLOT, Mode::Asynchronous, ids(3), (0, 2), now);
        let mut failover = planned();
        failover.calls();
        failover.tick(failover.wake_at());
        assert_eq!(failover.outcome(), Some(Err(FailoverError::NotFenced)));
        let mut failover = planned();
        failover.answer(Answer::Fenced(0, Err(Refusal::Failed)), now);
        assert_eq!(failover.outcome(), Some(Err(FailoverError::NotFenced)));
        assert!(failover.calls().is_empty());
    }

    /// Its coordinator had not heard of the primary that came after the one that it knows.
    #[test]
    fn a_planned_change_of_a_primary_that_was_replaced_undoes_nothing() {
        let now = crate::clock::some_moment();
        let planned = |(primary, target)| {
            let config = FailoverConfig::default();
            Failover::planned(config, BALLOT, Mode::quorum(1), ids(3), (primary, target), now)
        };
        let mut failover = planned((0, 0));
        failover.answer(Answer::Fenced(0, Ok(observation(Role::Primary, 0, 50))), now);
        assert_eq!(failover.calls(), [Call::Fence(0), Call::Fence(1), Call::Fence(2)]);
        failover.answer(fenced(2, 70), now);
        assert!(matches!(failover.calls()[..], [Call::Promote(2, _)]), "a quorum has gone on without it");

        let mut failover = planned((0, 0));
        failover.answer(Answer::Fenced(0, Ok(observation(Role::Primary, 1, 50))), now);
        failover.answer(fenced(1, 50), now);
        failover.answer(Answer::Promoted(Ok(observation(Role::Primary, 1, 0))), now);
        assert_eq!(failover.outcome().unwrap().unwrap().known_lost, 0, "it has all that it had");

        let mut failover = planned((0, 1));
        failover.answer(fenced(0, 50), now);
        assert_eq!(failover.outcome(), Some(Err(FailoverError::Superseded)), "it is a replica by now");

        let mut failover = planned((0, 1));
        failover.answer(Answer::Fenced(0, Ok(observation(Role::Primary, 2, 50))), now);
        assert_eq!(failover.outcome(), Some(Err(FailoverError::Superseded)), "the ballot is not beyond its epoch");
    }
}
