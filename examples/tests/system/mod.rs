//! The tiers of rungs 04 and 06 as tasks of the test, for what needs no crash of a process.

use std::net::SocketAddr;
use std::sync::Arc;

use app::balancer::{self, BalancerConfig, Member, Rules};
use app::cached::{self, CacheConfig, CachedUsers, Protection, Ring, Strategy};
use app::database::Database;
use app::http::{Answer, Http};
use app::remote::RemoteDatabase;
use app::sqlite::{Discipline, Sqlite};
use app::user::{User, UserId};
use app::users::{SqlUsers, Users};
use app::{host, web};
use axum::Router;
use hyper::{Method, StatusCode};
use tenfold_rig::{Station, TempDir};
use tokio::task::JoinHandle;

pub(crate) const BALANCE: u64 = 1_000;

/// Serves `routes` on a free port until the handle is aborted.
pub(crate) async fn serve(routes: Router) -> (SocketAddr, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (address, serving)
}

/// A SQLite file with 50 sample users, and its folder.
pub(crate) fn sample(discipline: Discipline) -> (TempDir, Arc<Sqlite>) {
    let dir = TempDir::new().unwrap();
    let pause = std::time::Duration::ZERO;
    let database = Sqlite::open_with(&dir.path().join("users.db"), discipline, pause, Station::instant()).unwrap();
    database.seed(50, BALANCE).unwrap();
    (dir, Arc::new(database))
}

/// The tiers of rung 06 in one process.
pub(crate) struct System {
    pub(crate) store: Arc<Sqlite>,
    pub(crate) caches: Vec<(SocketAddr, JoinHandle<()>)>,
    pub(crate) web: SocketAddr,
    pub(crate) http: Http,
    _dir: TempDir,
}

impl System {
    pub(crate) async fn start(caches: usize, strategy: Strategy, protection: Protection) -> Self {
        let (dir, store) = sample(Discipline::Acid);
        let (database, _) = serve(host::router(Arc::clone(&store), Discipline::Acid)).await;
        let database = RemoteDatabase::new(database);
        let mut servers = Vec::new();
        for _ in 0..caches {
            let behind: Arc<dyn Users> = Arc::new(SqlUsers::new(database.clone()));
            let routes = cached::router(&CacheConfig::default(), behind, Station::instant()).unwrap();
            servers.push(serve(routes).await);
        }
        let ring = Ring::new(servers.iter().map(|(address, _)| *address));
        let users = CachedUsers::new(SqlUsers::new(database), ring, strategy, protection);
        let (web, _) = serve(web::router(Arc::new(users), Station::instant())).await;
        let http = Http::new(std::time::Duration::from_secs(5));
        Self { store, caches: servers, web, http, _dir: dir }
    }

    pub(crate) async fn read(&self, id: u64) -> Answer {
        self.http.get(self.web, &format!("/users/{id}")).await.unwrap()
    }

    pub(crate) async fn write(&self, id: u64) -> u64 {
        let user = User::sample(UserId(id));
        let answer = self.http.send(Method::PUT, self.web, &format!("/users/{id}"), &user).await.unwrap();
        answer.version().unwrap()
    }

    pub(crate) fn database_reads(&self) -> u64 {
        self.store.stats().reads
    }
}

/// Rung 04's tiers in one process: a balancer in front of web servers that share a database.
pub(crate) struct Behind {
    pub(crate) webs: Vec<SocketAddr>,
    pub(crate) front: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) http: Http,
    _dir: TempDir,
}

impl Behind {
    /// `webs` web servers, of which the balancer knows the first `known`, and backends at `others` beside them.
    pub(crate) async fn start(webs: usize, known: usize, others: &[SocketAddr], rules: Rules) -> Self {
        let (dir, store) = sample(Discipline::Acid);
        let users: Arc<dyn Users> = Arc::new(SqlUsers::new(store));
        let mut addresses = Vec::new();
        for _ in 0..webs {
            addresses.push(serve(web::router(Arc::clone(&users), Station::instant())).await.0);
        }
        let members = addresses.iter().take(known).chain(others);
        let backends = members.map(|address| Member { name: address.to_string(), address: *address }).collect();
        let (front, admin) = balancer::routers(&BalancerConfig { backends, rules, seed: 1 }).unwrap();
        let (front, admin) = (serve(front).await.0, serve(admin).await.0);
        let http = Http::new(std::time::Duration::from_secs(5));
        Self { webs: addresses, front, admin, http, _dir: dir }
    }

    /// The statuses of so many reads by clients, who know one address.
    pub(crate) async fn reads(&self, count: u64) -> Vec<StatusCode> {
        let mut statuses = Vec::new();
        for id in 0..count {
            let path = format!("/users/{}", 1 + id % 50);
            statuses.push(self.http.get(self.front, &path).await.unwrap().status);
        }
        statuses
    }

    /// What each web server has answered, by its own count.
    pub(crate) async fn answered(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        for web in &self.webs {
            counts.push(self.http.get(*web, "/stats").await.unwrap().json::<web::WebStats>().unwrap().misses);
        }
        counts
    }

    /// Tells the balancer to `add`, `drain` or `remove` a backend.
    pub(crate) async fn tell(&self, what: &str, address: SocketAddr) -> StatusCode {
        let path = format!("/backends/{what}?addr={address}");
        self.http.send(Method::POST, self.admin, &path, &()).await.unwrap().status
    }
}

/// The sum of all balances.
pub(crate) async fn total(database: &dyn Database) -> i64 {
    use app::database::{Batch, Statement};
    let batch = Batch::read(Statement::new("SELECT sum(balance) FROM accounts", []));
    database.run(batch).await.unwrap()[0].rows[0][0].as_integer().unwrap()
}
