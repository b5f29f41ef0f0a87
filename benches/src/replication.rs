//! A database that answers at once, so that what is left is what the cluster costs: routing, pools, sessions.

use std::convert::Infallible;
use std::time::Duration;

use tenfold_replication::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use tenfold_replication::{Builder, Cluster, ClusterId, Epoch, History, Lsn, Node, NodeId, Position, Role};

const CLUSTER: ClusterId = ClusterId(1);
const EPOCH: Epoch = Epoch(1);
/// How far all logs are. Nothing is written.
const END: Lsn = Lsn(1_000);

/// Where everything is, and has always been.
pub const HERE: Position = Position { epoch: EPOCH, lsn: END };

/// Node 0 is the primary, and all others are replicas that are up to date.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce;

/// A connection to one of its nodes.
#[derive(Debug)]
pub struct Connection {
    mark: Mark,
}

impl Connection {
    /// A statement: shows everything, and is over.
    pub fn run(&mut self, wrote: bool) {
        self.mark = Mark { position: Some(HERE), wrote };
    }
}

/// A cluster of a primary and so many replicas, with the default settings.
///
/// # Panics
/// If the crate refuses its own defaults.
#[must_use]
pub fn cluster(replicas: u16) -> Cluster<AtOnce> {
    builder(replicas).build().expect("the defaults are valid")
}

/// The same before it is built.
pub fn builder(replicas: u16) -> Builder<AtOnce> {
    let nodes = (0..=replicas).map(|id| Node::new(NodeId(id), format!("node {id}")));
    Cluster::builder(AtOnce).nodes(nodes)
}

impl Driver for AtOnce {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self, node: &Node, _: Access) -> Result<Connected<Connection>, Infallible> {
        let connection = Connection { mark: Mark::default() };
        Ok(Connected { connection, cluster: CLUSTER, role: role(node), epoch: EPOCH })
    }

    fn is_open(&self, _: &Connection) -> bool {
        true
    }

    async fn begin(&self, _: &mut Connection, _: Access) -> Result<(), Infallible> {
        Ok(())
    }

    async fn commit(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    async fn roll_back(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn take_mark(&self, connection: &mut Connection) -> Mark {
        std::mem::take(&mut connection.mark)
    }

    async fn wait(&self, _: &mut Connection, _: Lsn, _: Duration) -> Result<Lsn, Infallible> {
        Ok(END)
    }

    fn classify(&self, error: &Infallible) -> Class {
        match *error {}
    }

    async fn observe(&self, node: &Node) -> Result<Observation, Infallible> {
        let role = role(node);
        Ok(Observation {
            cluster: CLUSTER,
            role,
            history: History::new(EPOCH),
            received: END,
            replayed: END,
            writable: role == Role::Primary,
            upstream: (role == Role::Replica).then_some(NodeId(0)),
            promised: None,
        })
    }

    async fn fence(&self, node: &Node, _: Ballot) -> Result<Observation, Infallible> {
        self.observe(node).await
    }

    async fn promote(&self, node: &Node, _: &Promotion) -> Result<Observation, Infallible> {
        self.observe(node).await
    }

    async fn follow(&self, _: &Node, _: &Node, _: Ballot) -> Result<(), Infallible> {
        Ok(())
    }

    async fn rejoin(&self, _: &Node, _: &Node, _: Ballot) -> Result<Rejoined, Infallible> {
        Ok(Rejoined::default())
    }
}

fn role(node: &Node) -> Role {
    if node.id() == NodeId(0) { Role::Primary } else { Role::Replica }
}
