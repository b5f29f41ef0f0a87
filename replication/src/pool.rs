//! Bounded connections to one node, for one kind of access.
//!
//! A connection belongs to the epoch in which it was opened. A promotion moves the pool to the next epoch: what is idle
//! is closed at once, and what is in use is closed when it comes back. So a check-out verifies by comparing two numbers
//! what others ask the server for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::PoolConfig;
use crate::driver::{Access, Connected, Driver};
use crate::{ClusterId, Epoch, Node, Role};

/// # Invariants
/// - I1: there are at most as many connections as permits; an idle one holds none, so idle ones are closed before more
///   than that are open.
/// - I2: an idle connection is of the pool's epoch, or about to be closed.
pub(crate) struct Pool<D: Driver> {
    driver: Arc<D>,
    node: Node,
    access: Access,
    config: PoolConfig,
    connect_timeout: Duration,
    permits: Arc<Semaphore>,
    waiting: AtomicU32,
    epoch: AtomicU64,
    idle: Mutex<Vec<Idle<D::Connection>>>,
    opened: AtomicU64,
}

struct Idle<C> {
    connection: C,
    epoch: Epoch,
}

/// The place of a connection that is in use. Dropped without [`Place::put_back`], it is free for another connection.
pub(crate) struct Place<D: Driver> {
    pub(crate) epoch: Epoch,
    pool: Arc<Pool<D>>,
    _permit: OwnedSemaphorePermit,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum CheckoutError<E> {
    /// All are in use.
    Exhausted,
    /// The node did not take one, or not in time.
    Connect(Option<E>),
    /// The node is not what the connection was for.
    WrongNode,
}

impl<D: Driver> Pool<D> {
    pub(crate) fn new(
        driver: Arc<D>,
        node: Node,
        access: Access,
        config: PoolConfig,
        connect_timeout: Duration,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(config.max_connections as usize));
        Self {
            driver,
            node,
            access,
            config,
            connect_timeout,
            permits,
            waiting: AtomicU32::new(0),
            epoch: AtomicU64::new(0),
            idle: Mutex::new(Vec::new()),
            opened: AtomicU64::new(0),
        }
    }

    /// Connections of earlier epochs are of no use any more.
    pub(crate) fn enter(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Release);
        let old = std::mem::take(&mut *self.idle.lock());
        // Closed outside the lock.
        drop(old);
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    pub(crate) fn idle_count(&self) -> usize {
        self.idle.lock().len()
    }

    pub(crate) fn in_use(&self) -> usize {
        self.config.max_connections as usize - self.permits.available_permits()
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// A connection of this epoch.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing but a connection that was being opened.
    pub(crate) async fn check_out(
        self: &Arc<Self>,
        cluster: Option<ClusterId>,
    ) -> Result<(D::Connection, Place<D>), CheckoutError<D::Error>> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait_for_permit().await?,
        };
        let epoch = self.epoch();
        while let Some(idle) = self.take_idle() {
            if idle.epoch == epoch && self.driver.is_open(&idle.connection) {
                return Ok((idle.connection, Place { epoch, pool: Arc::clone(self), _permit: permit }));
            }
        }
        let connection = self.open(epoch, cluster).await?;
        Ok((connection, Place { epoch, pool: Arc::clone(self), _permit: permit }))
    }

    /// Opens connections until so many are idle as are asked for.
    pub(crate) async fn warm_up(self: &Arc<Self>, cluster: Option<ClusterId>) {
        while self.idle_count() < self.config.min_idle as usize {
            // All in use: it is warm.
            let Ok(_permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
            let epoch = self.epoch();
            match self.open(epoch, cluster).await {
                Ok(connection) => self.keep(connection, epoch),
                Err(_) => return,
            }
        }
    }

    fn take_idle(&self) -> Option<Idle<D::Connection>> {
        self.idle.lock().pop()
    }

    async fn wait_for_permit(&self) -> Result<OwnedSemaphorePermit, CheckoutError<D::Error>> {
        let _waiting = Waiting::enter(&self.waiting, self.config.max_waiting).ok_or(CheckoutError::Exhausted)?;
        let permit = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(self.config.timeout, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(CheckoutError::Exhausted),
        }
    }

    async fn open(&self, epoch: Epoch, cluster: Option<ClusterId>) -> Result<D::Connection, CheckoutError<D::Error>> {
        let connect = self.driver.connect(&self.node, self.access);
        let connected = match tokio::time::timeout(self.connect_timeout, connect).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(CheckoutError::Connect(Some(error))),
            Err(_) => return Err(CheckoutError::Connect(None)),
        };
        let Connected { connection, cluster: found, role, epoch: node_epoch } = connected;
        let is_wrong = match self.access {
            Access::Read => false,
            Access::Write => role != Role::Primary || node_epoch != epoch,
        };
        if is_wrong || cluster.is_some_and(|cluster| cluster != found) {
            return Err(CheckoutError::WrongNode);
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(connection)
    }

    /// Keeps it for the next, if it is of this epoch still.
    fn keep(&self, connection: D::Connection, epoch: Epoch) {
        if !self.driver.is_open(&connection) {
            return;
        }
        let mut idle = self.idle.lock();
        let has_room = idle.len() < self.config.max_connections as usize;
        // Under the lock, so that the epoch cannot be left in between.
        if has_room && self.epoch() == epoch {
            idle.push(Idle { connection, epoch });
        }
    }
}

impl<D: Driver> Place<D> {
    /// Gives a connection back that is as it was when it was taken.
    pub(crate) fn put_back(self, connection: D::Connection) {
        self.pool.keep(connection, self.epoch);
    }
}

/// One of a bounded number that wait.
pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    pub(crate) fn enter(count: &'a AtomicU32, max: u32) -> Option<Self> {
        let raise = |count: u32| (count < max).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise).ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
