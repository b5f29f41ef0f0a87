//! The database server: a thin HTTP face over a SQLite file in a process of its own.
//!
//! It is not a relational database server (no wire protocol, no users, one machine), and rung 02 says so. What it
//! keeps of one is what the climb measures: a process that can be killed, a queue in front of limited capacity, and
//! transactions that survive.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Cost, Role, RoleResult, Tier};

use crate::database::{Batch, Database, DatabaseError, Intent, Rows};
use crate::rung::{BALANCE, USERS};
use crate::sqlite::{DatabaseStats, Discipline, Sqlite};

const MAX_BATCH_BYTES: usize = 64 << 10;

/// A database server's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostConfig {
    /// Where the database is; it is made and filled if it is not there.
    pub file: PathBuf,
    /// What is modelled.
    pub cost: Cost,
    /// Determines the service times.
    pub seed: u64,
}

/// The whole role of a database server that keeps its promises, as rung 02 has wired it up.
///
/// # Errors
///
/// The file cannot be opened, or there is no socket.
pub async fn serve(mut role: Role<HostConfig>) -> RoleResult {
    let HostConfig { file, cost, seed } = &role.config;
    let is_new = !file.exists();
    let station = cost.station(Tier::Database, *seed)?;
    let database = Sqlite::open_with(file, Discipline::Acid, Duration::ZERO, station)?;
    if is_new {
        database.seed(USERS, BALANCE)?;
    }
    let routes = router(Arc::new(database), Discipline::Acid);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

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
        DatabaseError::AcrossShards => StatusCode::NOT_IMPLEMENTED,
        DatabaseError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        DatabaseError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        DatabaseError::Garbled => StatusCode::BAD_GATEWAY,
        DatabaseError::Storage => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
