//! Rung 06: a cache layer. Three web servers ask a ring of three cache servers first and the database last. Three
//! strategies, three eviction policies, and what goes wrong with each: expiry, stale values, lost servers, full memory.
//!
//! `cargo run --release --example 06-cache-layer`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::cached::{self, CacheConfig, CachedUsers, Ring, Strategy};
use app::measure::{Measured, Sizing, capacity, model};
use app::rung::{BALANCE, Climb, Rung, RungFuture, Stack, USERS, at};
use app::sqlite::{Discipline, Sqlite};
use app::trials::{self, Hoard, Setup, Share, Site};
use app::users::{SqlUsers, Users};
use app::{host, keys, remote::RemoteDatabase, web};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Cost, Network, NodeSpec, Role, RoleResult, Roles, RungReport, Station, StationId, Tier, TierView};

/// Reads that warm the caches before a capacity is measured.
const WARM_READS: usize = 30_000;
const CACHE_ENTRIES: u64 = 1_500;

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 6, title: "cache layer", is_light: false, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    Roles::new().add("06-db", database).add("06-cache", cache_server).add("06-web", web_server).add("06-hoard", hoarder)
}

#[derive(Serialize, Deserialize)]
struct DatabaseConfig {
    file: PathBuf,
    cost: Cost,
    seed: u64,
}

