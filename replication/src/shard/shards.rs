//! The handle: reads and writes on the shard that owns the key.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant as Deadline;

use super::gathered::Gathered;
use super::map::{MapError, Slot, SlotMap, StaleMap};
use super::store::{Holding, Refused, SlotStore};
use crate::ShardId;
use crate::checkout::Checkout;
use crate::clock::{deadline, left};
use crate::cluster::Cluster;
use crate::driver::{Access, Driver};
use crate::error::Error;
use crate::intent::ReadOptions;
use crate::session::Session;
use crate::signal::Signal;

/// See [`Shards::with_patience`].
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether the slot is open again, as after a move that was given up.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Clusters that share the keys of one database between them. Cheap to clone; clones are the same.
pub struct Shards<D: Driver, S> {
    pub(super) shared: Arc<Shared<D, S>>,
    patience: Duration,
}

pub(super) struct Shared<D: Driver, S> {
    pub(super) store: S,
    clusters: ArcSwap<BTreeMap<ShardId, Cluster<D>>>,
    map: ArcSwap<SlotMap>,
    published: Signal,
    /// Held by who moves a slot.
    pub(super) moving: tokio::sync::Mutex<()>,
}

/// One user's sessions, one a shard: each shard has a log of its own, and is a cluster of its own for
/// [`Tokens`](crate::Tokens), so that a user has a token for each shard that was used.
#[derive(Debug, Default)]
pub struct Sessions {
    by_shard: Mutex<BTreeMap<ShardId, Arc<Session>>>,
}

/// Why a request on shards was not done; `E` is the driver's error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShardError<E> {
    /// What the cluster of this shard says.
    #[error("shard {} did not do it", .0.0)]
    Cluster(ShardId, #[source] Error<E>),
    /// This process has an old map, and no newer one was published in time; or the shard was set back. No effect.
    #[error(transparent)]
    Stale(#[from] StaleMap),
    /// The slot was moving for as long as was waited. No effect.
    #[error("slot {} is moving", .0.0)]
    Moving(Slot),
    /// The map names a shard whose cluster was not given.
    #[error("there is no cluster of shard {}", .0.0)]
    NoCluster(ShardId),
    /// A move that the map does not allow.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Noted keys came faster than they could be copied; the slot stays where it was.
    #[error("slot {} is written faster than it can be copied", .0.0)]
    TooBusy(Slot),
    /// The slot is on its way to another shard by a move that was interrupted: take that one up first, or give it up.
    #[error("slot {} is on its way to shard {}", slot.0, to.0)]
    OnItsWay {
        /// Which.
        slot: Slot,
        /// Where to.
        to: ShardId,
    },
    /// A shard was not as a move had left it: two processes move the slot at once, or a failover has lost a step. Nothing is
    /// deleted; somebody has to see which shard has the right rows, and says so by [`Shards::settle`].
    #[error("the shards do not agree on who owns slot {}", .0.0)]
    Unsettled(Slot),
}

impl<E> ShardError<E> {
    /// Whether a write may have taken effect nevertheless.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Cluster(_, error) if error.is_ambiguous())
    }
}

/// A slot, since when its shard owns it, the shard, and the session there.
type Place<D> = (Slot, u64, Cluster<D>, Arc<Session>);

impl Sessions {
    /// Nothing seen yet on any shard.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The session on one shard, to be printed as a token for instance.
    pub fn of(&self, shard: ShardId) -> Arc<Session> {
        Arc::clone(self.by_shard.lock().entry(shard).or_default())
    }

    /// Goes on from a session on one shard.
    pub fn set(&self, shard: ShardId, session: Session) {
        self.by_shard.lock().insert(shard, Arc::new(session));
    }
}

