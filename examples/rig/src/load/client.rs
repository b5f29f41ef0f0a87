//! A small HTTP/1.1 client: one pool of kept-alive connections for each target, a deadline for each request.
//!
//! It retries nothing that may have reached a server: what a user would see as a failure is counted as one. Only a
//! request that was never written, as the kept-alive connection had just been closed, goes out again on a new one.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpStream;

use super::LoadError;
use crate::clock::Instant;

const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// One request, with what the generator wants to know when its answer comes.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST and so on.
    pub method: Method,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Headers beyond the host and the length.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, empty for none.
    pub body: Bytes,
    /// What is asked for, such as the number of a user; the rig does not look at it.
    pub key: u64,
    /// A mark of the generator, such as the version it may expect; the rig does not look at it.
    pub tag: u64,
    /// The index of the target to ask; none takes each in turn.
    pub target: Option<usize>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let (headers, body) = (Vec::new(), Bytes::new());
        Self { method, path: path.into(), headers, body, key: 0, tag: 0, target: None }
    }

    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST of `body`.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(Method::POST, path) }
    }

    /// A PUT of `body`.
    pub fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(Method::PUT, path) }
    }

    /// Sets what is asked for.
    #[must_use]
    pub fn key(mut self, key: u64) -> Self {
        self.key = key;
        self
    }

    /// Sets the generator's mark.
    #[must_use]
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Asks this target only.
    #[must_use]
    pub fn target(mut self, index: usize) -> Self {
        self.target = Some(index);
        self
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Response {
    /// An answer without headers.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: HeaderMap::new(), body: body.into() }
    }
}

/// Why a request counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Failure {
    /// No connection to the target.
    #[error("no connection")]
    Connect,
    /// The connection broke before the whole answer was there, or the answer was not HTTP.
    #[error("connection broken")]
    Broken,
    /// No whole answer before the deadline.
    #[error("timed out")]
    TimedOut,
    /// Refused with 429 or 503.
    #[error("refused as overloaded")]
    Overloaded,
    /// Any other status outside 200 to 299.
    #[error("unexpected status")]
    Status,
    /// The observer did not accept the answer.
    #[error("wrong answer")]
    Wrong,
    /// The generator's own bound of requests in flight was reached; never sent.
    #[error("too many in flight")]
    Saturated,
    /// The request itself is malformed: a path, header or target that cannot be.
    #[error("malformed request")]
    Malformed,
}

/// A client of some targets. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    targets: Arc<[Target]>,
    next: Arc<AtomicUsize>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send>>;

enum Target {
    Http(Http),
    InProcess(Box<dyn Fn(&Request) -> Answer + Send + Sync>),
}

struct Http {
    addr: SocketAddr,
    host: HeaderValue,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// A client of `targets`, which are asked in turn. Connects when the first request goes out.
    ///
    /// # Errors
    /// No target.
    pub fn new(targets: impl IntoIterator<Item = SocketAddr>) -> Result<Self, LoadError> {
        let target = |addr: SocketAddr| {
            let host = HeaderValue::try_from(addr.to_string()).expect("an address is printable ASCII");
            Target::Http(Http { addr, host, idle: Mutex::default() })
        };
        let targets: Arc<[Target]> = targets.into_iter().map(target).collect();
        if targets.is_empty() {
            return Err(LoadError::NoTargets);
        }
        Ok(Self { targets, next: Arc::default() })
    }

    /// A client of one target that is a function in this process: for runs on virtual time.
    pub fn in_process<F, Fut>(answer: F) -> Self
    where
        F: Fn(&Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Failure>> + Send + 'static,
    {
        let target = Target::InProcess(Box::new(move |request| Box::pin(answer(request))));
        Self { targets: Arc::new([target]), next: Arc::default() }
    }

    /// The addresses, in the order of their indices; a target in this process has none.
    pub fn targets(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.targets.iter().filter_map(|target| match target {
            Target::Http(http) => Some(http.addr),
            Target::InProcess(_) => None,
        })
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// No connection, a broken one, the deadline, or a malformed request.
    ///
    /// # Cancel safety
    /// The connection in use is closed; the server may have acted.
    pub async fn send(&self, request: &Request, deadline: Instant) -> Result<Response, Failure> {
        let index = request.target.unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed) % self.targets.len());
        let target = self.targets.get(index).ok_or(Failure::Malformed)?;
        let answer = async {
            match target {
                Target::Http(http) => http.exchange(http.message(request)?).await,
                Target::InProcess(answer) => answer(request).await,
            }
        };
        tokio::time::timeout_at(deadline, answer).await.unwrap_or(Err(Failure::TimedOut))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.targets().collect::<Vec<_>>()).finish()
    }
}

impl Http {
    fn message(&self, request: &Request) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let mut message = hyper::Request::builder().method(request.method.clone()).uri(request.path.as_str());
        message = message.header(HOST, self.host.clone());
        for (name, value) in &request.headers {
            message = message.header(name, value);
        }
        message.body(Full::new(request.body.clone())).map_err(|_| Failure::Malformed)
    }

    async fn exchange(&self, mut message: hyper::Request<Full<Bytes>>) -> Result<Response, Failure> {
        loop {
            let (mut connection, is_reused) = match self.take_idle().await {
                Some(connection) => (connection, true),
                None => (self.connect().await?, false),
            };
            match connection.try_send_request(message).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Failure::Broken)?;
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                    return Ok(Response { status: head.status, headers: head.headers, body: body.to_bytes() });
                }
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) if is_reused => message = unsent,
                    _ => return Err(Failure::Broken),
                },
            }
        }
    }

    async fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            // An error means that the server has closed it meanwhile.
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(self.addr).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Connect)?;
        // Ends when the sender is dropped or the server closes; its error reaches the request that waits.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
