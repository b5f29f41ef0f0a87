//! Grey failure on demand: a server that answers everything, only late.
//!
//! `POST /delay/{ms}` makes it so; 0 ends it. The delay takes no slot of the server, as a slow disk, a slow network or a
//! neighbour on the same host would not, so the server looks idle while its clients wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;

/// `routes`, each of which can be delayed.
pub fn router(routes: Router) -> Router {
    let delay_ms = Arc::new(AtomicU64::new(0));
    let delayed = routes.layer(from_fn_with_state(Arc::clone(&delay_ms), late));
    delayed.merge(Router::new().route("/delay/{ms}", post(set)).with_state(delay_ms))
}

async fn late(State(delay_ms): State<Arc<AtomicU64>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let delay_ms = delay_ms.load(Ordering::Relaxed);
    if delay_ms > 0 {
        tenfold_rig::sleep(Duration::from_millis(delay_ms)).await;
    }
    response
}

async fn set(State(delay_ms): State<Arc<AtomicU64>>, Path(ms): Path<u64>) -> StatusCode {
    delay_ms.store(ms, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}
