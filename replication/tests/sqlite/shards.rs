//! Slots that move between clusters of SQLite files while they are read and written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tenfold_replication::driver::sqlite::{SqliteConfig, SqliteConnection, SqliteDriver, SqliteError};
use tenfold_replication::shard::{
    Holding, HoldingState, MapError, Move, Sessions, ShardError, Shards, Slot, SlotMap, SlotStore,
};
use tenfold_replication::{Checkout, Cluster, Mode, Session, ShardId};

use super::fixture::Files;
use super::suite::Fixture;

const SLOTS: u16 = 16;
const KEYS: u64 = 120;
const SCHEMA: &str = "
    create table counter(key text primary key, slot integer not null, number integer not null) strict;
    create table holding(slot integer primary key, held text not null) strict;
    create table note(number integer primary key autoincrement, slot integer not null, key text not null) strict;";

/// The tables above.
struct Counters;

fn text(key: &[u8]) -> String {
    String::from_utf8(key.to_vec()).unwrap()
}

impl SlotStore<SqliteDriver> for Counters {
    async fn holding(&self, db: &mut SqliteConnection, slot: Slot) -> Result<Option<Holding>, SqliteError> {
        let held = db.query("select held from holding where slot = ?1", (slot.0,), |row| row.get::<_, String>(0));
        Ok(held.await?.pop().map(|held| held.parse().unwrap()))
    }

    async fn holdings(&self, db: &mut SqliteConnection) -> Result<Vec<(Slot, Holding)>, SqliteError> {
        let held =
            db.query("select slot, held from holding", (), |row| Ok((Slot(row.get(0)?), row.get::<_, String>(1)?)));
        Ok(held.await?.into_iter().map(|(slot, held)| (slot, held.parse().unwrap())).collect())
    }

    async fn hold(&self, db: &mut SqliteConnection, slot: Slot, holding: Holding) -> Result<(), SqliteError> {
        let sql = "insert into holding values (?1, ?2) on conflict (slot) do update set held = excluded.held";
        db.execute(sql, (slot.0, holding.to_string())).await.map(drop)
    }

    async fn note(&self, db: &mut SqliteConnection, slot: Slot, key: &[u8]) -> Result<(), SqliteError> {
        db.execute("insert into note(slot, key) values (?1, ?2)", (slot.0, text(key))).await.map(drop)
    }

    async fn noted(
        &self,
        db: &mut SqliteConnection,
        slot: Slot,
        most: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, SqliteError> {
        let sql = "select number, key from note where slot = ?1 order by number limit ?2";
        db.query(sql, (slot.0, most as i64), |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?.into())))
            .await
    }

    async fn forget(&self, db: &mut SqliteConnection, slot: Slot, up_to: u64) -> Result<(), SqliteError> {
        db.execute("delete from note where slot = ?1 and number <= ?2", (slot.0, up_to as i64)).await.map(drop)
    }

    async fn keys(
        &self,
        db: &mut SqliteConnection,
        slot: Slot,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, SqliteError> {
        let sql = "select key from counter where slot = ?1 and (?2 is null or key > ?2) order by key limit ?3";
        db.query(sql, (slot.0, after.map(text), most as i64), |row| Ok(row.get::<_, String>(0)?.into())).await
    }

    async fn export(&self, db: &mut SqliteConnection, key: &[u8]) -> Result<Option<Vec<u8>>, SqliteError> {
        let rows = db.query("select number from counter where key = ?1", (text(key),), |row| row.get::<_, i64>(0));
        Ok(rows.await?.pop().map(|number| number.to_le_bytes().to_vec()))
    }

    async fn import(
        &self,
        db: &mut SqliteConnection,
        slot: Slot,
        key: &[u8],
        rows: Option<&[u8]>,
    ) -> Result<(), SqliteError> {
        db.execute("delete from counter where key = ?1", (text(key),)).await?;
        if let Some(number) = rows {
            let number = i64::from_le_bytes(number.try_into().unwrap());
            db.execute("insert into counter values (?1, ?2, ?3)", (text(key), slot.0, number)).await?;
        }
        Ok(())
    }

    async fn purge(&self, db: &mut SqliteConnection, slot: Slot) -> Result<(), SqliteError> {
        db.execute("delete from counter where slot = ?1", (slot.0,)).await?;
        db.execute("delete from note where slot = ?1", (slot.0,)).await.map(drop)
    }
}

