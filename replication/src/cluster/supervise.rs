//! Leads failovers, and brings back who has left: the calls that [`Failover`] asks for, and repairs.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{Cluster, Shared};
use crate::driver::{Ballot, Class, Driver, Observation, Promotion};
use crate::failover::{Answer, Call, Failover, FailoverConfig, FailoverError, Promoted, Refusal};
use crate::monitor::{DetectConfig, Monitor, ObserverId, Report, Verdict};
use crate::stats::count;
use crate::tasks::Tasks;
use crate::topology::{Member, Topology};
use crate::{Epoch, Lsn, Node, NodeId, Position, Role};

/// How often a target is asked that is to catch up.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(2);

impl<D: Driver> Cluster<D> {
    /// Watches over the primary, for ever: names another when it is lost, and brings strayed nodes back.
    ///
    /// Any number of processes may do this for one cluster. Needs [`Cluster::drive`] beside.
    ///
    /// # Cancel safety
    /// A failover that was begun is finished by another supervisor, or by the next run of this one.
    pub async fn supervise(self, detect: DetectConfig, failover: FailoverConfig) {
        let shared = &*self.shared;
        *shared.monitor.lock() = Monitor::new(detect.clone());
        let mut watch = Watch { leaderless_since: None, outbid_since: None };
        // Under which ballot a node was told last, and when.
        let mut tried: Vec<Option<(Option<Ballot>, Instant)>> = vec![None; shared.pools.len()];
        let mut repairs: Tasks<'_, usize> = Tasks::new();
        let mut busy = vec![false; shared.pools.len()];
        loop {
            let topology = shared.topology();
            if let Some(mission) = watch.mission(shared, &topology, &detect) {
                if shared.lead(mission, &failover).await.is_err() {
                    // Two coordinators that hinder each other part here.
                    let spread = shared.rng().below(1_000) as u32;
                    tokio::time::sleep(failover.retry + failover.retry * spread / 1_000).await;
                }
                continue;
            }
            let ballot = topology.primary().and_then(Member::promised);
            for index in topology.strayed() {
                let now = shared.now();
                // That it was told of another primary lately is no reason to wait: in a quorum, writes would wait too.
                let is_due = tried[index].is_none_or(|(under, at)| {
                    under != ballot || now.saturating_duration_since(at) >= failover.repair_interval
                });
                if is_due && !busy[index] {
                    (tried[index], busy[index]) = (Some((ballot, now)), true);
                    repairs.push(shared.repair(index, &failover));
                }
            }
            let deadline = crate::clock::deadline(shared.config.observe_interval);
            tokio::select! {
                biased;
                index = repairs.next() => busy[index] = false,
                _ = shared.changed(&topology, deadline) => {}
            }
        }
    }

    /// Makes another node the primary, on purpose: no write of this process fails, those that come meanwhile wait.
    ///
    /// To the node that is the primary already it does nothing.
    ///
    /// Processes beside this one hold their writes back by [`Cluster::hold_writes`]; writes that they have under way when
    /// the primary is fenced are cut off. If the node does not catch up in time, the old primary goes on.
    ///
    /// # Errors
    /// [`FailoverError`].
    ///
    /// # Cancel safety
    /// Dropping it may leave no primary, until a supervisor names one.
    pub async fn switchover(&self, to: NodeId, config: &FailoverConfig) -> Result<Promoted, FailoverError> {
        let shared = &*self.shared;
        let topology = shared.topology();
        let target = topology.index_of(to).ok_or(FailoverError::NoSuchNode)?;
        if let Some(reign) = topology.reign_of(target) {
            return Ok(reign);
        }
        let held = self.hold_writes(config.drain_timeout).await.map_err(|_| FailoverError::Busy)?;
        let outcome = shared.lead(Mission::Planned { target }, config).await;
        drop(held);
        let topology = shared.topology();
        if topology.primary.is_some() {
            let mut repairs = Tasks::new();
            for index in topology.strayed() {
                repairs.push(shared.repair(index, config));
            }
            repairs.all().await;
        }
        outcome
    }

    /// Names a new primary now, whatever is known of the old one.
    ///
    /// # Errors
    /// [`FailoverError`].
    ///
    /// # Cancel safety
    /// Dropping it may leave no primary, until a supervisor names one.
    pub async fn failover(&self, config: &FailoverConfig) -> Result<Promoted, FailoverError> {
        self.shared.lead(Mission::Crash, config).await
    }

