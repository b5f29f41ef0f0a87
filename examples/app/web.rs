//! The web tier: routes of the product over whatever [`Users`] the rung wired up.
//!
//! | route | answers |
//! |---|---|
//! | `GET /users/{id}` | the four fields; `ETag` is the version, `X-Cache` says HIT or MISS; 404 for a missing user |
//! | `PUT /users/{id}` | writes all fields, answers the new version in `ETag`; 422 for a field that breaks a rule |
//! | `POST /transfer` | 204; 404 for a missing account, 422 for too little money, 409 for a transfer done before |
//! | `POST /withdraw` | 204; 404 and 422 as above |
//! | `GET /stats` | counts since the start |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{ETAG, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_rig::Station;

use crate::database::DatabaseError;
use crate::host::status;
use crate::user::{User, UserId};
use crate::users::{Answered, Transfer, Users, Withdrawal};

const MAX_REQUEST_BYTES: usize = 16 << 10;
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Counts of one web server since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebStats {
    /// `GET /users/{id}` answered from a cache.
    pub hits: u64,
    /// `GET /users/{id}` answered by the store.
    pub misses: u64,
    /// Requests answered 500 and above.
    pub failures: u64,
}

/// The routes of a web server whose capacity `station` models.
pub fn router(users: Arc<dyn Users>, station: Station) -> Router {
    let web = Arc::new(Web { users, station, counts: Counts::default() });
    Router::new()
        .route("/users/{id}", get(read).put(write))
        .route("/transfer", post(transfer))
        .route("/withdraw", post(withdraw))
        .route("/stats", get(stats))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(web)
}

struct Web {
    users: Arc<dyn Users>,
    station: Station,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
}

impl Web {
    /// Waits for a slot of this server, refusing when its line is full.
    async fn enter(&self) -> Result<(), Response> {
        match self.station.serve().await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.failed(&DatabaseError::Unavailable)),
        }
    }

    fn failed(&self, error: &DatabaseError) -> Response {
        let status = status(error);
        if status.is_server_error() {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
        }
        (status, Json(serde_json::json!({ "error": error.to_string() }))).into_response()
    }

    fn done(&self, outcome: Result<(), DatabaseError>) -> Response {
        match outcome {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(error) => self.failed(&error),
        }
    }
}

async fn read(State(web): State<Arc<Web>>, Path(id): Path<u64>) -> Response {
    if let Err(refused) = web.enter().await {
        return refused;
    }
    match web.users.user(UserId(id)).await {
        Ok(Some((found, answered))) => {
            let (count, label) = match answered {
                Answered::Cache => (&web.counts.hits, "HIT"),
                Answered::Store => (&web.counts.misses, "MISS"),
            };
            count.fetch_add(1, Ordering::Relaxed);
            let headers = [(ETAG, etag(found.version)), (X_CACHE, HeaderValue::from_static(label))];
            (headers, Json(found.user)).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => web.failed(&error),
    }
}

async fn write(State(web): State<Arc<Web>>, Path(id): Path<u64>, Json(user): Json<User>) -> Response {
    if user.id != UserId(id) {
        return web.failed(&DatabaseError::Check);
    }
    if let Err(refused) = web.enter().await {
        return refused;
    }
    match web.users.update(user).await {
        Ok(Some(version)) => (StatusCode::NO_CONTENT, [(ETAG, etag(version))]).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => web.failed(&error),
    }
}

async fn transfer(State(web): State<Arc<Web>>, Json(transfer): Json<Transfer>) -> Response {
    match web.enter().await {
        Ok(()) => web.done(web.users.transfer(transfer).await),
        Err(refused) => refused,
    }
}

async fn withdraw(State(web): State<Arc<Web>>, Json(withdrawal): Json<Withdrawal>) -> Response {
    match web.enter().await {
        Ok(()) => web.done(web.users.withdraw(withdrawal).await),
        Err(refused) => refused,
    }
}

async fn stats(State(web): State<Arc<Web>>) -> Json<WebStats> {
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counts = &web.counts;
    Json(WebStats { hits: read(&counts.hits), misses: read(&counts.misses), failures: read(&counts.failures) })
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes are a header value")
}
