//! What a cluster has done: counters that are always on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Epoch, Lsn, NodeId, Role};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the cluster was made, and how its nodes are now.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// The epoch of the primary.
            pub epoch: Option<Epoch>,
            /// Each node, in the order in which they were given.
            pub nodes: Vec<NodeStats>,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* epoch: None, nodes: Vec::new() }
            }
        }
    };
}

counters! {
    /// Reads that were answered by a replica.
    reads_by_replica,
    /// Reads that were answered by the primary.
    reads_by_primary,
    /// Reads that failed, whatever for.
    reads_failed,
    /// Reads that waited for a replica to catch up with their session.
    waits,
    /// Of those, such that waited in vain.
    waits_in_vain,
    /// Reads that were sent again because a node failed.
    reads_repeated,
    /// Answers that were thrown away, because the node had less than it should have.
    stale_answers,
    /// Late reads that were sent to a second node.
    hedges,
    /// Of those, such that the second answered first.
    hedges_won,
    /// Reads that tried to write, and were refused.
    writes_in_reads,
    /// Writes and transactions that were acknowledged.
    writes,
    /// Writes that failed without an effect.
    writes_failed,
    /// Writes of which it is not known whether they took effect.
    writes_ambiguous,
    /// Writes that were sent again because they surely had no effect.
    writes_repeated,
    /// Writes that waited for a primary.
    writes_queued,
    /// Losses that were told to sessions: their own writes.
    losses_written,
    /// Losses that were told to sessions: what they had seen.
    losses_seen,
    /// Promotions that were noticed.
    promotions,
    /// Times that a primary of an epoch that is over was seen taking writes.
    stale_primaries,
    /// Times that a second primary of the same epoch was seen.
    second_primaries,
    /// Failovers and planned changes that this process has led.
    failovers,
    /// Of those, such that came to nothing.
    failovers_failed,
    /// Verdicts that a replica kept back, which still got the primary's log.
    vetoes,
    /// Former primaries and strayed replicas that were made replicas again.
    rejoins,
    /// What they had that the cluster had not, in units of the log.
    discarded,
    /// Answers of nodes of another cluster.
    foreign_nodes,
}

/// How one node is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// Its name.
    pub node: NodeId,
    /// What it is, as it said last.
    pub role: Option<Role>,
    /// Whether it answered lately.
    pub is_reachable: bool,
    /// Whether its log is a part of the cluster's.
    pub is_kept: bool,
    /// Whether it is left out of reads.
    pub is_ejected: bool,
    /// How often it was.
    pub ejections: u64,
    /// How far it has replayed its log, at least.
    pub replayed: Lsn,
    /// How old its state is, at most.
    pub staleness: Option<Duration>,
    /// Smoothed latency of its answers.
    pub latency: Duration,
    /// Statements under way.
    pub in_flight: u32,
    /// Connections in use, idle, and opened since the start.
    pub connections_in_use: usize,
    /// Idle connections.
    pub connections_idle: usize,
    /// Connections opened since the start.
    pub connections_opened: u64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