type Fleet = Shards<SqliteDriver, Counters>;

/// Clusters of two nodes each, and processes that use them.
struct Bed {
    files: Vec<Files>,
}

impl Bed {
    async fn with(shards: u16) -> Self {
        let mut files = Vec::new();
        for _ in 0..shards {
            files.push(Files::with(2, Mode::Asynchronous, SqliteConfig::default(), SCHEMA).await);
        }
        Self { files }
    }

    /// One process.
    async fn process(&self, map: &SlotMap) -> Fleet {
        let mut clusters = Vec::new();
        for (shard, files) in (0..).zip(&self.files) {
            let cluster = Cluster::builder(files.driver()).nodes(files.nodes.clone()).shard(ShardId(shard));
            let cluster = cluster.build().unwrap();
            tokio::spawn(cluster.clone().drive());
            cluster.ready(Duration::from_secs(10)).await.unwrap();
            clusters.push(cluster);
        }
        Shards::new(map.clone(), clusters, Counters).unwrap()
    }
}

fn first_map(shards: u16) -> SlotMap {
    SlotMap::new(SLOTS, &(0..shards).map(ShardId).collect::<Vec<_>>()).unwrap()
}

fn key(number: u64) -> String {
    format!("key/{number}")
}

/// Adds one to a counter.
async fn add(fleet: &Fleet, sessions: &Sessions, key: &str) -> Result<(), ShardError<SqliteError>> {
    let slot = fleet.map().slot(key.as_bytes()).0;
    let name = key.to_owned();
    let write = fleet.write(sessions, key.as_bytes(), move |mut db| {
        let name = name.clone();
        async move {
            let sql = "insert into counter values (?1, ?2, 1) on conflict (key) do update set number = number + 1";
            db.execute(sql, (name, slot)).await.map(drop)
        }
    });
    write.await
}

async fn value(fleet: &Fleet, sessions: &Sessions, key: &str) -> i64 {
    let name = key.to_owned();
    let read = fleet.read(sessions, key.as_bytes(), move |mut db| {
        let name = name.clone();
        async move { db.query("select number from counter where key = ?1", (name,), |row| row.get::<_, i64>(0)).await }
    });
    read.await.unwrap().pop().unwrap_or(0)
}

/// All counters of one shard that it owns.
async fn counted(shard: ShardId, map: Arc<SlotMap>, mut db: Checkout<SqliteDriver>) -> Result<i64, SqliteError> {
    let slots: Vec<_> = map.slots_of(shard).map(|slot| slot.0.to_string()).collect();
    let sql = format!("select coalesce(sum(number), 0) from counter where slot in ({})", slots.join(","));
    Ok(db.query(sql, (), |row| row.get::<_, i64>(0)).await?[0])
}

/// All counters of all shards.
async fn sum(fleet: &Fleet, sessions: &Sessions) -> i64 {
    fleet.gather(sessions, counted).await.into_iter().map(|(_, part)| part.unwrap()).sum()
}

/// Changes what a shard knows of a slot, as a process did that is no more.
async fn hold(fleet: &Fleet, shard: ShardId, slot: Slot, state: HoldingState, since: u64) {
    let cluster = fleet.cluster(shard).unwrap();
    let (holding, session) = (Holding { state, since, to: None }, Session::new());
    let hold = cluster.transaction(&session, move |mut db| async move { Counters.hold(&mut db, slot, holding).await });
    hold.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_writes_and_none_is_lost_or_doubled() {
    let bed = Bed::with(3).await;
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
                    add(&fleet, &sessions, &key).await.unwrap();
                    acknowledged[number as usize].fetch_add(1, Ordering::Relaxed);
                    // A session reads its own write, wherever the slot is now.
                    assert!(value(&fleet, &sessions, &key).await > 0);
                }
            })
        })
        .collect();
    let moves = map.with_shard(ShardId(2)).unwrap();
    assert_eq!(moves.len(), 5);
    for one in moves {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let map = mover.move_slot(one).await.unwrap();
        // The other process hears of it later, and its writes wait until then.
        tokio::time::sleep(Duration::from_millis(30)).await;
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
        let found = mover.write(&sessions, name.as_bytes(), move |mut db| async move {
            db.query("select number from counter where key = ?1", (key(number),), |row| row.get::<_, i64>(0)).await
        });
        assert_eq!(found.await.unwrap().pop().unwrap_or(0), expected, "{}", key(number));
        all += expected;
    }
    assert_eq!(sum(&mover, &sessions).await, all);
    assert_eq!(mover.map().count(ShardId(2)), 5);
}

