//! HTTP in, HTTP out: takes a client's request whole, lets the balancer send it, and hands the answer back.
//!
//! Requests and answers of the product are small, so both are held in memory: a request can then be sent again, and a
//! backend counts as busy until its answer is complete. To whom, how often and how long is the balancer's business
//! ([`Balance`]); what it has to know of HTTP for that is in [`Http`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use tenfold_load_balancer::{
    AddressPolicy, Balance, BalanceError, Balancer, Failure, Key, Outcome, Protocol, RequestPolicy, Timer, TokioTimer,
    Traits,
};
use tenfold_rig::RoleResult;
use tower_service::Service;

use super::admin::Counts;
use super::config::{BalancerConfig, Member};
use super::upstream::{Answer, Connections, Upstream, strip};

const MAX_REQUEST_BYTES: usize = 64 << 10;

/// What the balancer's process holds.
pub(super) struct Front {
    addresses: AddressPolicy,
    balancer: Balancer<Upstream>,
    service: Balance<Upstream, Http, TokioTimer>,
    connections: Connections,
    requests: AtomicU64,
}

impl Front {
    pub(super) fn new(config: &BalancerConfig) -> RoleResult<Self> {
        let rules = &config.rules;
        let balancer = Balancer::builder().config(rules.balancer()).seed(config.seed).build()?;
        let policy = RequestPolicy::new(rules.request(), TokioTimer.now())?.with_seed(config.seed);
        let http = Http { has_failover: rules.has_failover };
        let front = Self {
            addresses: rules.addresses,
            service: Balance::new(balancer.clone(), Arc::new(policy), http, TokioTimer),
            balancer,
            connections: Connections::default(),
            requests: AtomicU64::new(0),
        };
        config.backends.iter().try_for_each(|member| front.admit(member))?;
        Ok(front)
    }

    pub(super) fn balancer(&self) -> &Balancer<Upstream> {
        &self.balancer
    }

    /// Lets a server join, if it has an address that servers may have.
    pub(super) fn admit(&self, member: &Member) -> RoleResult {
        self.addresses.check(member.address)?;
        self.balancer.insert(member.backend().with_data(self.connections.to(member.address)))?;
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { requests: self.requests.load(Ordering::Relaxed), tries: self.connections.tries() }
    }
}

pub(super) fn router(front: Arc<Front>) -> Router {
    Router::new().fallback(forward).with_state(front)
}

async fn forward(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.requests.fetch_add(1, Ordering::Relaxed);
    let (mut head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_REQUEST_BYTES).collect().await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    strip(&mut head.headers);
    let request = hyper::Request::from_parts(head, body.to_bytes());
    match front.service.clone().call(request).await {
        Ok(answer) => answer.map(Body::from),
        Err(error) => status(&error).into_response(),
    }
}

fn status(error: &BalanceError<Failure>) -> StatusCode {
    match error {
        BalanceError::DeadlineExceeded | BalanceError::Backend(Failure::TimedOut) => StatusCode::GATEWAY_TIMEOUT,
        BalanceError::Backend(_) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What HTTP says about a request and an answer.
struct Http {
    has_failover: bool,
}

impl Protocol<hyper::Request<Bytes>, Answer, Failure> for Http {
    fn describe(&self, request: &hyper::Request<Bytes>) -> Traits {
        let key = Key::of(request.uri().path().as_bytes());
        Traits { key: Some(key), is_idempotent: request.method().is_idempotent(), ..Traits::default() }
    }

    fn classify(&self, result: &Result<Answer, Failure>) -> Outcome {
        match result {
            // Without failover nobody is to learn that a server fails.
            _ if !self.has_failover => Outcome::Success,
            Err(failure) => Outcome::Failure(*failure),
            Ok(answer) => match answer.status().as_u16() {
                429 | 503 => Outcome::Failure(Failure::Rejected),
                500 | 502 | 504 => Outcome::Failure(Failure::Answered),
                _ => Outcome::Success,
            },
        }
    }

    fn copy(&self, request: &hyper::Request<Bytes>) -> Option<hyper::Request<Bytes>> {
        Some(request.clone())
    }
}