impl<D: Driver, S: SlotStore<D>> Shards<D, S> {
    /// These clusters, each built with its [`shard`](crate::Builder::shard), by this map.
    ///
    /// # Errors
    /// [`ShardError::NoCluster`], if the map names another.
    pub fn new(
        map: SlotMap,
        clusters: impl IntoIterator<Item = Cluster<D>>,
        store: S,
    ) -> Result<Self, ShardError<D::Error>> {
        let clusters: BTreeMap<_, _> = clusters.into_iter().map(|cluster| (cluster.shared.shard, cluster)).collect();
        if let Some(shard) = map.shards().into_iter().find(|shard| !clusters.contains_key(shard)) {
            return Err(ShardError::NoCluster(shard));
        }
        let shared = Shared {
            store,
            clusters: ArcSwap::from_pointee(clusters),
            map: ArcSwap::from_pointee(map),
            published: Signal::default(),
            moving: tokio::sync::Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared), patience: PATIENCE })
    }

    /// How long a request by this handle waits at most for a slot that is moving, or for a newer map. Default 10 s. Shorter: who
    /// has an old map is told sooner; longer: more moves go unnoticed, which close a slot for milliseconds if nothing
    /// disturbs them.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Adds a cluster, which owns nothing before slots are moved to it.
    pub fn add(&self, cluster: Cluster<D>) {
        self.shared.clusters.rcu(|clusters| {
            let mut clusters = BTreeMap::clone(clusters);
            clusters.insert(cluster.shared.shard, cluster.clone());
            clusters
        });
    }

    /// The map in use.
    #[must_use]
    pub fn map(&self) -> Arc<SlotMap> {
        self.shared.map.load_full()
    }

    /// Uses a newer map from now on, as another process has made it; false if the one in use is as new.
    pub fn publish(&self, map: SlotMap) -> bool {
        let map = Arc::new(map);
        let before = self
            .shared
            .map
            .rcu(|current| if map.version() > current.version() { Arc::clone(&map) } else { Arc::clone(current) });
        self.shared.published.raise();
        map.version() > before.version()
    }

    /// The cluster of a shard.
    ///
    /// # Errors
    /// [`ShardError::NoCluster`]
    pub fn cluster(&self, shard: ShardId) -> Result<Cluster<D>, ShardError<D::Error>> {
        self.shared.clusters.load().get(&shard).cloned().ok_or(ShardError::NoCluster(shard))
    }

    /// Runs one transaction on the shard that owns the key, as [`Cluster::transaction`] does.
    ///
    /// The closure must write what belongs to this key alone: only this key is copied when the slot moves meanwhile. While the
    /// slot is closed, or the map is old, it waits, up to the [patience](Shards::with_patience) beside what the cluster waits for.
    ///
    /// # Errors
    /// [`ShardError`]; only [`Error::Ambiguous`] leaves open whether it took effect.
    ///
    /// # Cancel safety
    /// As [`Cluster::transaction`].
    pub async fn write<T, F, R>(&self, sessions: &Sessions, key: &[u8], f: F) -> Result<T, ShardError<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        let deadline = deadline(self.patience);
        loop {
            let map = self.map();
            let (slot, since, cluster, session) = self.place(&map, sessions, key)?;
            let (store, f) = (&self.shared.store, &f);
            let run = cluster.transaction(&session, move |mut checkout| async move {
                let holding = store.holding(&mut checkout, slot, Access::Write).await?.unwrap_or(Holding::FIRST);
                match holding.admit_write(since) {
                    Ok(true) => store.note(&mut checkout, slot, key).await?,
                    Ok(false) => {}
                    Err(refused) => {
                        checkout.set_rollback_only();
                        return Ok(Err(refused));
                    }
                }
                f(checkout).await.map(Ok)
            });
            match run.await.map_err(on(&cluster))? {
                Ok(value) => return Ok(value),
                Err(refused) => self.wait(&map, slot, refused, deadline).await?,
            }
        }
    }

    /// Reads what belongs to a key, on a node of the shard that owns it, as [`Cluster::read`] does, from one snapshot. While
    /// the map is old, it waits, up to the [patience](Shards::with_patience) beside what the cluster waits for.
    ///
    /// While this process has an old map, a replica of the former owner that lags may answer with what it held before the
    /// move. Publish new maps to all processes, and give no slot back before they have them.
    ///
    /// # Errors
    /// [`ShardError`]
    pub async fn read<T, F, R>(&self, sessions: &Sessions, key: &[u8], f: F) -> Result<T, ShardError<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        self.read_with(sessions, key, &ReadOptions::new(), f).await
    }

    /// [`Shards::read`], fresher or on other terms than by default. One snapshot in any case. A replica that has not heard of a
    /// move is not asked again: the primary answers then, whatever the options say.
    ///
    /// # Errors
    /// [`ShardError`]; a read has no effect.
    ///
    /// # Cancel safety
    /// As [`Cluster::read`].
    pub async fn read_with<T, F, R>(
        &self,
        sessions: &Sessions,
        key: &[u8],
        options: &ReadOptions,
        f: F,
    ) -> Result<T, ShardError<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        let deadline = deadline(self.patience);
        let mut options = options.snapshot();
        loop {
            let map = self.map();
            let (slot, since, cluster, session) = self.place(&map, sessions, key)?;
            let (store, f) = (&self.shared.store, &f);
            let read = cluster.read_with(&session, &options, move |mut checkout| async move {
                let holding = store.holding(&mut checkout, slot, Access::Read).await?.unwrap_or(Holding::FIRST);
                match holding.admit_read(since) {
                    Ok(()) => f(checkout).await.map(Ok),
                    Err(refused) => Ok(Err(refused)),
                }
            });
            match read.await.map_err(on(&cluster))? {
                Ok(value) => return Ok(value),
                // A replica that has not heard of the move yet; the primary has.
                Err(Refused::Otherwise(theirs)) if theirs < since && !options.primary => {
                    options = options.from_primary();
                }
                Err(refused) => self.wait(&map, slot, refused, deadline).await?,
            }
        }
    }

    /// Reads from every shard at once, each from one snapshot, and gives what each answers: some may fail while others do
    /// not, and what to make of that is for the caller to say. One that is down, slow or refuses fails by itself, within the
    /// time of a read, and the others' answers are there. A shard of which this process has an old map fails with
    /// [`ShardError::Stale`], or answers from a replica that lags, as for [`Shards::read`].
    ///
    /// Not one snapshot over shards. Of a slot that is being copied both shards hold rows, so let the closure count those of
    /// the slots that the map gives to that shard alone ([`SlotMap::slots_of`]).
    ///
    /// # Cancel safety
    /// As [`Cluster::read`].
    ///
    /// # Complexity
    /// O(n) in the slots, beside what the closure does. As slow as the slowest shard.
    pub async fn gather<T, F, R>(&self, sessions: &Sessions, f: F) -> Gathered<T, D::Error>
    where
        F: Fn(ShardId, Arc<SlotMap>, Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        self.gather_with(sessions, &ReadOptions::new(), f).await
    }

    /// [`Shards::gather`], fresher or on other terms than by default: with a shorter [`ReadOptions::timeout`], whoever has not
    /// answered by then is left out.
    ///
    /// # Cancel safety
    /// As [`Cluster::read`].
    pub async fn gather_with<T, F, R>(&self, sessions: &Sessions, options: &ReadOptions, f: F) -> Gathered<T, D::Error>
    where
        F: Fn(ShardId, Arc<SlotMap>, Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        let (map, f, options) = (self.map(), &f, options.snapshot());
        let reads = map.shards().into_iter().map(|shard| {
            let map = Arc::clone(&map);
            async move { (shard, self.read_all(sessions, shard, &map, options, f).await) }
        });
        Gathered::new(join_all(reads.collect()).await)
    }

    async fn read_all<T, F, R>(
        &self,
        sessions: &Sessions,
        shard: ShardId,
        map: &Arc<SlotMap>,
        mut options: ReadOptions,
        f: &F,
    ) -> Result<T, ShardError<D::Error>>
    where
        F: Fn(ShardId, Arc<SlotMap>, Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        let (cluster, session, store) = (self.cluster(shard)?, sessions.of(shard), &self.shared.store);
        loop {
            let read = cluster.read_with(&session, &options, move |mut checkout| async move {
                match refused(map, shard, &store.holdings(&mut checkout).await?) {
                    None => f(shard, Arc::clone(map), checkout).await.map(Ok),
                    Some(refused) => Ok(Err(refused)),
                }
            });
            match read.await.map_err(on(&cluster))? {
                Ok(value) => return Ok(value),
                // A replica may not have heard of a move that the primary knows of.
                Err(_) if !options.primary => options = options.from_primary(),
                Err((slot, refused)) => return Err(error(map, slot, refused)),
            }
        }
    }

    /// Where a key is, by this map.
    fn place(&self, map: &SlotMap, sessions: &Sessions, key: &[u8]) -> Result<Place<D>, ShardError<D::Error>> {
        let (slot, shard) = (map.slot(key), map.shard_of(key));
        Ok((slot, map.since(slot).unwrap_or(1), self.cluster(shard)?, sessions.of(shard)))
    }

    /// Until the slot may be open again, or a newer map is there.
    async fn wait(
        &self,
        map: &SlotMap,
        slot: Slot,
        refused: Refused,
        deadline: Deadline,
    ) -> Result<(), ShardError<D::Error>> {
        #[cfg(feature = "tracing")]
        tracing::debug!(slot = slot.0, map = map.version(), ?refused, "a shard does not serve a slot");
        if left(deadline).is_zero() {
            return Err(match refused {
                Refused::Closed => ShardError::Moving(slot),
                Refused::Otherwise(theirs) => {
                    map.check(slot, theirs).err().map_or(ShardError::Moving(slot), Into::into)
                }
            });
        }
        let is_newer = || self.shared.map.load().version() > map.version();
        let published = self.shared.published.until(is_newer);
        match refused {
            Refused::Closed => drop(tokio::time::timeout(LOOK_EVERY, published).await),
            Refused::Otherwise(_) => drop(tokio::time::timeout_at(deadline, published).await),
        }
        Ok(())
    }
}

