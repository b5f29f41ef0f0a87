//! The way to the queue, whichever it is: the one that is in a process of ours, or one behind the `Broker` trait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tenfold_mq::{Broker, DEFAULT_GROUP, Receipt, Refusal};

use super::broker::{BrokerCounts, Dead, Handed, MAX_DEAD, message};
use super::job::JobKey;
use super::nats::{self, NatsQueue};
use crate::http::{CallError, Http};

/// More than the longest wait for a job.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Where the queue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// A process of ours.
    Broker(SocketAddr),
    /// A NATS server.
    Nats(NatsQueue),
}

/// Why the queue did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// A queue behind the trait did not do it; whether it took the job is not known.
    #[error("the queue failed: {0}")]
    Failed(String),
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

    /// Whether somebody had it before.
    pub fn is_again(&self) -> bool {
        self.0.attempt > 1
    }

    /// A job that failed comes again the later the oftener it failed.
    fn pause(&self) -> Duration {
        Duration::from_millis(50 << self.0.attempt.min(6))
    }
}

/// The queue, as web servers, workers and trials have it.
#[derive(Debug, Clone)]
pub struct Jobs(Way);

#[derive(Debug, Clone)]
enum Way {
    Process(Routes),
    Backend(Arc<dyn Broker>),
}

impl Jobs {
    /// The queue at an address.
    ///
    /// # Errors
    ///
    /// It cannot be reached.
    pub async fn connect(address: Address) -> Result<Self, QueueError> {
        Ok(Self(match address {
            Address::Broker(broker) => Way::Process(Routes { broker, http: Http::new(TIMEOUT) }),
            Address::Nats(queue) => Way::Backend(nats::connect(&queue).await?),
        }))
    }

    /// Puts a job into the queue. It is there for good when this returns.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn send(&self, key: &JobKey, job: Bytes) -> Result<(), QueueError> {
        match &self.0 {
            Way::Process(routes) => {
                routes.post(&format!("/send?key={}", key.as_str()), job, StatusCode::CREATED).await?;
            }
            Way::Backend(backend) => {
                let sent = backend.send(message(key.as_str(), job)).await;
                sent.map_err(|error| match error.refusal() {
                    Refusal::Full | Refusal::DiskFull => QueueError::Full,
                    refusal => failed(refusal),
                })?;
            }
        }
        Ok(())
    }

    /// Takes a job, waiting for one if there is none.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn receive(&self, wait: Duration) -> Result<Option<Taken>, QueueError> {
        let handed: Vec<Handed> = match &self.0 {
            Way::Process(routes) => {
                let path = format!("/receive?max=1&wait_ms={}", wait.as_millis());
                json(&routes.post(&path, Bytes::new(), StatusCode::OK).await?)?
            }
            Way::Backend(backend) => {
                let received = backend.receive(DEFAULT_GROUP, 1, wait).await.map_err(failed)?;
                received.into_iter().map(Handed::from).collect()
            }
        };
        Ok(handed.into_iter().next().map(Taken))
    }

    /// The job is done.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; 409 if another has it by now.
    pub async fn ack(&self, taken: Taken) -> Result<(), QueueError> {
        match &self.0 {
            Way::Process(routes) => routes.settle(&format!("/ack?receipt={}", taken.0.receipt)).await,
            Way::Backend(backend) => backend.ack(receipt(&taken)?).await.map_err(failed),
        }
    }

    /// The job failed: it is to come again a little later, the later the oftener it failed.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn give_back(&self, taken: Taken) -> Result<(), QueueError> {
        let pause = taken.pause();
        match &self.0 {
            Way::Process(routes) => {
                let path = format!("/nack?receipt={}&delay_ms={}", taken.0.receipt, pause.as_millis());
                routes.settle(&path).await
            }
            Way::Backend(backend) => backend.nack(receipt(&taken)?, pause).await.map_err(failed),
        }
    }

    /// What the queue holds.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn counts(&self) -> Result<BrokerCounts, QueueError> {
        match &self.0 {
            Way::Process(routes) => routes.get("/stats").await,
            Way::Backend(backend) => Ok(BrokerCounts::from(&backend.stats().await.map_err(failed)?)),
        }
    }

    /// The jobs that were given up, the oldest first.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn dead(&self) -> Result<Vec<Dead>, QueueError> {
        match &self.0 {
            Way::Process(routes) => routes.get("/dead").await,
            Way::Backend(backend) => {
                let letters = backend.dead_letters(DEFAULT_GROUP, MAX_DEAD).await.map_err(failed)?;
                Ok(letters.into_iter().map(Dead::from).collect())
            }
        }
    }
}

/// The routes of a process of ours.
#[derive(Debug, Clone)]
struct Routes {
    broker: SocketAddr,
    http: Http,
}

impl Routes {
    async fn post(&self, path: &str, body: Bytes, expected: StatusCode) -> Result<Bytes, QueueError> {
        let answer = self.http.call(Method::POST, self.broker, path, body).await?;
        match answer.status {
            status if status == expected => Ok(answer.body),
            StatusCode::TOO_MANY_REQUESTS => Err(QueueError::Full),
            status => Err(QueueError::Answered(status)),
        }
    }

    async fn settle(&self, path: &str) -> Result<(), QueueError> {
        self.post(path, Bytes::new(), StatusCode::NO_CONTENT).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, QueueError> {
        Ok(self.http.get(self.broker, path).await?.json()?)
    }
}

fn json<T: DeserializeOwned>(answer: &[u8]) -> Result<T, QueueError> {
    Ok(serde_json::from_slice(answer).map_err(|_| CallError::Garbled)?)
}

fn receipt(taken: &Taken) -> Result<Receipt, QueueError> {
    taken.0.receipt.parse().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> QueueError {
    QueueError::Failed(error.to_string())
}
