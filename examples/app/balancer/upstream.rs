//! The way to one backend: its address and the connections that are kept open.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tenfold_load_balancer::Failure;
use tower_service::Service;

const MAX_ANSWER_BYTES: usize = 1 << 20;
const MAX_IDLE_PER_BACKEND: usize = 512;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Headers about one connection, which end here (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 5] =
    [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];

pub(super) fn strip(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// A backend's whole answer.
pub(super) type Answer = hyper::Response<Bytes>;

/// The connections to all backends.
#[derive(Clone)]
pub(super) struct Connections {
    client: Client<HttpConnector, Full<Bytes>>,
    tries: Arc<AtomicU64>,
}

impl Default for Connections {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(MAX_IDLE_PER_BACKEND)
            .build(connector);
        Self { client, tries: Arc::default() }
    }
}

impl Connections {
    pub(super) fn to(&self, address: SocketAddr) -> Upstream {
        Upstream { address, connections: self.clone() }
    }

    /// What was sent so far, to whomever.
    pub(super) fn tries(&self) -> u64 {
        self.tries.load(Ordering::Relaxed)
    }
}

/// One backend as a service: sends a request there and brings the whole answer.
#[derive(Clone)]
pub(super) struct Upstream {
    address: SocketAddr,
    connections: Connections,
}

impl Service<hyper::Request<Bytes>> for Upstream {
    type Response = Answer;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<Bytes>) -> Self::Future {
        let Self { address, connections } = self.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            head.uri = format!("http://{address}{path}").parse().map_err(|_| Failure::NotSent)?;
            connections.tries.fetch_add(1, Ordering::Relaxed);
            let sent = connections.client.request(hyper::Request::from_parts(head, Full::new(body))).await;
            // No connection: nobody serves there. Else some of the request may have arrived.
            let (mut head, body) =
                sent.map_err(|error| if error.is_connect() { Failure::Refused } else { Failure::Broken })?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|_| Failure::Broken)?;
            strip(&mut head.headers);
            Ok(hyper::Response::from_parts(head, body.to_bytes()))
        })
    }
}
