//! Slots that move between clusters while they are read and written, and while those fail over.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::shard::{
    Holding, HoldingState, MapError, Move, Sessions, ShardError, Shards, Slot, SlotMap, SlotStore,
};
use tenfold_replication::{
    Checkout, Cluster, Config, DetectConfig, Error, FailoverConfig, Mode, NodeId, ReadOptions, Session, ShardId,
};
use tokio::sync::Notify;

use super::suite::{Connection, Failure, Fixture, ms, until};

const SLOTS: u16 = 16;
const KEYS: u64 = 120;

/// Clusters of a kind, with counters by key that are sharded.
pub(crate) trait ShardFixture: Fixture + Sync + 'static {
    type Store: SlotStore<Self::Driver>;

    /// Of a cluster, where it need not fail over.
    const NODES: u16;

    fn store() -> Self::Store;
    fn start_shard(nodes: u16, mode: Mode) -> impl Future<Output = Self>;
    /// Adds one to a counter.
    fn add(c: &mut Connection<Self>, slot: Slot, key: String)
    -> impl Future<Output = Result<(), Failure<Self>>> + Send;
    fn value(c: &mut Connection<Self>, key: String) -> impl Future<Output = Result<i64, Failure<Self>>> + Send;
    fn sum(c: &mut Connection<Self>, slots: Vec<Slot>) -> impl Future<Output = Result<i64, Failure<Self>>> + Send;
    /// Until replicas have what their primary has.
    fn all_caught_up(&self) -> impl Future<Output = ()>;
}

type ShardFailure<F> = ShardError<Failure<F>>;

/// What a move is stopped before, until it may go on.
#[derive(Default)]
pub(crate) struct Hook {
    before: Mutex<Option<Step>>,
    reached: Notify,
    go: Notify,
    /// Keys whose rows were taken in.
    imported: Mutex<Vec<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Hold(HoldingState),
    Import,
    Forget,
}

impl Hook {
    async fn pass(&self, step: Step) {
        let is_it = {
            let mut before = self.before.lock();
            let is_it = *before == Some(step);
            if is_it {
                *before = None;
            }
            is_it
        };
        if is_it {
            self.reached.notify_one();
            self.go.notified().await;
        }
    }
}

/// A store whose steps can be stopped.
pub(crate) struct Hooked<S> {
    store: S,
    hook: Arc<Hook>,
}

impl<D: Driver, S: SlotStore<D>> SlotStore<D> for Hooked<S> {
    async fn holding(&self, c: &mut D::Connection, slot: Slot, access: Access) -> Result<Option<Holding>, D::Error> {
        self.store.holding(c, slot, access).await
    }

    async fn holdings(&self, c: &mut D::Connection) -> Result<Vec<(Slot, Holding)>, D::Error> {
        self.store.holdings(c).await
    }

    async fn hold(&self, c: &mut D::Connection, slot: Slot, holding: Holding) -> Result<(), D::Error> {
        self.hook.pass(Step::Hold(holding.state)).await;
        self.store.hold(c, slot, holding).await
    }

    async fn note(&self, c: &mut D::Connection, slot: Slot, key: &[u8]) -> Result<(), D::Error> {
        self.store.note(c, slot, key).await
    }

    async fn noted(&self, c: &mut D::Connection, slot: Slot, most: usize) -> Result<Vec<(u64, Vec<u8>)>, D::Error> {
        self.store.noted(c, slot, most).await
    }

    async fn forget(&self, c: &mut D::Connection, slot: Slot, numbers: &[u64]) -> Result<(), D::Error> {
        self.hook.pass(Step::Forget).await;
        self.store.forget(c, slot, numbers).await
    }

    async fn keys(
        &self,
        c: &mut D::Connection,
        slot: Slot,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        self.store.keys(c, slot, after, most).await
    }

    async fn export(&self, c: &mut D::Connection, key: &[u8]) -> Result<Option<Vec<u8>>, D::Error> {
        self.store.export(c, key).await
    }

