//! The driver: nodes by their directories.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::connection::SqliteConnection;
use super::discarded::Discarded;
use super::node::FileNode;
use super::{SqliteConfig, SqliteError, replica};
use crate::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use crate::{ClusterId, Lsn, Mode, Node, NodeId};

/// How often a wait looks that nobody wakes.
const POLL: Duration = Duration::from_millis(5);

/// Connects a [`Cluster`](crate::Cluster) to nodes that are directories of database files; a node's address is its
/// directory. Cheap to clone; clones share what is open.
#[derive(Clone, Debug, Default)]
pub struct SqliteDriver {
    nodes: Nodes,
}

/// What is open in this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    config: SqliteConfig,
    open: Arc<Mutex<HashMap<PathBuf, Arc<FileNode>>>>,
}

impl Nodes {
    pub(super) fn open(&self, id: NodeId, address: &str) -> Result<Arc<FileNode>, SqliteError> {
        let dir = PathBuf::from(address);
        let known = self.open.lock().get(&dir).map(Arc::clone);
        let node = match known {
            Some(node) => node,
            None => {
                // Outside of the lock: recovery takes its time. Whoever is second uses what the first has opened.
                let node = Arc::new(FileNode::open(&dir, id, self.config.clone())?);
                Arc::clone(self.open.lock().entry(dir).or_insert(node))
            }
        };
        node.check_up()?;
        Ok(node)
    }
}

impl SqliteDriver {
    /// A driver with this configuration; nothing is opened yet.
    #[must_use]
    pub fn new(config: SqliteConfig) -> Self {
        Self { nodes: Nodes { config, ..Nodes::default() } }
    }

    /// Makes a new cluster in directories that hold no node yet: the first is the primary, the others follow it.
    ///
    /// # Errors
    /// [`SqliteError::Exists`], or what the files say no with.
    ///
    /// # Cancel safety
    /// Dropping it leaves nodes that are there and nodes that are not.
    pub async fn create(&self, nodes: &[Node], mode: Mode) -> Result<(), SqliteError> {
        let (config, nodes) = (self.nodes.config.clone(), nodes.to_vec());
        blocking(move || {
            let cluster = ClusterId(crate::rng::seed_from_os());
            let Some(primary) = nodes.first() else { return Ok(()) };
            for node in &nodes {
                let others = nodes.iter().map(Node::id).filter(|id| *id != primary.id()).collect();
                let control = if node.id() == primary.id() {
                    FileNode::new_primary(cluster, mode, others)
                } else {
                    FileNode::new_replica(cluster, mode, primary)
                };
                FileNode::create(node.address().as_ref(), node.id(), config.clone(), &control)?;
            }
            Ok(())
        })
        .await
    }

    /// Makes a new replica in a directory that holds no node yet: served, it copies this primary and follows it. Whoever
    /// holds a cluster is told of it when that is built anew, and the primary counts its confirmations from the next
    /// promotion on.
    ///
    /// # Errors
    /// [`SqliteError::Exists`], or what the files say no with.
    ///
    /// # Cancel safety
    /// Dropping it may leave the node made.
    pub async fn add_replica(&self, node: &Node, primary: &Node) -> Result<(), SqliteError> {
        let (config, node, upstream) = (self.nodes.config.clone(), node.clone(), primary.clone());
        self.on(primary, move |primary| {
            let theirs = primary.control.read()?;
            let control = FileNode::new_replica(theirs.cluster, theirs.mode, &upstream);
            FileNode::create(node.address().as_ref(), node.id(), config, &control).map(|_| ())
        })
        .await
    }

    /// Keeps a node up with its primary: receives its log, applies it, copies the whole where the log does not reach.
    /// Runs until it is dropped; the host spawns it for each node that it keeps, also for the primary, which may become
    /// a replica.
    ///
    /// # Errors
    /// [`SqliteError::Served`], if another task or process does this already; [`SqliteError::Down`], when the node was
    /// [taken down](SqliteDriver::take_down); or why it cannot be opened. Served again in a loop, with a pause between, a node is
    /// kept up through all of these.
    ///
    /// # Cancel safety
    /// What was received is kept.
    pub async fn serve(&self, node: &Node) -> Result<std::convert::Infallible, SqliteError> {
        replica::serve(self.open(node).await?, self.nodes.clone()).await
    }

    /// A replica applies what it has received so much later.
    ///
    /// # Errors
    /// Why the node cannot be opened.
    pub async fn set_replay_delay(&self, node: &Node, delay: Duration) -> Result<(), SqliteError> {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.open(node).await?.faults.replay_delay_us.store(micros, Ordering::Relaxed);
        Ok(())
    }

    /// Lets a replica receive and not apply, until it is told to go on.
    ///
    /// # Errors
    /// Why the node cannot be opened.
    pub async fn pause_replay(&self, node: &Node, is_paused: bool) -> Result<(), SqliteError> {
        self.open(node).await?.faults.is_replay_paused.store(is_paused, Ordering::Relaxed);
        Ok(())
    }

