//! What replication costs and promises on real servers, beside poolers and beside the client alone.
//!
//! Everything runs on servers of its own, three of PostgreSQL started by `scripts/pg-cluster`, or directories of SQLite, and
//! checks what it is told while it is measured: a session that reads something older than what it wrote or saw ends the run.

use std::error::Error;

pub mod age;
pub mod check_out;
pub mod faults;
pub mod files;
pub mod poolers;
pub mod reads;
pub mod row;
pub mod scenario;
pub mod select;
pub mod servers;
pub mod usage;
pub mod wire;

/// Whatever went wrong with servers, poolers or clients: nobody branches on it.
pub type Trouble = Box<dyn Error + Send + Sync>;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// Something did not start or did not answer.
    #[error("the servers could not be measured")]
    Servers(#[source] Trouble),
    /// A promise was broken.
    #[error("{count} reads were older than what their session had written or seen")]
    Violations {
        /// How many.
        count: u64,
    },
}

impl From<Trouble> for RoutingError {
    fn from(trouble: Trouble) -> Self {
        Self::Servers(trouble)
    }
}
