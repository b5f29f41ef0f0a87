//! What web servers and database servers say to each other beside batches.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use tenfold_replication::driver::{Ballot, Class, Observation};
use tenfold_replication::{ClusterId, Epoch, History, HistoryError, Lsn, Mode, NodeId, Role, Switch};

/// The answer's place in the log, as `epoch/lsn`.
pub(super) const POSITION: &str = "x-position";
/// Whether the batch has written, or may have.
pub(super) const WROTE: &str = "x-wrote";
/// What a failure means for its caller.
pub(super) const CLASS: &str = "x-class";

/// A ballot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    epoch: u64,
    coordinator: u64,
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        Self { epoch: ballot.epoch.0, coordinator: ballot.coordinator }
    }
}

impl From<Vote> for Ballot {
    fn from(vote: Vote) -> Self {
        Self { epoch: Epoch(vote.epoch), coordinator: vote.coordinator }
    }
}

/// A database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its node.
    pub id: u16,
    /// Where its process listens.
    pub address: SocketAddr,
}

/// What a coordinator asks of a node; see the driver's methods of the same names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Acknowledge nothing more under a lower ballot.
    Fence {
        /// The ballot.
        vote: Vote,
    },
    /// Be the primary.
    Promote {
        /// The ballot.
        vote: Vote,
        /// How many replicas confirm a write; none in asynchronous mode.
        quorum: Option<NonZeroU16>,
        /// Which may.
        replicas: Vec<u16>,
    },
    /// Receive the log of this primary.
    Follow {
        /// The ballot.
        vote: Vote,
        /// Whose.
        primary: Peer,
    },
    /// Become its replica, whatever else you were.
    Rejoin {
        /// The ballot.
        vote: Vote,
        /// Whose.
        primary: Peer,
    },
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// What the node is now.
    Seen(Seen),
    /// It follows.
    Follows,
    /// It has rejoined, and given up what its log had from beyond the first place to the second.
    Rejoined(Option<(u64, u64)>),
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    cluster: u64,
    /// Whether it is the primary, by its own word.
    pub is_primary: bool,
    switches: Vec<(u64, u64)>,
    /// The epoch of its log.
    pub epoch: u64,
    /// How far its log reaches.
    pub received: u64,
    /// How far its database is.
    pub replayed: u64,
    writable: bool,
    /// The primary whose log it gets.
    pub upstream: Option<u16>,
    promised: Option<Vote>,
}

impl From<&Observation> for Seen {
    fn from(seen: &Observation) -> Self {
        Self {
            cluster: seen.cluster.0,
            is_primary: seen.role == Role::Primary,
            switches: seen.history.switches().iter().map(|switch| (switch.epoch.0, switch.at.0)).collect(),
            epoch: seen.history.current().0,
            received: seen.received.0,
            replayed: seen.replayed.0,
            writable: seen.writable,
            upstream: seen.upstream.map(|node| node.0),
            promised: seen.promised.map(Vote::from),
        }
    }
}

impl TryFrom<Seen> for Observation {
    type Error = HistoryError;

    fn try_from(seen: Seen) -> Result<Self, HistoryError> {
        let switches = seen.switches.iter().map(|(epoch, at)| Switch { epoch: Epoch(*epoch), at: Lsn(*at) });
        Ok(Self {
            cluster: ClusterId(seen.cluster),
            role: if seen.is_primary { Role::Primary } else { Role::Replica },
            history: History::of(switches, Epoch(seen.epoch))?,
            received: Lsn(seen.received),
            replayed: Lsn(seen.replayed),
            writable: seen.writable,
            upstream: seen.upstream.map(NodeId),
            promised: seen.promised.map(Ballot::from),
        })
    }
}

/// The replicas that confirm a write. The rung has no use for the mode in between.
pub(super) fn quorum_of(mode: Mode) -> Option<NonZeroU16> {
    match mode {
        Mode::Quorum { replicas } => Some(replicas),
        Mode::Asynchronous | Mode::SemiSynchronous { .. } => None,
    }
}

/// The opposite of [`quorum_of`].
pub(super) fn mode_of(quorum: Option<NonZeroU16>) -> Mode {
    quorum.map_or(Mode::Asynchronous, |replicas| Mode::Quorum { replicas })
}

const CLASSES: [(Class, &str); 7] = [
    (Class::NotSent, "not-sent"),
    (Class::RolledBack, "rolled-back"),
    (Class::Ambiguous, "ambiguous"),
    (Class::ReadOnly, "read-only"),
    (Class::Gone, "gone"),
    (Class::Statement, "statement"),
    (Class::Superseded, "superseded"),
];

/// A class by its name; one that nobody knows may mean anything.
pub(super) fn class_named(name: Option<&str>) -> Class {
    CLASSES.iter().find(|(_, known)| Some(*known) == name).map_or(Class::Gone, |(class, _)| *class)
}

/// The name of a class.
pub(super) fn name_of(class: Class) -> &'static str {
    CLASSES.iter().find(|(known, _)| *known == class).map_or("gone", |(_, name)| name)
}
