//! What the driver is told beside the addresses of its nodes.

use std::time::Duration;

/// How the driver uses its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct PgConfig {
    /// Who watches the nodes and carries out failovers, as words of a connection string that replace those of a node's
    /// address: `user=admin password=... dbname=postgres`. Default: nothing, the address as it is. Must be a superuser.
    pub control: String,
    /// How a replica connects to its primary, as words of a connection string of libpq, added to host, port and user of
    /// the primary's control connection: `user=replicator passfile=... sslmode=verify-full`. Default: nothing.
    pub replication: String,
    /// What a commit waits for. Default: what the server is set to, which is a flush by as many standbys as
    /// `synchronous_standby_names` asks for.
    pub synchronous_commit: Option<SynchronousCommit>,
    /// Prepared statements that a connection keeps. Default 256: the one used longest ago makes room.
    pub max_statements: usize,
    /// How long a node may take for one step of a fence: to end sessions, to stop receiving, to replay what it has.
    /// Default 2 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub step_timeout: Duration,
}

impl Default for PgConfig {
    fn default() -> Self {
        Self {
            control: String::new(),
            replication: String::new(),
            synchronous_commit: None,
            max_statements: 256,
            step_timeout: Duration::from_secs(2),
        }
    }
}

/// What a commit waits for, on the primary and on as many standbys as its mode counts.
///
/// | level | survives | a standby that confirmed it |
/// |---|---|---|
/// | `Off` | nothing: the last commits are lost when the server is killed | |
/// | `Local` | a restart of the primary | |
/// | `RemoteWrite` | also the loss of the primary, unless a standby's machine fails with it | has it in memory |
/// | `On` | also that | has it on disk |
/// | `RemoteApply` | the same | shows it |
///
/// [`Mode::Quorum`](crate::Mode::Quorum) promises what it says from `On` upwards. No level makes reads of a replica
/// fresh: of two replicas one confirms, and the other is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum SynchronousCommit {
    /// Nothing, not even the primary's own disk.
    Off,
    /// The primary's own disk.
    Local,
    /// The standbys' memory.
    RemoteWrite,
    /// The standbys' disks.
    On,
    /// The standbys' readers.
    RemoteApply,
}

impl SynchronousCommit {
    pub(super) const fn setting(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Local => "local",
            Self::RemoteWrite => "remote_write",
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
        }
    }
}
