//! The product's database over many servers: reads go to replicas, writes to the primary, and the browser's cookie says
//! what its reads must not miss.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tenfold_replication::driver::Driver;
use tenfold_replication::{
    Builder, Cluster, Config, ConfigError, DetectConfig, Error, FailoverConfig, Node, NodeId, PoolConfig, Session,
    Tokens,
};

use super::driver::{ServerError, Servers};
use super::wire::mode_of;
use crate::database::{Batch, Database, DatabaseError, Intent, Reply, Rows};
use crate::remote::RemoteDatabase;

/// The name of the cookie.
const SESSION: &str = "session";
/// All servers know the primary within this time of their start.
const READY_WITHIN: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Of the request that this task serves.
    static CURRENT: Arc<Session>;
}

/// How a web server reaches the database servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Routing {
    /// The database servers; a node's id is its place.
    pub servers: Vec<SocketAddr>,
    /// How many replicas confirm a write; none in asynchronous mode.
    pub quorum: Option<std::num::NonZeroU16>,
    /// Whether this web server names another primary when the present one is lost.
    pub is_supervisor: bool,
    /// Signs the sessions of all web servers.
    pub key: [u8; 32],
    /// Determines the choice of replicas.
    pub seed: u64,
}

/// The cluster of a web server, watched over from now on; it knows its primary when this returns.
///
/// # Errors
///
/// There is no primary in time.
pub async fn cluster(routing: &Routing) -> Result<Cluster<Servers>, NoCluster> {
    let nodes = routing.servers.iter().enumerate();
    let nodes = nodes.map(|(id, server)| Node::new(NodeId(id as u16), server.to_string()));
    let builder = Cluster::builder(Servers::new()).nodes(nodes).mode(mode_of(routing.quorum)).config(config());
    let cluster = watched(builder.seed(routing.seed)).await?;
    if routing.is_supervisor {
        tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
    }
    Ok(cluster)
}

/// What all web servers go by: room for a burst of requests, each on a connection of its own.
pub(crate) fn config() -> Config {
    // Reads are not sent twice: theory knows nothing of that.
    let pool = PoolConfig { max_connections: 512, min_idle: 0, max_waiting: 4_096, ..PoolConfig::default() };
    Config { hedge: None, pool, ..Config::default() }
}

/// Builds a cluster that is watched over from now on; it knows its primary when this returns.
pub(crate) async fn watched<D: Driver>(builder: Builder<D>) -> Result<Cluster<D>, NoCluster> {
    let cluster = builder.build()?;
    tokio::spawn(cluster.clone().drive());
    cluster.ready(READY_WITHIN).await.map_err(|_| NoCluster::NoPrimary)?;
    Ok(cluster)
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoCluster {
    /// No sense.
    #[error("the nodes make no cluster")]
    Config(#[from] ConfigError),
    /// Nobody says that it is the primary.
    #[error("no primary was found in time")]
    NoPrimary,
}

/// Database servers behind a router.
#[derive(Debug)]
pub struct Routed {
    cluster: Cluster<Servers>,
}

impl Routed {
    /// The database of this cluster.
    pub fn new(cluster: Cluster<Servers>) -> Self {
        Self { cluster }
    }
}

impl Database for Routed {
    fn run(&self, batch: Batch) -> Reply<'_, Vec<Rows>> {
        let session = CURRENT.try_with(Arc::clone).unwrap_or_default();
        let (intent, batch) = (batch.intent, Arc::new(batch));
        let run = move |mut connection: tenfold_replication::Checkout<Servers>| {
            let batch = Arc::clone(&batch);
            async move { connection.run(&batch).await }
        };
        Box::pin(async move {
            let result = match intent {
                Intent::Read => self.cluster.read(&session, run).await,
                Intent::Write => self.cluster.write(&session, run).await,
            };
            result.map_err(refusal)
        })
    }
}

/// The control: database servers without a router. Replicas are read in turn, the first server is written to, and nobody
/// looks whether they live.
#[derive(Debug)]
pub struct InTurn {
    primary: RemoteDatabase,
    replicas: Vec<RemoteDatabase>,
    turn: AtomicUsize,
}

impl InTurn {
    /// The first of `servers` is the primary.
    pub fn new(servers: &[SocketAddr]) -> Option<Self> {
        let (primary, replicas) = servers.split_first()?;
        let replicas = replicas.iter().map(|server| RemoteDatabase::new(*server)).collect();
        Some(Self { primary: RemoteDatabase::new(*primary), replicas, turn: AtomicUsize::new(0) })
    }
}

impl Database for InTurn {
    fn run(&self, batch: Batch) -> Reply<'_, Vec<Rows>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let replica = self.replicas.get(turn % self.replicas.len().max(1)).filter(|_| batch.intent == Intent::Read);
        replica.unwrap_or(&self.primary).run(batch)
    }
}

fn refusal(error: Error<ServerError>) -> DatabaseError {
    match error {
        Error::Statement(ServerError::Refused { error, .. }) => error,
        Error::Statement(_) | Error::WriteInRead(_) => DatabaseError::Statement,
        Error::Ambiguous(_) | Error::ConnectionKept | Error::Timeout => DatabaseError::TimedOut,
        _ => DatabaseError::Unavailable,
    }
}

/// `routes` whose users find what they wrote and saw, whichever web server and whichever replica serves them: their
/// place in the log comes and goes with the cookie.
pub fn remember(routes: Router, key: &[u8; 32]) -> Router {
    routes.layer(from_fn_with_state(Arc::new(Tokens::keyed(key)), with_session))
}

async fn with_session(State(tokens): State<Arc<Tokens>>, request: Request, next: Next) -> Response {
    let text = request.headers().get(COOKIE).and_then(|cookie| cookie.to_str().ok()).and_then(token);
    // A token that nobody signed is as good as none: a new session, which may read anything.
    let session = Arc::new(text.and_then(|text| tokens.parse(text).ok()).unwrap_or_default());
    let mut response = CURRENT.scope(Arc::clone(&session), next.run(request)).await;
    let cookie = format!("{SESSION}={}; Path=/; HttpOnly", tokens.print(&session));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The session's token in the text of a cookie header.
fn token(cookie: &str) -> Option<&str> {
    cookie.split(';').find_map(|pair| pair.trim().strip_prefix(SESSION)?.strip_prefix('='))
}
