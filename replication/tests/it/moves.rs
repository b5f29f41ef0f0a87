//! Moves of slots, and their undoing, interrupted at every call: against a model of the rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tenfold_replication::shard::{Holding, Move, Sessions, ShardError, Shards, Slot, SlotMap};
use tenfold_replication::{Cluster, Node, NodeId, Rng, ShardId};
use tokio::task::JoinHandle;

use super::tables::{Counters, Db, Fate, NoSuchCall, Process, TableDriver, Tables};

const SHARDS: u16 = 3;
const SLOTS: u16 = 6;
/// Of shard 0 at first.
const MOVED: Slot = Slot(0);
const KEYS: u64 = 24;

type Fleet = Shards<TableDriver, Counters>;

/// What somebody does with the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    MoveTo(u16),
    StayFrom(u16),
}

/// An action whose process ends at this call.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    action: Action,
    call: u64,
    fate: Fate,
}

struct Bed {
    dbs: Vec<Db>,
    map: SlotMap,
    /// What is acknowledged, by key.
    model: Arc<Mutex<BTreeMap<String, i64>>>,
    writes: u64,
    /// Who waits for a transaction that is on its way, perhaps, and must not hold up what comes next.
    writers: Vec<JoinHandle<()>>,
}

fn move_to(to: u16) -> Move {
    Move { slot: MOVED, from: ShardId(0), to: ShardId(to) }
}

/// By somebody who lives.
fn whole(action: Action) -> Attempt {
    Attempt { action, call: u64::MAX, fate: Fate::Done }
}

impl Bed {
    async fn new() -> Self {
        let map = SlotMap::new(SLOTS, &[ShardId(0), ShardId(1), ShardId(2)]).unwrap();
        let dbs = (0..SHARDS).map(|_| Db::default()).collect();
        let mut bed = Self { dbs, map, model: Arc::default(), writes: 0, writers: Vec::new() };
        for _ in 0..KEYS {
            bed.write().await;
        }
        bed
    }

    /// With the map as it was published last.
    async fn process(&self, process: &Arc<Process>) -> Fleet {
        let mut clusters = Vec::new();
        for (shard, db) in (0..).zip(&self.dbs) {
            let driver = TableDriver::new(db.clone(), Arc::clone(process));
            let cluster = Cluster::builder(driver).node(Node::new(NodeId(0), "memory")).shard(ShardId(shard)).seed(1);
            let cluster = cluster.build().unwrap();
            cluster.ready(Duration::from_secs(1)).await.unwrap();
            clusters.push(cluster);
        }
        Shards::new(self.map.clone(), clusters, Counters).unwrap()
    }