    /// Takes in what another process saw of the primary, for [`DetectConfig::quorum`]; it counts for three times the
    /// [`patience`](DetectConfig::patience), so let each report again and again.
    pub fn report(&self, observer: ObserverId, report: Report) {
        self.shared.monitor.lock().report(observer, report, self.shared.now());
    }

    /// What is held of the primary now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.shared.verdict(&self.topology())
    }
}

/// What a failover is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mission {
    /// The primary is lost.
    Crash,
    /// The primary is to be this one, which may be the one that it is.
    Planned { target: usize },
}

/// Since when something is wrong that may pass by itself.
struct Watch {
    leaderless_since: Option<Instant>,
    outbid_since: Option<Instant>,
}

impl Watch {
    fn mission<D: Driver>(
        &mut self,
        shared: &Shared<D>,
        topology: &Topology,
        detect: &DetectConfig,
    ) -> Option<Mission> {
        let now = shared.now();
        let is_over = |since: &mut Option<Instant>, is_so: bool| {
            *since = since.filter(|_| is_so).or(is_so.then_some(now));
            since.is_some_and(|since| now.saturating_duration_since(since) >= detect.leaderless)
        };
        // Nobody knows of a primary, and no replica gets anybody's log.
        let is_unheard = topology.witnesses().iter().all(|witness| !witness.hears_primary);
        let is_leaderless = topology.history.is_some() && topology.reigning.is_none() && is_unheard;
        if is_over(&mut self.leaderless_since, is_leaderless) {
            self.leaderless_since = None;
            return Some(Mission::Crash);
        }
        match shared.verdict(topology) {
            Verdict::Dead { .. } => return Some(Mission::Crash),
            Verdict::Vetoed => {
                count(&shared.counters.vetoes);
                #[cfg(feature = "tracing")]
                tracing::debug!(shard = shared.shard.0, "a replica still hears the primary that was lost");
            }
            Verdict::Alive => {}
        }
        // A coordinator fenced some node and came to nothing: under the primary's ballot it cannot come back.
        let reign = topology.primary().zip(topology.epoch()).map(|(primary, epoch)| reign(primary, epoch));
        let is_outbid = reign.is_some_and(|reign| topology.highest_promise() > Some(reign));
        if is_over(&mut self.outbid_since, is_outbid) {
            self.outbid_since = None;
            return topology.primary.map(|target| Mission::Planned { target });
        }
        None
    }
}

/// The ballot that made it primary; of one that nobody has promoted yet, one below all others.
fn reign(primary: &Member, epoch: Epoch) -> Ballot {
    primary.promised().unwrap_or(Ballot { epoch, coordinator: 0 })
}

/// The next epoch of this coordinator: no other takes the same one, even if neither knows of the other. So nodes that two
/// of them promote at once, where no quorum prevents it, reign in different epochs.
fn epoch_after(highest: Epoch, coordinator: u64) -> Epoch {
    const COORDINATOR_BITS: u32 = 16;
    let round = (highest.0 >> COORDINATOR_BITS) + 1;
    Epoch(round << COORDINATOR_BITS | coordinator & ((1 << COORDINATOR_BITS) - 1))
}

impl Topology {
    /// Of the node that is the primary: how that would be told of.
    fn reign_of(&self, index: usize) -> Option<Promoted> {
        let history = self.history().filter(|_| self.primary == Some(index))?;
        let last = history.switches().last().map(|switch| Position::new(switch.epoch, switch.at));
        let from = last.unwrap_or(Position::new(history.current(), Lsn(0)));
        Some(Promoted { node: self.members[index].node.id(), from, known_lost: 0 })
    }

    /// Nodes that answer, and are not replicas of the primary.
    fn strayed(&self) -> Vec<usize> {
        let Some(primary) = self.primary() else { return Vec::new() };
        let is_strayed = |member: &Member| {
            let follows = member.upstream() == Some(primary.node.id());
            member.is_reachable() && (member.role() == Some(Role::Primary) || !member.is_kept() || !follows)
        };
        let others = self.members.iter().enumerate().filter(|(index, _)| Some(*index) != self.primary);
        others.filter(|(_, member)| is_strayed(member)).map(|(index, _)| index).collect()
    }
}

