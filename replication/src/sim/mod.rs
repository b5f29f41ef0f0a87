//! A cluster in memory, whose network and machines fail on command: real log shipping, real lag, real promotions.
//!
//! Time is tokio's: in a paused runtime a minute passes in milliseconds, and the same seed gives the same run. Nodes keep
//! lists of numbers by key. A primary ships its log to the replicas that follow it, each message with a delay of its
//! own; messages can be lost or overtake each other, links can be cut in one direction, nodes can crash, hang and
//! return. What a node has logged survives its crash.
//!
//! [`SimDriver`] is a [`Driver`](crate::driver::Driver) like any other, and the reference of what drivers promise.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, TokioClock};
use crate::{Mode, Node, NodeId};

mod driver;
mod history;
mod network;
mod node;
mod world;

pub use driver::{SimConnection, SimDriver, SimError};
pub use history::{Fresh, History, SessionId, Summary, Violation};
pub use network::Endpoint;
use world::World;

/// How a simulated cluster is set up.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Nodes, the first of which is the primary. Default 3.
    pub nodes: u16,
    /// When the primary acknowledges. Default asynchronous.
    pub mode: Mode,
    /// The shortest and the longest way of a message between nodes. Default 1 to 3 ms.
    pub delay: (Duration, Duration),
    /// The same between clients and nodes. Default 0 to 0.
    pub client_delay: (Duration, Duration),
    /// Of a thousand messages between nodes, how many are lost. Default 0. Connections of clients lose nothing.
    pub loss_per_mille: u32,
    /// Everything random comes from it.
    pub seed: u64,
    /// What the nodes and their driver get wrong. Default nothing.
    pub flaw: Option<Flaw>,
}

/// A mistake of a driver or a database: to see what becomes of it, and that a check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// A fenced node promises, and goes on as before.
    FenceForgotten,
    /// Writes are acknowledged before the replicas that must have them do.
    AcknowledgesEarly,
    /// Marks are of before the statement.
    MarksEarly,
    /// Marks are always of the first epoch.
    EpochForgotten,
    /// A broken connection is taken for a write that was not sent.
    RepeatsAnything,
    /// Fenced nodes say that the shorter log is the longer.
    ReportsBackwards,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            nodes: 3,
            mode: Mode::Asynchronous,
            delay: (Duration::from_millis(1), Duration::from_millis(3)),
            client_delay: (Duration::ZERO, Duration::ZERO),
            loss_per_mille: 0,
            seed: 1,
            flaw: None,
        }
    }
}

/// A handle to a simulated cluster: makes its drivers and its faults.
#[derive(Clone, Debug)]
pub struct Sim {
    world: Arc<Mutex<World>>,
}

impl Sim {
    /// A cluster whose nodes are up, the replicas following the primary. Must be made inside a tokio runtime.
    #[must_use]
    pub fn new(config: SimConfig) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(config, TokioClock.now()))) }
    }

    /// So many nodes and this seed; with the nodes as a [`Cluster`](crate::Cluster) is told them.
    #[must_use]
    pub fn with_nodes(nodes: u16, seed: u64) -> (Self, Vec<Node>) {
        let sim = Self::new(SimConfig { nodes, seed, ..SimConfig::default() });
        let nodes = sim.nodes();
        (sim, nodes)
    }

    /// The nodes, each in a zone of its own name.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let count = self.world.lock().nodes.len();
        (0..count).map(|id| Node::new(NodeId(id as u16), format!("n{id}"))).collect()
    }

    /// The driver of one more process, with connections of its own to every node.
    #[must_use]
    pub fn driver(&self) -> SimDriver {
        let client = self.with(World::add_client);
        SimDriver::new(self.clone(), client)
    }

    /// Kills a node: its connections break, what it has logged stays.
    pub fn crash(&self, node: NodeId) {
        self.with(|world| world.crash(node.0.into()));
    }

    /// Starts a node that was killed, as what it was: a primary takes writes at once, unless it was fenced.
    pub fn restart(&self, node: NodeId) {
        self.with(|world| world.restart(node.0.into()));
    }

    /// A node hangs: it takes everything and answers nothing.
    pub fn pause(&self, node: NodeId) {
        self.with(|world| world.nodes[usize::from(node.0)].is_paused = true);
    }

    /// A node that hung goes on where it was.
    pub fn resume(&self, node: NodeId) {
        self.with(|world| world.resume(node.0.into()));
    }

    /// A replica applies what it has received so much later.
    pub fn set_replay_delay(&self, node: NodeId, delay: Duration) {
        self.with(|world| world.nodes[usize::from(node.0)].replay_delay = delay);
    }

    /// Nothing gets from one to the other any more; the way back stays open.
    pub fn cut(&self, from: Endpoint, to: Endpoint) {
        self.with(|world| world.network.cut(from, to));
    }

    /// Cuts a node from all others, and from clients too if that is asked for.
    pub fn isolate(&self, node: NodeId, with_clients: bool) {
        self.with(|world| world.isolate(node, with_clients));
    }

    /// All links work again.
    pub fn heal(&self) {
        self.with(|world| world.network.heal());
    }

    /// The lists of a node, as its log has them up to the end: what a client would find after everything is replayed.
    #[must_use]
    pub fn contents(&self, node: NodeId) -> Vec<(u64, Vec<u64>)> {
        self.with(|world| world.nodes[usize::from(node.0)].contents())
    }

    /// What the cluster does now, at the runtime's time.
    fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock();
        world.advance(TokioClock.now());
        f(&mut world)
    }
}
