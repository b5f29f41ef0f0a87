//! The simulated cluster as a driver sees it.

use std::future::pending;
use std::time::Duration;

use thiserror::Error;

use super::network::Endpoint;
use super::node::SimNode;
use super::world::{Refused, SILENCE, World};
use super::{Flaw, Sim};
use crate::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use crate::{Epoch, Lsn, Mode, Node, NodeId, Position};

/// How often somebody looks who waits for something to happen.
const POLL: Duration = Duration::from_millis(1);

/// One process's way to a simulated cluster.
#[derive(Clone, Debug)]
pub struct SimDriver {
    sim: Sim,
    client: u16,
}

/// A connection to a simulated node, on which numbers are appended to lists.
#[derive(Debug)]
pub struct SimConnection {
    sim: Sim,
    client: u16,
    node: usize,
    incarnation: u64,
    access: Access,
    transaction: Option<Transaction>,
    mark: Mark,
    logged_at: Option<Position>,
    /// Where it was at least: a node never goes back while it runs.
    shows: Option<Position>,
    skips_mark: bool,
    is_broken: bool,
}

#[derive(Debug)]
struct Transaction {
    access: Access,
    appends: Vec<(u64, u64)>,
}

/// What a simulated node says no with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SimError {
    /// Nobody listens there.
    #[error("connection refused")]
    ConnectionRefused,
    /// The connection broke.
    #[error("connection lost")]
    ConnectionLost,
    /// Writes are not taken here.
    #[error("the node or the connection is read-only")]
    ReadOnly,
    /// A higher ballot was promised.
    #[error("a higher ballot was promised")]
    Superseded,
    /// A statement that makes no sense, as [`SimConnection::fail`] asks for.
    #[error("syntax error")]
    Syntax,
    /// What [`SimConnection::conflict`] asks for.
    #[error("the transaction was rolled back because of a conflict")]
    Conflict,
    /// A primary was told to follow.
    #[error("the node is no replica")]
    NotAReplica,
    /// There is no such primary to rejoin.
    #[error("the primary to rejoin cannot be reached or is none")]
    NoPrimaryThere,
}

impl From<Refused> for SimError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Superseded => Self::Superseded,
            Refused::NotAReplica => Self::NotAReplica,
            Refused::NoPrimaryThere => Self::NoPrimaryThere,
        }
    }
}

/// The way of a request and of its answer.
#[derive(Clone, Copy)]
struct Way {
    client: Endpoint,
    node: usize,
}

impl Way {
    fn end(self) -> Endpoint {
        Endpoint::Node(NodeId(self.node as u16))
    }

    async fn there(self, sim: &Sim) {
        travel(sim, self.client, self.end()).await;
    }

    async fn back(self, sim: &Sim) {
        travel(sim, self.end(), self.client).await;
    }

    /// Waits as long as the node hangs, and gives what it does then.
    async fn at<T>(self, sim: &Sim, f: impl FnOnce(&mut World, usize) -> T) -> Result<T, SimError> {
        loop {
            let state = sim.with(|world| (world.nodes[self.node].is_alive, world.nodes[self.node].is_paused));
            match state {
                (false, _) => return Err(SimError::ConnectionRefused),
                (true, true) => tokio::time::sleep(POLL).await,
                (true, false) => return Ok(sim.with(|world| f(world, self.node))),
            }
        }
    }
}

/// What a cut link swallows never arrives.
async fn travel(sim: &Sim, from: Endpoint, to: Endpoint) {
    match sim.with(|world| world.network.send(from, to, &mut world.rng)) {
        None => pending().await,
        Some(Duration::ZERO) => {}
        Some(delay) => tokio::time::sleep(delay).await,
    }
}

impl SimDriver {
    pub(super) fn new(sim: Sim, client: u16) -> Self {
        Self { sim, client }
    }

    /// The end of its links, to cut them by.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Client(self.client)
    }

    fn way(&self, node: &Node) -> Way {
        Way { client: self.endpoint(), node: node.id().0.into() }
    }

    async fn ask<T>(&self, node: &Node, f: impl FnOnce(&mut World, usize) -> T) -> Result<T, SimError> {
        let way = self.way(node);
        way.there(&self.sim).await;
        let result = way.at(&self.sim, f).await;
        way.back(&self.sim).await;
        result
    }
}

fn observation(world: &World, node: usize) -> Observation {
    world.nodes[node].observe(world.cluster, world.now(), SILENCE)
}

impl Driver for SimDriver {
    type Connection = SimConnection;
    type Error = SimError;

