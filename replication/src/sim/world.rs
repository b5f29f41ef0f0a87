//! What happens, in order of time: messages arrive, logs are applied.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::network::{Endpoint, Network};
use super::node::{Record, SimNode};
use super::{Flaw, SimConfig};
use crate::driver::{Ballot, Promotion, Rejoined};
use crate::{ClusterId, History, Lsn, NodeId, Position, Rng, Role, Standing};

/// How often a replica asks for what it may have missed.
const TICK: Duration = Duration::from_millis(20);

/// A replica that has heard nothing of its primary for so long has lost it.
pub(super) const SILENCE: Duration = Duration::from_millis(100);

/// Records in one message.
const MAX_RECORDS: usize = 64;

#[derive(Debug)]
pub(super) struct World {
    start: Instant,
    now: Duration,
    pub(super) cluster: ClusterId,
    pub(super) rng: Rng,
    pub(super) network: Network,
    pub(super) nodes: Vec<SimNode>,
    pub(super) flaw: Option<Flaw>,
    clients: u16,
    events: BinaryHeap<Reverse<Timed>>,
    scheduled: u64,
}

#[derive(Debug)]
struct Timed {
    at: Duration,
    order: u64,
    event: Event,
}

#[derive(Debug)]
enum Event {
    Tick(usize),
    Apply(usize),
    Deliver { from: NodeId, to: usize, message: Message },
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    /// A replica has this much of this log, and wants more.
    Pull { has: usize, position: Position },
    /// A primary's log from a place on, with the history that it belongs to.
    Records { from: usize, records: Vec<Record>, history: History },
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Why a node does not do what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Superseded,
    NotAReplica,
    NoPrimaryThere,
}

impl World {
    pub(super) fn new(config: SimConfig, start: Instant) -> Self {
        let nodes: Vec<_> = (0..config.nodes).map(|id| SimNode::new(NodeId(id), &config)).collect();
        let mut world = Self {
            start,
            now: Duration::ZERO,
            cluster: ClusterId(Rng::new(config.seed).next_u64()),
            rng: Rng::new(config.seed),
            network: Network::new(config.delay, config.client_delay, config.loss_per_mille),
            nodes,
            flaw: config.flaw,
            clients: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
        };
        for node in 0..world.nodes.len() {
            world.schedule(Duration::ZERO, Event::Tick(node));
        }
        world
    }

    pub(super) fn add_client(&mut self) -> u16 {
        self.clients += 1;
        self.clients - 1
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Lets everything happen that is due by then.
    pub(super) fn advance(&mut self, to: Instant) {
        let to = to.saturating_duration_since(self.start);
        while self.events.peek().is_some_and(|Reverse(next)| next.at <= to) {
            let Some(Reverse(Timed { at, event, .. })) = self.events.pop() else { break };
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = self.now.max(to);
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Timed { at: self.now + after, order: self.scheduled, event }));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(node) => {
                self.pull(node);
                self.schedule(TICK, Event::Tick(node));
            }
            Event::Apply(node) => self.apply(node),
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let (sender, receiver) = (Endpoint::Node(self.nodes[from].id), Endpoint::Node(to));
        if let Some(delay) = self.network.send(sender, receiver, &mut self.rng) {
            let from = self.nodes[from].id;
            self.schedule(delay, Event::Deliver { from, to: to.0.into(), message });
        }
    }

    fn deliver(&mut self, from: NodeId, to: usize, message: Message) {
        let node = &mut self.nodes[to];
        if !node.is_alive {
            return;
        }
        if node.is_paused {
            node.inbox.push((from, message));
            return;
        }
        match message {
            Message::Pull { has, position } => self.pulled(to, from, has, position),
            Message::Records { from: at, records, history } => self.received(to, from, at, records, &history),
        }
    }

    /// A replica tells its primary how far it is.
    fn pull(&mut self, node: usize) {
        let this = &self.nodes[node];
        let Some(primary) = this.following.filter(|_| this.is_alive && !this.is_paused) else { return };
        if this.role == Role::Replica {
            let position = Position::new(this.history.current(), this.received());
            self.send(node, primary, Message::Pull { has: this.log.len(), position });
        }
    }

    /// A primary takes note of what a replica has, and sends what it lacks.
    fn pulled(&mut self, node: usize, replica: NodeId, has: usize, position: Position) {
        let this = &mut self.nodes[node];
        if this.role != Role::Primary || this.history.standing(position) != Standing::Kept || has > this.log.len() {
            return;
        }
        if this.is_writable() {
            let reached = this.confirmed.entry(replica).or_default();
            *reached = (*reached).max(has);
        }
        self.show_confirmed(node);
        self.ship(node, replica, has);
    }

    fn ship(&mut self, node: usize, replica: NodeId, from: usize) {
        let this = &self.nodes[node];
        let records = this.log[from..].iter().take(MAX_RECORDS).cloned().collect();
        let history = this.history.clone();
        self.send(node, replica, Message::Records { from, records, history });
    }

    /// What is confirmed may be seen: others do not see a write that a failover could still undo.
    pub(super) fn show_confirmed(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        if this.is_writable() {
            while this.visible < this.log.len() && this.is_confirmed(this.visible + 1) {
                this.show(this.visible + 1);
            }
        }
    }

