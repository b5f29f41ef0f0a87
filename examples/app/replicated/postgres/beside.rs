//! A node of PostgreSQL, in the process that stands beside its server: the crate's driver, and batches as transactions.

use std::path::PathBuf;
use std::time::Duration;

use tenfold_replication::driver::postgres::{PgConfig, PgConnection, PgDriver, PgError};
use tenfold_replication::driver::{Access, Ballot, Class, Driver, Observation, Promotion};
use tenfold_replication::{Epoch, Lsn, Node, NodeId};
use tenfold_rig::{RoleResult, now, sleep};
use tokio::sync::watch;
use tokio_postgres::types::{ToSql, Type};

use super::postmaster::{Postmaster, address};
use super::{PostgreSql, way};
use crate::database::{Batch, DatabaseError, Intent, Rows, Statement, Value};
use crate::replicated::server::NodeConfig;
use crate::replicated::store::{Refused, Store};
use crate::replicated::wire::{Peer, mode_of};

/// As the nodes are laid out; a failover's is higher.
const FIRST: Ballot = Ballot { epoch: Epoch(2), coordinator: 0 };
/// How long a step of a failover may take, on a machine that many servers share.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is ready answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// A new replica gets the log before it serves anybody.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const STATEMENTS_PER_BATCH: usize = 64;
const NULL: Option<i64> = None;

const CONTENT: &str = "select sha256(convert_to(concat_ws(';',
    (select string_agg(u::text, ',' order by id) from users u),
    (select string_agg(a::text, ',' order by id) from accounts a),
    (select string_agg(t::text, ',' order by id) from transfers t)), 'UTF8'))";

/// A PostgreSQL server's node, from beside it.
pub(crate) struct Beside {
    driver: PgDriver,
    node: Node,
    folders: Vec<PathBuf>,
    /// Of the ways to all, by their ids.
    cuts: Vec<watch::Sender<bool>>,
}

impl Beside {
    /// Starts the server. The first time, it becomes the primary, or a replica that follows it.
    pub(crate) async fn start(server: &PostgreSql, config: &NodeConfig) -> RoleResult<Self> {
        let folder = config.folders.get(usize::from(config.id)).ok_or("a node needs a folder")?;
        let mut cuts = Vec::new();
        for (id, other) in config.folders.iter().enumerate() {
            let (cut, is_cut) = watch::channel(false);
            if other != folder {
                way::begin(&way_to(folder, id as u16), other, is_cut)?;
            }
            cuts.push(cut);
        }
        let postmaster = Postmaster::start(server, folder).await?;
        let pg = PgConfig { step_timeout: STEP_TIMEOUT, ..PgConfig::default() };
        let driver = PgDriver::new(pg).with_server(postmaster);
        let node = Node::new(NodeId(config.id), address(folder));
        let beside = Self { driver, node, folders: config.folders.clone(), cuts };
        if beside.first_seen().await?.promised.is_none() {
            beside.begin(config).await?;
        }
        Ok(beside)
    }

    /// What the node is, as soon as its server says so: one that has just started may refuse a first connection.
    async fn first_seen(&self) -> Result<Observation, PgError> {
        let deadline = now() + ANSWERS_WITHIN;
        loop {
            match self.driver.observe(&self.node).await {
                Err(_) if now() < deadline => sleep(LOOK_EVERY).await,
                seen => return seen,
            }
        }
    }

