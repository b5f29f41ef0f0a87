//! The web server: takes a job and answers at once, before anything is done.
//!
//! | route | answers |
//! |---|---|
//! | `POST /jobs/{key}` | 202 when the job is in the queue for good; 429 if the queue is full; 503 if it cannot be reached |
//! | `POST /inline/{key}` | 200 when the job is done: what one has without a queue |
//! | `PUT /pictures/{name}` | 204 when the picture is stored |
//! | `GET /events/{user}` | a stream of the user's notifications (server-sent events) |
//! | `POST /events/{user}/{key}` | 204: for workers |
//! | `GET /stats` | counts, as every web server of the climb has them |

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use tenfold_rig::Station;

use super::hub::Hub;
use super::job::{Job, JobKey};
use super::queue::{Jobs, QueueError};
use super::work::Hands;
use crate::web::WebStats;

const MAX_REQUEST_BYTES: usize = 1 << 20;

/// What a web server has.
#[derive(Debug)]
pub struct Front {
    /// Where jobs go.
    pub jobs: Jobs,
    /// Takes the time of a request.
    pub station: Station,
    /// Does jobs within requests, for comparison.
    pub hands: Hands,
    /// Takes the time of a job, on this server's slots, for comparison.
    pub inline: Station,
    /// Where pictures are kept.
    pub uploads: std::path::PathBuf,
}

struct Shared {
    front: Front,
    hub: Hub,
}

/// Its routes.
pub fn router(front: Front) -> Router {
    Router::new()
        .route("/jobs/{key}", post(enqueue))
        .route("/inline/{key}", post(inline))
        .route("/pictures/{name}", put(picture))
        .route("/events/{user}", get(events))
        .route("/events/{user}/{key}", post(event))
        .route("/stats", get(|| async { Json(WebStats::default()) }))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(Arc::new(Shared { front, hub: Hub::default() }))
}

async fn enqueue(State(shared): State<Arc<Shared>>, Path(key): Path<String>, body: Bytes) -> Response {
    let Some((key, _)) = read(key, &body) else { return StatusCode::UNPROCESSABLE_ENTITY.into_response() };
    if shared.front.station.serve().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match shared.front.jobs.send(&key, body).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(QueueError::Full) => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn inline(State(shared): State<Arc<Shared>>, Path(key): Path<String>, body: Bytes) -> StatusCode {
    let Some((key, job)) = read(key, &body) else { return StatusCode::UNPROCESSABLE_ENTITY };
    let Front { station, inline, hands, .. } = &shared.front;
    if station.serve().await.is_err() || inline.serve().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    if hands.work(&key, &job).await.is_ok() { StatusCode::OK } else { StatusCode::BAD_GATEWAY }
}

fn read(key: String, body: &Bytes) -> Option<(JobKey, Job)> {
    Some((JobKey::new(key).ok()?, serde_json::from_slice(body).ok()?))
}

async fn picture(State(shared): State<Arc<Shared>>, Path(name): Path<String>, body: Bytes) -> StatusCode {
    let Ok(name) = JobKey::new(name) else { return StatusCode::UNPROCESSABLE_ENTITY };
    let file = shared.front.uploads.join(format!("{}.png", name.as_str()));
    match tokio::fs::write(file, body).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INSUFFICIENT_STORAGE,
    }
}

async fn events(State(shared): State<Arc<Shared>>, Path(user): Path<u64>) -> Response {
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::new(shared.hub.listen(user))).into_response()
}

async fn event(State(shared): State<Arc<Shared>>, Path((user, key)): Path<(u64, String)>, text: String) -> StatusCode {
    let Ok(key) = JobKey::new(key) else { return StatusCode::UNPROCESSABLE_ENTITY };
    shared.hub.publish(user, key, &text);
    StatusCode::NO_CONTENT
}
