//! What the nodes of rung 05 are of.

use std::fmt;

use serde::{Deserialize, Serialize};
use tenfold_replication::driver::sqlite::rusqlite;

use super::postgres::PostgreSql;

/// The database behind each database server. All else of the rung is the same on each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// A file of SQLite, whose log this workspace's crate ships.
    #[default]
    Sqlite,
    /// A server of PostgreSQL, with its own streaming replication.
    Postgres(PostgreSql),
}

impl Engine {
    /// What is not as in a machine of its own, and what of it is modelled.
    pub fn limit(&self) -> String {
        match self {
            Self::Sqlite => {
                "a database server is a thin host of a SQLite node: the log goes to the replicas through files that both \
                 processes reach, and only while a socket to the primary's process is open; `--engines postgres` runs the \
                 rung on PostgreSQL"
            }
            Self::Postgres(_) => {
                "beside each PostgreSQL server stands a process that models its capacity and runs its statements; the log \
                 goes from server to server by PostgreSQL itself, over sockets that this process can cut"
            }
        }
        .to_owned()
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite => write!(f, "SQLite {}", rusqlite::version()),
            Self::Postgres(server) => server.fmt(f),
        }
    }
}
