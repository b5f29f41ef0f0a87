//! A running system of web servers and shards, as the trials see it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};
use tenfold_replication::shard::SlotMap;
use tenfold_rig::{Node, RoleResult};

use super::homes::{Homes, USERS};
use super::slots::{TABLES, key};
use super::users::{Hot, News, Sharding, Total};
use crate::database::{Batch, Database, Statement, Value};
use crate::http::{CallError, Http};
use crate::remote::RemoteDatabase;
use crate::replicated::stock;
use crate::rung::{BALANCE, Stack};
use crate::sqlite::{DatabaseStats, SCHEMA, fill};
use crate::user::{User, UserId};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A request waits as long as any burst's line is, unless a trial says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a trial wants built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Web servers.
    pub webs: u16,
    /// Shards that share the users.
    pub shards: u16,
    /// Further database servers that hold nothing yet.
    pub spares: u16,
    /// Slots of each database server.
    pub slots: u32,
    /// Whether shards refuse web servers with an old map; without, nobody looks.
    pub is_fenced: bool,
    /// Whether all database servers draw the same service times, so that systems differ by what is real in them.
    pub are_twins: bool,
    /// How long a web server waits for a database server.
    pub patience: Duration,
}

impl Setup {
    /// Three web servers over so many shards of one slot.
    pub fn of(shards: u16) -> Self {
        let (webs, spares, slots, patience) = (3, 0, 1, PATIENCE);
        Self { webs, shards, spares, slots, is_fenced: true, are_twins: false, patience }
    }
}

/// The running system.
#[derive(Debug)]
pub struct Site {
    /// Its processes and the web servers' addresses.
    pub stack: Stack,
    /// The database servers by their shards, spares last.
    pub databases: Vec<Node>,
    /// The map of the start.
    pub map: SlotMap,
    http: Http,
}

/// A user's row, as one shard has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    shard: usize,
    version: u64,
    text: String,
}

/// All rows on all shards.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    rows: BTreeMap<u64, Vec<Row>>,
}

/// Makes the folders of shards, each with the users that the map gives it; further folders stay without.
///
/// # Errors
///
/// What the files say no with.
pub async fn lay_out(folders: &[PathBuf], map: &SlotMap, users: u64) -> RoleResult {
    let (schema, homes) = (format!("{SCHEMA}{TABLES}"), Homes::new(map, users));
    for (shard, folder) in (0..).map(tenfold_replication::ShardId).zip(folders) {
        let (map, ids) = (map.clone(), homes.of(map.slots_of(shard)));
        let filled = stock::create(folder, &schema, move |db| {
            fill(db, ids.iter().copied(), BALANCE)?;
            let mut place = db.prepare("UPDATE users SET slot = ?2 WHERE id = ?1")?;
            ids.iter().try_for_each(|id| place.execute((*id as i64, map.slot(&key(*id)).0)).map(drop))
        });
        filled.await?;
    }
    Ok(())
}

impl Site {
    /// A view of running processes.
    pub fn new(stack: Stack, databases: Vec<Node>, map: SlotMap) -> Self {
        Self { stack, databases, map, http: Http::new(TIMEOUT) }
    }

    /// Where the shards' servers are, spares last.
    pub fn servers(&self) -> Vec<SocketAddr> {
        self.databases.iter().map(Node::addr).collect()
    }

    /// What whoever moves slots needs to know.
    pub fn sharding(&self, seed: u64) -> Sharding {
        let patience_ms = PATIENCE.as_millis() as u64;
        Sharding { servers: self.servers(), map: self.map.to_bytes(), patience_ms, seed }
    }

    fn web(&self, web: usize) -> Result<SocketAddr, CallError> {
        self.stack.fronts.get(web).copied().ok_or(CallError::Unreachable)
    }

    /// Tells a web server a newer map.
    ///
    /// # Errors
    ///
    /// It does not answer, or refuses.
    pub async fn tell(&self, web: usize, map: &SlotMap) -> Result<(), CallError> {
        let news = News { servers: self.servers(), map: map.to_bytes() };
        let answer = self.http.send(Method::POST, self.web(web)?, "/map", &news).await?;
        (answer.status == StatusCode::NO_CONTENT).then_some(()).ok_or(CallError::Garbled)
    }

    /// Writes a user through a web server and returns the new version.
    ///
    /// # Errors
    ///
    /// No answer, or a refusal.
    pub async fn write(&self, web: usize, id: u64) -> Result<u64, CallError> {
        let json = serde_json::to_vec(&User::sample(UserId(id))).map_err(|_| CallError::Garbled)?;
        let path = format!("/users/{id}");
        let answer = self.http.call(Method::PUT, self.web(web)?, &path, Bytes::from(json)).await?;
        answer.version().filter(|_| answer.status.is_success()).ok_or(CallError::Garbled)
    }

    /// Counts over all shards through the first web server; whole or not at all, or what there is.
    ///
    /// # Errors
    ///
    /// It does not answer; for a whole count also that a shard does not.
    pub async fn total(&self, is_whole: bool) -> Result<Total, CallError> {
        let path = if is_whole { "/total/whole" } else { "/total" };
        let answer = self.http.get(self.web(0)?, path).await?;
        if answer.status.is_success() { answer.json() } else { Err(CallError::Garbled) }
    }

    /// Who is asked for most, and how many requests there were, by the first web server.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn hot(&self) -> Result<(Vec<Hot>, u64), CallError> {
        self.http.get(self.web(0)?, "/hot").await?.json()
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

    /// Every row on every shard, past the web tier.
    ///
    /// # Errors
    ///
    /// A server does not answer.
    pub async fn contents(&self) -> RoleResult<Contents> {
        Contents::of(&self.servers()).await
    }
}

impl Contents {
    /// What these servers hold.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub async fn of(servers: &[SocketAddr]) -> RoleResult<Self> {
        let sql = "SELECT u.id, u.version, json_array(first_name, last_name, phone, balance) \
                   FROM users u JOIN accounts a ON a.id = u.id";
        let mut contents = Self::default();
        for (shard, server) in servers.iter().enumerate() {
            let found = RemoteDatabase::new(*server).run(Batch::read(Statement::new(sql, []))).await?;
            for row in found.into_iter().flat_map(|rows| rows.rows) {
                let [id, version, text] = row.as_slice() else { return Err("a row of another shape".into()) };
                let number = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
                let (Some(id), Some(version), Some(text)) = (number(id), number(version), text.as_text()) else {
                    return Err("a row of another shape".into());
                };
                contents.rows.entry(id).or_default().push(Row { shard, version, text: text.to_owned() });
            }
        }
        Ok(contents)
    }

    /// The version of a user, where exactly one shard has it, and that the one of the map.
    pub fn version(&self, map: &SlotMap, id: u64) -> Option<u64> {
        match self.rows.get(&id)?.as_slice() {
            [row] if row.shard == usize::from(map.shard_of(&key(id)).0) => Some(row.version),
            _ => None,
        }
    }

    /// Users that are not where the map says, or nowhere, or twice.
    pub fn astray(&self, map: &SlotMap) -> u64 {
        (1..=USERS).filter(|id| self.version(map, *id).is_none()).count() as u64
    }

    /// The hash of all that was not written: names, phones and balances.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (id, rows) in &self.rows {
            rows.iter().for_each(|row| hash.update(format!("{id} {}\n", row.text)));
        }
        hash.finalize().into()
    }
}
