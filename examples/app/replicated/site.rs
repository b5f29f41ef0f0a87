//! A running system of web servers and database servers, as the trials see it.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tenfold_rig::{Node, RoleResult, now, sleep};

use super::wire::Seen;
use crate::http::{Answer, CallError, Http};
use crate::remote::RemoteDatabase;
use crate::rung::Stack;
use crate::sqlite::DatabaseStats;
use crate::user::{User, UserId};

const TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What a trial wants built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Web servers.
    pub webs: u16,
    /// Replicas beside the primary.
    pub replicas: u16,
    /// How many of them confirm a write; none in asynchronous mode.
    pub quorum: Option<NonZeroU16>,
    /// Whether web servers know which database server to ask; without, they ask replicas in turn.
    pub is_routed: bool,
}

impl Default for Setup {
    /// Three web servers, a primary and three replicas; asynchronous.
    fn default() -> Self {
        Self { webs: 3, replicas: 3, quorum: None, is_routed: true }
    }
}

/// The running system.
#[derive(Debug)]
pub struct Site {
    /// Its processes and the web servers' addresses.
    pub stack: Stack,
    /// The database servers by the ids of their nodes; the first one was the primary at the start.
    pub databases: Vec<Node>,
    http: Http,
}

/// A browser: it sends back the cookie that it got, if it keeps cookies.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    cookie: Option<String>,
    is_forgetful: bool,
}

impl Browser {
    /// One that keeps no cookies.
    pub fn forgetful() -> Self {
        Self { cookie: None, is_forgetful: true }
    }

    fn keep(&mut self, answer: &Answer) {
        let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next());
        if let Some(cookie) = cookie.filter(|_| !self.is_forgetful) {
            self.cookie = Some(cookie.to_owned());
        }
    }
}

impl Site {
    /// A view of running processes.
    pub fn new(stack: Stack, databases: Vec<Node>) -> Self {
        Self { stack, databases, http: Http::new(TIMEOUT) }
    }

    fn database(&self, id: u16) -> Result<&Node, CallError> {
        self.databases.get(usize::from(id)).ok_or(CallError::Unreachable)
    }

    async fn web(&self, number: usize, browser: &mut Browser, method: Method, id: u64) -> Result<u64, CallError> {
        let front = *self.stack.fronts.get(number).ok_or(CallError::Unreachable)?;
        let body = if method == Method::PUT {
            serde_json::to_vec(&User::sample(UserId(id))).map_err(|_| CallError::Garbled)?
        } else {
            Vec::new()
        };
        let path = format!("/users/{id}");
        let answer = self.http.call_with(browser.cookie.as_deref(), method, front, &path, Bytes::from(body)).await?;
        browser.keep(&answer);
        answer.version().filter(|_| answer.status.is_success()).ok_or(CallError::Garbled)
    }

    /// Reads a user through a web server, counted from 0, and returns the version.
    ///
    /// # Errors
    ///
    /// No answer, or none with a version.
    pub async fn read(&self, web: usize, browser: &mut Browser, id: u64) -> Result<u64, CallError> {
        self.web(web, browser, Method::GET, id).await
    }

    /// Writes a user through a web server and returns the new version.
    ///
    /// # Errors
    ///
    /// No answer, or a refusal.
    pub async fn write(&self, web: usize, browser: &mut Browser, id: u64) -> Result<u64, CallError> {
        self.web(web, browser, Method::PUT, id).await
    }

    /// Sends batches to one database server, past the web tier.
    ///
    /// # Errors
    ///
    /// There is no such node.
    pub fn direct(&self, id: u16) -> Result<RemoteDatabase, CallError> {
        Ok(RemoteDatabase::new(self.database(id)?.addr()))
    }

    /// What a database server says of its node.
    ///
    /// # Errors
    ///
    /// It does not answer, or its node cannot say.
    pub async fn seen(&self, id: u16) -> Result<Seen, CallError> {
        let answer = self.http.get(self.database(id)?.addr(), "/node").await?;
        answer.json()
    }

    /// The batches that each database server has run since its process began; nothing for a dead one.
    pub async fn stats(&self) -> Vec<DatabaseStats> {
        let mut all = Vec::new();
        for node in &self.databases {
            let answer = self.http.get(node.addr(), "/stats").await;
            all.push(answer.and_then(|answer| answer.json()).unwrap_or_default());
        }
        all
    }

    /// The hash of each node's rows.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub async fn hashes(&self) -> Result<Vec<[u8; 32]>, CallError> {
        let mut all = Vec::new();
        for node in &self.databases {
            let (hash, _): ([u8; 32], u64) = self.http.get(node.addr(), "/hash").await?.json()?;
            all.push(hash);
        }
        Ok(all)
    }

    /// Makes every replica apply what it receives so much later.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub async fn delay(&self, ms: u64) -> Result<(), CallError> {
        for node in self.databases.iter().skip(1) {
            self.tell(node.addr(), &format!("/delay/{ms}")).await?;
        }
        Ok(())
    }

    /// Cuts the network between a database server and another one.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn cut(&self, id: u16, from: u16) -> Result<(), CallError> {
        self.tell(self.database(id)?.addr(), &format!("/cut/{from}")).await
    }

    async fn tell(&self, address: SocketAddr, path: &str) -> Result<(), CallError> {
        let answer = self.http.call(Method::POST, address, path, Bytes::new()).await?;
        (answer.status == StatusCode::NO_CONTENT).then_some(()).ok_or(CallError::Garbled)
    }

    /// The node that says that it is the primary, in the highest epoch.
    pub async fn primary(&self) -> Option<(u16, Seen)> {
        let mut found: Option<(u16, Seen)> = None;
        for id in 0..self.databases.len() as u16 {
            let Ok(seen) = self.seen(id).await else { continue };
            if seen.is_primary && found.as_ref().is_none_or(|(_, best)| seen.epoch > best.epoch) {
                found = Some((id, seen));
            }
        }
        found
    }

    /// Waits until all nodes have applied all that the primary has; false if they do not within `time`.
    ///
    /// # Errors
    ///
    /// There is no primary.
    pub async fn quiet(&self, time: Duration) -> RoleResult<bool> {
        let deadline = now() + time;
        let (_, primary) = self.primary().await.ok_or("there is no primary")?;
        for id in 0..self.databases.len() as u16 {
            loop {
                if self.seen(id).await.is_ok_and(|seen| seen.replayed >= primary.replayed) {
                    break;
                }
                if now() > deadline {
                    return Ok(false);
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(true)
    }
}