    /// For this process and its clones of the driver, the node is gone, as after a crash of its machine: connections
    /// break, nobody gets its log, and who serves it ends with [`SqliteError::Down`]. Its files stay as they are.
    ///
    /// # Errors
    /// Why the node cannot be opened.
    pub async fn take_down(&self, node: &Node) -> Result<(), SqliteError> {
        let faults = &self.open(node).await?.faults;
        faults.is_down.store(true, Ordering::SeqCst);
        faults.went_down.notify_waiters();
        faults.incarnation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Brings back a node that was taken down, as what its files say that it is. It is to be served again.
    pub fn bring_up(&self, node: &Node) {
        self.nodes.open.lock().remove(&PathBuf::from(node.address()));
    }

    /// The transactions that this node alone had, as a primary, and that it gave up when it rejoined: of all its rejoins.
    /// They are kept until somebody removes `discarded` in its directory.
    ///
    /// # Errors
    /// What the files say no with.
    pub async fn discarded(&self, node: &Node) -> Result<Vec<Discarded>, SqliteError> {
        self.on(node, super::discarded::read).await
    }

    /// A hash of all tables and rows of a node, the same on nodes that hold the same; and where in the log that is.
    ///
    /// # Errors
    /// What the files say no with.
    ///
    /// # Complexity
    /// Reads the whole database.
    pub async fn content_hash(&self, node: &Node) -> Result<([u8; 32], Lsn), SqliteError> {
        let node = self.open(node).await?;
        blocking(move || super::content::hash(&node)).await
    }

    async fn open(&self, node: &Node) -> Result<Arc<FileNode>, SqliteError> {
        let (nodes, node) = (self.nodes.clone(), node.clone());
        blocking(move || nodes.open(node.id(), node.address())).await
    }

    async fn on<T: Send + 'static>(
        &self,
        node: &Node,
        f: impl FnOnce(&FileNode) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let (nodes, node) = (self.nodes.clone(), node.clone());
        blocking(move || f(&*nodes.open(node.id(), node.address())?)).await
    }
}

impl Driver for SqliteDriver {
    type Connection = SqliteConnection;
    type Error = SqliteError;

    async fn connect(&self, node: &Node, access: Access) -> Result<Connected<SqliteConnection>, SqliteError> {
        let (nodes, node) = (self.nodes.clone(), node.clone());
        blocking(move || {
            let node = nodes.open(node.id(), node.address())?;
            let connection = SqliteConnection::open(Arc::clone(&node), access)?;
            let control = node.control.read()?;
            if control.is_incomplete {
                return Err(SqliteError::Incomplete);
            }
            let epoch = control.history.current();
            Ok(Connected { connection, cluster: control.cluster, role: control.role, epoch })
        })
        .await
    }

    fn is_open(&self, connection: &SqliteConnection) -> bool {
        connection.is_open()
    }

    async fn begin(&self, connection: &mut SqliteConnection, access: Access) -> Result<(), SqliteError> {
        connection.begin(access).await
    }

    async fn commit(&self, connection: &mut SqliteConnection) -> Result<(), SqliteError> {
        connection.commit().await
    }

    async fn roll_back(&self, connection: &mut SqliteConnection) -> Result<(), SqliteError> {
        connection.roll_back().await
    }

    fn take_mark(&self, connection: &mut SqliteConnection) -> Mark {
        connection.take_mark()
    }

    async fn wait(&self, connection: &mut SqliteConnection, lsn: Lsn, timeout: Duration) -> Result<Lsn, SqliteError> {
        let deadline = crate::clock::deadline(timeout);
        let mut applied = connection.node().applied.subscribe();
        loop {
            let replayed = connection.replayed().await?;
            let left = crate::clock::left(deadline);
            if replayed >= lsn || left.is_zero() {
                return Ok(replayed);
            }
            let _ = tokio::time::timeout(left.min(POLL), applied.changed()).await;
        }
    }

    fn classify(&self, error: &SqliteError) -> Class {
        error.class()
    }

    async fn observe(&self, node: &Node) -> Result<Observation, SqliteError> {
        self.on(node, FileNode::observe).await
    }

    async fn fence(&self, node: &Node, ballot: Ballot) -> Result<Observation, SqliteError> {
        self.on(node, move |node| node.fence(ballot)).await
    }

    async fn promote(&self, node: &Node, promotion: &Promotion) -> Result<Observation, SqliteError> {
        let promotion = promotion.clone();
        self.on(node, move |node| node.promote(&promotion)).await
    }

    async fn follow(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<(), SqliteError> {
        let primary = primary.clone();
        self.on(node, move |node| node.follow(primary.id(), primary.address(), ballot)).await
    }

    async fn rejoin(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<Rejoined, SqliteError> {
        let (nodes, primary) = (self.nodes.clone(), primary.clone());
        self.on(node, move |node| {
            let upstream = nodes.open(primary.id(), primary.address())?;
            node.rejoin(&upstream, primary.address(), ballot)
        })
        .await
    }
}

/// On a thread where waiting is no harm.
pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, SqliteError> + Send + 'static,
) -> Result<T, SqliteError> {
    // It fails if the closure panics or the runtime ends: the connection that it had is gone with it.
    tokio::task::spawn_blocking(f).await.unwrap_or(Err(SqliteError::ConnectionLost))
}