    async fn import(&self, c: &mut D::Connection, slot: Slot, key: &[u8], rows: Option<&[u8]>) -> Result<(), D::Error> {
        self.hook.pass(Step::Import).await;
        self.hook.imported.lock().push(key.to_vec());
        self.store.import(c, slot, key, rows).await
    }

    async fn purge(&self, c: &mut D::Connection, slot: Slot) -> Result<(), D::Error> {
        self.store.purge(c, slot).await
    }
}

type Fleet<F> = Shards<<F as Fixture>::Driver, Hooked<<F as ShardFixture>::Store>>;

/// Clusters, and processes that use them.
struct Bed<F> {
    shards: Vec<F>,
}

impl<F: ShardFixture> Bed<F> {
    async fn with(shards: u16) -> Self {
        Self::of(shards, F::NODES, Mode::Asynchronous).await
    }

    async fn of(shards: u16, nodes: u16, mode: Mode) -> Self {
        let mut started = Vec::new();
        for _ in 0..shards {
            started.push(F::start_shard(nodes, mode).await);
        }
        Self { shards: started }
    }

    /// One process.
    async fn process(&self, map: &SlotMap) -> Fleet<F> {
        self.watched(map, Arc::default(), Mode::Asynchronous, false).await
    }

    async fn watched(&self, map: &SlotMap, hook: Arc<Hook>, mode: Mode, supervises: bool) -> Fleet<F> {
        let mut clusters = Vec::new();
        for (shard, fixture) in (0..).zip(&self.shards) {
            let config = Config { observe_interval: ms(20), connect_timeout: ms(10_000), ..Config::default() };
            let cluster = Cluster::builder(fixture.driver()).nodes(fixture.nodes()).mode(mode).config(config);
            let cluster = cluster.shard(ShardId(shard)).build().unwrap();
            tokio::spawn(cluster.clone().drive());
            cluster.ready(ms(10_000)).await.unwrap();
            if supervises {
                tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
            }
            clusters.push(cluster);
        }
        Shards::new(map.clone(), clusters, Hooked { store: F::store(), hook }).unwrap()
    }
}

fn first_map(shards: u16) -> SlotMap {
    SlotMap::new(SLOTS, &(0..shards).map(ShardId).collect::<Vec<_>>()).unwrap()
}

fn key(number: u64) -> String {
    format!("key/{number}")
}

/// Adds one to a counter.
async fn add<F: ShardFixture>(fleet: &Fleet<F>, sessions: &Sessions, key: &str) -> Result<(), ShardFailure<F>> {
    let slot = fleet.map().slot(key.as_bytes());
    let write = fleet.write(sessions, key.as_bytes(), move |mut db| {
        let key = key.to_owned();
        async move { F::add(&mut db, slot, key).await }
    });
    write.await
}

async fn value<F: ShardFixture>(fleet: &Fleet<F>, sessions: &Sessions, key: &str) -> i64 {
    let read = fleet.read(sessions, key.as_bytes(), move |mut db| {
        let key = key.to_owned();
        async move { F::value(&mut db, key).await }
    });
    read.await.unwrap()
}

/// All counters of one shard that it owns.
async fn counted<F: ShardFixture>(
    shard: ShardId,
    map: Arc<SlotMap>,
    mut db: Checkout<F::Driver>,
) -> Result<i64, Failure<F>> {
    F::sum(&mut db, map.slots_of(shard).collect()).await
}

/// All counters of all shards.
async fn sum<F: ShardFixture>(fleet: &Fleet<F>, sessions: &Sessions) -> i64 {
    fleet.gather(sessions, counted::<F>).await.complete().unwrap().into_iter().map(|(_, part)| part).sum()
}

