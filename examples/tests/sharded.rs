//! Rung 12's rows of the ledger, without the rung: shards and web servers as tasks of the test, real files and real sockets
//! between them. What needs a process to die under load is in the climb.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use app::http::{Answer, Http};
use app::replicated::{Engine, NodeConfig, server};
use app::sharded::homes::{self, Homes};
use app::sharded::site::{Contents, lay_out};
use app::sharded::slots::key;
use app::sharded::trials::{LARGEST, Size, Spread, TooBig, check_size, scale_claims, size};
use app::sharded::users::{Hot, News, Total};
use app::sharded::{Fenced, ShardServers, ShardedUsers, Sharding, Unfenced, UserSlots, web as shards};
use app::user::{User, UserId};
use app::web;
use axum::Router;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use tenfold_replication::ShardId;
use tenfold_replication::shard::{Slot, SlotMap};
use tenfold_rig::{Cost, Station, TempDir, Tier, Verdict};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const USERS: u64 = 200;
/// How often something is looked for, 10 ms apart, that needs no time to be right.
const LOOKS: u32 = 1_000;
const PATIENCE_MS: u64 = 2_000;
/// Less than a web server waits for a map that it has already.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

/// A server of its own runtime tasks, which ends when it is told to.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

impl Serving {
    async fn start(routes: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, (stop, stopped)) = (listener.local_addr().unwrap(), oneshot::channel());
        let told = async {
            // One that nobody can tell any more serves until the test is over.
            if stopped.await.is_err() {
                std::future::pending().await
            }
        };
        let serve = axum::serve(listener, routes).with_graceful_shutdown(told);
        Self { address, stop, done: tokio::spawn(async move { serve.await.unwrap() }) }
    }

    /// Nobody listens there when this returns.
    async fn end(self) {
        self.stop.send(()).unwrap();
        self.done.await.unwrap();
    }
}

/// Shards with all users, servers that hold nothing yet, and web servers.
struct System {
    servers: Vec<Serving>,
    webs: Vec<SocketAddr>,
    map: SlotMap,
    http: Http,
    _dir: TempDir,
}

