//! The same product on a document store (redb): a record is whatever JSON the writer sends, found by its key.
//!
//! What it gives: a new field needs no migration, and a point read is one look-up in a B-tree. What it takes away is
//! stated by what is missing here: no rule refuses a bad record, no reference is checked, and there is no query but by
//! key, so a join is the caller's loop.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};
use serde_json::Value;

use crate::user::UserId;

const USERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("users");

/// Why a document could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The file could not be opened, read or written.
    #[error("the document store failed")]
    Storage(#[source] Box<redb::Error>),
    /// A stored document is not JSON.
    #[error("a document is not JSON")]
    Garbled,
}

/// A file of JSON documents.
#[derive(Debug)]
pub struct Documents {
    database: Database,
}

impl Documents {
    /// Creates or opens the file.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Storage`] if it cannot be created or is not such a file.
    pub fn open(path: &Path) -> Result<Self, DocumentError> {
        let database = Database::create(path).map_err(storage)?;
        let transaction = database.begin_write().map_err(storage)?;
        transaction.open_table(USERS).map_err(storage)?;
        transaction.commit().map_err(storage)?;
        Ok(Self { database })
    }

    /// Stores documents under their ids, all or none, flushed before it returns.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Storage`] if the file cannot be written.
    pub fn put_all<'a>(&self, documents: impl IntoIterator<Item = (UserId, &'a Value)>) -> Result<(), DocumentError> {
        let transaction = self.database.begin_write().map_err(storage)?;
        {
            let mut table = transaction.open_table(USERS).map_err(storage)?;
            for (id, document) in documents {
                let json = document.to_string();
                table.insert(id.0, json.as_bytes()).map_err(storage)?;
            }
        }
        transaction.commit().map_err(storage)
    }

    /// The document under `id`.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Storage`] or [`DocumentError::Garbled`].
    pub fn get(&self, id: UserId) -> Result<Option<Value>, DocumentError> {
        let transaction = self.database.begin_read().map_err(storage)?;
        let table = transaction.open_table(USERS).map_err(storage)?;
        let Some(json) = table.get(id.0).map_err(storage)? else {
            return Ok(None);
        };
        serde_json::from_slice(json.value()).map(Some).map_err(|_| DocumentError::Garbled)
    }
}

fn storage(error: impl Into<redb::Error>) -> DocumentError {
    DocumentError::Storage(Box::new(error.into()))
}
