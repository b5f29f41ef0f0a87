//! The address for operators: who is in the pool, and who joins and leaves it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_load_balancer::{BackendId, BackendState};

use super::config::Member;
use super::forward::Front;

/// A backend whose requests take longer to end than this is not waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// One backend, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendView {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it takes requests now.
    pub takes_requests: bool,
    /// Healthy, warming, ejected, down or draining.
    pub state: String,
    /// Requests in flight.
    pub in_flight: usize,
}

/// What the balancer has done since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests of clients.
    pub requests: u64,
    /// What was sent to backends for them.
    pub tries: u64,
}

pub(super) fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/backends", get(backends))
        .route("/counts", get(counts))
        .route("/backends/add", post(add))
        .route("/backends/drain", post(drain))
        .route("/backends/remove", post(remove))
        .with_state(front)
}

#[derive(Deserialize)]
struct Which {
    addr: SocketAddr,
}

async fn backends(State(front): State<Arc<Front>>) -> Json<Vec<BackendView>> {
    let view = |backend: tenfold_load_balancer::BackendStats| BackendView {
        address: backend.address,
        takes_requests: matches!(backend.state, BackendState::Healthy | BackendState::Warming),
        state: format!("{:?}", backend.state).to_lowercase(),
        in_flight: backend.in_flight,
    };
    Json(front.balancer().backends().into_iter().map(view).collect())
}

async fn counts(State(front): State<Arc<Front>>) -> Json<Counts> {
    Json(front.counts())
}

async fn add(State(front): State<Arc<Front>>, Query(Which { addr }): Query<Which>) -> (StatusCode, String) {
    let member = Member { name: addr.to_string(), address: addr };
    match front.admit(&member) {
        Ok(()) => (StatusCode::NO_CONTENT, String::new()),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
    }
}

async fn drain(State(front): State<Arc<Front>>, Query(Which { addr }): Query<Which>) -> StatusCode {
    let Some(id) = at(&front, addr) else { return StatusCode::NOT_FOUND };
    front.balancer().drain(id);
    match tokio::time::timeout(DRAIN_TIMEOUT, front.balancer().drained(id)).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::GATEWAY_TIMEOUT,
    }
}

async fn remove(State(front): State<Arc<Front>>, Query(Which { addr }): Query<Which>) -> StatusCode {
    match at(&front, addr) {
        Some(id) if front.balancer().remove(id) => StatusCode::NO_CONTENT,
        _ => StatusCode::NOT_FOUND,
    }
}

fn at(front: &Front, address: SocketAddr) -> Option<BackendId> {
    front.balancer().backends().into_iter().find(|backend| backend.address == address).map(|backend| backend.id)
}
