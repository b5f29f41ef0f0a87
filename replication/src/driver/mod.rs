//! What a database must be able to do for a [`Cluster`](crate::Cluster) to run on it.
//!
//! A driver knows one kind of database and decides nothing: it connects, runs transactions, says where in the log they
//! were, and carries out what a failover asks of a node. Which node is asked, whether a failure is repeated and who
//! becomes primary is decided by this crate, the same for all drivers.
//!
//! # The three promises
//!
//! 1. **Marks** ([`Driver::take_mark`]): a mark is at or beyond everything that the statements since the last one wrote
//!    or *may have seen*. Too early a mark breaks monotonic reads; too late a one only makes later reads wait. It costs
//!    no round trip: ask for it in the flush of the statement or of the commit.
//! 2. **Classes** ([`Driver::classify`]): [`NotSent`](Class::NotSent), [`RolledBack`](Class::RolledBack),
//!    [`ReadOnly`](Class::ReadOnly) and [`Statement`](Class::Statement) say that a failed statement had no effect and
//!    never will. Where that is not sure, say [`Gone`](Class::Gone) or [`Ambiguous`](Class::Ambiguous).
//! 3. **Fences** ([`Driver::fence`]): a fenced node acknowledges nothing more, neither a write as a primary nor a
//!    received log as a replica, until it is promoted or told to follow by a ballot at least as high. Its promise
//!    survives a restart.
//!
//! # A node in a failover
//!
//! ```text
//!             fence(b)               promote(b)
//!   primary ───────────> fenced ───────────────> primary, epoch of b
//!   replica ───────────>   │   follow(b)
//!                          ├───────────────────> replica of the new primary
//!                          │   rejoin(b)
//!                          └───────────────────> the same, what it alone held cut off
//! ```
//!
//! All of these may be called again after a failure, and by several coordinators at once: a node that has promised a
//! ballot refuses lower ones with [`Class::Superseded`].
//!
//! # An example
//!
//! A whole driver, of a counter in memory with one replica:
//!
//! ```
#![doc = include_str!("../../examples/own_driver.rs")]
//! ```

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use crate::{ClusterId, Epoch, History, Lsn, Mode, Node, NodeId, Position, Role};

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// Connects a [`Cluster`](crate::Cluster) to one kind of database.
///
/// Calls are dropped when they take longer than the cluster allows: one that was dropped leaves nothing running that
/// holds more than its connection, and the connection is dropped as well.
pub trait Driver: Send + Sync + 'static {
    /// A connection to one node, on which callers run their statements. Dropping it closes it.
    type Connection: Send + 'static;
    /// What statements fail with.
    type Error: Error + Send + Sync + 'static;

    /// Connects, and learns what the node is.
    ///
    /// A connection for [`Access::Read`] refuses to write, also on a primary, with an error of [`Class::ReadOnly`]. This is for
    /// mistakes: where a session can turn its database's guard off, as in SQL, another role is what stops an attacker.
    fn connect(
        &self,
        node: &Node,
        access: Access,
    ) -> impl Future<Output = Result<Connected<Self::Connection>, Self::Error>> + Send;

    /// Whether the connection can be used again, as far as is known without asking. Called at each checkout: fast.
    fn is_open(&self, connection: &Self::Connection) -> bool;

    /// Begins a transaction: one that reads one snapshot, or one that may write.
    fn begin(
        &self,
        connection: &mut Self::Connection,
        access: Access,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Commits it. A write that is committed, but not confirmed as the [`Mode`] asks for, is an error of
    /// [`Class::Ambiguous`].
    fn commit(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Rolls it back.
    fn roll_back(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Where in the log the statements since the last call were, and forgets it. No I/O.
    fn take_mark(&self, connection: &mut Self::Connection) -> Mark;

    /// Says that nobody needs the mark of the statements which follow, up to the next [`Driver::take_mark`], if the
    /// connection is sure to show all up to `floor` by itself. Then that may give no position. By default, nothing: it does.
    ///
    /// Only what this connection was told counts: a node may have been restored from an older state since it was observed.
    fn skip_mark(&self, connection: &mut Self::Connection, floor: Option<Position>) {
        let _ = (connection, floor);
    }

    /// Waits until the node has replayed its log up to `lsn`, or the time is over; gives how far it is.
    ///
    /// The result is a lower bound for statements that run after it: all up to it can be seen.
    fn wait(
        &self,
        connection: &mut Self::Connection,
        lsn: Lsn,
        timeout: Duration,
    ) -> impl Future<Output = Result<Lsn, Self::Error>> + Send;

    /// What an error says of the statement that failed.
    fn classify(&self, error: &Self::Error) -> Class;

    /// Asks a node for its state, on a connection of the driver's own that no load can hold up.
    fn observe(&self, node: &Node) -> impl Future<Output = Result<Observation, Self::Error>> + Send;

    /// Makes the node promise to acknowledge nothing more under a lower ballot, and gives what it holds then.
    ///
    /// A primary refuses writes from now on and ends transactions that are under way, and goes on handing out its log. A
    /// replica stops receiving; what it has received it replays.
    ///
    /// Fails with [`Class::Superseded`] if the node has promised a higher ballot.
    fn fence(&self, node: &Node, ballot: Ballot) -> impl Future<Output = Result<Observation, Self::Error>> + Send;

    /// Makes the node the primary, after it has replayed all it has received; gives what it is then.
    ///
    /// Fails with [`Class::Superseded`] unless this ballot is the one that it promised last. A node that is a primary
    /// already takes writes again. The new epoch is beyond that of its log; databases that number epochs themselves may
    /// stay below the ballot's.
    fn promote(
        &self,
        node: &Node,
        promotion: &Promotion,
    ) -> impl Future<Output = Result<Observation, Self::Error>> + Send;

    /// Makes a replica receive the log of this primary. One that does so already goes on.
    ///
    /// Fails with [`Class::Superseded`] if the node has promised a higher ballot.
    fn follow(
        &self,
        node: &Node,
        primary: &Node,
        ballot: Ballot,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes any node, a former primary as well, a replica of this primary: cuts off what its log has beyond the place
    /// where the primary's log left it, and restarts it where that is needed.
    ///
    /// Fails with [`Class::Superseded`] if the node has promised a higher ballot.
    fn rejoin(
        &self,
        node: &Node,
        primary: &Node,
        ballot: Ballot,
    ) -> impl Future<Output = Result<Rejoined, Self::Error>> + Send;
}

/// What a connection or a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads alone; writes are refused.
    Read,
    /// Reads and writes.
    Write,
}

/// A new connection, and what stands at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected<C> {
    /// The connection.
    pub connection: C,
    /// The node's cluster.
    pub cluster: ClusterId,
    /// What the node is.
    pub role: Role,
    /// The epoch of its log.
    pub epoch: Epoch,
}

/// Where in the log statements were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// At or beyond all that they wrote or may have seen; `None` if no statement ran.
    pub position: Option<Position>,
    /// Whether something was committed that may have written.
    pub wrote: bool,
}

