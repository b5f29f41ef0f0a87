//! The database server: a thin HTTP face over a SQLite file in a process of its own.
//!
//! It is not a relational database server (no wire protocol, no users, one machine), and rung 02 says so. What it
//! keeps of one is what the climb measures: a process that can be killed, a queue in front of limited capacity, and
//! transactions that survive.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::database::{Batch, Database, DatabaseError, Intent, Rows};
use crate::sqlite::{DatabaseStats, Discipline, Sqlite};

const MAX_BATCH_BYTES: usize = 64 << 10;

/// The routes of a database server: `POST /batch` and `GET /stats`.
///
/// Under [`Discipline::Sloppy`] a write is acknowledged before it is made, as a store does that answers from memory
/// and writes later.
pub fn router(database: Arc<Sqlite>, discipline: Discipline) -> Router {
    Router::new()
        .route("/batch", post(batch))
        .route("/stats", get(stats))
        .layer(DefaultBodyLimit::max(MAX_BATCH_BYTES))
        .with_state(Host { database, discipline })
}

#[derive(Clone)]
struct Host {
    database: Arc<Sqlite>,
    discipline: Discipline,
}

async fn batch(State(host): State<Host>, Json(batch): Json<Batch>) -> Response {
    if host.discipline == Discipline::Sloppy && batch.intent == Intent::Write {
        let promised = vec![Rows::default(); batch.statements.len()];
        tokio::spawn(async move { host.database.run(batch).await });
        return Json(promised).into_response();
    }
    match host.database.run(batch).await {
        Ok(rows) => Json(rows).into_response(),
        Err(error) => (status(&error), Json(error)).into_response(),
    }
}

async fn stats(State(host): State<Host>) -> Json<DatabaseStats> {
    Json(host.database.stats())
}

/// The HTTP status that says what kind of failure it is; used by the web tier as well.
pub fn status(error: &DatabaseError) -> StatusCode {
    match error {
        DatabaseError::Guard { .. } => StatusCode::NOT_FOUND,
        DatabaseError::ForeignKey | DatabaseError::Unique => StatusCode::CONFLICT,
        DatabaseError::Check => StatusCode::UNPROCESSABLE_ENTITY,
        DatabaseError::Statement => StatusCode::BAD_REQUEST,
        DatabaseError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        DatabaseError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        DatabaseError::Garbled => StatusCode::BAD_GATEWAY,
        DatabaseError::Storage => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