#[tokio::test]
async fn a_process_with_an_old_map_writes_nothing_to_the_former_owner() {
    let bed = Bed::with(2).await;
    let map = first_map(2);
    let (mover, other) = (bed.process(&map).await, bed.process(&map).await);
    let (sessions, name) = (Arc::new(Sessions::new()), key(1));
    add(&other, &sessions, &name).await.unwrap();
    let (slot, from) = (map.slot(name.as_bytes()), map.shard_of(name.as_bytes()));
    let one = Move { slot, from, to: ShardId(1 - from.0) };
    let newer = mover.move_slot(one).await.unwrap();

    // It waits for a newer map, and finds its way with it.
    let late = {
        let (other, sessions, name) = (other.clone(), Arc::clone(&sessions), name.clone());
        tokio::spawn(async move { add(&other, &sessions, &name).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!late.is_finished());
    // What was copied is there for all who have the new map, on replicas as well.
    assert_eq!(value(&mover, &Sessions::new(), &name).await, 1);
    other.publish((*newer).clone());
    late.await.unwrap().unwrap();
    assert_eq!(value(&other, &sessions, &name).await, 2);
    // Moving it again, from where it is not, is refused by the map.
    assert!(matches!(mover.move_slot(one).await, Err(ShardError::Map(_))));
}

/// Again while a step that was on its way when its move was dropped is in the way.
async fn settled<T, F>(step: impl Fn() -> F) -> Result<T, ShardError<SqliteError>>
where
    F: Future<Output = Result<T, ShardError<SqliteError>>>,
{
    for _ in 0..200 {
        match step().await {
            Err(ShardError::Unsettled(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            result => return result,
        }
    }
    step().await
}

#[tokio::test]
async fn an_interrupted_move_is_taken_up_or_given_up() {
    let bed = Bed::with(2).await;
    let map = first_map(2);
    let (first, second) = (bed.process(&map).await, bed.process(&map).await);
    let sessions = Sessions::new();
    for number in 0..KEYS {
        add(&first, &sessions, &key(number)).await.unwrap();
    }
    let one = Move { slot: Slot(0), from: ShardId(0), to: ShardId(1) };
    for give_up in [true, false] {
        for patience in [1, 3, 6, 10, 15, 25] {
            // Dropped in the middle, wherever that is.
            let _ = tokio::time::timeout(Duration::from_millis(patience), first.move_slot(one)).await;
            if first.map().version() > 1 {
                break;
            }
            if give_up {
                match settled(|| second.stay(one)).await {
                    // It is over but for its map.
                    Err(ShardError::Stale(_)) => break,
                    result => result.unwrap(),
                }
                assert_eq!(sum(&second, &Sessions::new()).await, KEYS as i64);
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
        add(&second, &sessions, &key(number)).await.unwrap();
        all += value(&second, &sessions, &key(number)).await;
    }
    assert_eq!(all, 2 * KEYS as i64);
}

/// As after a crash between the last step and the publishing of the map, while the map went on with another move.
#[tokio::test]
async fn a_move_that_is_over_but_for_its_map_is_never_undone() {
    let bed = Bed::with(2).await;
    let map = first_map(2);
    let (crashed, process) = (bed.process(&map).await, bed.process(&map).await);
    let sessions = Sessions::new();
    for number in 0..KEYS {
        add(&crashed, &sessions, &key(number)).await.unwrap();
    }
    let [one, another] = [0, 1].map(|slot| Move { slot: Slot(slot), from: ShardId(0), to: ShardId(1) });
    crashed.move_slot(one).await.unwrap();
    assert!(matches!(process.stay(one).await, Err(ShardError::Stale(_))));
    // A replica that lags has the rows still.
    bed.files[0].caught_up().await;
    let parts = process.gather(&sessions, counted).await;
    let stale = |part: &Result<i64, _>| matches!(part, Err(ShardError::Stale(stale)) if stale.is_ours());
    assert!(stale(&parts[0].1) && parts[1].1.is_ok(), "what moved is missed, not left out: {parts:?}");

    process.move_slot(another).await.unwrap();
    let map = process.move_slot(one).await.unwrap();
    assert_eq!((map.version(), map.since(Slot(0))), (3, Some(3)));
    assert_eq!(sum(&process, &Sessions::new()).await, KEYS as i64);
    for number in 0..KEYS {
        add(&process, &sessions, &key(number)).await.unwrap();
    }
    assert_eq!(sum(&process, &sessions).await, 2 * KEYS as i64);
    // Its map is older than what the shards know of the slot.
    let late = bed.process(&first_map(2)).await;
    assert!(matches!(late.move_slot(one).await, Err(ShardError::Stale(stale)) if stale.is_ours()));
    assert_eq!(sum(&process, &sessions).await, 2 * KEYS as i64);
}

#[tokio::test]
async fn a_copied_slot_is_handed_over_or_given_back_and_a_doubtful_one_is_left_alone() {
    let bed = Bed::with(2).await;
    let fleet = bed.process(&first_map(2)).await;
    let sessions = Sessions::new();
    for number in 0..KEYS {
        add(&fleet, &sessions, &key(number)).await.unwrap();
    }
    let one = Move { slot: Slot(0), from: ShardId(0), to: ShardId(1) };
    // Both shards own it, as after a failover that lost the closing.
    hold(&fleet, ShardId(1), one.slot, HoldingState::Owned, 2).await;
    assert!(matches!(fleet.move_slot(one).await, Err(ShardError::Unsettled(Slot(0)))));
    assert!(matches!(fleet.stay(one).await, Err(ShardError::Unsettled(Slot(0)))));
    assert_eq!(sum(&fleet, &sessions).await, KEYS as i64);
    // Until somebody says who is right.
    fleet.settle(one, ShardId(0)).await.unwrap();
    assert_eq!(fleet.move_slot(one).await.unwrap().owner(one.slot), Some(ShardId(1)));
    let one = Move { slot: Slot(1), ..one };
    hold(&fleet, ShardId(0), one.slot, HoldingState::Leaving, 1).await;
    hold(&fleet, ShardId(1), one.slot, HoldingState::Owned, 3).await;
    assert!(matches!(fleet.move_slot(one).await, Err(ShardError::Unsettled(Slot(1)))));
    let neither = fleet.settle(one, ShardId(2)).await;
    assert!(matches!(neither, Err(ShardError::Map(MapError::NotOwner { .. }))), "{neither:?}");
    let map = fleet.settle(one, ShardId(1)).await.unwrap();
    assert_eq!((map.version(), map.owner(one.slot)), (3, Some(ShardId(1))));
    let left = KEYS as i64 - (0..KEYS).filter(|number| map.slot(key(*number).as_bytes()) == one.slot).count() as i64;
    assert_eq!(sum(&fleet, &sessions).await, left, "there were none at the one that is right");
    let one = Move { slot: Slot(2), ..one };
    hold(&fleet, ShardId(1), one.slot, HoldingState::Owned, 4).await;
    // Closed with all rows copied: the rows that count are still where they were.
    hold(&fleet, ShardId(0), one.slot, HoldingState::Closed, 1).await;
    fleet.stay(one).await.unwrap();
    assert_eq!(sum(&fleet, &sessions).await, left);
    let map = fleet.move_slot(one).await.unwrap();
    assert_eq!(map.owner(one.slot), Some(ShardId(1)));
    assert_eq!(sum(&fleet, &sessions).await, left);
}
