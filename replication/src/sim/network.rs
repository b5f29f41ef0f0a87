//! Links: delay, loss, and directions that are cut.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{NodeId, Rng};

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A node.
    Node(NodeId),
    /// A process that uses the cluster: counted from 0 as [`Sim::driver`](super::Sim::driver) made them.
    Client(u16),
}

#[derive(Debug)]
pub(super) struct Network {
    delay: (Duration, Duration),
    client_delay: (Duration, Duration),
    loss_per_mille: u32,
    cuts: BTreeSet<(Endpoint, Endpoint)>,
}

impl Network {
    pub(super) fn new(delay: (Duration, Duration), client_delay: (Duration, Duration), loss_per_mille: u32) -> Self {
        Self { delay, client_delay, loss_per_mille, cuts: BTreeSet::new() }
    }

    pub(super) fn cut(&mut self, from: Endpoint, to: Endpoint) {
        self.cuts.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    pub(super) fn is_cut(&self, from: Endpoint, to: Endpoint) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// How long this message takes; `None` if it does not arrive.
    pub(super) fn send(&self, from: Endpoint, to: Endpoint, rng: &mut Rng) -> Option<Duration> {
        if self.is_cut(from, to) {
            return None;
        }
        let is_between_nodes = matches!((from, to), (Endpoint::Node(_), Endpoint::Node(_)));
        let (shortest, longest) = if is_between_nodes { self.delay } else { self.client_delay };
        if is_between_nodes && rng.below(1000) < u64::from(self.loss_per_mille) {
            return None;
        }
        let spread = longest.saturating_sub(shortest).as_nanos() as u64;
        Some(shortest + Duration::from_nanos(rng.below(spread + 1)))
    }
}
