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

use std::convert::Infallible;
use std::net::SocketAddr;
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
use tenfold_replication::driver::sqlite::{SqliteConnection, SqliteDriver, SqliteError, rusqlite};
use tenfold_replication::driver::{Access, Class, Driver, Mark, Promotion};
use tenfold_replication::{Lsn, Node, NodeId};
use tenfold_rig::{Cost, Role, RoleResult, Station, Tier};
use tokio::sync::watch;

use super::link::{Link, keep_up};
use super::wire::{CLASS, Done, Order, POSITION, Peer, Seen, WROTE, mode_of, name_of};
use crate::database::{Batch, DatabaseError, Intent, Rows};
use crate::host::status;
use crate::sqlite::{DatabaseStats, run_all};

const MAX_BODY_BYTES: usize = 64 << 10;
const READERS_KEPT: usize = 8;
/// A new replica copies its primary before it serves anybody.
const COPIED_WITHIN: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A database server's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Its node: an index of `folders`.
    pub id: u16,
    /// The folders of all nodes.
    pub folders: Vec<PathBuf>,
    /// The primary that it follows from the start.
    pub primary: Option<SocketAddr>,
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
    let server = Server::start(&role.config, station).await?;
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, router(server)).with_graceful_shutdown(stop.wait()).await?)
}

/// The routes of a database server.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/batch", post(batch))
        .route("/stats", get(stats))
        .route("/node", get(node))
        .route("/order", post(order))
        .route("/wait", post(wait))
        .route("/hash", get(hash))
        .route("/delay/{ms}", post(delay))
        .route("/cut/{node}", post(cut))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(server)
}

