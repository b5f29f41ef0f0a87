//! A database server's process: one node, its queue of modelled slots, and what coordinators ask of it.
//!
//! | route | does |
//! |---|---|
//! | `POST /batch` | as any database server of the climb; the answer's place in the log is in its headers |
//! | `GET /stats` | batches read, batches written |
//! | `GET /node` | what the node says of itself; takes no slot |
//! | `POST /order` | fence, promote, follow, rejoin |
//! | `POST /wait` | until the log is applied up to a place, or the time is over |
//! | `GET /hash` | a hash of all rows |
//! | `POST /delay/{ms}` | applies what it receives so much later |
//! | `POST /cut/{node}` | the network between here and this node's process is gone |

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_replication::driver::{Access, Class, Driver, Mark, Promotion};
use tenfold_replication::{Lsn, NodeId};
use tenfold_rig::{Cost, Role, RoleResult, Station, Tier};
use tokio::sync::Semaphore;

use super::engine::Engine;
use super::sqlite::Folder;
use super::store::{Connection, Failure, Refused, Store};
use super::wire::{Done, Order, POSITION, Seen, WROTE, mode_of};
use crate::database::{Batch, DatabaseError, Intent, Rows};
use crate::sqlite::DatabaseStats;

const MAX_BODY_BYTES: usize = 64 << 10;
/// Of each kind.
const CONNECTIONS_KEPT: usize = 16;

/// A database server's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Its node: an index of `folders`.
    pub id: u16,
    /// The folders of all nodes.
    pub folders: Vec<PathBuf>,
    /// The primary that it follows from the start.
    pub primary: Option<SocketAddr>,
    /// What the node is of.
    pub engine: Engine,
    /// How many replicas confirm a write; none in asynchronous mode.
    pub quorum: Option<NonZeroU16>,
    /// What is modelled.
    pub cost: Cost,
    /// Determines the service times.
    pub seed: u64,
}

/// The whole role of a database server.
///
/// # Errors
///
/// The node cannot be opened, or there is no socket.
pub async fn serve(mut role: Role<NodeConfig>) -> RoleResult {
    let station = role.config.cost.station(Tier::Database, role.config.seed)?;
    let routes = start(&role.config, station).await?;
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// Opens the node and keeps it up with its primary, and gives the routes of its server; a new replica has its copy when
/// this returns.
///
/// # Errors
///
/// The node cannot be opened, or has no copy in time.
pub async fn start(config: &NodeConfig, station: Station) -> RoleResult<Router> {
    Ok(match &config.engine {
        Engine::Sqlite => router(Server::new(Folder::open(config).await?, station)),
        #[cfg(feature = "postgres")]
        Engine::Postgres(program) => {
            router(Server::new(super::postgres::Beside::start(program, config).await?, station))
        }
        #[cfg(not(feature = "postgres"))]
        Engine::Postgres(_) => return Err(super::postgres::NoPostgreSql::NotBuilt.into()),
    })
}

fn router<S: Store>(server: Server<S>) -> Router {
    Router::new()
        .route("/batch", post(batch::<S>))
        .route("/stats", get(stats::<S>))
        .route("/node", get(node::<S>))
        .route("/order", post(order::<S>))
        .route("/wait", post(wait::<S>))
        .route("/hash", get(hash::<S>))
        .route("/delay/{ms}", post(delay::<S>))
        .route("/cut/{node}", post(cut::<S>))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(server))
}

/// One node and its connections.
struct Server<S: Store> {
    store: S,
    station: Station,
    readers: Kept<Connection<S>>,
    writers: Kept<Connection<S>>,
    /// Whose turn it is.
    reading: Semaphore,
    writing: Semaphore,
    /// Held by who asks what the node is: others would have the driver connect anew for each of them.
    observing: tokio::sync::Mutex<()>,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// Connections that nobody uses now.
struct Kept<C>(Mutex<Vec<C>>);

impl<C> Kept<C> {
    fn take(&self) -> Option<C> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: C) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < CONNECTIONS_KEPT {
            kept.push(connection);
        }
    }
}