/// What an error says of the statement that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It never reached the node: repeat it, anywhere. Of [`Driver::observe`] and [`Driver::connect`] it says that the node
    /// refused, as a machine does on which nobody listens: a few of these in a row are a death
    /// ([`DetectConfig::refusals`](crate::DetectConfig::refusals)), where silence takes the whole patience.
    NotSent,
    /// It was undone, by a deadlock or a conflict for instance: repeat it.
    RolledBack,
    /// It took effect or may have, and is not confirmed: never repeat it.
    Ambiguous,
    /// The node does not take writes, or the connection does not: it had no effect.
    ReadOnly,
    /// The connection is lost. The statement may have had an effect; a transaction whose commit was not sent has none.
    Gone,
    /// The statement itself is at fault, and had no effect: repeating it would not help.
    Statement,
    /// The node has promised a higher ballot. Of control calls only.
    Superseded,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Its cluster.
    pub cluster: ClusterId,
    /// What it is.
    pub role: Role,
    /// The epochs of the log that it holds.
    pub history: History,
    /// How far its log reaches: on a primary, at least to the last write that anybody may have seen.
    pub received: Lsn,
    /// How far its log can be read. On a primary as far as nothing is held back until replicas confirm it, at least: what
    /// they show already it may not show yet.
    pub replayed: Lsn,
    /// Whether a primary takes writes; not while it is fenced.
    pub writable: bool,
    /// The primary whose log a replica gets now, as it has heard from it lately; `None` if it gets none, or does not know
    /// from whom. How long "lately" is, is how much longer a crash may go unnoticed than by the connection alone; while a
    /// supervisor finds no primary here, it tells the node to follow again.
    pub upstream: Option<NodeId>,
    /// The highest ballot that it has promised.
    pub promised: Option<Ballot>,
}

/// Whose turn it is to name a primary. Of two coordinators the one with the higher ballot wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// The epoch that it is about: beyond all that its coordinator has seen.
    pub epoch: Epoch,
    /// Tells coordinators apart.
    pub coordinator: u64,
}

/// A node that becomes primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// The ballot under which the node was fenced.
    pub ballot: Ballot,
    /// When it may acknowledge a write.
    pub mode: Mode,
    /// Who may confirm one.
    pub replicas: Vec<NodeId>,
}

/// What a rejoin did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejoined {
    /// What was cut off: from beyond the first to the second, if the log had parted from the primary's.
    pub discarded: Option<(Lsn, Lsn)>,
}
