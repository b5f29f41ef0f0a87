//! The product over shards: each batch goes to the shard that owns its user.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenfold_replication::shard::{HotKeys, MapError, Sessions, ShardError, Shards, SlotMap};
use tenfold_replication::{Checkout, Cluster, Error, Node, NodeId, ReadOptions, ShardId};

use super::driver::{ShardServerError, ShardServers};
use super::slots::{UserSlots, key};
use crate::database::{Batch, Database, DatabaseError, Intent, Reply, Rows, Statement, Value};
use crate::remote::RemoteDatabase;
use crate::replicated::ServerError;
use crate::replicated::routed::{NoCluster, config, watched};
use crate::user::{User, UserId, Versioned};
use crate::users::{AccountId, Answered, SqlUsers, Transfer, Users, Withdrawal};

/// What was assumed of a slot is asked for anew so often in one request.
const TRIES: usize = 4;
/// A shard that has not answered a query of all by then is left out.
const GATHERED_WITHIN: Duration = Duration::from_millis(250);
/// Nothing is done on a lagging replica here, so that shards are looked at less often.
const OBSERVE_EVERY: Duration = Duration::from_millis(200);
/// Keys that are counted: whichever makes up more than one in so many is found.
const HOT_KEYS: usize = 100;
const HOTTEST: usize = 5;

/// How a web server reaches the shards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sharding {
    /// The shards' database servers; a shard's id is its place.
    pub servers: Vec<SocketAddr>,
    /// The map, as bytes.
    pub map: Vec<u8>,
    /// How long a request waits for a database server.
    pub patience_ms: u64,
    /// Determines whatever is random.
    pub seed: u64,
}

/// A newer map, as web servers are told it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct News {
    /// The servers of all shards, by their ids.
    pub servers: Vec<SocketAddr>,
    /// The map, as bytes.
    pub map: Vec<u8>,
}

/// What all shards answered together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Users counted.
    pub users: u64,
    /// The sum of their versions.
    pub versions: u64,
    /// The shards that gave no answer: what is counted is a part.
    pub missing: Vec<u16>,
}

/// A key that is asked for often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hot {
    /// The user.
    pub id: u64,
    /// How often at most,
    pub count: u64,
    /// and how much less it may be.
    pub error: u64,
}

/// Where the batch of one user goes.
pub trait Keyed: Send + Sync {
    /// Runs it as one transaction there.
    ///
    /// # Errors
    ///
    /// As [`Database::run`].
    fn run(&self, user: UserId, batch: Batch) -> Reply<'_, Vec<Rows>>;
}

