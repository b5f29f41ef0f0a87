//! What the process of a database server needs of its database, beside the driver of the crate: the seam between rung 05 and
//! the product that it runs on.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use tenfold_replication::driver::{Class, Driver};
use tenfold_replication::{Lsn, Node};

use super::wire::{CLASS, Peer, name_of};
use crate::database::{Batch, DatabaseError, Rows};
use crate::host::status;

/// A connection of a store's driver.
pub(super) type Connection<S> = <<S as Store>::Driver as Driver>::Connection;
/// What its driver fails with.
pub(super) type Failure<S> = <<S as Store>::Driver as Driver>::Error;

/// One node, in the process that serves it.
pub(super) trait Store: Send + Sync + 'static {
    /// The driver that knows its kind of database.
    type Driver: Driver;

    /// Batches that may read at a time. The others wait: a connection may cost more than what it is for.
    const READERS: usize;
    /// Batches that may write at a time.
    const WRITERS: usize;

    /// The driver.
    fn driver(&self) -> &Self::Driver;

    /// The node of this process.
    fn node(&self) -> &Node;

    /// The node of another one, as it is reached from here.
    fn peer(&self, peer: Peer) -> Result<Node, Failure<Self>>;

    /// Is told whom the node follows from now on.
    fn follows(&self, upstream: Option<Peer>);

    /// Runs a batch as one transaction.
    fn run(
        &self,
        connection: &mut Connection<Self>,
        batch: Batch,
    ) -> impl Future<Output = Result<Vec<Rows>, Refused>> + Send;

    /// A hash of all rows, and the place in the log that it is of.
    fn content_hash(&self) -> impl Future<Output = Result<([u8; 32], Lsn), Failure<Self>>> + Send;

    /// Applies what it receives so much later from now on.
    fn set_replay_delay(&self, delay: Duration) -> impl Future<Output = Result<(), Failure<Self>>> + Send;

    /// There is no network between here and this node any more.
    fn cut_off_from(&self, node: u16);
}

/// Why a batch or an order was not carried out.
pub(super) struct Refused {
    pub(super) class: Class,
    pub(super) error: DatabaseError,
}

impl Refused {
    /// What a driver's error comes to.
    pub(super) fn by<D: Driver>(driver: &D, error: &D::Error) -> Self {
        let class = driver.classify(error);
        let error = match class {
            Class::Ambiguous => DatabaseError::TimedOut,
            Class::ReadOnly | Class::Statement | Class::Superseded => DatabaseError::Statement,
            _ => DatabaseError::Unavailable,
        };
        Self { class, error }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (status(&self.error), [(CLASS, name_of(self.class))], Json(self.error)).into_response()
    }
}