/// One node and its connections.
pub struct Server {
    driver: SqliteDriver,
    node: Node,
    folders: Vec<PathBuf>,
    link: watch::Sender<Link>,
    station: Station,
    readers: Mutex<Vec<SqliteConnection>>,
    /// One: SQLite has one writer at a time.
    writer: tokio::sync::Mutex<Option<SqliteConnection>>,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// Why a batch or an order was not carried out.
struct Refused {
    class: Class,
    error: DatabaseError,
}

impl Server {
    /// Opens the node and keeps it up with its primary; a new replica has its copy when this returns.
    ///
    /// # Errors
    ///
    /// The node cannot be opened, or has no copy in time.
    pub async fn start(config: &NodeConfig, station: Station) -> RoleResult<Arc<Self>> {
        let folder = config.folders.get(usize::from(config.id)).ok_or("a node needs a folder")?;
        let upstream = config.primary.map(|address| Peer { id: 0, address });
        let (link, links) = watch::channel(Link { upstream, cut_from: None });
        let server = Arc::new(Self {
            driver: SqliteDriver::default(),
            node: Node::new(NodeId(config.id), folder.to_string_lossy()),
            folders: config.folders.clone(),
            link,
            station,
            readers: Mutex::default(),
            writer: tokio::sync::Mutex::default(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        tokio::spawn(keep_up(Arc::clone(&server), links));
        let opened = async {
            loop {
                match server.driver.observe(&server.node).await {
                    Err(SqliteError::Incomplete) => tenfold_rig::sleep(LOOK_EVERY).await,
                    observed => return observed.map(drop),
                }
            }
        };
        tokio::time::timeout(COPIED_WITHIN, opened).await.map_err(|_| "the primary was not copied in time")??;
        Ok(server)
    }

    /// Receives and applies the log of the primary that the node's files name; ends only with an error.
    pub(super) async fn receive(&self) -> Result<Infallible, SqliteError> {
        self.driver.serve(&self.node).await
    }

    async fn run(&self, batch: Batch) -> Result<(Vec<Rows>, Mark), Refused> {
        let overloaded = |_| Refused { class: Class::NotSent, error: DatabaseError::Unavailable };
        self.station.serve().await.map_err(overloaded)?;
        match batch.intent {
            Intent::Read => {
                self.reads.fetch_add(1, Ordering::Relaxed);
                let mut reader = self.reader().await?;
                let result = self.run_on(&mut reader, batch).await;
                self.keep(reader);
                result
            }
            Intent::Write => {
                let mut slot = self.writer.lock().await;
                let kept = slot.take().filter(|writer| self.driver.is_open(writer));
                let mut writer = match kept {
                    Some(writer) => writer,
                    None => self.connect(Access::Write).await?,
                };
                let result = self.run_on(&mut writer, batch).await;
                *slot = Some(writer);
                drop(slot);
                self.writes.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
                result
            }
        }
    }

    async fn run_on(&self, connection: &mut SqliteConnection, batch: Batch) -> Result<(Vec<Rows>, Mark), Refused> {
        // What the product refuses is more than the driver's errors can say: it goes around them.
        let refusal = Arc::new(Mutex::new(None));
        let said = Arc::clone(&refusal);
        let statements = move |db: &rusqlite::Connection| {
            run_all(db, &batch, Duration::ZERO).map_err(|error| {
                *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                SqliteError::from(rusqlite::Error::InvalidQuery)
            })
        };
        let result = connection.run(statements).await;
        let mark = self.driver.take_mark(connection);
        let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.map(|rows| (rows, mark)).map_err(|error| match refusal {
            Some(DatabaseError::Unavailable) => self.refused(&SqliteError::Busy),
            Some(DatabaseError::Storage) => Refused { class: Class::Gone, error: DatabaseError::Storage },
            Some(error) => Refused { class: Class::Statement, error },
            None => self.refused(&error),
        })
    }

    async fn connect(&self, access: Access) -> Result<SqliteConnection, Refused> {
        let connected = self.driver.connect(&self.node, access).await;
        connected.map(|connected| connected.connection).map_err(|error| self.refused(&error))
    }

    async fn reader(&self) -> Result<SqliteConnection, Refused> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept.filter(|reader| self.driver.is_open(reader)) {
            Some(reader) => Ok(reader),
            None => self.connect(Access::Read).await,
        }
    }

    fn keep(&self, reader: SqliteConnection) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT {
            readers.push(reader);
        }
    }

    async fn obey(&self, order: Order) -> Result<Done, SqliteError> {
        let (driver, node) = (&self.driver, &self.node);
        Ok(match order {
            Order::Fence { vote } => {
                let seen = driver.fence(node, vote.into()).await?;
                self.follow(None);
                Done::Seen(Seen::from(&seen))
            }
            Order::Promote { vote, quorum, replicas } => {
                let replicas = replicas.into_iter().map(NodeId).collect();
                let promotion = Promotion { ballot: vote.into(), mode: mode_of(quorum), replicas };
                let seen = driver.promote(node, &promotion).await?;
                self.follow(None);
                Done::Seen(Seen::from(&seen))
            }
            Order::Follow { vote, primary } => {
                driver.follow(node, &self.peer(primary)?, vote.into()).await?;
                self.follow(Some(primary));
                Done::Follows
            }
            Order::Rejoin { vote, primary } => {
                let rejoined = driver.rejoin(node, &self.peer(primary)?, vote.into()).await?;
                self.follow(Some(primary));
                Done::Rejoined(rejoined.discarded.map(|(from, to)| (from.0, to.0)))
            }
        })
    }

    fn follow(&self, upstream: Option<Peer>) {
        let told = |link: &mut Link| std::mem::replace(&mut link.upstream, upstream) != upstream;
        // One that follows already goes on as it is.
        self.link.send_if_modified(told);
    }

    /// Another node, by its folder.
    fn peer(&self, peer: Peer) -> Result<Node, SqliteError> {
        let folder = self.folders.get(usize::from(peer.id)).ok_or(SqliteError::NoPrimaryThere)?;
        Ok(Node::new(NodeId(peer.id), folder.to_string_lossy()))
    }

    fn refused(&self, error: &SqliteError) -> Refused {
        let class = self.driver.classify(error);
        let error = match class {
            Class::Ambiguous => DatabaseError::TimedOut,
            Class::ReadOnly | Class::Statement | Class::Superseded => DatabaseError::Statement,
            _ => DatabaseError::Unavailable,
        };
        Refused { class, error }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (status(&self.error), [(CLASS, name_of(self.class))], Json(self.error)).into_response()
    }
}

async fn batch(State(server): State<Arc<Server>>, Json(batch): Json<Batch>) -> Response {
    match server.run(batch).await {
        Ok((rows, mark)) => {
            let place = mark.position.map(|place| (POSITION, format!("{}/{}", place.epoch.0, place.lsn.0)));
            let wrote = mark.wrote.then(|| (WROTE, "1".to_owned()));
            (AppendHeaders(place.into_iter().chain(wrote)), Json(rows)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn stats(State(server): State<Arc<Server>>) -> Json<DatabaseStats> {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Json(DatabaseStats { reads: count(&server.reads), writes: count(&server.writes) })
}

async fn node(State(server): State<Arc<Server>>) -> Response {
    match server.driver.observe(&server.node).await {
        Ok(seen) => Json(Seen::from(&seen)).into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn order(State(server): State<Arc<Server>>, Json(order): Json<Order>) -> Response {
    match server.obey(order).await {
        Ok(done) => Json(done).into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn wait(State(server): State<Arc<Server>>, Json((lsn, timeout_ms)): Json<(u64, u64)>) -> Response {
    let mut reader = match server.reader().await {
        Ok(reader) => reader,
        Err(refused) => return refused.into_response(),
    };
    let reached = server.driver.wait(&mut reader, Lsn(lsn), Duration::from_millis(timeout_ms)).await;
    server.keep(reader);
    match reached {
        Ok(lsn) => Json(lsn.0).into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn hash(State(server): State<Arc<Server>>) -> Response {
    match server.driver.content_hash(&server.node).await {
        Ok((hash, lsn)) => Json((hash, lsn.0)).into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn delay(State(server): State<Arc<Server>>, Path(ms): Path<u64>) -> Response {
    match server.driver.set_replay_delay(&server.node, Duration::from_millis(ms)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => server.refused(&error).into_response(),
    }
}

async fn cut(State(server): State<Arc<Server>>, Path(node): Path<u16>) -> StatusCode {
    server.link.send_modify(|link| link.cut_from = Some(node));
    StatusCode::NO_CONTENT
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("node", &self.node).field("link", &*self.link.borrow()).finish_non_exhaustive()
    }
}