/// Why there are no shards to ask.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoShards {
    /// The bytes are no map.
    #[error("this is no map of slots")]
    Map(#[from] tenfold_replication::shard::DecodeError),
    /// A map that cannot be.
    #[error("the shards make no map")]
    BadMap(#[from] MapError),
    /// A shard has no primary.
    #[error("a shard cannot be reached")]
    Cluster(#[from] NoCluster),
    /// The map names a shard of which no server is known.
    #[error("the map names a shard without a server")]
    Unknown(#[source] ShardError<ShardServerError>),
}

/// The shards by a map that may be old: each shard refuses what it does not hold.
#[derive(Debug)]
pub struct Fenced {
    shards: Shards<ShardServers, UserSlots>,
    driver: ShardServers,
    patience: Duration,
    seed: u64,
}

impl Fenced {
    /// Connects a web server to all shards.
    ///
    /// # Errors
    ///
    /// [`NoShards`].
    pub async fn start(sharding: &Sharding) -> Result<Self, NoShards> {
        Self::with(sharding, ShardServers::trusting(), UserSlots::default()).await
    }

    /// The same for whoever moves slots.
    ///
    /// # Errors
    ///
    /// [`NoShards`].
    pub async fn with(sharding: &Sharding, driver: ShardServers, slots: UserSlots) -> Result<Self, NoShards> {
        let Sharding { servers, map, patience_ms, seed } = sharding;
        let (map, patience) = (SlotMap::from_bytes(map)?, Duration::from_millis(*patience_ms));
        let mut clusters = Vec::new();
        for (shard, server) in (0..).map(ShardId).zip(servers) {
            clusters.push(connect(&driver, shard, *server, patience, *seed).await?);
        }
        driver.expect(&map, |shard| servers.get(usize::from(shard.0)).copied());
        let shards = Shards::new(map, clusters, slots).map_err(NoShards::Unknown)?;
        Ok(Self { shards, driver, patience, seed: *seed })
    }

    /// The shards, to move slots for instance.
    pub fn shards(&self) -> &Shards<ShardServers, UserSlots> {
        &self.shards
    }

    /// Goes by a newer map from now on, on these servers.
    ///
    /// # Errors
    ///
    /// [`NoShards`].
    pub async fn learn(&self, news: &News) -> Result<bool, NoShards> {
        let map = SlotMap::from_bytes(&news.map)?;
        for (shard, server) in (0..).map(ShardId).zip(&news.servers) {
            if self.shards.cluster(shard).is_err() {
                self.shards.add(connect(&self.driver, shard, *server, self.patience, self.seed).await?);
            }
        }
        self.driver.expect(&map, |shard| news.servers.get(usize::from(shard.0)).copied());
        Ok(self.shards.publish(map))
    }

    /// Counts users and versions on all shards at once, each of its own slots.
    pub async fn total(&self) -> Total {
        let sql = "SELECT count(*), coalesce(sum(version), 0) FROM users \
                   WHERE slot IN (SELECT value FROM json_each(?1))";
        let (sessions, options) = (Sessions::new(), ReadOptions::new().timeout(GATHERED_WITHIN));
        let gathered = self.shards.gather_with(&sessions, &options, |shard, map, mut server| async move {
            let slots: Vec<_> = map.slots_of(shard).map(|slot| slot.0.to_string()).collect();
            let slots = Value::Text(format!("[{}]", slots.join(",")));
            server.run(&Batch::read(Statement::new(sql, [slots]))).await
        });
        let gathered = gathered.await;
        let mut total = Total { users: 0, versions: 0, missing: Vec::new() };
        total.missing = gathered.failures().map(|(shard, _)| shard.0).collect();
        for (_, rows) in gathered.answers() {
            let row = rows.first().and_then(|rows| rows.rows.first());
            let figure = |column: usize| row.and_then(|row| row.get(column)?.as_integer()).unwrap_or(0) as u64;
            (total.users, total.versions) = (total.users + figure(0), total.versions + figure(1));
        }
        total
    }
}

async fn connect(
    driver: &ShardServers,
    shard: ShardId,
    server: SocketAddr,
    patience: Duration,
    seed: u64,
) -> Result<Cluster<ShardServers>, NoCluster> {
    let config = tenfold_replication::Config {
        read_timeout: patience,
        write_timeout: patience,
        observe_interval: OBSERVE_EVERY,
        ..config()
    };
    let builder = Cluster::builder(driver.clone()).node(Node::new(NodeId(0), server.to_string())).config(config);
    watched(builder.shard(shard).seed(seed.wrapping_add(u64::from(shard.0)))).await
}

impl Keyed for Fenced {
    fn run(&self, user: UserId, batch: Batch) -> Reply<'_, Vec<Rows>> {
        let (intent, batch, key) = (batch.intent, Arc::new(batch), key(user.0));
        let run = move |mut server: Checkout<ShardServers>| {
            let batch = Arc::clone(&batch);
            async move { server.run(&batch).await }
        };
        Box::pin(async move {
            // A shard has no replica here that could be behind a session.
            let sessions = Sessions::new();
            for _ in 0..TRIES {
                let result = match intent {
                    Intent::Read => self.shards.read(&sessions, &key, &run).await,
                    Intent::Write => self.shards.write(&sessions, &key, &run).await,
                };
                match result {
                    Err(ShardError::Cluster(_, Error::Statement(ShardServerError::Outdated { .. }))) => {}
                    result => return result.map_err(refusal),
                }
            }
            Err(DatabaseError::Unavailable)
        })
    }
}

fn refusal(error: ShardError<ShardServerError>) -> DatabaseError {
    match error {
        ShardError::Cluster(_, Error::Statement(ShardServerError::Server(ServerError::Refused { error, .. }))) => error,
        ShardError::Cluster(_, Error::Statement(_) | Error::WriteInRead(_)) => DatabaseError::Statement,
        ShardError::Cluster(_, Error::Ambiguous(_) | Error::ConnectionKept | Error::Timeout) => DatabaseError::TimedOut,
        _ => DatabaseError::Unavailable,
    }
}

/// The control: shards by a map that is never renewed, and nobody who refuses what is no longer held.
#[derive(Debug)]
pub struct Unfenced {
    map: SlotMap,
    servers: Vec<RemoteDatabase>,
}

impl Unfenced {
    /// By the map of now.
    ///
    /// # Errors
    ///
    /// [`NoShards::Map`].
    pub fn start(sharding: &Sharding) -> Result<Self, NoShards> {
        let servers = sharding.servers.iter().map(|server| RemoteDatabase::new(*server)).collect();
        Ok(Self { map: SlotMap::from_bytes(&sharding.map)?, servers })
    }
}

impl Keyed for Unfenced {
    fn run(&self, user: UserId, batch: Batch) -> Reply<'_, Vec<Rows>> {
        let shard = self.map.shard_of(&key(user.0));
        match self.servers.get(usize::from(shard.0)) {
            Some(server) => server.run(batch),
            None => Box::pin(async { Err(DatabaseError::Unavailable) }),
        }
    }
}

/// The product's users over shards; counts who is asked for.
#[derive(Debug)]
pub struct ShardedUsers<K> {
    shards: Arc<K>,
    hot: Arc<Mutex<HotKeys>>,
}

/// The users that are asked for most, of one web server. Clones are the same.
#[derive(Debug, Clone)]
pub struct Heat(Arc<Mutex<HotKeys>>);

impl Heat {
    /// The most frequent users, and how many requests there were in all.
    pub fn top(&self) -> (Vec<Hot>, u64) {
        let hot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = |key: &[u8]| std::str::from_utf8(key).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let top = hot.top(HOTTEST).into_iter();
        (top.map(|one| Hot { id: id(&one.key), count: one.count, error: one.error }).collect(), hot.total())
    }
}

/// One user's shard as a database.
struct At<'a, K> {
    shards: &'a K,
    user: UserId,
}

