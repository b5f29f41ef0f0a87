//! What a balancer's process is told when it starts.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenfold_load_balancer::{AddressPolicy, Backend, Config, Policy, RequestConfig};
use tenfold_rig::Node;

/// Longer than the slowest answers of a healthy server, and short beside a user's patience.
const TRY_TIMEOUT: Duration = Duration::from_millis(250);

/// One server that requests can go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
}

impl Member {
    /// A running node.
    pub fn of(node: &Node) -> Self {
        Self { name: node.name().to_owned(), address: node.addr() }
    }

    pub(super) fn backend(&self) -> Backend {
        Backend::new(self.address).with_name(&self.name)
    }
}

/// How it chooses, and what it does when a server fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// How a server is chosen.
    pub policy: Policy,
    /// Which addresses servers may have.
    pub addresses: AddressPolicy,
    /// Whether a request that fails goes to another server, and whether servers that fail are left out. Off is what the
    /// claims are held against.
    pub has_failover: bool,
}

impl Default for Rules {
    /// Round robin over private addresses, with failover.
    fn default() -> Self {
        Self { policy: Policy::RoundRobin, addresses: AddressPolicy::PrivateOnly, has_failover: true }
    }
}

impl Rules {
    /// How servers are chosen and judged: by the component's defaults, or by nothing at all.
    pub(super) fn balancer(&self) -> Config {
        let mut config = Config { policy: self.policy, ..Config::default() };
        if !self.has_failover {
            config.outlier.max_ejection_percent = 0;
        }
        config
    }

    /// How requests are kept alive. Without failover each is sent once and never given up.
    pub(super) fn request(&self) -> RequestConfig {
        if self.has_failover {
            RequestConfig { try_timeout: TRY_TIMEOUT, ..RequestConfig::default() }
        } else {
            RequestConfig { max_tries: 1, hedge: None, ..RequestConfig::default() }
        }
    }

    /// The same without failover.
    #[must_use]
    pub fn without_failover(self) -> Self {
        Self { has_failover: false, ..self }
    }
}

/// A balancer's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BalancerConfig {
    /// The servers that it begins with.
    pub backends: Vec<Member>,
    /// How it chooses.
    pub rules: Rules,
    /// Determines its random choices.
    pub seed: u64,
}
