//! A driver from scratch: a primary and a replica that count in one process.
//!
//! No network, so no call can be lost. What a real driver does is said at each place.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenfold_replication::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use tenfold_replication::{Cluster, ClusterId, Epoch, History, Lsn, Node, NodeId, Position, Role, Session};

/// A node: its log is a list of increments.
struct Counter {
    role: Role,
    history: History,
    log: Vec<i64>,
    promised: Option<Ballot>,
    installed: Option<Ballot>,
}

#[derive(Clone)]
struct Counters(Arc<Mutex<[Counter; 2]>>);

/// A connection: to which node, and what its statements showed.
struct Connection {
    nodes: Counters,
    node: usize,
    access: Access,
    mark: Mark,
}

#[derive(Debug, thiserror::Error)]
enum CounterError {
    #[error("not a primary, or a connection for reads")]
    ReadOnly,
    #[error("a higher ballot was promised")]
    Superseded,
}

impl Counters {
    fn new() -> Self {
        let history = History::new(Epoch(1));
        let counter = |role| Counter { role, history: history.clone(), log: vec![], promised: None, installed: None };
        Self(Arc::new(Mutex::new([counter(Role::Primary), counter(Role::Replica)])))
    }

    fn on<T>(&self, node: usize, f: impl FnOnce(&mut Counter) -> T) -> T {
        f(&mut self.0.lock().unwrap()[node])
    }

    fn promise(&self, node: &Node, ballot: Ballot, f: impl FnOnce(&mut Counter)) -> Result<(), CounterError> {
        self.on(node.id().0.into(), |counter| {
            if counter.promised > Some(ballot) {
                return Err(CounterError::Superseded);
            }
            // A real driver makes this survive a restart before it answers.
            counter.promised = Some(ballot);
            f(counter);
            Ok(())
        })
    }
}

impl Counter {
    fn lsn(&self) -> Lsn {
        Lsn(self.log.len() as u64)
    }

    fn is_writable(&self) -> bool {
        self.role == Role::Primary && self.promised == self.installed
    }
}

impl Connection {
    /// The statements are the driver's own business.
    async fn add(&mut self, amount: i64) -> Result<(), CounterError> {
        let mut nodes = self.nodes.0.lock().unwrap();
        if self.access == Access::Read || !nodes[self.node].is_writable() {
            return Err(CounterError::ReadOnly);
        }
        nodes[self.node].log.push(amount);
        // Replication: here at once; in a database its log does it.
        let log = nodes[self.node].log.clone();
        nodes.iter_mut().filter(|other| other.role == Role::Replica).for_each(|other| other.log.clone_from(&log));
        let counter = &nodes[self.node];
        // A real driver asks for the position in the same flush as the statement.
        self.mark = Mark { position: Some(Position::new(counter.history.current(), counter.lsn())), wrote: true };
        Ok(())
    }

    async fn sum(&mut self) -> Result<i64, CounterError> {
        let (sum, position) = self.nodes.on(self.node, |counter| {
            (counter.log.iter().sum(), Position::new(counter.history.current(), counter.lsn()))
        });
        self.mark.position = Some(position);
        Ok(sum)
    }
}

impl Driver for Counters {
    type Connection = Connection;
    type Error = CounterError;

    async fn connect(&self, node: &Node, access: Access) -> Result<Connected<Connection>, CounterError> {
        let index = node.id().0.into();
        let connection = Connection { nodes: self.clone(), node: index, access, mark: Mark::default() };
        let (role, epoch) = self.on(index, |counter| (counter.role, counter.history.current()));
        Ok(Connected { connection, cluster: ClusterId(1), role, epoch })
    }

    fn is_open(&self, _: &Connection) -> bool {
        true
    }

    // A counter has no transactions; a database begins, commits and rolls back here.
    async fn begin(&self, _: &mut Connection, _: Access) -> Result<(), CounterError> {
        Ok(())
    }

    async fn commit(&self, _: &mut Connection) -> Result<(), CounterError> {
        Ok(())
    }

    async fn roll_back(&self, _: &mut Connection) -> Result<(), CounterError> {
        Ok(())
    }

    fn take_mark(&self, connection: &mut Connection) -> Mark {
        std::mem::take(&mut connection.mark)
    }

    // A real driver waits here until the log is replayed that far, or the time is over.
    async fn wait(&self, connection: &mut Connection, _: Lsn, _: Duration) -> Result<Lsn, CounterError> {
        Ok(self.on(connection.node, |counter| counter.lsn()))
    }

    fn classify(&self, error: &CounterError) -> Class {
        match error {
            CounterError::ReadOnly => Class::ReadOnly,
            CounterError::Superseded => Class::Superseded,
        }
    }

    async fn observe(&self, node: &Node) -> Result<Observation, CounterError> {
        Ok(self.on(node.id().0.into(), |counter| Observation {
            cluster: ClusterId(1),
            role: counter.role,
            history: counter.history.clone(),
            received: counter.lsn(),
            replayed: counter.lsn(),
            writable: counter.is_writable(),
            upstream: (counter.role == Role::Replica).then_some(NodeId(0)),
            promised: counter.promised,
        }))
    }

    async fn fence(&self, node: &Node, ballot: Ballot) -> Result<Observation, CounterError> {
        self.promise(node, ballot, |counter| counter.installed = None)?;
        self.observe(node).await
    }

    async fn promote(&self, node: &Node, promotion: &Promotion) -> Result<Observation, CounterError> {
        self.promise(node, promotion.ballot, |counter| {
            let (history, at) = (counter.history.clone(), counter.lsn());
            counter.history = history.promoted(promotion.ballot.epoch, at).expect("the ballot is of a later epoch");
            counter.role = Role::Primary;
            counter.installed = Some(promotion.ballot);
        })?;
        self.observe(node).await
    }

    async fn follow(&self, node: &Node, _: &Node, ballot: Ballot) -> Result<(), CounterError> {
        self.promise(node, ballot, |counter| counter.role = Role::Replica)
    }

    // Nothing can part in this cluster; a real driver cuts off what the new primary does not have.
    async fn rejoin(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<Rejoined, CounterError> {
        self.follow(node, primary, ballot).await.map(|()| Rejoined::default())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let nodes = [Node::new(NodeId(0), "first"), Node::new(NodeId(1), "second")];
    let cluster = Cluster::builder(Counters::new()).nodes(nodes).build()?;
    cluster.ready(Duration::from_secs(1)).await?;

    let session = Session::new();
    cluster.write(&session, |mut counter| async move { counter.add(42).await }).await?;
    let sum = cluster.read(&session, |mut counter| async move { counter.sum().await }).await?;
    assert_eq!((sum, cluster.stats().reads_by_replica), (42, 1));
    println!("42, from the replica");
    Ok(())
}
