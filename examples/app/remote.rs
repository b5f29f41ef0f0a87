//! The client of a database server: the same trait as the local store, one hop further away.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;

use crate::database::{Batch, Database, DatabaseError, Reply, Rows};
use crate::http::{CallError, Http};
use crate::sqlite::DatabaseStats;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A database at an address.
#[derive(Debug, Clone)]
pub struct RemoteDatabase {
    http: Http,
    address: SocketAddr,
}

impl RemoteDatabase {
    /// The database server at `address`, given 5 seconds for each batch; nothing is connected yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { http: Http::new(TIMEOUT), address }
    }

    /// The server's own counts, against which others are checked.
    ///
    /// # Errors
    ///
    /// As for a batch.
    pub async fn stats(&self) -> Result<DatabaseStats, DatabaseError> {
        Ok(self.http.get(self.address, "/stats").await?.json()?)
    }
}

impl Database for RemoteDatabase {
    fn run(&self, batch: Batch) -> Reply<'_, Vec<Rows>> {
        Box::pin(async move {
            let answer = self.http.send(Method::POST, self.address, "/batch", &batch).await?;
            if answer.status.is_success() {
                return Ok(answer.json()?);
            }
            Err(answer.json::<DatabaseError>().unwrap_or(DatabaseError::Garbled))
        })
    }
}

impl From<CallError> for DatabaseError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused | CallError::Unreachable => Self::Unavailable,
            CallError::TimedOut => Self::TimedOut,
            CallError::Garbled => Self::Garbled,
        }
    }
}
