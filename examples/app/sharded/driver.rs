//! The driver of a shard's database server, on which a transaction is one batch.
//!
//! A server takes a transaction whole: what is to be so (the holding of a slot), what is to be noted, and the statements
//! themselves go there together. So the holding that a write rests on is not read beforehand but assumed, and the batch
//! begins with a statement that fails if it is another one; then nothing of the batch has happened, and the next try asks.
//! What a web server assumes is what its map says; whoever moves slots asks, and assumes what it has done itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenfold_replication::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use tenfold_replication::shard::{Holding, HoldingState, Slot, SlotMap};
use tenfold_replication::{Lsn, Node, ShardId};

use super::slots::Page;
use crate::database::{Batch, DatabaseError, Intent, Rows, Statement, Value};
use crate::replicated::{self, ServerError, Servers};

/// A statement of a write that changes one row if the slot is held as the parameter says; never moved means `owned 1`.
const HELD: &str = "INSERT INTO holding (slot, held) VALUES (?1, 'owned 1') \
                    ON CONFLICT (slot) DO UPDATE SET held = held WHERE held = ?2";
/// The same for a slot of which nothing is kept yet.
const NEVER_MOVED: &str = "INSERT INTO holding (slot, held) VALUES (?1, 'owned 1') \
                           ON CONFLICT (slot) DO UPDATE SET held = held WHERE held = 'owned 1'";
const LOOK: &str = "SELECT held FROM holding WHERE slot = ?1";

/// Database servers of shards as nodes; a node's address is the socket address of its process. Clones share what they know.
#[derive(Debug, Clone)]
pub struct ShardServers {
    servers: Servers,
    known: Arc<Known>,
}

/// What is known of slots at servers.
#[derive(Debug)]
struct Known {
    /// Assumes of a slot that nobody has told of that it has never moved.
    is_trusting: bool,
    holdings: Mutex<HashMap<(SocketAddr, Slot), Memory>>,
}

/// What is known of one slot.
#[derive(Debug, Clone, Copy)]
enum Memory {
    /// It is held so.
    Held(Option<Holding>),
    /// What was assumed was wrong.
    Nothing,
}

/// What a batch on a shard came to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardServerError {
    /// The server did not do it.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// It gave no answer, and may have done it.
    #[error("the database server may have done it and gave no answer")]
    Unconfirmed(#[source] ServerError),
    /// A slot is held in another way than was assumed. Nothing has happened; the next try asks.
    #[error("the slot is held in another way than was assumed")]
    Outdated {
        /// Whether it was a transaction of reads.
        is_read: bool,
    },
    /// A second batch in one transaction.
    #[error("a transaction on a shard is one batch")]
    SecondBatch,
}

/// A way to one shard's server. What a transaction has so far is kept here until its batch is sent.
#[derive(Debug)]
pub struct Connection {
    server: replicated::Connection,
    address: SocketAddr,
    known: Arc<Known>,
    open: Open,
}

/// A transaction.
#[derive(Debug, Default)]
struct Open {
    may_write: bool,
    assumed: Vec<(Slot, Option<Holding>)>,
    put: Vec<Statement>,
    held: Vec<(Slot, Holding)>,
    page: Page,
    rows: HashMap<Vec<u8>, Option<Vec<u8>>>,
    is_sent: bool,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.put.is_empty() && self.page.is_empty()
    }
}

impl ShardServers {
    /// For a web server, whose map says what shards hold.
    pub fn trusting() -> Self {
        Self::new(true)
    }

    /// For whoever moves slots: asks, and knows what it has done itself.
    pub fn asking() -> Self {
        Self::new(false)
    }

    fn new(is_trusting: bool) -> Self {
        let known = Arc::new(Known { is_trusting, holdings: Mutex::default() });
        Self { servers: Servers::new(), known }
    }

    /// Expects that owners hold what this map says. `server` tells where a shard is.
    pub fn expect(&self, map: &SlotMap, server: impl Fn(ShardId) -> Option<SocketAddr>) {
        for slot in (0..map.slots()).map(Slot) {
            let (Some(server), Some(since)) = (map.owner(slot).and_then(&server), map.since(slot)) else { continue };
            if since > 1 {
                let held = Holding { state: HoldingState::Owned, since, to: None };
                self.known.holdings().insert((server, slot), Memory::Held(Some(held)));
            }
        }
    }
}