    /// Nobody has told the node anything yet.
    async fn begin(&self, config: &NodeConfig) -> RoleResult {
        let (driver, node) = (&self.driver, &self.node);
        if config.primary.is_none() {
            driver.fence(node, FIRST).await?;
            let replicas = (1..config.folders.len()).map(|id| NodeId(id as u16)).collect();
            driver.promote(node, &Promotion { ballot: FIRST, mode: mode_of(config.quorum), replicas }).await?;
            return Ok(());
        }
        driver.follow(node, &self.node_of(0)?, FIRST).await?;
        let deadline = now() + FOLLOWS_WITHIN;
        while driver.observe(node).await?.upstream.is_none() {
            if now() > deadline {
                return Err("the primary's log does not come".into());
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Another node, by the way to it.
    fn node_of(&self, id: u16) -> Result<Node, PgError> {
        let own = self.folders.get(usize::from(self.node.id().0)).ok_or(PgError::NoPrimaryThere)?;
        self.folders.get(usize::from(id)).ok_or(PgError::NoPrimaryThere)?;
        Ok(Node::new(NodeId(id), address(&way_to(own, id))))
    }

    /// All or nothing, also of what the product refuses.
    async fn transact(&self, c: &mut PgConnection, batch: &Batch) -> Result<Vec<Rows>, Refused> {
        let access = if batch.intent == Intent::Read { Access::Read } else { Access::Write };
        self.driver.begin(c, access).await.map_err(|error| self.refused(&error))?;
        let mut results = Vec::with_capacity(batch.statements.len());
        for (index, statement) in batch.statements.iter().enumerate() {
            let rows = match self.run_one(c, statement).await {
                Ok(rows) => rows,
                Err(refused) => return Err(self.roll_back(c, refused).await),
            };
            if statement.must_change.is_some_and(|expected| expected != rows.changed) {
                let error = DatabaseError::Guard { statement: index, changed: rows.changed };
                return Err(self.roll_back(c, Refused { class: Class::Statement, error }).await);
            }
            results.push(rows);
        }
        self.driver.commit(c).await.map_err(|error| self.refused(&error))?;
        Ok(results)
    }

    async fn roll_back(&self, c: &mut PgConnection, refused: Refused) -> Refused {
        // If that fails the connection is not used again, and the server rolls back by itself.
        let _ = self.driver.roll_back(c).await;
        refused
    }

    async fn run_one(&self, c: &mut PgConnection, statement: &Statement) -> Result<Rows, Refused> {
        let sql = statement.sql.replace('?', "$");
        let params: Vec<_> = statement.params.iter().map(param).collect();
        if !(sql.starts_with("SELECT") || sql.contains(" RETURNING ")) {
            let changed = c.execute(&sql, &params).await.map_err(|error| self.refused(&error))?;
            return Ok(Rows { rows: Vec::new(), changed });
        }
        let found = c.query(&sql, &params).await.map_err(|error| self.refused(&error))?;
        let rows = found.iter().map(|row| (0..row.len()).map(|column| value(row, column)).collect::<Result<_, _>>());
        let rows: Vec<Vec<Value>> = rows.collect::<Result<_, PgError>>().map_err(|error| self.refused(&error))?;
        let changed = if sql.starts_with("SELECT") { 0 } else { rows.len() as u64 };
        Ok(Rows { rows, changed })
    }

    /// What the product is told: which rule of the schema was broken, or what the driver says.
    fn refused(&self, error: &PgError) -> Refused {
        let broken = match error.server().map(|error| error.code().code()) {
            Some("23503") => DatabaseError::ForeignKey,
            Some("23505") => DatabaseError::Unique,
            Some("23502" | "23514") => DatabaseError::Check,
            _ => return Refused::by(&self.driver, error),
        };
        Refused { class: Class::Statement, error: broken }
    }
}

/// The folder of the way from the node of this folder to another one.
fn way_to(folder: &std::path::Path, id: u16) -> PathBuf {
    folder.join(format!("to-{id}"))
}

fn param(value: &Value) -> &(dyn ToSql + Sync) {
    match value {
        Value::Null => &NULL,
        Value::Integer(number) => number,
        Value::Text(text) => text,
    }
}

fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value, PgError> {
    let is_integer = row.columns().get(column).is_some_and(|column| *column.type_() == Type::INT8);
    Ok(if is_integer {
        row.try_get::<_, Option<i64>>(column)?.map_or(Value::Null, Value::Integer)
    } else {
        row.try_get::<_, Option<String>>(column)?.map_or(Value::Null, Value::Text)
    })
}

impl Store for Beside {
    type Driver = PgDriver;

    /// Twice the modelled slots.
    const READERS: usize = 8;
    /// As many as a server has connections for, and some left: writes that no replica confirms wait on theirs.
    const WRITERS: usize = 100;

    fn driver(&self) -> &PgDriver {
        &self.driver
    }

    fn node(&self) -> &Node {
        &self.node
    }

    fn peer(&self, peer: Peer) -> Result<Node, PgError> {
        self.node_of(peer.id)
    }

    /// The server knows by itself.
    fn follows(&self, _: Option<Peer>) {}

    async fn run(&self, connection: &mut PgConnection, batch: Batch) -> Result<Vec<Rows>, Refused> {
        match batch.statements.as_slice() {
            // A statement is a transaction by itself, and takes one round trip.
            [statement] if statement.must_change.is_none() => {
                self.run_one(connection, statement).await.map(|rows| vec![rows])
            }
            statements if statements.len() <= STATEMENTS_PER_BATCH => self.transact(connection, &batch).await,
            _ => Err(Refused { class: Class::Statement, error: DatabaseError::Statement }),
        }
    }

    async fn content_hash(&self) -> Result<([u8; 32], Lsn), PgError> {
        let mut connection = self.driver.connect(&self.node, Access::Read).await?.connection;
        let rows = connection.query(CONTENT, &[]).await?;
        let hash: Vec<u8> = rows.first().ok_or(PgError::Malformed)?.try_get(0)?;
        let place = self.driver.take_mark(&mut connection).position.ok_or(PgError::Malformed)?;
        Ok((hash.try_into().map_err(|_| PgError::Malformed)?, place.lsn))
    }

    async fn set_replay_delay(&self, delay: Duration) -> Result<(), PgError> {
        let mut connection = self.driver.connect(&self.node, Access::Write).await?.connection;
        let setting = format!("alter system set recovery_min_apply_delay = '{}ms'", delay.as_millis());
        connection.batch(&setting).await?;
        connection.batch("select pg_reload_conf()").await
    }

    fn cut_off_from(&self, node: u16) {
        if let Some(cut) = self.cuts.get(usize::from(node)) {
            cut.send_replace(true);
        }
    }
}