    fn received(&mut self, node: usize, primary: NodeId, from: usize, records: Vec<Record>, history: &History) {
        let now = self.now;
        let this = &mut self.nodes[node];
        let mine = Position::new(this.history.current(), this.received());
        let is_wanted = this.following == Some(primary) && this.role == Role::Replica;
        if !is_wanted || history.standing(mine) != Standing::Kept {
            return;
        }
        this.heard_at = Some(now);
        if from > this.log.len() {
            return;
        }
        let known = this.log.len() - from;
        let is_more = records.len() > known;
        this.log.extend(records.into_iter().skip(known));
        this.history = history.until(this.received());
        let (length, delay) = (this.log.len(), this.replay_delay);
        if is_more {
            this.pending.push_back((length, now + delay));
            self.schedule(delay, Event::Apply(node));
            self.pull(node);
        }
    }

    fn apply(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        if !this.is_alive || this.is_paused {
            return;
        }
        while let Some((until, _)) = this.pending.front().copied().filter(|(_, due)| *due <= now) {
            this.show(until);
            this.pending.pop_front();
        }
    }

    /// A primary logs a transaction and sends it to all who follow; gives its place.
    pub(super) fn append(&mut self, node: usize, appends: Vec<(u64, u64)>) -> usize {
        let this = &mut self.nodes[node];
        let epoch = this.history.current();
        this.log.push(Record { epoch, appends });
        let lsn = this.log.len();
        self.show_confirmed(node);
        let followers: Vec<_> = self.nodes[node].confirmed.keys().copied().collect();
        for replica in followers {
            let from = self.nodes[node].confirmed[&replica];
            self.ship(node, replica, from);
        }
        lsn
    }

    pub(super) fn crash(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.is_alive = false;
        this.is_paused = false;
        this.incarnation += 1;
        this.inbox.clear();
        this.confirmed.clear();
        this.heard_at = None;
    }

    pub(super) fn restart(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.is_alive = true;
        // Recovery replays the whole log.
        this.pending.clear();
        if this.role == Role::Replica || matches!(this.mode, crate::Mode::Asynchronous) {
            this.show(this.log.len());
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.is_paused = false;
        for (from, message) in std::mem::take(&mut this.inbox) {
            self.deliver(from, node, message);
        }
        self.apply(node);
    }

    pub(super) fn isolate(&mut self, node: NodeId, with_clients: bool) {
        let nodes = self.nodes.iter().map(|other| Endpoint::Node(other.id));
        let clients = (0..self.clients).map(Endpoint::Client).filter(|_| with_clients);
        for other in nodes.chain(clients).collect::<Vec<_>>() {
            self.network.cut(Endpoint::Node(node), other);
            self.network.cut(other, Endpoint::Node(node));
        }
    }

    fn promise(&mut self, node: usize, ballot: Ballot) -> Result<&mut SimNode, Refused> {
        let this = &mut self.nodes[node];
        if this.promised.is_some_and(|promised| promised > ballot) {
            return Err(Refused::Superseded);
        }
        this.promised = Some(ballot);
        Ok(this)
    }

    pub(super) fn fence(&mut self, node: usize, ballot: Ballot) -> Result<(), Refused> {
        let is_forgotten = self.flaw == Some(Flaw::FenceForgotten);
        let this = self.promise(node, ballot)?;
        if is_forgotten {
            return Ok(());
        }
        this.following = None;
        this.heard_at = None;
        if this.installed == Some(ballot) {
            this.installed = None;
        }
        Ok(())
    }

    pub(super) fn promote(&mut self, node: usize, promotion: &Promotion) -> Result<(), Refused> {
        let this = &mut self.nodes[node];
        if this.promised != Some(promotion.ballot) {
            return Err(Refused::Superseded);
        }
        let length = this.log.len();
        this.show(length);
        this.pending.clear();
        let epoch = promotion.ballot.epoch;
        if epoch > this.history.current() {
            let history = this.history.until(Lsn(length as u64)).promoted(epoch, Lsn(length as u64));
            this.history = history.expect("the epoch is later, and no switch is beyond the log's end");
        }
        this.role = Role::Primary;
        this.installed = Some(promotion.ballot);
        this.mode = promotion.mode;
        this.confirming.clone_from(&promotion.replicas);
        this.confirmed.clear();
        this.following = None;
        Ok(())
    }

    pub(super) fn follow(&mut self, node: usize, primary: NodeId, ballot: Ballot) -> Result<(), Refused> {
        if self.nodes[node].role != Role::Replica {
            return Err(Refused::NotAReplica);
        }
        let this = self.promise(node, ballot)?;
        this.following = Some(primary);
        this.heard_at = None;
        self.pull(node);
        Ok(())
    }

    pub(super) fn rejoin(&mut self, node: usize, primary: NodeId, ballot: Ballot) -> Result<Rejoined, Refused> {
        let other = &self.nodes[usize::from(primary.0)];
        let here = Endpoint::Node(self.nodes[node].id);
        let is_cut =
            self.network.is_cut(here, Endpoint::Node(primary)) || self.network.is_cut(Endpoint::Node(primary), here);
        if other.role != Role::Primary || !other.is_alive || other.is_paused || is_cut {
            return Err(Refused::NoPrimaryThere);
        }
        // Two logs that have the same epoch at a place are the same up to there.
        let pairs = self.nodes[node].log.iter().zip(&other.log);
        let common = pairs.take_while(|(mine, theirs)| mine.epoch == theirs.epoch).count();
        let history = other.history.until(Lsn(common as u64));
        let this = self.promise(node, ballot)?;
        let had = this.log.len();
        this.truncate(common);
        this.history = history;
        this.role = Role::Replica;
        this.installed = None;
        this.following = Some(primary);
        this.heard_at = None;
        this.is_alive = true;
        this.incarnation += 1;
        this.show(common);
        self.pull(node);
        Ok(Rejoined { discarded: (had > common).then_some((Lsn(common as u64), Lsn(had as u64))) })
    }
}
