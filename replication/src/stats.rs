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

        #[cfg(feature = "metrics")]
        impl Stats {
            fn record_counts(&self, labels: &[(&'static str, String); 1]) {
                $(metrics::counter!(concat!("replication_", stringify!($name), "_total"), labels).absolute(self.$name);)*
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
    /// Why it did not answer when it was asked last: the error and what caused it, or that the time was over.
    pub last_error: Option<String>,
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

#[cfg(feature = "metrics")]
mod recorded {
    use super::{NodeStats, Stats};
    use crate::Role;

    impl Stats {
        /// Hands the figures to the recorder of the `metrics` crate that the host installed: each counter of [`Stats`] as
        /// `replication_*_total`, the epoch and the nodes as gauges, with the labels `cluster` and `node`. To be called where
        /// the recorder is about to be read, or now and then.
        pub fn record(&self, cluster: &str) {
            let labels = [("cluster", cluster.to_owned())];
            self.record_counts(&labels);
            metrics::gauge!("replication_epoch", &labels).set(self.epoch.map_or(0.0, |epoch| epoch.0 as f64));
            self.nodes.iter().for_each(|node| node.record(cluster));
        }
    }

    impl NodeStats {
        fn record(&self, cluster: &str) {
            let labels = [("cluster", cluster.to_owned()), ("node", self.node.to_string())];
            let flag = |is_so: bool| f64::from(u8::from(is_so));
            metrics::gauge!("replication_node_primary", &labels).set(flag(self.role == Some(Role::Primary)));
            metrics::gauge!("replication_node_reachable", &labels).set(flag(self.is_reachable));
            metrics::gauge!("replication_node_kept", &labels).set(flag(self.is_kept));
            metrics::gauge!("replication_node_ejected", &labels).set(flag(self.is_ejected));
            metrics::counter!("replication_node_ejections_total", &labels).absolute(self.ejections);
            metrics::gauge!("replication_node_replayed", &labels).set(self.replayed.0 as f64);
            if let Some(staleness) = self.staleness {
                metrics::gauge!("replication_node_staleness_seconds", &labels).set(staleness.as_secs_f64());
            }
            metrics::gauge!("replication_node_latency_seconds", &labels).set(self.latency.as_secs_f64());
            metrics::gauge!("replication_node_in_flight", &labels).set(f64::from(self.in_flight));
            metrics::gauge!("replication_node_connections_in_use", &labels).set(self.connections_in_use as f64);
            metrics::gauge!("replication_node_connections_idle", &labels).set(self.connections_idle as f64);
            metrics::counter!("replication_node_connections_opened_total", &labels).absolute(self.connections_opened);
        }
    }
}