    /// Adds one to the next key, if its slot is open.
    async fn write(&mut self) {
        let fleet = self.process(&Process::that_lives()).await;
        let key = format!("key/{}", self.writes % KEYS);
        self.writes += 1;
        match add(&fleet, &key).await {
            Ok(()) => *self.model.lock().entry(key).or_default() += 1,
            Err(ShardError::Moving(_) | ShardError::Stale(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Until it is over, or its process ends. A writer is at it all the while.
    async fn act(&mut self, attempt: Attempt) -> Option<Result<(), ShardError<NoSuchCall>>> {
        let process = Process::ending_at(attempt.call, attempt.fate);
        let fleet = self.process(&process).await;
        let writers = self.process(&Process::that_lives()).await;
        let is_over = Arc::new(AtomicBool::new(false));
        self.writes += 1;
        self.writers.push({
            let (is_over, model, first) = (Arc::clone(&is_over), Arc::clone(&self.model), self.writes);
            tokio::spawn(async move {
                for number in first.. {
                    let key = format!("key/{}", number % KEYS);
                    if add(&writers, &key).await.is_ok() {
                        *model.lock().entry(key).or_default() += 1;
                    }
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            })
        });
        let action = async {
            match attempt.action {
                Action::MoveTo(to) => fleet.move_slot(move_to(to)).await.map(drop),
                Action::StayFrom(to) => fleet.stay(move_to(to)).await,
            }
        };
        let result = tokio::select! {
            result = action => Some(result),
            () = process.ended.notified() => None,
        };
        is_over.store(true, Ordering::Relaxed);
        if let (Action::MoveTo(_), Some(Ok(()))) = (attempt.action, &result) {
            self.map = (*fleet.map()).clone();
        }
        result
    }

    fn tables(&self, shard: u16) -> Tables {
        self.dbs[usize::from(shard)].tables.lock().clone()
    }

    /// As somebody does who begins with this: what the errors say is to be done is done.
    async fn settle(&mut self, mut action: Action) {
        for _ in 0..20 {
            if self.map.version() > 1 {
                return;
            }
            match self.act(whole(action)).await.unwrap() {
                Ok(()) => return,
                // A last step came in between.
                Err(ShardError::Unsettled(_)) => {}
                Err(ShardError::OnItsWay { to, .. }) => action = Action::StayFrom(to.0),
                // It is over but for its map, to one of both.
                Err(ShardError::Stale(_)) => action = Action::MoveTo(if action == Action::MoveTo(1) { 2 } else { 1 }),
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("it is never settled: {:?}", self.holdings());
    }

    fn holdings(&self) -> Vec<Option<Holding>> {
        (0..SHARDS).map(|shard| self.tables(shard).holdings.get(&MOVED).copied()).collect()
    }

    /// No row is lost, none is doubled, and nothing is in the way of the next moves.
    async fn check(&mut self) {
        self.compare().await;
        for _ in 0..2 {
            let fleet = self.process(&Process::that_lives()).await;
            let from = self.map.owner(MOVED).unwrap();
            let to = ShardId((from.0 + 1) % SHARDS);
            self.map = (*fleet.move_slot(Move { slot: MOVED, from, to }).await.unwrap()).clone();
            self.compare().await;
        }
    }

    async fn compare(&mut self) {
        for writer in self.writers.drain(..) {
            writer.await.unwrap();
        }
        let before = self.acknowledged();
        for _ in 0..KEYS {
            self.write().await;
        }
        assert_eq!(self.acknowledged(), before + KEYS as i64, "a slot is closed: {:?}", self.holdings());
        let mut found = BTreeMap::new();
        for shard in 0..SHARDS {
            let rows = self.tables(shard).rows.into_iter();
            let rows = rows.filter(|(_, (slot, _))| self.map.owner(*slot) == Some(ShardId(shard)));
            found.extend(rows.map(|(key, (_, number))| (key, number)));
        }
        assert_eq!(found, *self.model.lock());
    }

    fn acknowledged(&self) -> i64 {
        self.model.lock().values().sum()
    }
}

async fn add(fleet: &Fleet, key: &str) -> Result<(), ShardError<NoSuchCall>> {
    let (slot, name, sessions) = (fleet.map().slot(key.as_bytes()), key.to_owned(), Sessions::new());
    let write = fleet.write(&sessions, key.as_bytes(), move |mut c| {
        let name = name.clone();
        async move {
            c.tables().await.rows.entry(name).or_insert((slot, 0)).1 += 1;
            Ok(())
        }
    });
    write.await
}

/// These, one after the other, each interrupted, and then the last one to its end.
async fn run(attempts: &[Attempt], last: Action) {
    let mut bed = Bed::new().await;
    for attempt in attempts {
        // One that was over before is not interrupted.
        let _ = bed.act(*attempt).await;
        if bed.map.version() > 1 {
            break;
        }
    }
    bed.settle(last).await;
    bed.check().await;
}

const FATES: [Fate; 4] =
    [Fate::Lost, Fate::Done, Fate::Late(Duration::from_millis(1)), Fate::Late(Duration::from_millis(200))];

/// How many calls an action makes that is not interrupted, after these.
async fn calls_of(attempts: &[Attempt], action: Action) -> u64 {
    let mut bed = Bed::new().await;
    for attempt in attempts {
        let _ = bed.act(*attempt).await;
    }
    let process = Process::that_lives();
    let fleet = bed.process(&process).await;
    match action {
        Action::MoveTo(to) => drop(fleet.move_slot(move_to(to)).await),
        Action::StayFrom(to) => drop(fleet.stay(move_to(to)).await),
    }
    process.calls()
}

#[tokio::test(start_paused = true)]
async fn a_move_that_ends_at_any_call_is_taken_up_or_given_up() {
    let calls = calls_of(&[], Action::MoveTo(1)).await;
    assert!(calls > 40, "{calls}");
    for call in 1..=calls + 10 {
        for fate in FATES {
            for last in [Action::MoveTo(1), Action::StayFrom(1)] {
                run(&[Attempt { action: Action::MoveTo(1), call, fate }], last).await;
            }
        }
    }
}

/// From every place where a move was interrupted.
#[tokio::test(start_paused = true)]
async fn an_undoing_that_ends_at_any_call_is_finished_by_whoever_comes() {
    let calls = calls_of(&[], Action::MoveTo(1)).await;
    for call in (1..=calls).rev() {
        let first = Attempt { action: Action::MoveTo(1), call, fate: FATES[call as usize % 4] };
        for second in 1..=calls_of(&[first], Action::StayFrom(1)).await {
            let second = Attempt { action: Action::StayFrom(1), call: second, fate: FATES[second as usize % 4] };
            for last in [Action::MoveTo(1), Action::StayFrom(1)] {
                run(&[first, second], last).await;
            }
        }
    }
}

/// Moves and undoings, to one shard and another, of which up to five end before they are over.
#[tokio::test(start_paused = true)]
async fn whatever_is_interrupted_nothing_is_lost_or_doubled() {
    let fresh = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    for seed in (0..150).chain(fresh..fresh + 20) {
        let mut rng = Rng::new(seed);
        let mut any = || {
            let to = 1 + u16::from(rng.below(4) == 0);
            let action = if rng.below(2) == 0 { Action::MoveTo(to) } else { Action::StayFrom(to) };
            Attempt { action, call: 1 + rng.below(90), fate: FATES[rng.below(4) as usize] }
        };
        let attempts: Vec<_> = (0..5).map(|_| any()).collect();
        let last = any().action;
        eprintln!("seed {seed}: {attempts:?}, {last:?}");
        run(&attempts, last).await;
    }
}
