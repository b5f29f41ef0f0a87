//! Rung 05's rows of the ledger, without the rung: database servers and web servers as tasks of the test, real files and
//! real sockets between them, on SQLite and on PostgreSQL where it is installed. What needs a process to die is in the
//! climb.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::database::{Batch, Database, Statement, Value};
use app::http::Http;
use app::measure::{Measured, model};
use app::remote::RemoteDatabase;
use app::replicated::trials::{Scaled, scale_claims, scale_table};
use app::replicated::wire::Seen;
use app::replicated::{Engine, NodeConfig, Routed, Routing, Stock, cluster, remember, server};
use app::user::{User, UserId};
use app::users::SqlUsers;
use app::web;
use axum::Router;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use tenfold_rig::{Cost, Curve, Network, Station, TempDir, Tier, Verdict};
use tokio::task::JoinHandle;

const USERS: u64 = 50;
const KEY: [u8; 32] = [5; 32];
/// How often something is looked for, 10 ms apart, that needs no time to be right.
const LOOKS: u32 = 1_000;

/// What each row must hold on.
fn engines() -> Vec<Engine> {
    #[cfg(feature = "postgres")]
    if std::env::var_os("TENFOLD_WITHOUT_POSTGRES").is_none() {
        let server = app::replicated::postgres::PostgreSql::find().unwrap();
        return vec![Engine::Sqlite, Engine::Postgres(server)];
    }
    eprintln!("!!!! LEFT OUT: PostgreSQL, for lack of the feature `postgres` or as TENFOLD_WITHOUT_POSTGRES is set");
    vec![Engine::Sqlite]
}

async fn listen(routes: Router) -> (SocketAddr, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }))
}

/// A primary, replicas, and two web servers that route.
struct System {
    servers: Vec<SocketAddr>,
    webs: Vec<SocketAddr>,
    http: Http,
    _dir: TempDir,
}

impl System {
    async fn start(engine: &Engine, replicas: u16) -> Self {
        let dir = TempDir::new().unwrap();
        let folders: Vec<PathBuf> = (0..=replicas).map(|id| dir.path().join(format!("db-{id}"))).collect();
        Stock::with(engine, USERS).await.unwrap().lay_out(&folders, None).await.unwrap();
        let mut servers: Vec<SocketAddr> = Vec::new();
        for id in 0..=replicas {
            let (primary, cost, folders) = (servers.first().copied(), Cost::real(), folders.clone());
            let config = NodeConfig { id, folders, primary, engine: engine.clone(), quorum: None, cost, seed: 1 };
            servers.push(listen(server::start(&config, Station::instant()).await.unwrap()).await.0);
        }
        let mut webs = Vec::new();
        for seed in 1..=2 {
            let routing = Routing { servers: servers.clone(), quorum: None, is_supervisor: false, key: KEY, seed };
            let users = SqlUsers::new(Routed::new(cluster(&routing).await.unwrap()));
            webs.push(listen(remember(web::router(Arc::new(users), Station::instant()), &KEY)).await.0);
        }
        Self { servers, webs, http: Http::new(Duration::from_secs(5)), _dir: dir }
    }