    async fn connect(&self, node: &Node, access: Access) -> Result<Connected<SimConnection>, SimError> {
        let connect = |world: &mut World, index: usize| {
            let node = &world.nodes[index];
            (world.cluster, node.role, node.history.current(), node.incarnation)
        };
        let (cluster, role, epoch, incarnation) = self.ask(node, connect).await?;
        let connection = SimConnection {
            sim: self.sim.clone(),
            client: self.client,
            node: node.id().0.into(),
            incarnation,
            access,
            transaction: None,
            mark: Mark::default(),
            logged_at: None,
            shows: None,
            skips_mark: false,
            is_broken: false,
        };
        Ok(Connected { connection, cluster, role, epoch })
    }

    fn is_open(&self, connection: &SimConnection) -> bool {
        let node = connection.node;
        let is_same = |node: &SimNode| node.is_alive && node.incarnation == connection.incarnation;
        !connection.is_broken && connection.transaction.is_none() && is_same(&self.sim.world.lock().nodes[node])
    }

    async fn begin(&self, connection: &mut SimConnection, access: Access) -> Result<(), SimError> {
        connection.transaction = Some(Transaction { access, appends: Vec::new() });
        Ok(())
    }

    async fn commit(&self, connection: &mut SimConnection) -> Result<(), SimError> {
        match connection.transaction.take() {
            Some(Transaction { appends, .. }) if !appends.is_empty() => connection.log(appends).await,
            _ => Ok(()),
        }
    }

    async fn roll_back(&self, connection: &mut SimConnection) -> Result<(), SimError> {
        connection.transaction = None;
        Ok(())
    }

    fn take_mark(&self, connection: &mut SimConnection) -> Mark {
        let mut mark = std::mem::take(&mut connection.mark);
        connection.shows = connection.shows.max(mark.position);
        if std::mem::take(&mut connection.skips_mark) {
            mark.position = None;
        }
        let flaw = self.sim.world.lock().flaw;
        if let Some(position) = &mut mark.position {
            match flaw {
                Some(Flaw::MarksEarly) => position.lsn.0 = position.lsn.0.saturating_sub(1),
                Some(Flaw::EpochForgotten) => position.epoch = Epoch(1),
                _ => {}
            }
        }
        mark
    }

    fn skip_mark(&self, connection: &mut SimConnection, floor: Option<Position>) {
        let is_shown =
            |floor: Position| connection.shows.is_some_and(|shown| shown.epoch == floor.epoch && shown >= floor);
        connection.skips_mark = connection.access == Access::Read && floor.is_none_or(is_shown);
    }