impl<S: Store> Server<S> {
    fn new(store: S, station: Station) -> Self {
        let (readers, writers) = (Kept(Mutex::default()), Kept(Mutex::default()));
        let (reading, writing) = (Semaphore::new(S::READERS), Semaphore::new(S::WRITERS));
        let (observing, reads, writes) = (tokio::sync::Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        Self { store, station, readers, writers, reading, writing, observing, reads, writes }
    }

    async fn run(&self, batch: Batch) -> Result<(Vec<Rows>, Mark), Refused> {
        let overloaded = || Refused { class: Class::NotSent, error: DatabaseError::Unavailable };
        self.station.serve().await.map_err(|_| overloaded())?;
        match batch.intent {
            Intent::Read => {
                let _turn = self.reading.acquire().await.map_err(|_| overloaded())?;
                self.reads.fetch_add(1, Ordering::Relaxed);
                self.run_on(&self.readers, Access::Read, batch).await
            }
            Intent::Write => {
                let _turn = self.writing.acquire().await.map_err(|_| overloaded())?;
                let result = self.run_on(&self.writers, Access::Write, batch).await;
                self.writes.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
                result
            }
        }
    }

    async fn run_on(
        &self,
        kept: &Kept<Connection<S>>,
        access: Access,
        batch: Batch,
    ) -> Result<(Vec<Rows>, Mark), Refused> {
        let mut connection = self.connection(kept, access).await?;
        let result = self.store.run(&mut connection, batch).await;
        let mark = self.store.driver().take_mark(&mut connection);
        kept.keep(connection);
        result.map(|rows| (rows, mark))
    }

    async fn connection(&self, kept: &Kept<Connection<S>>, access: Access) -> Result<Connection<S>, Refused> {
        let driver = self.store.driver();
        while let Some(connection) = kept.take() {
            if driver.is_open(&connection) {
                return Ok(connection);
            }
        }
        let connected = driver.connect(self.store.node(), access).await;
        connected.map(|connected| connected.connection).map_err(|error| self.refused(&error))
    }

    async fn obey(&self, order: Order) -> Result<Done, Failure<S>> {
        let (store, driver, node) = (&self.store, self.store.driver(), self.store.node());
        Ok(match order {
            Order::Fence { vote } => {
                let seen = driver.fence(node, vote.into()).await?;
                store.follows(None);
                Done::Seen(Seen::from(&seen))
            }
            Order::Promote { vote, quorum, replicas } => {
                let replicas = replicas.into_iter().map(NodeId).collect();
                let promotion = Promotion { ballot: vote.into(), mode: mode_of(quorum), replicas };
                let seen = driver.promote(node, &promotion).await?;
                store.follows(None);
                Done::Seen(Seen::from(&seen))
            }
            Order::Follow { vote, primary } => {
                driver.follow(node, &store.peer(primary)?, vote.into()).await?;
                store.follows(Some(primary));
                Done::Follows
            }
            Order::Rejoin { vote, primary } => {
                let rejoined = driver.rejoin(node, &store.peer(primary)?, vote.into()).await?;
                store.follows(Some(primary));
                Done::Rejoined(rejoined.discarded.map(|(from, to)| (from.0, to.0)))
            }
        })
    }

    async fn wait(&self, lsn: Lsn, timeout: Duration) -> Result<Lsn, Refused> {
        let mut reader = self.connection(&self.readers, Access::Read).await?;
        let reached = self.store.driver().wait(&mut reader, lsn, timeout).await;
        self.readers.keep(reader);
        reached.map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &Failure<S>) -> Refused {
        Refused::by(self.store.driver(), error)
    }
}

type At<S> = State<Arc<Server<S>>>;

async fn batch<S: Store>(State(server): At<S>, Json(batch): Json<Batch>) -> Response {
    match server.run(batch).await {
        Ok((rows, mark)) => {
            let place = mark.position.map(|place| (POSITION, format!("{}/{}", place.epoch.0, place.lsn.0)));
            let wrote = mark.wrote.then(|| (WROTE, "1".to_owned()));
            (AppendHeaders(place.into_iter().chain(wrote)), Json(rows)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn stats<S: Store>(State(server): At<S>) -> Json<DatabaseStats> {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Json(DatabaseStats { reads: count(&server.reads), writes: count(&server.writes) })
}

async fn node<S: Store>(State(server): At<S>) -> Response {
    let _turn = server.observing.lock().await;
    match server.store.driver().observe(server.store.node()).await {
        Ok(seen) => Json(Seen::from(&seen)).into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn order<S: Store>(State(server): At<S>, Json(order): Json<Order>) -> Response {
    match server.obey(order).await {
        Ok(done) => Json(done).into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn wait<S: Store>(State(server): At<S>, Json((lsn, timeout_ms)): Json<(u64, u64)>) -> Response {
    match server.wait(Lsn(lsn), Duration::from_millis(timeout_ms)).await {
        Ok(lsn) => Json(lsn.0).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn hash<S: Store>(State(server): At<S>) -> Response {
    match server.store.content_hash().await {
        Ok((hash, lsn)) => Json((hash, lsn.0)).into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn delay<S: Store>(State(server): At<S>, Path(ms): Path<u64>) -> Response {
    match server.store.set_replay_delay(Duration::from_millis(ms)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn cut<S: Store>(State(server): At<S>, Path(node): Path<u16>) -> StatusCode {
    server.store.cut_off_from(node);
    StatusCode::NO_CONTENT
}
