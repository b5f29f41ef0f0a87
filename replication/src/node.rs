//! A server of the cluster, as its host names it.

use std::fmt;
use std::sync::Arc;

/// Names a node, for as long as the cluster lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A server of the cluster: cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "file::Node", into = "file::Node"))]
pub struct Node {
    id: NodeId,
    address: Arc<str>,
    zone: Option<Arc<str>>,
}

impl Node {
    /// A node at this address, whose form is the driver's: a connection string, a path, a socket address.
    pub fn new(id: NodeId, address: impl Into<Arc<str>>) -> Self {
        Self { id, address: address.into(), zone: None }
    }

    /// Says where it stands. Reads go to nodes of their own zone first, as long as that costs no more than
    /// [`Config::zone_cost`](crate::Config::zone_cost) of latency.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Where the driver finds it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it stands.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary's log.
    Replica,
}

/// A node as a configuration file names it.
#[cfg(feature = "serde")]
mod file {
    use super::NodeId;

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Node {
        id: NodeId,
        address: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    }

    impl From<Node> for super::Node {
        fn from(node: Node) -> Self {
            Self { id: node.id, address: node.address.into(), zone: node.zone.map(Into::into) }
        }
    }

    impl From<super::Node> for Node {
        fn from(node: super::Node) -> Self {
            Self { id: node.id, address: (*node.address).into(), zone: node.zone.as_deref().map(Into::into) }
        }
    }
}
