//! What a web server over shards answers beside the product's routes.
//!
//! | route | answers |
//! |---|---|
//! | `GET /total` | a count over all shards: 206 and who is missing, if some give no answer |
//! | `GET /total/whole` | the same, or 503: for whom a part is of no use |
//! | `GET /hot` | the users that are asked for most, and how many requests there were |
//! | `GET /map` | the version of the map in use |
//! | `POST /map` | goes by a newer map from now on |

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::users::{Fenced, Heat, Hot, News, Total};

/// The routes over these shards.
pub fn router(shards: Arc<Fenced>, heat: Heat) -> Router {
    Router::new()
        .route("/total", get(total))
        .route("/total/whole", get(whole))
        .route("/map", get(version).post(learn))
        .with_state(shards)
        .merge(Router::new().route("/hot", get(hot)).with_state(heat))
}

async fn total(State(shards): State<Arc<Fenced>>) -> (StatusCode, Json<Total>) {
    let total = shards.total().await;
    let status = if total.missing.is_empty() { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    (status, Json(total))
}

async fn whole(State(shards): State<Arc<Fenced>>) -> Response {
    let total = shards.total().await;
    if total.missing.is_empty() { Json(total).into_response() } else { StatusCode::SERVICE_UNAVAILABLE.into_response() }
}

async fn hot(State(heat): State<Heat>) -> Json<(Vec<Hot>, u64)> {
    Json(heat.top())
}

async fn version(State(shards): State<Arc<Fenced>>) -> Json<u64> {
    Json(shards.shards().map().version())
}

async fn learn(State(shards): State<Arc<Fenced>>, Json(news): Json<News>) -> StatusCode {
    match shards.learn(&news).await {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}
