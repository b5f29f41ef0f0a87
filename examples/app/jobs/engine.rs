//! What the queue of rung 10 runs on.

use std::fmt;

use tenfold_rig::{Node, NodeSpec, RoleResult};

use super::broker::BrokerConfig;
use super::nats::{NatsQueue, NatsServer};
use super::queue::Address;
use super::site::Setup;
use crate::rung::Stack;

/// The queue's engine. All else of the rung is the same on each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Engine {
    /// The queue of this workspace, in a process of its own.
    #[default]
    Tenfold,
    /// A NATS server with JetStream.
    Nats(NatsServer),
}

impl Engine {
    /// Starts the queue's process.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start(&self, stack: &Stack, setup: &Setup) -> RoleResult<(Node, Address)> {
        let Setup { lease_ms, max_jobs, is_durable, .. } = *setup;
        let dir = stack.dir.path().join("queue");
        Ok(match self {
            Self::Tenfold => {
                let config = BrokerConfig { dir: is_durable.then_some(dir), lease_ms, max_jobs };
                let broker = stack.tiers.spawn(NodeSpec::new("10-broker", "broker").config(&config)?).await?;
                let address = Address::Broker(broker.addr());
                (broker, address)
            }
            Self::Nats(server) => {
                let config = server.config(dir, is_durable);
                let broker = stack.tiers.spawn(NodeSpec::new("10-nats", "broker").config(&config)?).await?;
                let (server, syncs) = (broker.addr(), server.syncs());
                (broker, Address::Nats(NatsQueue { server, syncs, lease_ms, max_jobs }))
            }
        })
    }

    /// How long a worker has for a job while the queue is killed again and again, in milliseconds.
    ///
    /// Clients of a NATS server come back up to a second after it does: a lease as short as ours would run out meanwhile,
    /// and every delivery counts as an attempt.
    pub fn crash_lease_ms(&self) -> u64 {
        match self {
            Self::Tenfold => 1_000,
            Self::Nats(_) => 3_000,
        }
    }

    /// What is not shown, and why.
    pub fn limit(&self) -> String {
        match self {
            Self::Tenfold => "the broker is one process on one disk; `--engines nats` is the way beyond it".to_owned(),
            Self::Nats(server) if server.syncs() => format!("one {server}; a cluster of three is not shown"),
            Self::Nats(server) => format!(
                "one {server}, which cannot sync before it confirms: a kill loses nothing by that, a power cut up to two \
                 minutes (2.10 has `sync_interval: always`)"
            ),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenfold => f.write_str("tenfold-mq"),
            Self::Nats(server) => server.fmt(f),
        }
    }
}
