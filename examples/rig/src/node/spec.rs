//! What to start, and why it did not.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitStatus;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub(super) role: String,
    pub(super) name: String,
    pub(super) bind: SocketAddr,
    pub(super) has_own_network: bool,
    pub(super) threads: usize,
    pub(super) ready_timeout: Duration,
    pub(super) config: serde_json::Value,
}

impl NodeSpec {
    /// A node called `name` that plays `role`, on a free port of 127.0.0.1, with one thread and no configuration.
    pub fn new(role: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            name: name.into(),
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            has_own_network: false,
            threads: 1,
            ready_timeout: READY_TIMEOUT,
            config: serde_json::Value::Null,
        }
    }

    /// Gives the configuration that the role's function receives.
    ///
    /// # Errors
    /// It has no form in JSON, such as a map whose keys are not strings.
    pub fn config<C: Serialize>(mut self, config: &C) -> Result<Self, StartError> {
        self.config = serde_json::to_value(config)
            .map_err(|e| StartError::Config { name: self.name.clone(), message: e.to_string() })?;
        Ok(self)
    }

    /// Listens on this address of 127.0.0.0/8, so that tiers can have addresses of their own.
    #[must_use]
    pub fn ip(mut self, ip: Ipv4Addr) -> Self {
        self.bind.set_ip(IpAddr::V4(ip));
        self
    }

    /// Listens on this private address (RFC 1918): for processes that have a network of their own, where nobody else
    /// is; see [`enter_own_network`](crate::enter_own_network).
    #[must_use]
    pub fn in_own_network(mut self, ip: Ipv4Addr) -> Self {
        self.has_own_network = true;
        self.ip(ip)
    }

    /// Listens on this port; 0, the default, takes a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.bind.set_port(port);
        self
    }

    /// Worker threads of the node; 1 by default, which costs the machine least.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How long the node may take until it serves; 10 s by default.
    #[must_use]
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }
}

/// Why a node does not serve. The process is gone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration has no form in JSON or does not fit the role.
    #[error("node {name}: bad configuration: {message}")]
    Config {
        /// The node.
        name: String,
        /// What does not fit.
        message: String,
    },
    /// Only addresses of this machine's loopback are used, and private ones in a network of one's own.
    #[error("node {name}: {ip} is not a loopback address")]
    NotLoopback {
        /// The node.
        name: String,
        /// The address asked for.
        ip: IpAddr,
    },
    /// The binary has no such role.
    #[error("node {name}: {message}")]
    UnknownRole {
        /// The node.
        name: String,
        /// Which roles there are.
        message: String,
    },
    /// The port is busy or the address is not to be had.
    #[error("node {name}: {message}")]
    Bind {
        /// The node.
        name: String,
        /// Address and reason.
        message: String,
    },
    /// The role's function gave up before it was ready, for example as its folder is not writable.
    #[error("node {name}: {message}")]
    Role {
        /// The node.
        name: String,
        /// The function's error with its sources.
        message: String,
    },
    /// The process ended without a word on its stdout.
    #[error("node {name} died at its start ({status}); its last words: {}", or_none(.stderr))]
    Died {
        /// The node.
        name: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// Alive, but not ready in time.
    #[error("node {name} was not ready after {after:?}; its last words: {}", or_none(.stderr))]
    TimedOut {
        /// The node.
        name: String,
        /// The time it had.
        after: Duration,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// The process said something else than that it is ready: its binary's `main` does not call [`run`](crate::run)
    /// first.
    #[error("node {name} did not say that it is ready but: {line:?}")]
    NotReady {
        /// The node.
        name: String,
        /// Its first line.
        line: String,
    },
    /// The supervisor has ended.
    #[error("node {name}: its supervisor has ended")]
    Closed {
        /// The node.
        name: String,
    },
    /// The bound of a supervisor is reached.
    #[error("a supervisor keeps at most {max_nodes} nodes")]
    TooMany {
        /// The bound.
        max_nodes: usize,
    },
    /// The operating system refused.
    #[error("node {name}: no process could be started")]
    Process {
        /// The node.
        name: String,
        /// Its reason.
        #[source]
        source: io::Error,
    },
}

impl NodeSpec {
    /// Whether nobody on another machine could reach it there.
    pub(super) fn is_out_of_reach(&self) -> bool {
        match self.bind.ip() {
            IpAddr::V4(ip) => ip.is_loopback() || (self.has_own_network && ip.is_private()),
            IpAddr::V6(ip) => ip.is_loopback(),
        }
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