    /// A write or a read through a web server: the version, and the cookie.
    async fn ask(&self, web: usize, method: Method, id: u64, cookie: Option<&str>) -> (u64, String) {
        let user = serde_json::to_vec(&User::sample(UserId(id))).unwrap();
        let body = if method == Method::PUT { Bytes::from(user) } else { Bytes::new() };
        let path = format!("/users/{id}");
        let answer = self.http.call_with(cookie, method, self.webs[web], &path, body).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.status);
        (answer.version().unwrap(), answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned())
    }

    async fn tell(&self, server: usize, path: &str) {
        let answer = self.http.call(Method::POST, self.servers[server], path, Bytes::new()).await.unwrap();
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    async fn seen(&self, server: usize) -> Seen {
        self.http.get(self.servers[server], "/node").await.unwrap().json().unwrap()
    }

    async fn hash(&self, server: usize) -> [u8; 32] {
        let hash: ([u8; 32], u64) = self.http.get(self.servers[server], "/hash").await.unwrap().json().unwrap();
        hash.0
    }

    /// Until the node has applied all that the primary has.
    async fn caught_up(&self, server: usize) {
        let place = self.seen(0).await.replayed;
        for _ in 0..LOOKS {
            if self.seen(server).await.replayed >= place {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("node {server} does not catch up");
    }
}

#[tokio::test]
async fn r14_replicas_refuse_writes_and_become_equal_to_the_primary() {
    for engine in engines() {
        let system = System::start(&engine, 3).await;
        for id in 1..=10 {
            system.ask(0, Method::PUT, id, None).await;
        }
        let statements = [
            "INSERT INTO users (id, first_name, last_name, phone) VALUES (?1, 'A', 'B', '123')",
            "UPDATE users SET phone = '456' WHERE id = ?1",
            "DELETE FROM users WHERE id = ?1",
        ];
        for (index, address) in system.servers.iter().enumerate() {
            for sql in statements {
                let batch = Batch::write([Statement::new(sql, [Value::from(USERS + 1)])]);
                let result = RemoteDatabase::new(*address).run(batch).await;
                assert_eq!(result.is_ok(), index == 0, "{sql} at {index}: {result:?}");
            }
        }
        let writes = async |index: usize| RemoteDatabase::new(system.servers[index]).stats().await.unwrap().writes;
        assert_eq!(writes(0).await, 13);
        for replica in 1..=3 {
            system.caught_up(replica).await;
            assert_eq!(system.hash(replica).await, system.hash(0).await);
            assert_eq!(writes(replica).await, 0);
        }
    }
}

#[tokio::test]
async fn r15_reads_go_to_the_replicas_and_to_the_primary_if_there_is_none() {
    let reads = async |system: &System| {
        let mut reads = Vec::new();
        for address in &system.servers {
            reads.push(RemoteDatabase::new(*address).stats().await.unwrap().reads);
        }
        reads
    };
    for engine in engines() {
        let (with, without) = (System::start(&engine, 2).await, System::start(&engine, 0).await);
        for id in 1..=40 {
            with.ask(0, Method::GET, id, None).await;
            without.ask(0, Method::GET, id, None).await;
        }
        let counts = reads(&with).await;
        assert!(counts[0] == 0 && counts[1] > 0 && counts[2] > 0 && counts.iter().sum::<u64>() == 40, "{counts:?}");
        assert_eq!(reads(&without).await, [40]);
    }
}

#[tokio::test]
async fn r16_a_promoted_replica_takes_the_writes_and_a_fenced_primary_none() {
    for engine in engines() {
        let system = System::start(&engine, 2).await;
        system.ask(0, Method::PUT, 1, None).await;
        system.caught_up(1).await;
        let order = async |server: usize, order: serde_json::Value| {
            system.http.send(Method::POST, system.servers[server], "/order", &order).await.unwrap().status
        };
        let vote = serde_json::json!({ "epoch": 9, "coordinator": 7 });
        for server in 0..=2 {
            assert_eq!(order(server, serde_json::json!({ "fence": { "vote": vote } })).await, StatusCode::OK);
        }
        let write =
            |id| Batch::write([Statement::new("UPDATE users SET phone = '456' WHERE id = ?1", [Value::from(id)])]);
        let at = |server: usize| RemoteDatabase::new(system.servers[server]);
        assert!(at(0).run(write(2)).await.is_err() && at(1).run(write(2)).await.is_err());
        let promotion = serde_json::json!({ "promote": { "vote": vote, "quorum": null, "replicas": [0, 2] } });
        assert_eq!(order(1, promotion).await, StatusCode::OK);
        assert!(at(1).run(write(3)).await.is_ok() && at(0).run(write(3)).await.is_err());
        let primary = serde_json::json!({ "id": 1, "address": system.servers[1] });
        let rejoin = serde_json::json!({ "rejoin": { "vote": vote, "primary": primary } });
        assert_eq!(order(0, rejoin).await, StatusCode::OK);
        let mut looks = 0;
        while system.seen(0).await.upstream != Some(1) || system.hash(0).await != system.hash(1).await {
            looks += 1;
            assert!(looks < LOOKS, "the old primary does not follow the new one on {engine}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn r17_whoever_wrote_sees_it_over_web_servers_however_late_the_replicas_are() {
    for engine in engines() {
        let system = System::start(&engine, 2).await;
        for replica in 1..=2 {
            system.caught_up(replica).await;
            system.tell(replica, "/delay/600000").await;
        }
        let (written, cookie) = system.ask(0, Method::PUT, 7, None).await;
        assert_eq!(system.ask(1, Method::GET, 7, Some(&cookie)).await.0, written);
        assert_eq!(system.ask(1, Method::GET, 7, None).await.0, written - 1, "nobody asked for more");
        let forged = format!("{}x", &cookie[..cookie.len() - 1]);
        assert_eq!(system.ask(1, Method::GET, 7, Some(&forged)).await.0, written - 1, "as good as none");
    }
}

#[test]
fn r18_writes_that_stay_flat_and_their_price_are_told_from_writes_that_grow() {
    let measured = |capacity: f64| Measured {
        capacity,
        theory: Some(capacity),
        repeats: vec![capacity],
        p50_ms: 20.0,
        p99_ms: 150.0,
        cpu_cores: 0.1,
        harness_share: 0.1,
        rss_bytes: 0,
        hit_ratio: 0.0,
        curve: Curve::default(),
    };
    let rows = |writes: f64| {
        let row = |replicas, reads, writes| Scaled { replicas, reads: measured(reads), writes: Some(writes) };
        [row(0, 365.0, 100.0), row(3, 1_100.0, writes)]
    };
    let verdicts = |writes| {
        let claims = scale_claims(false, &rows(writes));
        claims.into_iter().filter(|claim| claim.id == "r18").map(|claim| claim.verdict).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(100.0), [Verdict::Pass, Verdict::Pass]);
    assert_eq!(verdicts(250.0), [Verdict::Fail, Verdict::Fail], "four servers that do more than twice as much");
    let table = scale_table(&Cost::modelled(), &rows(100.0));
    assert_eq!(table.rows[1], ["3", "4", "1100", "1100", "100", "100", "364", "1000"]);
}

#[test]
fn theory_sees_one_line_before_all_replicas() {
    let cost = Cost::modelled();
    let capacity = |servers| {
        let web = model(&cost, cost.service(Tier::Web)).copies(3);
        let database = model(&cost, cost.service(Tier::Database).scaled(servers));
        Network::tandem([web, database]).capacity(Duration::from_millis(150))
    };
    assert!((2.9..3.3).contains(&(capacity(3) / capacity(1))), "{}", capacity(3) / capacity(1));
}
