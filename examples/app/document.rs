//! The same product on a document store (redb): a record is whatever JSON the writer sends, found by its key.
//!
//! What it gives: a new field needs no migration, and a point read is one look-up in a B-tree. What it takes away is
//! stated by what is missing here: no rule refuses a bad record, no reference is checked, and there is no query but by
//! key, so a join is the caller's loop.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use redb::{Database, ReadableDatabase, TableDefinition};
use serde_json::Value;
use tenfold_rig::Station;

use crate::database::{DatabaseError, Reply};
use crate::user::{User, UserId, Versioned};
use crate::users::{Answered, Transfer, Users, Withdrawal};
use crate::web;

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

/// The product's [`Users`] over documents, and the documents themselves.
///
/// | route | answers |
/// |---|---|
/// | `GET` and `PUT /users/{id}` | as on the relational store |
/// | `GET` and `PUT /documents/{id}` | any JSON |
pub fn router(documents: Arc<Documents>) -> Router {
    let raw = Router::new().route("/documents/{id}", get(read).put(write)).with_state(Arc::clone(&documents));
    web::router(Arc::new(DocumentUsers(documents)), Station::instant()).merge(raw)
}

async fn read(State(documents): State<Arc<Documents>>, UrlPath(id): UrlPath<UserId>) -> Response {
    match documents.get(id) {
        Ok(Some(document)) => Json(document).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn write(
    State(documents): State<Arc<Documents>>,
    UrlPath(id): UrlPath<UserId>,
    Json(document): Json<Value>,
) -> StatusCode {
    match tokio::task::spawn_blocking(move || documents.put_all([(id, &document)])).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

struct DocumentUsers(Arc<Documents>);

impl Users for DocumentUsers {
    fn user(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>> {
        Box::pin(async move {
            let document = self.0.get(id).map_err(|_| DatabaseError::Storage)?;
            document.map(|document| Ok((parse(id, &document)?, Answered::Store))).transpose()
        })
    }

    fn update(&self, user: User) -> Reply<'_, Option<u64>> {
        Box::pin(async move {
            let documents = Arc::clone(&self.0);
            let update = tokio::task::spawn_blocking(move || {
                let Some(mut document) = documents.get(user.id)? else { return Ok(None) };
                let version = document["version"].as_u64().unwrap_or(1) + 1;
                document["firstName"] = user.first_name.into();
                document["lastName"] = user.last_name.into();
                document["phone"] = user.phone.into();
                document["version"] = version.into();
                documents.put_all([(user.id, &document)])?;
                Ok::<_, DocumentError>(Some(version))
            });
            update.await.map_err(|_| DatabaseError::Unavailable)?.map_err(|_| DatabaseError::Storage)
        })
    }

    fn transfer(&self, _: Transfer) -> Reply<'_, ()> {
        Box::pin(async { Err(DatabaseError::Statement) })
    }

    fn withdraw(&self, _: Withdrawal) -> Reply<'_, ()> {
        Box::pin(async { Err(DatabaseError::Statement) })
    }
}

/// Reads the four fields out of a document and leaves the others alone.
fn parse(id: UserId, document: &Value) -> Result<Versioned, DatabaseError> {
    let text = |field: &str| document[field].as_str().map(str::to_owned).ok_or(DatabaseError::Garbled);
    let user = User { id, first_name: text("firstName")?, last_name: text("lastName")?, phone: text("phone")? };
    Ok(Versioned { version: document["version"].as_u64().unwrap_or(1), user })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tenfold_rig::TempDir;

    #[test]
    fn keeps_fields_that_nobody_planned_for() {
        let dir = TempDir::new().unwrap();
        let documents = Documents::open(&dir.path().join("users.redb")).unwrap();
        let document = json!({"firstName": "Ada", "lastName": "Lovelace", "phone": "123", "nickname": "Countess"});
        documents.put_all([(UserId(1), &document)]).unwrap();
        assert_eq!(documents.get(UserId(1)).unwrap(), Some(document.clone()));
        assert_eq!(documents.get(UserId(2)).unwrap(), None);
        assert_eq!(parse(UserId(1), &document).unwrap().user.first_name, "Ada");
        assert_eq!(parse(UserId(1), &json!({})), Err(DatabaseError::Garbled));
    }
}
