//! What the example needs of a database: lists of numbers by key, on nodes that can be lost.

use std::future::Future;

use tenfold_replication::driver::Driver;
use tenfold_replication::{Checkout, Mode, Node, NodeId};

use super::Failure;

pub(crate) type Reply<T, E> = Result<T, <<E as Engine>::Driver as Driver>::Error>;

/// Three nodes, the first of which is the primary; they end with it.
pub(crate) trait Engine: Sized + 'static {
    type Driver: Driver;

    const NAME: &'static str;
    /// Whether a position is that of one write. Where the place is asked for behind the commit, two may have the same.
    const HAS_OWN_PLACES: bool;

    async fn start(mode: Mode) -> Result<Self, Failure>;
    fn driver(&self) -> Self::Driver;
    fn nodes(&self) -> &[Node];

    /// Appends a number to a list; gives the node that did. What of a list is visible anywhere is the beginning of it.
    fn append(c: Checkout<Self::Driver>, key: u64, number: u64) -> impl Future<Output = Reply<NodeId, Self>> + Send;
    fn list(c: Checkout<Self::Driver>, key: u64) -> impl Future<Output = Reply<Vec<u64>, Self>> + Send;

    /// They receive nothing more from the primary, until it is lost.
    async fn cut_off_replicas(&mut self) -> Result<(), Failure>;
    /// The node is gone at once; what it has made durable stays.
    async fn kill(&mut self, node: usize) -> Result<(), Failure>;
    /// It is started again as what it was.
    async fn restart(&mut self, node: usize) -> Result<(), Failure>;
}
