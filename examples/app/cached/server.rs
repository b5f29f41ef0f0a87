//! A cache server: one of our caches in a process of its own, behind HTTP.
//!
//! | route | answers |
//! |---|---|
//! | `GET /entry/{id}` | 200 with the entry, or 404 |
//! | `PUT /entry/{id}` | stores; with `?lease=N` only if that lease is still good, else 409 |
//! | `PUT /entries` | stores all of a list, in its order |
//! | `DELETE /entry/{id}` | drops the entry and voids its lease |
//! | `POST /lease/{id}` | 200 with the entry, 201 with a lease to fill it, or 423 while another reader has the lease |
//! | `GET /through/{id}` | the entry, read from the database if need be; `X-Cache` says HIT or MISS; 404 if there is no such user |
//! | `GET /stats` | the cache's counts |

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_lru_cache::{ConfigError, LeaseId, Lookup};
use tenfold_rig::Station;

use super::config::CacheConfig;
use super::engine::{UserCache, build};
use crate::host::status;
use crate::user::{UserId, Versioned};
use crate::users::{Answered, Users};

const MAX_ENTRY_BYTES: usize = 16 << 10;

/// The right to fill one entry, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) lease: u64,
}

/// A cache server's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheStats {
    /// Look-ups that found a live entry.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Reads of the database by the cache itself, refreshes included.
    pub loads: u64,
    /// Refreshes ahead of expiry.
    pub refreshes: u64,
    /// Entries evicted for want of room.
    pub evictions: u64,
    /// Fills refused because the entry was invalidated meanwhile.
    pub stale_fills: u64,
    /// Entries now.
    pub entries: u64,
}

/// The routes of a cache server with a cache of `config`, reading through to `store`; `station` models its hop.
///
/// # Errors
///
/// A configuration that cannot work.
pub fn router(config: &CacheConfig, store: Arc<dyn Users>, station: Station) -> Result<Router, ConfigError> {
    let server = Arc::new(Server { cache: build(config, store)?, station });
    Ok(Router::new()
        .route("/entry/{id}", get(read).put(fill).delete(remove))
        .route("/entries", put(store_all))
        .route("/lease/{id}", post(lease))
        .route("/through/{id}", get(through))
        .route("/stats", get(stats))
        .layer(DefaultBodyLimit::max(MAX_ENTRY_BYTES))
        .with_state(server))
}

struct Server {
    cache: Arc<dyn UserCache>,
    station: Station,
}

type Shared = State<Arc<Server>>;

#[derive(Deserialize)]
struct Under {
    lease: Option<u64>,
}

async fn read(State(server): Shared, Path(id): Path<UserId>) -> Response {
    if server.station.serve().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match server.cache.get(id) {
        Some(found) => Json(found).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn fill(
    State(server): Shared,
    Path(id): Path<UserId>,
    Query(under): Query<Under>,
    Json(value): Json<Versioned>,
) -> StatusCode {
    let Some(lease) = under.lease else {
        server.cache.insert(id, value);
        return StatusCode::NO_CONTENT;
    };
    match server.cache.fill(id, LeaseId::from_u64(lease), value) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::CONFLICT,
    }
}

async fn store_all(State(server): Shared, Json(values): Json<Vec<Versioned>>) -> StatusCode {
    values.into_iter().for_each(|value| server.cache.insert(value.user.id, value));
    StatusCode::NO_CONTENT
}

async fn remove(State(server): Shared, Path(id): Path<UserId>) -> StatusCode {
    server.cache.remove(id);
    StatusCode::NO_CONTENT
}

async fn lease(State(server): Shared, Path(id): Path<UserId>) -> Response {
    if server.station.serve().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match server.cache.lease(id) {
        Lookup::Hit(found) => Json(found).into_response(),
        Lookup::Granted(lease) => (StatusCode::CREATED, Json(Lease { lease: lease.to_u64() })).into_response(),
        Lookup::Absent => StatusCode::NO_CONTENT.into_response(),
        Lookup::Busy => StatusCode::LOCKED.into_response(),
    }
}

async fn through(State(server): Shared, Path(id): Path<UserId>) -> Response {
    if server.station.serve().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match server.cache.load(id).await {
        Ok(Some((found, answered))) => {
            let label = if answered == Answered::Cache { "HIT" } else { "MISS" };
            ([("x-cache", label)], Json(found)).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => status(&error).into_response(),
    }
}

async fn stats(State(server): Shared) -> Json<CacheStats> {
    let stats = server.cache.stats();
    Json(CacheStats {
        hits: stats.hits,
        misses: stats.misses,
        loads: stats.loads,
        refreshes: stats.refreshes,
        evictions: stats.evictions,
        stale_fills: stats.stale_fills,
        entries: stats.entries,
    })
}
