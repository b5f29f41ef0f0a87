//! A running system of web servers, cache servers and a database server, as the trials see it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Node, RoleResult};

use super::strategies::{REFRESH_AFTER_MS, TIME_TO_LIVE_MS};
use crate::cached::{CacheConfig, CacheStats, Protection, Strategy, owner_of};
use crate::http::{Answer, CallError, Http};
use crate::rung::Stack;
use crate::sqlite::DatabaseStats;
use crate::user::{User, UserId, Versioned};
use crate::web::WebStats;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Users in one call that warms a cache: a body of about 8 KiB.
const WARMED_AT_ONCE: usize = 64;

/// What a trial wants built.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Web servers.
    pub webs: u32,
    /// Cache servers; none means no cache.
    pub caches: u32,
    /// Whether the web servers' time is modelled. Trials about the database's time leave it out, so that it does not
    /// drown what they look at.
    pub is_web_modelled: bool,
    /// How the cache is used.
    pub strategy: Strategy,
    /// What guards it against old values.
    pub protection: Protection,
    /// Each cache server's set-up.
    pub cache: CacheConfig,
}

impl Setup {
    /// One web server without modelled time and one cache server.
    pub fn small(strategy: Strategy) -> Self {
        Self {
            webs: 1,
            caches: 1,
            is_web_modelled: false,
            strategy,
            protection: Protection::default(),
            cache: CacheConfig::default(),
        }
    }

    /// As the experiments on strategies want it: entries live for a second, and refresh-ahead reloads after 0.6 s.
    pub fn of_profile(strategy: Strategy) -> Self {
        let setup = Self::small(strategy).expiring(TIME_TO_LIVE_MS, 0);
        if strategy == Strategy::RefreshAhead { setup.refreshing(REFRESH_AFTER_MS) } else { setup }
    }

    /// The same without any cache.
    #[must_use]
    pub fn without_cache(self) -> Self {
        Self { caches: 0, ..self }
    }

    /// The same with another protection.
    #[must_use]
    pub fn protection(self, invalidate: bool, lease: bool) -> Self {
        Self { protection: Protection { invalidate, lease }, ..self }
    }

    /// The same with another time to live and jitter.
    #[must_use]
    pub fn expiring(mut self, time_to_live_ms: u64, jitter_percent: u8) -> Self {
        (self.cache.time_to_live_ms, self.cache.jitter_percent) = (Some(time_to_live_ms), jitter_percent);
        self
    }

    /// The same with refreshes from this age on.
    #[must_use]
    pub fn refreshing(mut self, refresh_after_ms: u64) -> Self {
        self.cache.refresh_after_ms = Some(refresh_after_ms);
        self
    }
}

/// The running system.
#[derive(Debug)]
pub struct Site {
    /// Its processes and the web servers' addresses.
    pub stack: Stack,
    /// The database server.
    pub database: Node,
    /// The cache servers.
    pub caches: Vec<Node>,
    http: Http,
}

impl Site {
    /// A view of running processes.
    pub fn new(stack: Stack, database: Node, caches: Vec<Node>) -> Self {
        Self { stack, database, caches, http: Http::new(TIMEOUT) }
    }

    /// Calls the first web server.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn web(&self, method: Method, path: &str, body: &(impl Serialize + Sync)) -> Result<Answer, CallError> {
        let front = *self.stack.fronts.first().ok_or(CallError::Unreachable)?;
        self.http.send(method, front, path, body).await
    }

    /// Reads a user through the first web server and returns the version.
    ///
    /// # Errors
    ///
    /// No answer, or none with a version.
    pub async fn read(&self, id: u64) -> Result<u64, CallError> {
        let answer = self.web(Method::GET, &format!("/users/{id}"), &()).await?;
        answer.version().filter(|_| answer.status == StatusCode::OK).ok_or(CallError::Garbled)
    }

    /// Writes a user through the first web server and returns the new version.
    ///
    /// # Errors
    ///
    /// No answer, or a refusal.
    pub async fn write(&self, id: u64) -> Result<u64, CallError> {
        let answer = self.web(Method::PUT, &format!("/users/{id}"), &User::sample(UserId(id))).await?;
        answer.version().filter(|_| answer.status.is_success()).ok_or(CallError::Garbled)
    }

    /// Calls the cache server that owns `id`.
    ///
    /// # Errors
    ///
    /// There is none, or it does not answer.
    pub async fn cache(
        &self,
        id: u64,
        method: Method,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Answer, CallError> {
        let servers: Vec<SocketAddr> = self.caches.iter().map(Node::addr).collect();
        let owner = owner_of(&servers, id).ok_or(CallError::Unreachable)?;
        self.http.send(method, owner, path, body).await
    }

    /// Puts the sample users `ids` into the caches, in this order, without asking the database.
    ///
    /// # Errors
    ///
    /// A cache server does not answer.
    pub async fn warm(&self, ids: impl IntoIterator<Item = u64>) -> Result<(), CallError> {
        let servers: Vec<SocketAddr> = self.caches.iter().map(Node::addr).collect();
        let mut shares: HashMap<SocketAddr, Vec<Versioned>> = HashMap::new();
        for id in ids {
            let owner = owner_of(&servers, id).ok_or(CallError::Unreachable)?;
            let value = Versioned { version: 1, user: User::sample(UserId(id)) };
            shares.entry(owner).or_default().push(value);
        }
        for (owner, share) in shares {
            for some in share.chunks(WARMED_AT_ONCE) {
                let answer = self.http.send(Method::PUT, owner, "/entries", &some).await?;
                answer.status.is_success().then_some(()).ok_or(CallError::Garbled)?;
            }
        }
        Ok(())
    }

    /// The database server's own counts.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn database_stats(&self) -> Result<DatabaseStats, CallError> {
        self.http.get(self.database.addr(), "/stats").await?.json()
    }

    /// The web servers' counts, summed.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub async fn web_stats(&self) -> Result<WebStats, CallError> {
        let mut sum = WebStats::default();
        for front in &self.stack.fronts {
            let stats: WebStats = self.http.get(*front, "/stats").await?.json()?;
            sum.hits += stats.hits;
            sum.misses += stats.misses;
            sum.failures += stats.failures;
        }
        Ok(sum)
    }

    /// The live cache servers' counts, summed.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub async fn cache_stats(&self) -> Result<CacheStats, CallError> {
        let mut sum = CacheStats::default();
        for cache in self.caches.iter().filter(|cache| cache.is_alive()) {
            let stats: CacheStats = self.http.get(cache.addr(), "/stats").await?.json()?;
            sum.hits += stats.hits;
            sum.misses += stats.misses;
            sum.loads += stats.loads;
            sum.refreshes += stats.refreshes;
            sum.evictions += stats.evictions;
            sum.stale_fills += stats.stale_fills;
            sum.entries += stats.entries;
        }
        Ok(sum)
    }

    /// Samples the database's count of reads every `step` until `time` is over; the differences, in order.
    ///
    /// # Errors
    ///
    /// The database server does not answer.
    pub async fn reads_over(&self, time: Duration, step: Duration) -> RoleResult<Vec<u64>> {
        let began = tenfold_rig::now();
        let mut before = self.database_stats().await?.reads;
        let mut steps = Vec::new();
        let mut next = began + step;
        while next <= began + time {
            tenfold_rig::sleep_until(next).await;
            let now = self.database_stats().await?.reads;
            steps.push(now - before);
            before = now;
            next += step;
        }
        Ok(steps)
    }
}
