//! The two requests, list and watch, each on a connection of its own.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::Sleep;

use super::event::{BadEvent, Event, parse};
use super::slices::{Metadata, Slice};
use super::{Connect, KubeConfig};
use crate::DiscoverError;

/// What requests are made from.
pub(super) struct Session<'a> {
    pub(super) path: &'a str,
    pub(super) config: &'a KubeConfig,
    pub(super) connect: &'a Connect,
}

#[derive(Deserialize)]
pub(super) struct List {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) items: Vec<Slice>,
}

/// Why a watch is over.
pub(super) enum WatchError {
    /// Its version is too old.
    Gone,
    Failed(DiscoverError),
}

impl From<DiscoverError> for WatchError {
    fn from(error: DiscoverError) -> Self {
        Self::Failed(error)
    }
}

impl From<BadEvent> for WatchError {
    fn from(bad: BadEvent) -> Self {
        match bad {
            BadEvent::Json(error) => DiscoverError::invalid(error).into(),
            BadEvent::Status(code) if code == StatusCode::GONE.as_u16() => Self::Gone,
            BadEvent::Status(code) => {
                DiscoverError::unavailable(StatusError(StatusCode::from_u16(code).unwrap_or_default())).into()
            }
        }
    }
}

/// The connection's own work, to be done while its answer is awaited: there is no task of ours for it.
type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Session<'_> {
    pub(super) async fn list(&self) -> Result<List, DiscoverError> {
        let listing = async {
            let (mut connection, response) = self.request("").await?;
            let body = Limited::new(check(response)?.into_body(), self.config.max_bytes);
            let body = beside(&mut connection, body.collect()).await;
            let body = body.map_err(|error| DiscoverError::unavailable(io::Error::other(error)))?.to_bytes();
            serde_json::from_slice(&body).map_err(DiscoverError::invalid)
        };
        tokio::time::timeout(self.config.timeout, listing).await.map_err(|_| DiscoverError::timed_out())?
    }

    pub(super) async fn watch(&self, version: &str) -> Result<Stream, WatchError> {
        let seconds = self.config.watch_timeout.as_secs().max(1);
        let query = format!(
            "&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            encode(version)
        );
        let response = tokio::time::timeout(self.config.timeout, self.request(&query)).await;
        let (connection, response) = response.map_err(|_| DiscoverError::timed_out())??;
        if response.status() == StatusCode::GONE {
            return Err(WatchError::Gone);
        }
        let patience = Duration::from_secs(seconds) + GRACE;
        Ok(Stream {
            connection,
            body: check(response)?.into_body(),
            buffer: Vec::new(),
            scanned: 0,
            max_bytes: self.config.max_bytes,
            silence: Box::pin(tokio::time::sleep(patience)),
            patience,
        })
    }

    async fn request(&self, query: &str) -> Result<(Connection, Response<Incoming>), DiscoverError> {
        let token = self.token().await?;
        let io = (self.connect)().await.map_err(DiscoverError::unavailable)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
        let (mut sender, connection) = handshake.map_err(DiscoverError::unavailable)?;
        let mut connection: Connection = Box::pin(async { drop(connection.await) });
        let mut request = Request::get(format!("{}{query}", self.path))
            .header(header::HOST, &self.config.host)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(DiscoverError::invalid)?;
        let response = beside(&mut connection, sender.send_request(request)).await;
        Ok((connection, response.map_err(DiscoverError::unavailable)?))
    }

    async fn token(&self) -> Result<Option<String>, DiscoverError> {
        let Some(path) = self.config.token_file.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        read.map_err(DiscoverError::unavailable)?.map(Some).map_err(DiscoverError::unavailable)
    }
}

/// How much longer than agreed a watch may be silent.
const GRACE: Duration = Duration::from_secs(30);

fn check(response: Response<Incoming>) -> Result<Response<Incoming>, DiscoverError> {
    let status = response.status();
    match status {
        StatusCode::OK => Ok(response),
        StatusCode::NOT_FOUND => Err(DiscoverError::not_found(StatusError(status))),
        _ => Err(DiscoverError::unavailable(StatusError(status))),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the API server answered {0}")]
struct StatusError(StatusCode);

/// Versions are opaque; whatever could end the query's value is escaped.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

/// Awaits a future while the connection works.
async fn beside<F: Future>(connection: &mut Connection, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(()) = connection.as_mut().poll(cx) {
            *connection = Box::pin(std::future::pending());
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// A watch: a JSON object a line, for as long as it lasts.
pub(super) struct Stream {
    connection: Connection,
    body: Incoming,
    buffer: Vec<u8>,
    /// So much of the buffer has no end of line.
    scanned: usize,
    max_bytes: usize,
    silence: Pin<Box<Sleep>>,
    patience: Duration,
}

impl Stream {
    /// The next event; `None` when the watch is over or broken. Cancel safe: what was read stays in the buffer.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, WatchError> {
        loop {
            while let Some(line) = self.line() {
                self.check_length(line.len())?;
                if let Some(event) = parse(&line)? {
                    return Ok(Some(event));
                }
            }
            self.check_length(self.buffer.len())?;
            match poll_fn(|cx| self.poll_data(cx)).await {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => return Ok(None),
            }
        }
    }

    fn check_length(&self, length: usize) -> Result<(), DiscoverError> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the event is too long");
        if length > self.max_bytes { Err(DiscoverError::invalid(too_long())) } else { Ok(()) }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.scanned + end) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.drain(..=end).collect();
        self.scanned = 0;
        Some(line)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.connection.as_mut().poll(cx).is_ready() {
            self.connection = Box::pin(std::future::pending());
        }
        loop {
            match pin!(self.body.frame()).poll(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        // A new patience, from now on.
                        self.silence = Box::pin(tokio::time::sleep(self.patience));
                        return Poll::Ready(Some(data));
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => return self.silence.as_mut().poll(cx).map(|()| None),
            }
        }
    }
}
