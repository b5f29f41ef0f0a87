//! The queue as a process of its own, and the way to it: what NATS or RabbitMQ would be, small enough to be read.
//!
//! | route | answers |
//! |---|---|
//! | `POST /send?key=K` | 201 and the message's id when it is in the queue for good; 429 if there is no room; 503 |
//! | `POST /receive?max=N&wait_ms=M` | what is there, or comes within the wait, as JSON |
//! | `POST /ack?receipt=R`, `/nack?receipt=R&delay_ms=M` | 204; 409 if another has the job by now |
//! | `GET /stats`, `GET /dead` | counts; jobs that were given up, with the reason |
//!
//! A confirmation that is not waited for is no confirmation: `/send` answers after the ticket does, and all who wait at
//! the same time wait for one sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_mq::{
    Backoff, Config, DeadLetter, GroupStats, Message, Queue, Receipt, Received, Refusal, SettleError, Stats,
};
use tenfold_rig::{Role, RoleResult};

use super::KEY;

/// A job that fails is tried so often.
pub const MAX_ATTEMPTS: u32 = 3;
const MAX_WAIT: Duration = Duration::from_secs(10);
const MAX_BATCH: usize = 100;
/// Of the jobs that were given up, so many are told.
pub(super) const MAX_DEAD: usize = 1_000;
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };

/// The broker's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerConfig {
    /// The folder of its log; without one, it keeps nothing.
    pub dir: Option<PathBuf>,
    /// How long a worker has for a job, in milliseconds.
    pub lease_ms: u64,
    /// Jobs that may wait.
    pub max_jobs: u64,
}

/// A job in somebody's hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// By which it is acked.
    pub receipt: String,
    /// Which delivery of it: 1 is the first.
    pub attempt: u32,
    /// Its key.
    pub key: String,
    /// The job, as JSON.
    pub body: String,
}

impl From<Received> for Handed {
    fn from(received: Received) -> Self {
        Self {
            receipt: received.receipt().to_string(),
            attempt: received.attempt(),
            key: key_of(received.message()),
            body: String::from_utf8_lossy(received.body()).into_owned(),
        }
    }
}

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl From<DeadLetter> for Dead {
    fn from(letter: DeadLetter) -> Self {
        Self { key: key_of(&letter.message), reason: letter.reason.to_string(), attempts: letter.attempts }
    }
}

/// What the queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerCounts {
    /// Ready to be handed out.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// In somebody's hands.
    pub leased: u64,
    /// Given up.
    pub dead: u64,
    /// Bytes of its log.
    pub disk_bytes: u64,
}

impl From<&Stats> for BrokerCounts {
    fn from(stats: &Stats) -> Self {
        let sum = |count: fn(&GroupStats) -> u64| stats.groups.iter().map(count).sum();
        Self {
            ready: sum(|group| group.ready),
            delayed: sum(|group| group.delayed),
            leased: sum(|group| group.leased),
            dead: sum(|group| group.dead),
            disk_bytes: stats.disk_bytes,
        }
    }
}

impl BrokerCounts {
    /// Jobs that are not done yet.
    pub fn waiting(&self) -> u64 {
        self.ready + self.delayed + self.leased
    }
}

/// The whole role.
///
/// # Errors
///
/// The log cannot be opened, or no socket.
pub async fn serve(mut role: Role<BrokerConfig>) -> RoleResult {
    let BrokerConfig { dir, lease_ms, max_jobs } = role.config.clone();
    let config = Config {
        lease: Duration::from_millis(lease_ms),
        max_attempts: MAX_ATTEMPTS,
        max_messages: max_jobs,
        backoff: BACKOFF,
        send_timeout: Duration::ZERO,
        ..Config::default()
    };
    let queue = match dir {
        Some(dir) => tokio::task::spawn_blocking(move || Queue::open(dir, config)).await??,
        None => Queue::in_memory(config)?,
    };
    let driver = queue.driver();
    let driving = tokio::task::spawn_blocking(move || driver.run());
    let (listener, stop) = (role.ready()?, role.stop());
    axum::serve(listener, router(queue.clone())).with_graceful_shutdown(stop.wait()).await?;
    tokio::task::spawn_blocking(move || queue.close()).await??;
    Ok(driving.await??)
}

/// The routes around a queue.
pub fn router(queue: Queue) -> Router {
    Router::new()
        .route("/send", post(send))
        .route("/receive", post(receive))
        .route("/ack", post(ack))
        .route("/nack", post(nack))
        .route("/stats", get(stats))
        .route("/dead", get(dead))
        .with_state(Arc::new(queue))
}

#[derive(Deserialize)]
struct Keyed {
    key: String,
}

async fn send(State(queue): State<Arc<Queue>>, Query(Keyed { key }): Query<Keyed>, body: Bytes) -> Response {
    let ticket = match queue.producer().try_submit(message(&key, body)) {
        Ok(ticket) => ticket,
        Err(error) => return refused(error.refusal()).into_response(),
    };
    match ticket.await {
        Ok(id) => (StatusCode::CREATED, id.to_string()).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// A job under its key, twice the same.
pub(super) fn message(key: &str, job: Bytes) -> Message {
    Message::new(job).with_header(KEY, key).with_deduplication_id(key.to_owned())
}

fn refused(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Full | Refusal::DiskFull => StatusCode::TOO_MANY_REQUESTS,
        Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[derive(Deserialize)]
struct Wanted {
    max: usize,
    wait_ms: u64,
}

async fn receive(State(queue): State<Arc<Queue>>, Query(Wanted { max, wait_ms }): Query<Wanted>) -> Response {
    let (consumer, wait) = (queue.consumer(), Duration::from_millis(wait_ms).min(MAX_WAIT));
    let received = consumer.receive_batch_async(max.clamp(1, MAX_BATCH));
    match tokio::time::timeout(wait, received).await {
        Ok(Ok(batch)) => {
            let handed: Vec<Handed> = batch.into_iter().map(|delivery| delivery.into_received().into()).collect();
            Json(handed).into_response()
        }
        Ok(Err(_)) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(_) => Json(Vec::<Handed>::new()).into_response(),
    }
}

fn key_of(message: &Message) -> String {
    message.headers().value(KEY).unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
struct Settled {
    receipt: String,
    #[serde(default)]
    delay_ms: u64,
}

async fn ack(State(queue): State<Arc<Queue>>, Query(settled): Query<Settled>) -> StatusCode {
    settle(&settled, |receipt| queue.ack(receipt))
}

async fn nack(State(queue): State<Arc<Queue>>, Query(settled): Query<Settled>) -> StatusCode {
    settle(&settled, |receipt| queue.nack(receipt, Duration::from_millis(settled.delay_ms)))
}

fn settle(settled: &Settled, how: impl FnOnce(Receipt) -> Result<(), SettleError>) -> StatusCode {
    let Ok(receipt) = settled.receipt.parse() else { return StatusCode::BAD_REQUEST };
    match how(receipt) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(SettleError::Closed | SettleError::Failed(_)) => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => StatusCode::CONFLICT,
    }
}

async fn stats(State(queue): State<Arc<Queue>>) -> Json<BrokerCounts> {
    Json(BrokerCounts::from(&queue.stats()))
}

async fn dead(State(queue): State<Arc<Queue>>) -> Json<Vec<Dead>> {
    Json(queue.dead_letters(MAX_DEAD).unwrap_or_default().into_iter().map(Dead::from).collect())
}