async fn database(mut role: Role<DatabaseConfig>) -> RoleResult {
    let DatabaseConfig { file, cost, seed } = &role.config;
    let is_new = !file.exists();
    let station = cost.station(Tier::Database, *seed)?;
    let database = Sqlite::open_with(file, Discipline::Acid, Duration::ZERO, station)?;
    if is_new {
        database.seed(USERS, BALANCE)?;
    }
    let routes = host::router(Arc::new(database), Discipline::Acid);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

#[derive(Serialize, Deserialize)]
struct ServerConfig {
    setup: Setup,
    database: SocketAddr,
    caches: Vec<SocketAddr>,
    cost: Cost,
    seed: u64,
}

/// One of our caches in a process of its own; for read-through it knows the database.
async fn cache_server(mut role: Role<ServerConfig>) -> RoleResult {
    let ServerConfig { setup, database, cost, seed, .. } = &role.config;
    let store = Arc::new(SqlUsers::new(RemoteDatabase::new(*database)));
    let routes = cached::router(&setup.cache, store, cost.station(Tier::Cache, *seed)?)?;
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// The web server of rung 02; only what it asks for users has changed.
async fn web_server(mut role: Role<ServerConfig>) -> RoleResult {
    let ServerConfig { setup, database, caches, cost, seed } = &role.config;
    let store = SqlUsers::new(RemoteDatabase::new(*database));
    let users: Arc<dyn Users> = if caches.is_empty() {
        Arc::new(store)
    } else {
        Arc::new(CachedUsers::new(store, Ring::new(caches.iter().copied()), setup.strategy, setup.protection))
    };
    let station = if setup.is_web_modelled { cost.station(Tier::Web, *seed)? } else { Station::instant() };
    let routes = web::router(users, station);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// Fills its memory, then waits to be looked at.
async fn hoarder(mut role: Role<Hoard>) -> RoleResult {
    let routes = trials::hoard_router(trials::hoard(&role.config)?);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

async fn start(climb: &Climb, seed: u64, setup: Setup, listen: Option<SocketAddr>) -> RoleResult<Site> {
    let mut stack = Stack::new()?;
    let (cost, file) = (climb.cost, stack.dir.path().join("users.db"));
    let database = NodeSpec::new("06-db", "db").config(&DatabaseConfig { file, cost, seed })?;
    let database = stack.tiers.spawn(database).await?;
    let config = |number: u32, caches: &[SocketAddr]| {
        let (database, caches) = (database.addr(), caches.to_vec());
        ServerConfig { setup, database, caches, cost, seed: seed.wrapping_add(u64::from(number)) }
    };
    let mut caches = vec![];
    for number in 1..=setup.caches {
        let spec = NodeSpec::new("06-cache", format!("cache-{number}")).config(&config(number, &[]))?;
        caches.push(stack.tiers.spawn(spec).await?);
    }
    let ring: Vec<SocketAddr> = caches.iter().map(|cache| cache.addr()).collect();
    for number in 1..=setup.webs {
        let spec = NodeSpec::new("06-web", format!("web-{number}")).config(&config(100 + number, &ring))?;
        stack.fronts.push(stack.tiers.spawn(at(spec, listen.filter(|_| number == 1))).await?.addr());
    }
    Ok(Site::new(stack, database, caches))
}

/// The rung's system: three web servers, three cache servers, one database.
fn layer() -> Setup {
    let cache = CacheConfig { capacity: CACHE_ENTRIES, ..CacheConfig::default() };
    Setup { webs: 3, caches: 3, is_web_modelled: true, cache, ..Setup::small(Strategy::Aside) }
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    Box::pin(async move { Ok(start(&climb, climb.seed, layer(), Some(listen)).await?.stack) })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("06", RUNG.title);
        report.summary = "Three web servers ask a ring of three cache servers first, the database last.".to_owned();
        let three = |tier: &str| TierView::new(tier, (1..=3).map(|number| format!("{tier}-{number}")));
        report.tiers = vec![three("web"), three("cache"), TierView::new("database", ["db"])];
        report.nodes = 7;
        // What is counted runs first and together, then what is timed.
        let (with, without, ()) = tokio::try_join!(
            share(&climb, layer()),
            share(&climb, layer().without_cache()),
            trials::memory_and_policies(&climb, "06-hoard", &mut report),
        )?;
        report.claims.extend(trials::share_claims(&with, &without));
        let (with, without) = tokio::try_join!(
            size(&climb, "06 cache layer", layer(), &with),
            size(&climb, "06 without the cache", layer().without_cache(), &without),
        )?;
        with.fill(&mut report);
        report.curves.push(without.curve.clone());
        let go = |setup| start(&climb, climb.seed, setup, None);
        let (strategies, freshness) = tokio::try_join!(trials::strategies(&climb, go), trials::freshness(&climb, go))?;
        strategies.add_to(&mut report);
        freshness.add_to(&mut report);
        report.claims.sort_by(|one, other| one.id.cmp(&other.id));
        report.limits.push("the hit ratio depends on the keys; their source is named above".to_owned());
        report
            .limits
            .push("no load balancer here, to keep the cache alone: the clients know the three web servers".to_owned());
        Ok(report)
    })
}

/// Where the reads of a light load are answered.
async fn share(climb: &Climb, setup: Setup) -> RoleResult<Share> {
    let site = start(climb, climb.seed, setup, None).await?;
    let mut stream = warm(climb, &site, climb.seed).await?;
    trials::share(&site, move || keys::read(stream()), 150.0, Duration::from_secs(climb.pick(4, 3))).await
}

/// The capacity, expected from where a light load was answered.
async fn size(climb: &Climb, label: &str, setup: Setup, share: &Share) -> RoleResult<Measured> {
    let web = model(&climb.cost, climb.cost.service(Tier::Web)).copies(3);
    let cache = model(&climb.cost, climb.cost.service(Tier::Cache)).copies(3);
    let database = model(&climb.cost, climb.cost.service(Tier::Database));
    let model = |hits: f64| {
        let paths = |at: &[StationId]| [(hits, vec![at[0], at[1]]), (1.0 - hits, at.to_vec())];
        Network::routed([web, cache, database], paths)
    };
    let budget = Duration::from_secs(climb.pick(5, 4));
    let sizing = Sizing { label, model: model(share.hit_ratio())?, budget, side_by_side: setup.caches == 0 };
    let measured = capacity(climb, sizing, |seed| async move {
        let site = start(climb, seed, setup, None).await?;
        let mut stream = warm(climb, &site, seed).await?;
        Ok((site.stack, move || keys::read(stream())))
    });
    let measured = measured.await?;
    let model = model(measured.hit_ratio)?;
    Ok(measured.compared_with(climb, &model))
}

/// Puts into the caches what the first reads of a stream would have left there, and returns the rest of the stream.
async fn warm(climb: &Climb, site: &Site, seed: u64) -> RoleResult<keys::KeyStream> {
    let mut stream = climb.keys.stream(seed);
    if !site.caches.is_empty() {
        site.warm(keys::latest((0..WARM_READS).map(|_| stream()))).await?;
    }
    Ok(stream)
}