impl<D: Driver> Shared<D> {
    fn verdict(&self, topology: &Topology) -> Verdict {
        self.monitor.lock().verdict(&topology.witnesses(), self.now())
    }

    async fn lead(&self, mission: Mission, config: &FailoverConfig) -> Result<Promoted, FailoverError> {
        let topology = self.topology();
        let outcome = match self.plan(mission, config, &topology) {
            Ok((ballot, plan)) => {
                let run = self.carry_out(ballot, plan);
                #[cfg(feature = "tracing")]
                let run = tracing::Instrument::instrument(
                    run,
                    tracing::info_span!("failover", shard = self.shard.0, epoch = ballot.epoch.0, ?mission),
                );
                run.await
            }
            Err(error) => Err(error),
        };
        count(if outcome.is_ok() { &self.counters.failovers } else { &self.counters.failovers_failed });
        #[cfg(feature = "tracing")]
        match &outcome {
            Ok(promoted) => tracing::info!(
                shard = self.shard.0,
                node = %promoted.node,
                from = %promoted.from,
                known_lost = promoted.known_lost,
                "promoted"
            ),
            Err(error) => tracing::warn!(shard = self.shard.0, %error, ?mission, "nobody was promoted"),
        }
        self.refresh.notify_waiters();
        outcome
    }

    fn plan(
        &self,
        mission: Mission,
        config: &FailoverConfig,
        topology: &Topology,
    ) -> Result<(Ballot, Failover), FailoverError> {
        let ballot = self.next_ballot(topology);
        let nodes: Vec<_> = topology.members.iter().map(|member| member.node.id()).collect();
        let awaited: Vec<_> = topology.members.iter().map(Member::is_reachable).collect();
        let (config, now) = (config.clone(), self.now());
        let plan = match mission {
            Mission::Crash => {
                let lsn = topology.reigning.and_then(|index| topology.members[index].received()).unwrap_or(Lsn(0));
                Failover::crash(config, ballot, self.mode, nodes, topology.reigning, lsn, now).awaiting(awaited)
            }
            Mission::Planned { target } => {
                let primary = topology.primary.ok_or(FailoverError::NoSuchNode)?;
                self.check_enough(&awaited)?;
                Failover::planned(config, ballot, self.mode, nodes, (primary, target), now)
            }
        };
        Ok((ballot, plan))
    }

    /// A primary that still gets its confirmations is not to be fenced for a change that cannot come about.
    fn check_enough(&self, reachable: &[bool]) -> Result<(), FailoverError> {
        let needed = self.mode.fences_needed(reachable.len() - 1).ok_or(FailoverError::Impossible)?;
        let fenced = reachable.iter().filter(|is_reachable| **is_reachable).count();
        if fenced < needed { Err(FailoverError::TooFew { fenced, needed }) } else { Ok(()) }
    }

    /// Beyond all that this process has heard of, and all that it has used: what an earlier one did is not always heard.
    fn next_ballot(&self, topology: &Topology) -> Ballot {
        let promised = topology.highest_promise().map(|ballot| ballot.epoch);
        let mut used = self.epoch_used.lock();
        let highest = topology.epoch().max(promised).max(Some(*used)).unwrap_or_default();
        *used = epoch_after(highest, self.coordinator);
        Ballot { epoch: *used, coordinator: self.coordinator }
    }

    async fn carry_out(&self, ballot: Ballot, mut plan: Failover) -> Result<Promoted, FailoverError> {
        let mut tasks = Tasks::new();
        loop {
            for call in plan.calls() {
                tasks.push(self.call(call, ballot));
            }
            if let Some(outcome) = plan.outcome() {
                return outcome;
            }
            let rest = plan.wake_at().saturating_duration_since(self.now());
            tokio::select! {
                biased;
                answer = tasks.next() => plan.answer(answer, self.now()),
                () = tokio::time::sleep(rest) => plan.tick(self.now()),
            }
        }
    }

