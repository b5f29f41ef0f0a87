//! What parent and child tell each other.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What the parent tells a child; travels in one environment variable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) bind: SocketAddr,
    pub(crate) bind_attempts: u32,
    pub(crate) threads: usize,
    pub(crate) parent: i32,
    pub(crate) config: serde_json::Value,
}

/// The one line a child prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Handshake {
    Ready { addr: SocketAddr, announced: BTreeMap<String, SocketAddr> },
    Failed { kind: FailureKind, message: String },
}

/// At which step a child failed to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailureKind {
    /// The binary has no such role.
    UnknownRole,
    /// The configuration does not fit the role.
    Config,
    /// The address is in use or not to be had.
    Bind,
    /// The role's own function failed, before or after it was ready.
    Role,
}

impl Handshake {
    pub(super) fn print(&self) -> io::Result<()> {
        let line = serde_json::to_string(self)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }
}

/// Why a role does not serve.
pub(super) struct Failed {
    pub(super) kind: FailureKind,
    pub(super) message: String,
}

impl Failed {
    pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
