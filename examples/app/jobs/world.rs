//! The world outside: a mail server and a provider of text messages, which note what they were asked to deliver.
//!
//! | at | what | answers |
//! |---|---|---|
//! | `smtp` | a mail server | takes every letter |
//! | main | `POST /sms` | 204; 401 for a webhook that is not signed; 400 without an idempotency key |
//! | main | `GET /effects` | what was delivered, by kind and key, and how often a repetition was held back |

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Role, RoleResult, unix_seconds};
use tokio::net::TcpListener;

use super::effects::Effects;
use super::job::JobKey;
use super::{smtp, webhook};

/// The header that carries a webhook's signature.
pub const SIGNATURE: &str = "x-signature";
/// The header by which receivers know a repetition.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The provider's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldConfig {
    /// What webhooks are signed with.
    pub secret: String,
}

struct World {
    secret: String,
    effects: Arc<Effects>,
}

/// The whole role. The mail server is announced as `smtp`.
///
/// # Errors
///
/// No socket.
pub async fn serve(mut role: Role<WorldConfig>) -> RoleResult {
    let effects = Arc::new(Effects::default());
    let mail = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    role.announce("smtp", mail.local_addr()?);
    let routes = router(role.config.secret.clone(), Arc::clone(&effects));
    let (listener, stop) = (role.ready()?, role.stop());
    let web = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().wait());
    tokio::select! {
        ended = web => Ok(ended?),
        ended = smtp::serve(mail, effects) => Ok(ended?),
        () = stop.wait() => Ok(()),
    }
}

/// The routes of the provider of text messages, whose webhooks are signed with `secret`.
pub fn router(secret: String, effects: Arc<Effects>) -> Router {
    let effects_of = |State(world): State<Arc<World>>| async move { Json(world.effects.all()) };
    let routes = Router::new().route("/sms", post(sms)).route("/effects", get(effects_of));
    routes.with_state(Arc::new(World { secret, effects }))
}

async fn sms(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if webhook::check(world.secret.as_bytes(), unix_seconds(), &body, text(SIGNATURE)).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(key) = JobKey::new(text(IDEMPOTENCY_KEY)) else { return StatusCode::BAD_REQUEST };
    world.effects.note("sms", key);
    StatusCode::NO_CONTENT
}