impl<D: Driver, S> Clone for Shards<D, S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), patience: self.patience }
    }
}

impl<D: Driver, S> fmt::Debug for Shards<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("map", &self.shared.map.load().version()).finish_non_exhaustive()
    }
}

/// What that cluster says, as an error of the whole.
pub(super) fn on<D: Driver>(cluster: &Cluster<D>) -> impl FnOnce(Error<D::Error>) -> ShardError<D::Error> {
    let shard = cluster.shared.shard;
    move |error| ShardError::Cluster(shard, error)
}

fn error<E>(map: &SlotMap, slot: Slot, refused: Refused) -> ShardError<E> {
    match refused {
        Refused::Closed => ShardError::Moving(slot),
        Refused::Otherwise(theirs) => map.check(slot, theirs).err().map_or(ShardError::Moving(slot), Into::into),
    }
}

/// The first slot that the map gives to a shard and the shard knows otherwise of.
fn refused(map: &SlotMap, shard: ShardId, known: &[(Slot, Holding)]) -> Option<(Slot, Refused)> {
    let known: BTreeMap<_, _> = known.iter().copied().collect();
    map.slots_of(shard).find_map(|slot| {
        let holding = known.get(&slot).copied().unwrap_or(Holding::FIRST);
        Some((slot, holding.admit_read(map.since(slot)?).err()?))
    })
}

/// Runs futures side by side in this task, to the end of the last.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => *output = Some(value),
                std::task::Poll::Pending => is_done = false,
            }
        }
        if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}
