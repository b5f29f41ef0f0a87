//! The three strategies as the web server carries them out.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::ring::Ring;
use super::server::Lease;
use crate::database::{DatabaseError, Reply};
use crate::user::{User, UserId, Versioned};
use crate::users::{Answered, Transfer, Users, Withdrawal};

/// Another reader holds the lease: look again this often, this many times, then read the database without filling.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
const BUSY_LOOKS: u32 = 50;

/// How the cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The application asks the cache, then the database, then fills the cache.
    Aside,
    /// The application asks the cache, which asks the database.
    ReadThrough,
    /// As read-through, and the cache reloads entries in use before they expire.
    RefreshAhead,
}

/// What keeps a cache from serving old values; rungs switch parts off to show what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// Remove the entry when the user is updated.
    pub invalidate: bool,
    /// Fill under a lease, so that a slow reader cannot store a value that was replaced meanwhile (cache-aside only).
    pub lease: bool,
}

impl Default for Protection {
    fn default() -> Self {
        Self { invalidate: true, lease: true }
    }
}

/// Users behind a ring of cache servers.
#[derive(Debug)]
pub struct CachedUsers<U> {
    store: U,
    ring: Ring,
    strategy: Strategy,
    protection: Protection,
}

impl<U: Users> CachedUsers<U> {
    /// Puts `ring` in front of `store`.
    pub fn new(store: U, ring: Ring, strategy: Strategy, protection: Protection) -> Self {
        Self { store, ring, strategy, protection }
    }

    async fn aside(&self, id: UserId) -> Result<Option<(Versioned, Answered)>, DatabaseError> {
        for _ in 0..BUSY_LOOKS {
            match self.look(id).await {
                Look::Hit(found) => return Ok(Some((found, Answered::Cache))),
                Look::Fill(server, lease) => return self.read_and_fill(id, server, lease).await,
                Look::NoCache => return self.store.user(id).await,
                Look::Busy => tenfold_rig::sleep(BUSY_PAUSE).await,
            }
        }
        self.store.user(id).await
    }

    async fn look(&self, id: UserId) -> Look {
        let (method, path) =
            if self.protection.lease { (Method::POST, format!("/lease/{id}")) } else { (Method::GET, entry(id)) };
        let Some((server, answer)) = self.ring.ask(id.0, method, &path).await else {
            return Look::NoCache;
        };
        let read = match answer.status {
            StatusCode::OK => answer.json().map(Look::Hit),
            StatusCode::NOT_FOUND => Ok(Look::Fill(server, None)),
            StatusCode::CREATED => answer.json().map(|lease| Look::Fill(server, Some(lease))),
            StatusCode::LOCKED => Ok(Look::Busy),
            _ => Ok(Look::NoCache),
        };
        read.unwrap_or(Look::NoCache)
    }

    async fn read_and_fill(
        &self,
        id: UserId,
        server: SocketAddr,
        lease: Option<Lease>,
    ) -> Result<Option<(Versioned, Answered)>, DatabaseError> {
        let read = self.store.user(id).await;
        match (&read, lease) {
            (Ok(Some((found, _))), lease) => self.fill(id, server, lease, found).await,
            // Nothing to fill: give the lease back, or the next readers wait for it in vain.
            (_, Some(_)) => self.ring.tell(server, Method::DELETE, &entry(id), Bytes::new()).await,
            (_, None) => {}
        }
        read
    }

    /// Fills the cache that had no entry; a refusal or a dead server changes nothing for the reader.
    async fn fill(&self, id: UserId, server: SocketAddr, lease: Option<Lease>, found: &Versioned) {
        let path = match lease {
            Some(Lease { lease }) => format!("{}?lease={lease}", entry(id)),
            None => entry(id),
        };
        let json = serde_json::to_vec(found).expect("a user has a JSON form");
        self.ring.tell(server, Method::PUT, &path, Bytes::from(json)).await;
    }

    /// Asks the cache server for the user; it reads the database itself if it must.
    async fn through(&self, id: UserId) -> Result<Option<(Versioned, Answered)>, DatabaseError> {
        let Some((_, answer)) = self.ring.ask(id.0, Method::GET, &format!("/through/{id}")).await else {
            return self.store.user(id).await;
        };
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answered = match answer.header("x-cache") {
            Some("HIT") => Answered::Cache,
            _ => Answered::Store,
        };
        Ok(Some((answer.json()?, answered)))
    }
}

enum Look {
    Hit(Versioned),
    Fill(SocketAddr, Option<Lease>),
    Busy,
    NoCache,
}

fn entry(id: UserId) -> String {
    format!("/entry/{id}")
}

impl<U: Users> Users for CachedUsers<U> {
    fn user(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>> {
        Box::pin(async move {
            match self.strategy {
                Strategy::Aside => self.aside(id).await,
                // To the application they are the same: what refreshes ahead is the cache server's configuration.
                Strategy::ReadThrough | Strategy::RefreshAhead => self.through(id).await,
            }
        })
    }

    fn update(&self, user: User) -> Reply<'_, Option<u64>> {
        Box::pin(async move {
            let id = user.id;
            let outcome = self.store.update(user).await;
            if !self.protection.invalidate {
                return outcome;
            }
            // After an unclear outcome the write may have happened, so the entry goes in any case.
            let dropped = self.ring.drop_everywhere(&entry(id)).await;
            match outcome {
                // A write whose old value may still be served is not acknowledged.
                Ok(Some(_)) => dropped.map_err(DatabaseError::from).and(outcome),
                // What was refused stays refused, whatever the caches say.
                _ => outcome,
            }
        })
    }

    fn transfer(&self, transfer: Transfer) -> Reply<'_, ()> {
        self.store.transfer(transfer)
    }

    fn withdraw(&self, withdrawal: Withdrawal) -> Reply<'_, ()> {
        self.store.withdraw(withdrawal)
    }
}