impl System {
    async fn start(shards: u16, spares: u16) -> Self {
        let (dir, map) = (TempDir::new().unwrap(), homes::map(shards).unwrap());
        let folders: Vec<PathBuf> =
            (0..shards + spares).map(|shard| dir.path().join(format!("shard-{shard}"))).collect();
        lay_out(&folders, &map, USERS).await.unwrap();
        let mut servers = Vec::new();
        for folder in folders {
            let (folders, engine, cost) = (vec![folder], Engine::Sqlite, Cost::real());
            let config = NodeConfig { id: 0, folders, primary: None, engine, quorum: None, cost, seed: 1 };
            servers.push(Serving::start(server::start(&config, Station::instant()).await.unwrap()).await);
        }
        let http = Http::new(ANSWERED_WITHIN);
        let mut system = Self { servers, webs: Vec::new(), map, http, _dir: dir };
        for seed in 1..=2 {
            let mut sharding = system.sharding(seed);
            sharding.servers.truncate(usize::from(shards));
            let fenced = Arc::new(Fenced::start(&sharding).await.unwrap());
            let users = ShardedUsers::new(Arc::clone(&fenced));
            let more = shards::router(fenced, users.heat());
            let routes = web::router(Arc::new(users), Station::instant()).merge(more);
            system.webs.push(Serving::start(routes).await.address);
        }
        system
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    fn sharding(&self, seed: u64) -> Sharding {
        Sharding { servers: self.addresses(), map: self.map.to_bytes(), patience_ms: PATIENCE_MS, seed }
    }

    async fn operator(&self) -> Fenced {
        Fenced::with(&self.sharding(9), ShardServers::asking(), UserSlots::default()).await.unwrap()
    }

    async fn tell(&self, web: usize, map: &SlotMap) {
        let news = News { servers: self.addresses(), map: map.to_bytes() };
        let answer = self.http.send(Method::POST, self.webs[web], "/map", &news).await.unwrap();
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    /// Moves a fifth of all slots to the server that holds nothing; these web servers learn of each step.
    async fn grow(&self, told: &[usize]) -> SlotMap {
        let (operator, fifth) = (self.operator().await, ShardId(self.map.shards().len() as u16));
        for one in self.map.with_shard(fifth).unwrap() {
            let map = operator.shards().move_slot(one).await.unwrap();
            for web in told {
                self.tell(*web, &map).await;
            }
        }
        SlotMap::clone(&operator.shards().map())
    }

    async fn write(&self, web: usize, id: u64) -> Answer {
        put(&self.http, self.webs[web], id).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, web: usize, path: &str) -> (StatusCode, T) {
        let answer = self.http.get(self.webs[web], path).await.unwrap();
        (answer.status, answer.json().unwrap())
    }

    /// Users of a shard by the map of the start.
    fn users_of(&self, shard: u16) -> Vec<u64> {
        Homes::new(&self.map, USERS).of(self.map.slots_of(ShardId(shard)))
    }
}

async fn put(http: &Http, web: SocketAddr, id: u64) -> Answer {
    let user = serde_json::to_vec(&User::sample(UserId(id))).unwrap();
    http.call(Method::PUT, web, &format!("/users/{id}"), Bytes::from(user)).await.unwrap()
}

#[tokio::test]
async fn r09_a_dead_shard_of_four_costs_its_own_users_and_is_named() {
    let mut system = System::start(4, 0).await;
    let (dead, living) = (system.users_of(1), [0, 2, 3].map(|shard| system.users_of(shard)).concat());
    assert_eq!(dead.len() + living.len(), USERS as usize);
    system.servers.remove(1).end().await;
    for id in living {
        assert_eq!(system.write(0, id).await.status, StatusCode::NO_CONTENT, "{id}");
    }
    let answers = dead.iter().take(8).map(|id| system.write(0, *id));
    for answer in futures_util::future::join_all(answers).await {
        assert!(answer.status.is_server_error(), "{}", answer.status);
    }
    // On a busy machine a shard that lives may be late for a query; it is asked again.
    for _ in 0..LOOKS {
        let (status, total): (_, Total) = system.get(0, "/total").await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT);
        if total.missing == [1] {
            assert_eq!(total.users, USERS - dead.len() as u64);
            assert_eq!(system.http.get(system.webs[0], "/total/whole").await.unwrap().status.as_u16(), 503);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("more than the dead shard is missing");
}

#[test]
fn r55_servers_grow_up_to_the_biggest_and_figures_that_do_not_grow_are_told() {
    let cost = Cost::modelled();
    let of = |slots| check_size(size(cost, slots).service(Tier::Database));
    assert_eq!((of(1), of(LARGEST), of(LARGEST + 1)), (Ok(()), Ok(()), Err(TooBig(LARGEST + 1))));
    let verdicts = |sizes: [f64; 3], shards: [f64; 3]| {
        let sizes = [1, 2, 4].iter().zip(sizes).map(|(slots, rate)| Size { slots: *slots, writes: rate, reads: rate });
        let spreads = [1, 2, 4].iter().zip(shards).map(|(shards, writes)| Spread { shards: *shards, writes });
        let claims = scale_claims(&cost, &sizes.collect::<Vec<_>>(), &spreads.collect::<Vec<_>>());
        claims.into_iter().map(|claim| (claim.id, claim.verdict == Verdict::Pass)).collect::<Vec<_>>()
    };
    let named =
        |all: [bool; 4]| ["r55", "r55", "r56", "r09"].map(str::to_owned).into_iter().zip(all).collect::<Vec<_>>();
    assert_eq!(verdicts([100.0, 200.0, 390.0], [100.0, 195.0, 380.0]), named([true; 4]));
    assert_eq!(verdicts([100.0, 200.0, 210.0], [100.0, 195.0, 380.0]), named([false, false, true, false]));
    assert_eq!(verdicts([100.0, 200.0, 390.0], [100.0, 195.0, 330.0]), named([true, true, false, true]));
}

#[tokio::test]
async fn r56_a_fifth_shard_joins_while_users_are_written_and_no_write_is_lost_or_doubled() {
    let system = System::start(4, 1).await;
    let before = Contents::of(&system.addresses()).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let writers = (0..4_u64).map(|writer| {
        let (http, web, is_over) = (system.http.clone(), system.webs[writer as usize % 2], Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut versions = BTreeMap::<u64, Vec<u64>>::new();
            for id in (1..=USERS).cycle().skip(writer as usize * 50) {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let answer = put(&http, web, id).await;
                assert_eq!(answer.status, StatusCode::NO_CONTENT, "{id}");
                versions.entry(id).or_default().push(answer.version().unwrap());
            }
            versions
        })
    });
    let writers: Vec<_> = writers.collect();
    let map = system.grow(&[0, 1]).await;
    is_over.store(true, Ordering::Relaxed);
    let mut versions = BTreeMap::<u64, Vec<u64>>::new();
    for writer in writers {
        writer.await.unwrap().into_iter().for_each(|(id, some)| versions.entry(id).or_default().extend(some));
    }
    let after = Contents::of(&system.addresses()).await.unwrap();
    for id in 1..=USERS {
        let mut versions = versions.remove(&id).unwrap_or_default();
        versions.sort_unstable();
        let last = versions.len() as u64 + 1;
        assert_eq!(after.version(&map, id), Some(last), "user {id}");
        assert_eq!(versions, (2..=last).collect::<Vec<_>>(), "user {id}");
    }
    assert_eq!(before.hash(), after.hash());
    assert_eq!((map.count(ShardId(4)), map.version()), (8, 9));
    let (status, total): (_, Total) = system.get(1, "/total").await;
    assert_eq!((status, total.users, total.missing), (StatusCode::OK, USERS, vec![]));
}

#[tokio::test]
async fn r56_an_old_map_is_refused_until_the_new_one_is_there_and_unchecked_it_finds_nobody() {
    let system = System::start(4, 1).await;
    let unfenced = Arc::new(ShardedUsers::new(Arc::new(Unfenced::start(&system.sharding(1)).unwrap())));
    let unchecked = Serving::start(web::router(unfenced, Station::instant())).await.address;
    let map = system.grow(&[0]).await;
    let id = (1..=USERS).find(|id| map.shard_of(&key(*id)) == ShardId(4)).unwrap();
    // The first web server knows the map, the second one and the unchecked one do not.
    assert_eq!(system.write(0, id).await.version(), Some(2));
    assert_eq!(put(&system.http, unchecked, id).await.status, StatusCode::NOT_FOUND);
    let mut late = Box::pin(system.write(1, id));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut late).await.is_err(), "answered by an old map");
    let (status, version): (_, u64) = system.get(1, "/map").await;
    assert_eq!((status, version), (StatusCode::OK, 1));
    system.tell(1, &map).await;
    assert_eq!(late.await.version(), Some(3));
    let stored = Contents::of(&system.addresses()).await.unwrap();
    assert_eq!(stored.version(&map, id), Some(3), "the former owner has taken a write");
}