    async fn call(&self, call: Call, ballot: Ballot) -> Answer {
        match call {
            Call::Fence(index) => {
                let node = self.node(index);
                let asked_at = self.now();
                let fenced = self.driver.fence(&node, ballot).await;
                #[cfg(feature = "tracing")]
                match &fenced {
                    Ok(seen) => {
                        tracing::info!(node = %node.id(), role = ?seen.role, received = seen.received.0, "fenced")
                    }
                    Err(error) => tracing::info!(node = %node.id(), %error, "not fenced"),
                }
                Answer::Fenced(index, self.learned(index, fenced, asked_at))
            }
            Call::Observe(index) => {
                let node = self.node(index);
                tokio::time::sleep(CATCH_UP_INTERVAL).await;
                Answer::Observed(index, self.driver.observe(&node).await.ok())
            }
            Call::Promote(index, promotion) => Answer::Promoted(self.promote(index, &promotion).await),
        }
    }

    async fn promote(&self, index: usize, promotion: &Promotion) -> Result<Observation, Refusal> {
        let node = self.node(index);
        let promoted = self.driver.promote(&node, promotion).await;
        #[cfg(feature = "tracing")]
        if let Err(error) = &promoted {
            tracing::info!(node = %node.id(), %error, "not promoted");
        }
        // Asked now: what it says is of after the promotion.
        let asked_at = self.now();
        self.learned(index, promoted, asked_at)
    }

    fn learned(
        &self,
        index: usize,
        result: Result<Observation, D::Error>,
        asked_at: Instant,
    ) -> Result<Observation, Refusal> {
        match result {
            Ok(observation) => {
                self.learn(index, &observation, asked_at);
                Ok(observation)
            }
            Err(error) if self.driver.classify(&error) == Class::Superseded => Err(Refusal::Superseded),
            Err(_) => Err(Refusal::Failed),
        }
    }

    /// Makes a strayed node a replica of the primary, under the ballot that made that one primary: so no promise to
    /// another coordinator is undone. Given up when there is another primary: that one has repairs of its own.
    async fn repair(&self, index: usize, config: &FailoverConfig) -> usize {
        let topology = self.topology();
        let Some((primary, epoch)) = topology.primary().zip(topology.epoch()) else { return index };
        tokio::select! {
            biased;
            is_done = self.try_repair(&topology.members[index], primary, epoch, config) => {
                if is_done {
                    self.refresh.notify_waiters();
                }
            }
            () = self.epoch_left(epoch) => {}
        }
        index
    }

    async fn try_repair(&self, member: &Member, primary: &Member, epoch: Epoch, config: &FailoverConfig) -> bool {
        let ballot = reign(primary, epoch);
        let (node, primary) = (&member.node, &primary.node);
        let may_follow = member.role() == Some(Role::Replica) && member.is_kept();
        if may_follow {
            let follow = self.driver.follow(node, primary, ballot);
            return self.step_of_repair(node, "follow", config.fence_timeout, follow).await.is_some();
        }
        // It takes no write from now on, whatever becomes of the rest.
        let fence = self.driver.fence(node, ballot);
        if self.step_of_repair(node, "fence", config.fence_timeout, fence).await.is_none() {
            return false;
        }
        let rejoin = self.driver.rejoin(node, primary, ballot);
        let Some(rejoined) = self.step_of_repair(node, "rejoin", config.rejoin_timeout, rejoin).await else {
            return false;
        };
        count(&self.counters.rejoins);
        #[cfg(feature = "tracing")]
        tracing::info!(shard = self.shard.0, node = %node.id(), discarded = ?rejoined.discarded, "rejoined");
        if let Some((from, to)) = rejoined.discarded {
            let length = to.0.saturating_sub(from.0);
            self.counters.discarded.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        }
        true
    }

    /// What it gives, in time.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nobody is told"))]
    async fn step_of_repair<T>(
        &self,
        node: &Node,
        step: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, D::Error>>,
    ) -> Option<T> {
        let result = timeout(limit, work).await;
        #[cfg(feature = "tracing")]
        match &result {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let cause = super::watch_nodes::with_causes(error);
                tracing::info!(shard = self.shard.0, node = %node.id(), step, cause, "a strayed node is not back");
            }
            Err(_) => {
                tracing::info!(shard = self.shard.0, node = %node.id(), step, ?limit, "a strayed node is not back")
            }
        }
        result.ok()?.ok()
    }

    pub(super) fn node(&self, index: usize) -> Node {
        self.topology().members[index].node.clone()
    }
}