impl Known {
    fn holdings(&self) -> MutexGuard<'_, HashMap<(SocketAddr, Slot), Memory>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, server: SocketAddr, slot: Slot) -> Option<Option<Holding>> {
        match self.holdings().get(&(server, slot)) {
            Some(Memory::Held(held)) => Some(*held),
            Some(Memory::Nothing) => None,
            None => self.is_trusting.then_some(None),
        }
    }
}

impl Connection {
    /// Runs a batch as one transaction, with all that this transaction has gathered before.
    ///
    /// # Errors
    ///
    /// [`ShardServerError`]; only after [`ShardServerError::Unconfirmed`] something may have happened.
    pub async fn run(&mut self, batch: &Batch) -> Result<Vec<Rows>, ShardServerError> {
        if self.open.may_write && self.open.is_sent {
            return Err(ShardServerError::SecondBatch);
        }
        self.open.is_sent = true;
        let intent = if self.open.may_write { Intent::Write } else { batch.intent };
        let assumed = std::mem::take(&mut self.open.assumed);
        let mut statements: Vec<_> = assumed.iter().map(|assumed| self.guard(*assumed)).collect();
        statements.append(&mut self.open.put);
        statements.extend(std::mem::take(&mut self.open.page).into_statements());
        let before = statements.len();
        statements.extend(batch.statements.iter().cloned());
        let sent = self.server.run(&Batch { intent, statements }).await;
        let mut rows = sent.map_err(|error| self.failed(error, &assumed, before))?;
        let wanted = rows.split_off(before.min(rows.len()));
        if !self.open.may_write {
            self.compare(&assumed, &rows)?;
        }
        let mut known = self.known.holdings();
        for (slot, held) in self.open.held.drain(..) {
            known.insert((self.address, slot), Memory::Held(Some(held)));
        }
        Ok(wanted)
    }

    /// The statement that fails, or tells, if a slot is not held so.
    fn guard(&self, (slot, held): (Slot, Option<Holding>)) -> Statement {
        let number = Value::from(u64::from(slot.0));
        match (self.open.may_write, held) {
            (false, _) => Statement::new(LOOK, [number]),
            (true, None) => Statement::new(NEVER_MOVED, [number]).must_change(1),
            (true, Some(held)) => Statement::new(HELD, [number, Value::from(held.to_string().as_str())]).must_change(1),
        }
    }

    fn failed(&self, error: ServerError, assumed: &[(Slot, Option<Holding>)], before: usize) -> ShardServerError {
        let ServerError::Refused { class, error: DatabaseError::Guard { statement, changed } } = error else {
            let is_gone = error.class() == Class::Gone;
            return if self.open.may_write && is_gone { ShardServerError::Unconfirmed(error) } else { error.into() };
        };
        if let Some((slot, _)) = assumed.get(statement) {
            self.forget(*slot);
            return ShardServerError::Outdated { is_read: false };
        }
        let error = DatabaseError::Guard { statement: statement.saturating_sub(before), changed };
        ServerError::Refused { class, error }.into()
    }

    /// What a read has seen may differ from what was assumed as long as the slot is served all the same.
    fn compare(&self, assumed: &[(Slot, Option<Holding>)], rows: &[Rows]) -> Result<(), ShardServerError> {
        let is_served = |assumed: Option<Holding>, seen: Option<Holding>| {
            let since = |held: Option<Holding>| held.map_or(1, |held| held.since);
            let is_here = seen.is_none_or(|seen| !matches!(seen.state, HoldingState::Gone | HoldingState::Arriving));
            is_here && since(assumed) == since(seen)
        };
        for ((slot, held), rows) in assumed.iter().zip(rows) {
            if !is_served(*held, held_in(rows)) {
                self.forget(*slot);
                return Err(ShardServerError::Outdated { is_read: true });
            }
        }
        Ok(())
    }

    fn forget(&self, slot: Slot) {
        self.known.holdings().insert((self.address, slot), Memory::Nothing);
    }

    /// The end of a transaction: what was assumed and not held against the server may be wrong.
    fn end(&mut self) {
        for (slot, _) in std::mem::take(&mut self.open).assumed {
            self.forget(slot);
        }
    }

    /// How a slot is held: assumed until the batch is sent, where something is known of it.
    pub(super) async fn holding(&mut self, slot: Slot, access: Access) -> Result<Option<Holding>, ShardServerError> {
        let is_asking = !self.known.is_trusting && access == Access::Read;
        let known = if is_asking { None } else { self.known.of(self.address, slot) };
        let held = match known {
            Some(held) => held,
            None => self.ask(slot).await?,
        };
        if !is_asking {
            self.open.assumed.push((slot, held));
        }
        Ok(held)
    }

