//! The driver with which a web server's `Cluster` reaches database servers over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use serde::de::DeserializeOwned;
use tenfold_replication::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use tenfold_replication::{ClusterId, Epoch, Lsn, Node, Position};

use super::wire::{CLASS, Done, Order, POSITION, Peer, Seen, WROTE, class_named, quorum_of};
use crate::database::{Batch, DatabaseError, Intent, Rows};
use crate::http::{Answer, CallError, Http};

/// Bounds every call; the cluster's own limits are shorter. A rejoin may copy the database.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Database servers as nodes; a node's address is the socket address of its process. Clones share connections.
#[derive(Debug, Clone)]
pub struct Servers {
    http: Http,
}

/// What a call to a database server came to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// There is no answer.
    #[error("the database server gave no answer")]
    Call(#[from] CallError),
    /// It said no.
    #[error("the database server refused")]
    Refused {
        /// What that says of the batch or the order.
        class: Class,
        /// Why.
        #[source]
        error: DatabaseError,
    },
    /// The node's address is not one of a socket.
    #[error("the address of the node is not a socket address")]
    BadAddress,
}

impl ServerError {
    /// What it says of the batch or the order.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused { class, .. } => *class,
            Self::Call(CallError::Refused) | Self::BadAddress => Class::NotSent,
            Self::Call(_) => Class::Gone,
        }
    }
}

/// A way to one database server.
///
/// A batch is a transaction by itself, so that a connection has no state but what its answers have shown.
#[derive(Debug)]
pub struct Connection {
    http: Http,
    server: SocketAddr,
    access: Access,
    is_broken: bool,
    mark: Mark,
}

impl Connection {
    /// Runs a batch as one transaction.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub async fn run(&mut self, batch: &Batch) -> Result<Vec<Rows>, ServerError> {
        if self.access == Access::Read && batch.intent == Intent::Write {
            return Err(ServerError::Refused { class: Class::ReadOnly, error: DatabaseError::Statement });
        }
        let sent = self.http.send(Method::POST, self.server, "/batch", batch).await;
        self.is_broken |= sent.is_err();
        let answer = sent?;
        let position = answer.header(POSITION).and_then(|place| place.split_once('/'));
        if let Some((epoch, lsn)) = position {
            let number = |text: &str| text.parse().map_err(|_| CallError::Garbled);
            let place = Position::new(Epoch(number(epoch)?), Lsn(number(lsn)?));
            self.mark.position = self.mark.position.max(Some(place));
        }
        self.mark.wrote |= answer.header(WROTE).is_some();
        read(&answer)
    }
}

impl Servers {
    /// A driver that has connected to nobody yet.
    pub fn new() -> Self {
        Self { http: Http::new(TIMEOUT) }
    }

    async fn order(&self, node: &Node, order: &Order) -> Result<Done, ServerError> {
        read(&self.http.send(Method::POST, address(node)?, "/order", order).await?)
    }

    async fn seen(&self, node: &Node, order: &Order) -> Result<Observation, ServerError> {
        match self.order(node, order).await? {
            Done::Seen(seen) => seen.try_into().map_err(|_| CallError::Garbled.into()),
            Done::Follows | Done::Rejoined(_) => Err(CallError::Garbled.into()),
        }
    }
}

impl Default for Servers {
    fn default() -> Self {
        Self::new()
    }
}

fn address(node: &Node) -> Result<SocketAddr, ServerError> {
    node.address().parse().map_err(|_| ServerError::BadAddress)
}

fn peer(node: &Node) -> Result<Peer, ServerError> {
    Ok(Peer { id: node.id().0, address: address(node)? })
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, ServerError> {
    if answer.status.is_success() {
        return Ok(answer.json()?);
    }
    let error = answer.json().unwrap_or(DatabaseError::Garbled);
    Err(ServerError::Refused { class: class_named(answer.header(CLASS)), error })
}

impl Driver for Servers {
    type Connection = Connection;
    type Error = ServerError;

    async fn connect(&self, node: &Node, access: Access) -> Result<Connected<Connection>, ServerError> {
        let Observation { cluster, role, history, .. } = self.observe(node).await?;
        let (http, server) = (self.http.clone(), address(node)?);
        let connection = Connection { http, server, access, is_broken: false, mark: Mark::default() };
        Ok(Connected { connection, cluster: ClusterId(cluster.0), role, epoch: history.current() })
    }

    fn is_open(&self, connection: &Connection) -> bool {
        !connection.is_broken
    }

    // A batch is a transaction: the product has none that spans several.
    async fn begin(&self, _: &mut Connection, _: Access) -> Result<(), ServerError> {
        Ok(())
    }

    async fn commit(&self, _: &mut Connection) -> Result<(), ServerError> {
        Ok(())
    }

    async fn roll_back(&self, _: &mut Connection) -> Result<(), ServerError> {
        Ok(())
    }

    fn take_mark(&self, connection: &mut Connection) -> Mark {
        std::mem::take(&mut connection.mark)
    }

    async fn wait(&self, connection: &mut Connection, lsn: Lsn, timeout: Duration) -> Result<Lsn, ServerError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let answer = connection.http.send(Method::POST, connection.server, "/wait", &(lsn.0, timeout_ms)).await?;
        read(&answer).map(Lsn)
    }

    fn classify(&self, error: &ServerError) -> Class {
        error.class()
    }

    async fn observe(&self, node: &Node) -> Result<Observation, ServerError> {
        let seen: Seen = read(&self.http.get(address(node)?, "/node").await?)?;
        seen.try_into().map_err(|_| CallError::Garbled.into())
    }

    async fn fence(&self, node: &Node, ballot: Ballot) -> Result<Observation, ServerError> {
        self.seen(node, &Order::Fence { vote: ballot.into() }).await
    }

    async fn promote(&self, node: &Node, promotion: &Promotion) -> Result<Observation, ServerError> {
        let replicas = promotion.replicas.iter().map(|node| node.0).collect();
        let order = Order::Promote { vote: promotion.ballot.into(), quorum: quorum_of(promotion.mode), replicas };
        self.seen(node, &order).await
    }

    async fn follow(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<(), ServerError> {
        self.order(node, &Order::Follow { vote: ballot.into(), primary: peer(primary)? }).await.map(drop)
    }

    async fn rejoin(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<Rejoined, ServerError> {
        match self.order(node, &Order::Rejoin { vote: ballot.into(), primary: peer(primary)? }).await? {
            Done::Rejoined(discarded) => Ok(Rejoined { discarded: discarded.map(|(from, to)| (Lsn(from), Lsn(to))) }),
            Done::Seen(_) | Done::Follows => Err(CallError::Garbled.into()),
        }
    }
}