/// Changes what a shard knows of a slot, as a process did that is no more.
async fn hold<F: ShardFixture>(fleet: &Fleet<F>, shard: ShardId, slot: Slot, state: HoldingState, since: u64) {
    let cluster = fleet.cluster(shard).unwrap();
    let (holding, session) = (Holding { state, since, to: None }, Session::new());
    let hold =
        cluster.transaction(&session, move |mut db| async move { F::store().hold(&mut db, slot, holding).await });
    hold.await.unwrap();
}

pub(crate) async fn slots_move_under_writes_and_none_is_lost_or_doubled<F: ShardFixture>() {
    let bed = Bed::<F>::with(3).await;
    let map = first_map(2);
    let (mover, other) = (bed.process(&map).await, bed.process(&map).await);
    let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = [mover.clone(), other.clone()]
        .into_iter()
        .cycle()
        .take(4)
        .zip(0_u64..)
        .map(|(fleet, writer)| {
            let (acknowledged, is_over) = (Arc::clone(&acknowledged), Arc::clone(&is_over));
            tokio::spawn(async move {
                let sessions = Sessions::new();
                let mut number = writer;
                while !is_over.load(Ordering::Relaxed) {
                    number = (number * 31 + 7 + writer) % KEYS;
                    let key = key(number);
                    add::<F>(&fleet, &sessions, &key).await.unwrap();
                    acknowledged[number as usize].fetch_add(1, Ordering::Relaxed);
                    // A session reads its own write, wherever the slot is now.
                    assert!(value::<F>(&fleet, &sessions, &key).await > 0);
                }
            })
        })
        .collect();
    let moves = map.with_shard(ShardId(2)).unwrap();
    assert_eq!(moves.len(), 5);
    for one in moves {
        tokio::time::sleep(ms(100)).await;
        let map = mover.move_slot(one).await.unwrap();
        // The other process hears of it later, and its writes wait until then.
        tokio::time::sleep(ms(30)).await;
        assert!(other.publish((*map).clone()));
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let sessions = Sessions::new();
    let mut all = 0;
    for number in 0..KEYS {
        let expected = acknowledged[number as usize].load(Ordering::Relaxed) as i64;
        let name = key(number);
        let found =
            mover.write(&sessions, name.as_bytes(), move |mut db| async move { F::value(&mut db, key(number)).await });
        assert_eq!(found.await.unwrap(), expected, "{}", key(number));
        all += expected;
    }
    assert_eq!(sum::<F>(&mover, &sessions).await, all);
    assert_eq!(mover.map().count(ShardId(2)), 5);
}

pub(crate) async fn a_process_with_an_old_map_writes_nothing_to_the_former_owner<F: ShardFixture>() {
    let bed = Bed::<F>::with(2).await;
    let map = first_map(2);
    let (mover, other) = (bed.process(&map).await, bed.process(&map).await);
    let (sessions, name) = (Arc::new(Sessions::new()), key(1));
    add::<F>(&other, &sessions, &name).await.unwrap();
    let (slot, from) = (map.slot(name.as_bytes()), map.shard_of(name.as_bytes()));
    let one = Move { slot, from, to: ShardId(1 - from.0) };
    let newer = mover.move_slot(one).await.unwrap();

    // It waits for a newer map, and finds its way with it.
    let late = {
        let (other, sessions, name) = (other.clone(), Arc::clone(&sessions), name.clone());
        tokio::spawn(async move { add::<F>(&other, &sessions, &name).await })
    };
    tokio::time::sleep(ms(200)).await;
    assert!(!late.is_finished());
    // What was copied is there for all who have the new map, on replicas as well.
    assert_eq!(value::<F>(&mover, &Sessions::new(), &name).await, 1);
    other.publish((*newer).clone());
    late.await.unwrap().unwrap();
    assert_eq!(value::<F>(&other, &sessions, &name).await, 2);
    // Moving it again, from where it is not, is refused by the map.
    assert!(matches!(mover.move_slot(one).await, Err(ShardError::Map(_))));
    // To where it is: its rows stay there.
    let nowhere = Move { from: one.to, ..one };
    let is_refused = |error: Option<&ShardFailure<F>>| matches!(error, Some(ShardError::Map(MapError::ToItself(..))));
    assert!(is_refused(mover.move_slot(nowhere).await.err().as_ref()));
    assert!(is_refused(mover.stay(nowhere).await.err().as_ref()));
    assert!(is_refused(mover.settle(nowhere, one.to).await.err().as_ref()));
    assert_eq!(value::<F>(&mover, &sessions, &name).await, 2);
}

/// Again while a step that was on its way when its move was dropped is in the way.
async fn settled<T, E, R>(step: impl Fn() -> R) -> Result<T, ShardError<E>>
where
    R: Future<Output = Result<T, ShardError<E>>>,
{
    for _ in 0..200 {
        match step().await {
            Err(ShardError::Unsettled(_)) => tokio::time::sleep(ms(20)).await,
            result => return result,
        }
    }
    step().await
}

pub(crate) async fn an_interrupted_move_is_taken_up_or_given_up<F: ShardFixture>() {
    let bed = Bed::<F>::with(2).await;
    let map = first_map(2);
    let (first, second) = (bed.process(&map).await, bed.process(&map).await);
    let sessions = Sessions::new();
    for number in 0..KEYS {
        add::<F>(&first, &sessions, &key(number)).await.unwrap();
    }
    let one = Move { slot: Slot(0), from: ShardId(0), to: ShardId(1) };
    for give_up in [true, false] {
        for patience in [1, 3, 6, 10, 15, 25] {
            // Dropped in the middle, wherever that is.
            let _ = tokio::time::timeout(ms(patience), first.move_slot(one)).await;
            if first.map().version() > 1 {
                break;
            }
            if give_up {
                match settled(|| second.stay(one)).await {
                    // It is over but for its map.
                    Err(ShardError::Stale(_)) => break,
                    result => result.unwrap(),
                }
                assert_eq!(sum::<F>(&second, &Sessions::new()).await, KEYS as i64);
            }
        }
        if first.map().version() > 1 {
            break;
        }
    }
    let done = match first.map().version() {
        1 => settled(|| second.move_slot(one)).await.unwrap(),
        _ => first.map(),
    };
    second.publish((*done).clone());
    assert_eq!(second.map().owner(Slot(0)), Some(ShardId(1)));
    let mut all = 0;
    for number in 0..KEYS {
        add::<F>(&second, &sessions, &key(number)).await.unwrap();
        all += value::<F>(&second, &sessions, &key(number)).await;
    }
    assert_eq!(all, 2 * KEYS as i64);
}

/// As after a crash between the last step and the publishing of the map, while the map went on with another move.
pub(crate) async fn a_move_that_is_over_but_for_its_map_is_never_undone<F: ShardFixture>() {
    let bed = Bed::<F>::with(2).await;
    let map = first_map(2);
    let (crashed, process) = (bed.process(&map).await, bed.process(&map).await);
    let sessions = Sessions::new();
    for number in 0..KEYS {
        add::<F>(&crashed, &sessions, &key(number)).await.unwrap();
    }
    let [one, another] = [0, 1].map(|slot| Move { slot: Slot(slot), from: ShardId(0), to: ShardId(1) });
    crashed.move_slot(one).await.unwrap();
    assert!(matches!(process.stay(one).await, Err(ShardError::Stale(_))));
    // A replica that lags has the rows still.
    bed.shards[0].all_caught_up().await;
    let parts: Vec<_> = process.gather(&sessions, counted::<F>).await.into_iter().collect();
    let stale = |part: &Result<i64, _>| matches!(part, Err(ShardError::Stale(stale)) if stale.is_ours());
    assert!(stale(&parts[0].1) && parts[1].1.is_ok(), "what moved is missed, not left out: {parts:?}");

    process.move_slot(another).await.unwrap();
    let map = process.move_slot(one).await.unwrap();
    assert_eq!((map.version(), map.since(Slot(0))), (3, Some(3)));
    assert_eq!(sum::<F>(&process, &Sessions::new()).await, KEYS as i64);
    for number in 0..KEYS {
        add::<F>(&process, &sessions, &key(number)).await.unwrap();
    }
    assert_eq!(sum::<F>(&process, &sessions).await, 2 * KEYS as i64);
    // Its map is older than what the shards know of the slot.
    let late = bed.process(&first_map(2)).await;
    assert!(matches!(late.move_slot(one).await, Err(ShardError::Stale(stale)) if stale.is_ours()));
    assert_eq!(sum::<F>(&process, &sessions).await, 2 * KEYS as i64);
}

pub(crate) async fn a_copied_slot_is_handed_over_or_given_back_and_a_doubtful_one_is_left_alone<F: ShardFixture>() {
    let bed = Bed::<F>::with(2).await;
    let fleet = bed.process(&first_map(2)).await;
    let sessions = Sessions::new();
    for number in 0..KEYS {
        add::<F>(&fleet, &sessions, &key(number)).await.unwrap();
    }
    let one = Move { slot: Slot(0), from: ShardId(0), to: ShardId(1) };
    // Both shards own it, as after a failover that lost the closing.
    hold::<F>(&fleet, ShardId(1), one.slot, HoldingState::Owned, 2).await;
    assert!(matches!(fleet.move_slot(one).await, Err(ShardError::Unsettled(Slot(0)))));
    assert!(matches!(fleet.stay(one).await, Err(ShardError::Unsettled(Slot(0)))));
    assert_eq!(sum::<F>(&fleet, &sessions).await, KEYS as i64);
    // Until somebody says who is right.
    fleet.settle(one, ShardId(0)).await.unwrap();
    assert_eq!(fleet.move_slot(one).await.unwrap().owner(one.slot), Some(ShardId(1)));
    let one = Move { slot: Slot(1), ..one };
    hold::<F>(&fleet, ShardId(0), one.slot, HoldingState::Leaving, 1).await;
    hold::<F>(&fleet, ShardId(1), one.slot, HoldingState::Owned, 3).await;
    assert!(matches!(fleet.move_slot(one).await, Err(ShardError::Unsettled(Slot(1)))));
    let neither = fleet.settle(one, ShardId(2)).await;
    assert!(matches!(neither, Err(ShardError::Map(MapError::NotOwner { .. }))), "{neither:?}");
    let map = fleet.settle(one, ShardId(1)).await.unwrap();
    assert_eq!((map.version(), map.owner(one.slot)), (3, Some(ShardId(1))));
    let left = KEYS as i64 - (0..KEYS).filter(|number| map.slot(key(*number).as_bytes()) == one.slot).count() as i64;
    assert_eq!(sum::<F>(&fleet, &sessions).await, left, "there were none at the one that is right");
    let one = Move { slot: Slot(2), ..one };
    hold::<F>(&fleet, ShardId(1), one.slot, HoldingState::Owned, 4).await;
    // Closed with all rows copied: the rows that count are still where they were.
    hold::<F>(&fleet, ShardId(0), one.slot, HoldingState::Closed, 1).await;
    fleet.stay(one).await.unwrap();
    assert_eq!(sum::<F>(&fleet, &sessions).await, left);
    let map = fleet.move_slot(one).await.unwrap();
    assert_eq!(map.owner(one.slot), Some(ShardId(1)));
    assert_eq!(sum::<F>(&fleet, &sessions).await, left);
}

/// Whoever is the primary of one side dies before each step of a move in turn, while the slot is written. In a quorum nothing
/// that was acknowledged is lost, and the move ends well, or does when it is asked for again.
pub(crate) async fn a_primary_that_dies_in_a_move_loses_and_doubles_nothing<F: ShardFixture>() {
    use HoldingState::{Arriving, Closed, Gone, Leaving, Owned};
    let mode = Mode::quorum(1);
    let bed = Bed::<F>::of(2, 3, mode).await;
    let hook = Arc::new(Hook::default());
    let mut map = first_map(2);
    let (mover, writers) =
        (bed.watched(&map, Arc::clone(&hook), mode, true).await, bed.watched(&map, Arc::default(), mode, false).await);
    let (acknowledged, ambiguous) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for number in 0..KEYS {
        add::<F>(&writers, &Sessions::new(), &key(number)).await.unwrap();
    }
    let steps = [
        Step::Hold(Leaving),
        Step::Hold(Arriving),
        Step::Import,
        Step::Forget,
        Step::Hold(Closed),
        Step::Hold(Owned),
        Step::Hold(Gone),
    ];
    let (from, to) = (ShardId(0), ShardId(1));
    for (round, step) in steps.into_iter().enumerate() {
        for dying in [from, to] {
            // There or back again.
            let one = match map.owner(Slot(0)) {
                Some(ShardId(0)) => Move { slot: Slot(0), from, to },
                _ => Move { slot: Slot(0), from: to, to: from },
            };
            let is_over = Arc::new(AtomicBool::new(false));
            let writer = {
                let (writers, is_over) = (writers.clone(), Arc::clone(&is_over));
                let (acknowledged, ambiguous) = (Arc::clone(&acknowledged), Arc::clone(&ambiguous));
                tokio::spawn(async move {
                    let sessions = Sessions::new();
                    for number in (0..KEYS).cycle() {
                        match add::<F>(&writers, &sessions, &key(number)).await {
                            Ok(()) => acknowledged.fetch_add(1, Ordering::Relaxed),
                            Err(error) if error.is_ambiguous() => ambiguous.fetch_add(1, Ordering::Relaxed),
                            Err(error) => panic!("{step:?}: {error:?}"),
                        };
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                })
            };
            *hook.before.lock() = Some(step);
            let moving = tokio::spawn({
                let mover = mover.clone();
                async move { mover.move_slot(one).await }
            });
            tokio::select! {
                () = hook.reached.notified() => {}
                // There was nothing to forget, for instance.
                () = async { while !moving.is_finished() { tokio::time::sleep(ms(5)).await } } => {}
            }
            *hook.before.lock() = None;
            let cluster = mover.cluster(dying).unwrap();
            let fixture = &bed.shards[usize::from(dying.0)];
            let lost = cluster.topology().primary().map(|member| member.node().id()).unwrap();
            fixture.crash(lost).await;
            until(true, async || cluster.topology().primary().is_some_and(|member| member.node().id() != lost)).await;
            fixture.restart(lost).await;
            hook.go.notify_one();
            let moved = moving.await.unwrap();
            eprintln!("round {round}: {step:?}, {dying:?} fails over: {:?}", moved.as_ref().map(|map| map.version()));
            let moved = match moved {
                Ok(moved) => moved,
                Err(_) => settled(|| mover.move_slot(one)).await.unwrap(),
            };
            map = (*moved).clone();
            writers.publish(map.clone());
            is_over.store(true, Ordering::Relaxed);
            writer.await.unwrap();
            until(true, async || cluster.topology().members().iter().all(|member| member.is_reachable())).await;
            let (least, most) = (KEYS + acknowledged.load(Ordering::Relaxed), ambiguous.load(Ordering::Relaxed));
            let found = total::<F>(&mover).await as u64;
            assert!((least..=least + most).contains(&found), "round {round}, {step:?}: {found}, of {least} and {most}");
        }
    }
}

/// Of both primaries.
async fn total<F: ShardFixture>(fleet: &Fleet<F>) -> i64 {
    let map = fleet.map();
    let mut total = 0;
    for shard in map.shards() {
        let slots: Vec<_> = map.slots_of(shard).collect();
        let count = fleet.cluster(shard).unwrap();
        let session = Session::new();
        let count = count.transaction(&session, |mut db| {
            let slots = slots.clone();
            async move { F::sum(&mut db, slots).await }
        });
        total += count.await.unwrap();
    }
    total
}

/// In asynchronous mode: nobody but the primary had heard that the slot is closed when it died.
pub(crate) async fn a_source_that_loses_the_closing_keeps_the_slot<F: ShardFixture>() {
    let bed = Bed::<F>::of(2, 2, Mode::Asynchronous).await;
    let (hook, map) = (Arc::new(Hook::default()), first_map(2));
    let (mover, writers) = (
        bed.watched(&map, Arc::clone(&hook), Mode::Asynchronous, false).await,
        bed.watched(&map, Arc::default(), Mode::Asynchronous, false).await,
    );
    let sessions = Sessions::new();
    for number in 0..KEYS {
        add::<F>(&writers, &sessions, &key(number)).await.unwrap();
    }
    bed.shards[0].all_caught_up().await;
    let one = Move { slot: Slot(0), from: ShardId(0), to: ShardId(1) };
    *hook.before.lock() = Some(Step::Hold(HoldingState::Closed));
    let moving = tokio::spawn({
        let mover = mover.clone();
        async move { mover.move_slot(one).await }
    });
    hook.reached.notified().await;
    let source = &bed.shards[0];
    source.all_caught_up().await;
    source.receive(NodeId(1), false).await;
    *hook.before.lock() = Some(Step::Hold(HoldingState::Owned));
    hook.go.notify_one();
    hook.reached.notified().await;
    source.crash(NodeId(0)).await;
    source.receive(NodeId(1), true).await;
    // From now on: it would tell the replica to receive again.
    let cluster = mover.cluster(ShardId(0)).unwrap();
    tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
    until(Some(NodeId(1)), async || cluster.topology().primary().map(|member| member.node().id())).await;
    // Open there, as far as that one knows. At the other one the move is in the middle of a transaction.
    let there: Vec<_> = (0..KEYS).map(key).filter(|key| map.shard_of(key.as_bytes()) == one.from).collect();
    for key in &there {
        add::<F>(&writers, &Sessions::new(), key).await.unwrap();
    }
    hook.go.notify_one();
    let moved = moving.await.unwrap();
    assert!(matches!(moved, Err(ShardError::Cluster(_, Error::Lost(_)))), "{moved:?}");
    assert_eq!(total::<F>(&mover).await as u64, KEYS + there.len() as u64);
    for number in 0..KEYS {
        add::<F>(&writers, &Sessions::new(), &key(number)).await.unwrap();
    }
    let map = mover.move_slot(one).await.unwrap();
    assert_eq!(map.owner(one.slot), Some(ShardId(1)));
    assert_eq!(total::<F>(&mover).await as u64, 2 * KEYS + there.len() as u64);
}

/// One shard is down, one says nothing, one refuses, and the fourth answers: each for itself.
pub(crate) async fn shards_that_fail_do_not_take_the_others_along<F: ShardFixture>() {
    let bed = Bed::<F>::of(4, 1, Mode::Asynchronous).await;
    let map = first_map(4);
    let (fleet, sessions) = (bed.process(&map).await, Sessions::new());
    for number in 0..KEYS {
        add::<F>(&fleet, &sessions, &key(number)).await.unwrap();
    }
    let all = fleet.gather(&sessions, counted::<F>).await;
    assert!(all.is_complete() && all.failures().count() == 0);
    let counts: Vec<_> = all.answers().map(|(_, count)| *count).collect();
    assert_eq!(counts.iter().sum::<i64>() as u64, KEYS);

    let [down, silent, refusing, well] = [0, 1, 2, 3].map(ShardId);
    bed.shards[usize::from(down.0)].crash(NodeId(0)).await;
    let options = ReadOptions::new().timeout(ms(2_000));
    let parts = fleet.gather_with(&sessions, &options, move |shard, map, mut db| async move {
        if shard == silent {
            std::future::pending::<()>().await;
        }
        if shard == refusing {
            // Reads refuse it.
            F::add(&mut db, Slot(0), key(0)).await?;
        }
        counted::<F>(shard, map, db).await
    });
    let parts = parts.await;
    assert!(!parts.is_complete());
    assert_eq!(parts.answers().collect::<Vec<_>>(), [(well, &counts[3])]);
    let incomplete = parts.complete().unwrap_err();
    assert_eq!(incomplete.to_string(), "3 of 4 shards gave no answer");
    assert_eq!(incomplete.answers, [(well, counts[3])]);
    let failures: Vec<_> = incomplete.failures.iter().map(|(shard, _)| *shard).collect();
    assert_eq!(failures, [down, silent, refusing]);
    let [down, silent, refusing] = &incomplete.failures[..] else { panic!() };
    assert!(
        matches!(down.1, ShardError::Cluster(_, Error::Unavailable(_) | Error::Refused(_) | Error::Timeout)),
        "{down:?}"
    );
    assert!(matches!(silent.1, ShardError::Cluster(_, Error::Timeout | Error::Unavailable(_))), "{silent:?}");
    assert!(matches!(refusing.1, ShardError::Cluster(_, Error::WriteInRead(_))), "{refusing:?}");
    assert_eq!(refusing.1.to_string(), "shard 2 did not do it");
    assert!(!refusing.1.is_ambiguous());
    // Nothing is left over from them.
    bed.shards[0].restart(NodeId(0)).await;
    until(true, async || fleet.gather(&sessions, counted::<F>).await.is_complete()).await;
    assert_eq!(sum::<F>(&fleet, &sessions).await as u64, KEYS);
}

/// A store may put a page's rows in with one statement.
pub(crate) async fn a_key_that_is_noted_often_is_copied_once<F: ShardFixture>() {
    let (bed, map, hook) = (Bed::<F>::with(2).await, first_map(2), Arc::new(Hook::default()));
    let mover = bed.watched(&map, Arc::clone(&hook), Mode::Asynchronous, false).await;
    let (writers, sessions, name) = (bed.process(&map).await, Sessions::new(), key(1));
    add::<F>(&writers, &sessions, &name).await.unwrap();
    let (slot, from) = (map.slot(name.as_bytes()), map.shard_of(name.as_bytes()));
    let one = Move { slot, from, to: ShardId(1 - from.0) };
    *hook.before.lock() = Some(Step::Import);
    let moving = {
        let mover = mover.clone();
        tokio::spawn(async move { mover.move_slot(one).await })
    };
    hook.reached.notified().await;
    for _ in 0..3 {
        add::<F>(&writers, &sessions, &name).await.unwrap();
    }
    hook.go.notify_one();
    moving.await.unwrap().unwrap();
    assert_eq!(*hook.imported.lock(), [name.as_bytes(), name.as_bytes()], "with the slot, and with the notes");
    assert_eq!(value::<F>(&mover, &Sessions::new(), &name).await, 4);
}

/// As tests of their own, on this fixture.
macro_rules! shards {
    ($fixture:ty) => {
        super::suite::suite! { $fixture, moves:
            slots_move_under_writes_and_none_is_lost_or_doubled
            a_process_with_an_old_map_writes_nothing_to_the_former_owner
            an_interrupted_move_is_taken_up_or_given_up
            a_move_that_is_over_but_for_its_map_is_never_undone
            a_copied_slot_is_handed_over_or_given_back_and_a_doubtful_one_is_left_alone
            a_primary_that_dies_in_a_move_loses_and_doubles_nothing
            a_source_that_loses_the_closing_keeps_the_slot
            shards_that_fail_do_not_take_the_others_along
            a_key_that_is_noted_often_is_copied_once
        }
    };
}
pub(crate) use shards;