#[tokio::test]
async fn r56_a_slot_that_comes_back_is_served_where_it_was() {
    let system = System::start(2, 0).await;
    let (operator, slot) = (system.operator().await, Slot(0));
    let id = Homes::new(&system.map, USERS).of([slot])[0];
    let there = tenfold_replication::shard::Move { slot, from: ShardId(0), to: ShardId(1) };
    let back = tenfold_replication::shard::Move { slot, from: ShardId(1), to: ShardId(0) };
    for (one, version) in [(there, 2), (back, 3), (there, 4)] {
        let map = operator.shards().move_slot(one).await.unwrap();
        system.tell(0, &map).await;
        assert_eq!(system.write(0, id).await.version(), Some(version));
        let (status, _): (_, User) = system.get(0, &format!("/users/{id}")).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(Contents::of(&system.addresses()).await.unwrap().version(&map, id), Some(version));
    }
}

#[tokio::test]
async fn r56_a_hot_key_is_named_and_money_does_not_travel_between_shards() {
    let system = System::start(2, 0).await;
    for id in (1..=30).flat_map(|id| [id, 7]) {
        system.write(0, id).await;
    }
    let (_, (hottest, total)): (_, (Vec<Hot>, u64)) = system.get(0, "/hot").await;
    assert_eq!((hottest[0].id, hottest[0].count, total), (7, 31, 60));
    let transfer = serde_json::json!({ "id": 1, "debit": 1, "credit": 2, "amount": 5 });
    let before = Contents::of(&system.addresses()).await.unwrap();
    let answer = system.http.send(Method::POST, system.webs[0], "/transfer", &transfer).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(Contents::of(&system.addresses()).await.unwrap().hash(), before.hash());
    let withdrawal = serde_json::json!({ "account": 1, "amount": 5 });
    let answer = system.http.send(Method::POST, system.webs[0], "/withdraw", &withdrawal).await.unwrap();
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_ne!(Contents::of(&system.addresses()).await.unwrap().hash(), before.hash());
}
