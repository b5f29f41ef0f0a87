//! The way to the queue, whichever it is: the one that is in a process of ours.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::broker::Handed;
use super::job::JobKey;
use crate::http::{CallError, Http};

/// More than the longest wait for a job.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Where the queue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// A process of ours.
    Broker(SocketAddr),
}

/// Why the queue did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no room. Nothing was taken.
    #[error("the queue is full")]
    Full,
    /// It does not answer. Whether it took the job is not known.
    #[error("the queue cannot be reached")]
    Unreachable(#[from] CallError),
    /// It answered something else.
    #[error("the queue answered {0}")]
    Answered(StatusCode),
}

/// A job in one's hands.
#[derive(Debug, Clone)]
pub struct Taken(Handed);

impl Taken {
    /// Its key.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// The job.
    pub fn body(&self) -> &[u8] {
        self.0.body.as_bytes()
    }
}

/// The queue, as web servers and workers have it.
#[derive(Debug, Clone)]
pub struct Jobs {
    broker: SocketAddr,
    http: Http,
}

impl Jobs {
    /// The queue at an address.
    ///
    /// # Errors
    ///
    /// It cannot be reached.
    pub async fn connect(address: Address) -> Result<Self, QueueError> {
        let Address::Broker(broker) = address;
        Ok(Self { broker, http: Http::new(TIMEOUT) })
    }

    /// Puts a job into the queue. It is there for good when this returns.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn send(&self, key: &JobKey, job: Bytes) -> Result<(), QueueError> {
        let path = format!("/send?key={}", key.as_str());
        self.call(&path, job, StatusCode::CREATED).await.map(drop)
    }

    /// Takes a job, waiting for one if there is none.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn receive(&self, wait: Duration) -> Result<Option<Taken>, QueueError> {
        let path = format!("/receive?max=1&wait_ms={}", wait.as_millis());
        let answer = self.call(&path, Bytes::new(), StatusCode::OK).await?;
        let handed: Vec<Handed> = serde_json::from_slice(&answer).map_err(|_| CallError::Garbled)?;
        Ok(handed.into_iter().next().map(Taken))
    }

    /// The job is done.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; 409 if another has it by now.
    pub async fn ack(&self, taken: Taken) -> Result<(), QueueError> {
        let path = format!("/ack?receipt={}", taken.0.receipt);
        self.call(&path, Bytes::new(), StatusCode::NO_CONTENT).await.map(drop)
    }

    /// The job failed: it is to come again a little later, the later the oftener it failed.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn give_back(&self, taken: Taken) -> Result<(), QueueError> {
        let delay_ms = 50_u64 << taken.0.attempt.min(6);
        let path = format!("/nack?receipt={}&delay_ms={delay_ms}", taken.0.receipt);
        self.call(&path, Bytes::new(), StatusCode::NO_CONTENT).await.map(drop)
    }

    async fn call(&self, path: &str, body: Bytes, expected: StatusCode) -> Result<Bytes, QueueError> {
        let answer = self.http.call(Method::POST, self.broker, path, body).await?;
        match answer.status {
            status if status == expected => Ok(answer.body),
            StatusCode::TOO_MANY_REQUESTS => Err(QueueError::Full),
            status => Err(QueueError::Answered(status)),
        }
    }
}