    async fn wait(&self, connection: &mut SimConnection, lsn: Lsn, timeout: Duration) -> Result<Lsn, SimError> {
        let deadline = crate::clock::deadline(timeout);
        loop {
            let replayed = connection.call(|world, node| world.nodes[node].replayed()).await?;
            if replayed >= lsn || crate::clock::left(deadline).is_zero() {
                return Ok(replayed);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn classify(&self, error: &SimError) -> Class {
        let flaw = self.sim.world.lock().flaw;
        match error {
            SimError::ConnectionLost if flaw == Some(Flaw::RepeatsAnything) => Class::NotSent,
            SimError::ConnectionRefused => Class::NotSent,
            SimError::ConnectionLost | SimError::NoPrimaryThere => Class::Gone,
            SimError::ReadOnly => Class::ReadOnly,
            SimError::Superseded => Class::Superseded,
            SimError::Syntax | SimError::NotAReplica => Class::Statement,
            SimError::Conflict => Class::RolledBack,
        }
    }

    async fn observe(&self, node: &Node) -> Result<Observation, SimError> {
        self.ask(node, |world, node| observation(world, node)).await
    }

    async fn fence(&self, node: &Node, ballot: Ballot) -> Result<Observation, SimError> {
        let fence = |world: &mut World, node: usize| {
            let mut seen = world.fence(node, ballot).map(|()| observation(world, node))?;
            if world.flaw == Some(Flaw::ReportsBackwards) {
                seen.received = Lsn(1_000_000 - seen.received.0);
            }
            Ok::<_, Refused>(seen)
        };
        Ok(self.ask(node, fence).await??)
    }

    async fn promote(&self, node: &Node, promotion: &Promotion) -> Result<Observation, SimError> {
        let promote =
            |world: &mut World, node: usize| world.promote(node, promotion).map(|()| observation(world, node));
        Ok(self.ask(node, promote).await??)
    }

    async fn follow(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<(), SimError> {
        Ok(self.ask(node, |world, node| world.follow(node, primary.id(), ballot)).await??)
    }

    async fn rejoin(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<Rejoined, SimError> {
        Ok(self.ask(node, |world, node| world.rejoin(node, primary.id(), ballot)).await??)
    }
}

impl SimConnection {
    /// The node at its other end.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(self.node as u16)
    }

    /// Where its last write was logged.
    #[must_use]
    pub fn logged_at(&self) -> Option<Position> {
        self.logged_at
    }

    /// Appends a number to a list.
    ///
    /// # Errors
    /// [`SimError`].
    pub async fn append(&mut self, key: u64, number: u64) -> Result<(), SimError> {
        let is_refused = self.access == Access::Read
            || self.transaction.as_ref().is_some_and(|transaction| transaction.access == Access::Read);
        let is_writable = self.call(|world, node| world.nodes[node].is_writable()).await?;
        if is_refused || !is_writable {
            return Err(SimError::ReadOnly);
        }
        match &mut self.transaction {
            Some(transaction) => {
                transaction.appends.push((key, number));
                Ok(())
            }
            None => self.log(vec![(key, number)]).await,
        }
    }

    /// The numbers of a list, with those of its own transaction.
    ///
    /// # Errors
    /// [`SimError`].
    pub async fn list(&mut self, key: u64) -> Result<Vec<u64>, SimError> {
        let read = |world: &mut World, node: usize| (world.nodes[node].list(key), world.nodes[node].position());
        let (mut list, position) = self.call(read).await?;
        self.mark.position = self.mark.position.max(Some(position));
        let own = self.transaction.iter().flat_map(|transaction| &transaction.appends);
        list.extend(own.filter(|(at, _)| *at == key).map(|(_, number)| *number));
        Ok(list)
    }

    /// A statement that fails by its own fault.
    ///
    /// # Errors
    /// [`SimError::Syntax`], or that of a broken connection.
    pub async fn fail(&mut self) -> Result<(), SimError> {
        self.call(|_, _| ()).await?;
        Err(SimError::Syntax)
    }

    /// A statement that loses against another transaction.
    ///
    /// # Errors
    /// [`SimError::Conflict`], or that of a broken connection.
    pub async fn conflict(&mut self) -> Result<(), SimError> {
        self.call(|_, _| ()).await?;
        self.transaction = None;
        Err(SimError::Conflict)
    }

    /// Logs a transaction and waits until it is confirmed.
    async fn log(&mut self, appends: Vec<(u64, u64)>) -> Result<(), SimError> {
        let way = self.way();
        way.there(&self.sim).await;
        let log = |world: &mut World, node: usize| {
            let is_writable = world.nodes[node].is_writable();
            is_writable.then(|| (world.append(node, appends), world.nodes[node].history.current()))
        };
        let (lsn, epoch) = self.checked(way.at(&self.sim, log).await)?.ok_or(SimError::ReadOnly)?;
        let logged_at = crate::clock::deadline(Duration::ZERO);
        loop {
            let state = |world: &mut World, node: usize| {
                world.show_confirmed(node);
                let node = &world.nodes[node];
                (node.is_confirmed(lsn), node.is_writable() && node.history.current() == epoch, node.mode)
            };
            let (is_confirmed, is_primary, mode) = self.checked(way.at(&self.sim, state).await)?;
            if !is_primary {
                self.is_broken = true;
                return Err(SimError::ConnectionLost);
            }
            let is_late = matches!(mode, Mode::SemiSynchronous { timeout } if logged_at.elapsed() >= timeout);
            if is_confirmed || is_late {
                self.sim.with(|world| world.nodes[self.node].show(lsn));
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        way.back(&self.sim).await;
        self.mark.wrote = true;
        self.logged_at = Some(Position::new(epoch, Lsn(lsn as u64)));
        self.mark.position = self.mark.position.max(self.logged_at);
        Ok(())
    }

    async fn call<T>(&mut self, f: impl FnOnce(&mut World, usize) -> T) -> Result<T, SimError> {
        let way = self.way();
        way.there(&self.sim).await;
        let result = way.at(&self.sim, f).await;
        let result = self.checked(result)?;
        way.back(&self.sim).await;
        Ok(result)
    }

    /// The connection is lost with the process that it led to.
    fn checked<T>(&mut self, result: Result<T, SimError>) -> Result<T, SimError> {
        let is_same = self.sim.world.lock().nodes[self.node].incarnation == self.incarnation;
        match result {
            Ok(value) if is_same && !self.is_broken => Ok(value),
            _ => {
                self.is_broken = true;
                Err(SimError::ConnectionLost)
            }
        }
    }

    fn way(&self) -> Way {
        Way { client: Endpoint::Client(self.client), node: self.node }
    }
}