impl<K: Keyed> Database for At<'_, K> {
    fn run(&self, batch: Batch) -> Reply<'_, Vec<Rows>> {
        self.shards.run(self.user, batch)
    }
}

impl<K: Keyed> ShardedUsers<K> {
    /// The product on these shards.
    pub fn new(shards: Arc<K>) -> Self {
        Self { shards, hot: Arc::new(Mutex::new(HotKeys::new(HOT_KEYS))) }
    }

    /// Who is asked for.
    pub fn heat(&self) -> Heat {
        Heat(Arc::clone(&self.hot))
    }

    fn at(&self, user: UserId) -> SqlUsers<At<'_, K>> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner).count(&key(user.0));
        SqlUsers::new(At { shards: &*self.shards, user })
    }
}

impl<K: Keyed> Users for ShardedUsers<K> {
    fn user(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>> {
        Box::pin(async move { self.at(id).user(id).await })
    }

    fn update(&self, user: User) -> Reply<'_, Option<u64>> {
        Box::pin(async move { self.at(user.id).update(user).await })
    }

    fn transfer(&self, _: Transfer) -> Reply<'_, ()> {
        Box::pin(async { Err(DatabaseError::AcrossShards) })
    }

    fn withdraw(&self, withdrawal: Withdrawal) -> Reply<'_, ()> {
        let AccountId(account) = withdrawal.account;
        Box::pin(async move { self.at(UserId(account)).withdraw(withdrawal).await })
    }
}