    async fn ask(&mut self, slot: Slot) -> Result<Option<Holding>, ShardServerError> {
        let rows = self.look(Statement::new(LOOK, [Value::from(u64::from(slot.0))])).await?;
        let held = held_in(&rows);
        self.known.holdings().insert((self.address, slot), Memory::Held(held));
        Ok(held)
    }

    /// A read by itself, beside whatever the transaction gathers.
    pub(super) async fn look(&mut self, statement: Statement) -> Result<Rows, ShardServerError> {
        Ok(self.server.run(&Batch::read(statement)).await?.into_iter().next().unwrap_or_default())
    }

    /// Lets a statement be part of the transaction's batch.
    pub(super) fn put(&mut self, statement: Statement) {
        self.open.put.push(statement);
    }

    /// Lets a slot be held so from this transaction on.
    pub(super) fn hold(&mut self, slot: Slot, held: Holding, statement: Statement) {
        self.put(statement);
        self.open.held.push((slot, held));
    }

    /// Lets a user's rows take the place of those that are there.
    pub(super) fn import(&mut self, slot: Slot, id: u64, rows: Option<String>) {
        self.open.page.add(slot, id, rows);
    }

    /// Keeps what was read of a key together with others, until it is asked for in this transaction.
    pub(super) fn keep(&mut self, key: Vec<u8>, rows: Option<Vec<u8>>) {
        self.open.rows.insert(key, rows);
    }

    /// What was kept of a key.
    pub(super) fn kept(&mut self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.open.rows.remove(key)
    }
}

/// The holding in the answer to a look at one; nobody but this module writes there.
fn held_in(rows: &Rows) -> Option<Holding> {
    rows.rows.first()?.first()?.as_text()?.parse().ok()
}

impl Driver for ShardServers {
    type Connection = Connection;
    type Error = ShardServerError;

    async fn connect(&self, node: &Node, access: Access) -> Result<Connected<Connection>, ShardServerError> {
        let Connected { connection: server, cluster, role, epoch } = self.servers.connect(node, access).await?;
        let address = node.address().parse().map_err(|_| ServerError::BadAddress)?;
        let connection = Connection { server, address, known: Arc::clone(&self.known), open: Open::default() };
        Ok(Connected { connection, cluster, role, epoch })
    }

    fn is_open(&self, connection: &Connection) -> bool {
        self.servers.is_open(&connection.server)
    }

    async fn begin(&self, connection: &mut Connection, access: Access) -> Result<(), ShardServerError> {
        connection.end();
        connection.open.may_write = access == Access::Write;
        Ok(())
    }

    async fn commit(&self, connection: &mut Connection) -> Result<(), ShardServerError> {
        let nothing = Batch::write([]);
        let sent = if connection.open.is_empty() { Ok(Vec::new()) } else { connection.run(&nothing).await };
        connection.end();
        sent.map(drop)
    }

    async fn roll_back(&self, connection: &mut Connection) -> Result<(), ShardServerError> {
        connection.end();
        Ok(())
    }

    fn take_mark(&self, connection: &mut Connection) -> Mark {
        self.servers.take_mark(&mut connection.server)
    }

    async fn wait(&self, connection: &mut Connection, lsn: Lsn, timeout: Duration) -> Result<Lsn, ShardServerError> {
        Ok(self.servers.wait(&mut connection.server, lsn, timeout).await?)
    }

    fn classify(&self, error: &ShardServerError) -> Class {
        match error {
            ShardServerError::Server(error) => self.servers.classify(error),
            ShardServerError::Unconfirmed(_) => Class::Ambiguous,
            ShardServerError::Outdated { is_read: false } => Class::RolledBack,
            ShardServerError::Outdated { is_read: true } | ShardServerError::SecondBatch => Class::Statement,
        }
    }

    async fn observe(&self, node: &Node) -> Result<Observation, ShardServerError> {
        Ok(self.servers.observe(node).await?)
    }

    async fn fence(&self, node: &Node, ballot: Ballot) -> Result<Observation, ShardServerError> {
        Ok(self.servers.fence(node, ballot).await?)
    }

    async fn promote(&self, node: &Node, promotion: &Promotion) -> Result<Observation, ShardServerError> {
        Ok(self.servers.promote(node, promotion).await?)
    }

    async fn follow(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<(), ShardServerError> {
        Ok(self.servers.follow(node, primary, ballot).await?)
    }

    async fn rejoin(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<Rejoined, ShardServerError> {
        Ok(self.servers.rejoin(node, primary, ballot).await?)
    }
}
