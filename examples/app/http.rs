//! The HTTP client that tiers call each other with: pooled connections, a deadline on every call, bounded answers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, COOKIE, ETAG};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

const MAX_ANSWER_BYTES: usize = 1 << 20;
const MAX_IDLE_PER_SERVER: usize = 512;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody listens there: the server is dead.
    #[error("the server refuses the connection")]
    Refused,
    /// No connection, or it broke: the server is down or went away.
    #[error("the server cannot be reached")]
    Unreachable,
    /// No answer before the deadline; the server may or may not have acted.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The answer is too long, or is not what the caller can read.
    #[error("the answer cannot be read")]
    Garbled,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// [`CallError::Garbled`] if it is not a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|_| CallError::Garbled)
    }

    /// The number in the `ETag` header: the version of the user in the body.
    pub fn version(&self) -> Option<u64> {
        self.headers.get(ETAG)?.to_str().ok()?.trim_matches('"').parse().ok()
    }

    /// A header's text, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A client that keeps connections open; cheap to clone, clones share the pool.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

impl Http {
    /// A client that waits at most `timeout` for a whole answer.
    pub fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(MAX_IDLE_PER_SERVER)
            .build(connector);
        Self { client, timeout }
    }

    /// Sends `body` to `path` (which starts with a slash) and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`], [`CallError::Unreachable`], [`CallError::TimedOut`], or [`CallError::Garbled`] for an
    /// answer over 1 MiB. A status of 400 and above is an answer, not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; the server may have acted.
    pub async fn call(&self, method: Method, to: SocketAddr, path: &str, body: Bytes) -> Result<Answer, CallError> {
        self.call_with(None, method, to, path, body).await
    }

    /// [`call`](Self::call) with the `Cookie` header of a browser, if it has one.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call); [`CallError::Garbled`] for a cookie that no header can carry.
    pub async fn call_with(
        &self,
        cookie: Option<&str>,
        method: Method,
        to: SocketAddr,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{to}{path}"))
            .header(CONTENT_TYPE, "application/json");
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        let request = request.body(Full::new(body)).map_err(|_| CallError::Garbled)?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| unanswered(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|_| CallError::Garbled)?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(self.timeout, exchange).await.map_err(|_| CallError::TimedOut)?
    }

    /// `GET path`.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn get(&self, to: SocketAddr, path: &str) -> Result<Answer, CallError> {
        self.call(Method::GET, to, path, Bytes::new()).await
    }

    /// Sends `body` as JSON.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call); [`CallError::Garbled`] if `body` has no JSON form.
    pub async fn send<T: Serialize + Sync>(
        &self,
        method: Method,
        to: SocketAddr,
        path: &str,
        body: &T,
    ) -> Result<Answer, CallError> {
        let json = serde_json::to_vec(body).map_err(|_| CallError::Garbled)?;
        self.call(method, to, path, Bytes::from(json)).await
    }
}

fn unanswered(error: &(dyn std::error::Error + 'static)) -> CallError {
    let io =
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => CallError::Refused,
        _ => CallError::Unreachable,
    }
}
