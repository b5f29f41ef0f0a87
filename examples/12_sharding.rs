//! Rung 12: a database that outgrows its server. It can be bigger, up to the biggest that is sold, or be cut into shards:
//! each server holds a part of the users, and web servers know by a map which. Writes scale, a fifth shard joins while
//! users are written, a death costs a part; a query of all users costs more, and a hot key gains nothing.
//!
//! `cargo run --release --example 12-sharding`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::measure::{Measured, Sizing, capacity_of};
use app::replicated::{Engine, NodeConfig, server};
use app::rung::{Climb, Rung, RungFuture, Stack, at};
use app::sharded::homes::{self, Homes, USERS};
use app::sharded::site::{self, Setup, Site};
use app::sharded::trials::{self, HotTrial, LARGEST, Size, Spread};
use app::sharded::{Fenced, ShardedUsers, Sharding, Unfenced, web as shards};
use app::users::Users;
use app::web;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tenfold_rig::{Cost, NodeSpec, Role, RoleResult, Roles, RungReport, Tier, TierView};

/// Of memory, for the files of all systems that are measured at a time.
const ROOM: u64 = 1 << 30;
const SHARDS: u16 = 4;
/// In the trial of a death, less than the dead server is away.
const IMPATIENT: Duration = Duration::from_millis(100);

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 12, title: "sharding", is_light: false, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    Roles::new().add("12-db", database).add("12-web", web_server)
}

/// The database server of rung 05 without replicas; it refuses to be bigger than the biggest on sale.
async fn database(role: Role<NodeConfig>) -> RoleResult {
    trials::check_size(role.config.cost.database)?;
    server::serve(role).await
}

#[derive(Serialize, Deserialize)]
struct WebConfig {
    sharding: Sharding,
    is_fenced: bool,
    cost: Cost,
}

/// The web server of rung 02 over shards instead of one database.
async fn web_server(mut role: Role<WebConfig>) -> RoleResult {
    let WebConfig { sharding, is_fenced, cost } = &role.config;
    let station = cost.station(Tier::Web, sharding.seed)?;
    let routes = if *is_fenced {
        let fenced = Arc::new(Fenced::start(sharding).await?);
        let users = ShardedUsers::new(Arc::clone(&fenced));
        let more = shards::router(fenced, users.heat());
        web::router(Arc::new(users), station).merge(more)
    } else {
        let users: Arc<dyn Users> = Arc::new(ShardedUsers::new(Arc::new(Unfenced::start(sharding)?)));
        web::router(users, station)
    };
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// The shards, servers that wait to become one, and the web servers that know the shards.
async fn start(climb: &Climb, seed: u64, setup: Setup, listen: Option<SocketAddr>) -> RoleResult<Site> {
    let mut stack = Stack::in_memory(ROOM)?;
    let (cost, map) = (trials::size(climb.cost, setup.slots), homes::map(setup.shards)?);
    let all = setup.shards + setup.spares;
    let folders: Vec<PathBuf> = (0..all).map(|shard| stack.dir.path().join(format!("shard-{shard}"))).collect();
    site::lay_out(&folders, &map, USERS).await?;
    let databases = folders.iter().zip(0_u64..).map(async |(folder, shard)| {
        let seed = if setup.are_twins { seed } else { seed.wrapping_add(shard) };
        let (folders, engine) = (vec![folder.clone()], Engine::Sqlite);
        let config = NodeConfig { id: 0, folders, primary: None, engine, quorum: None, cost, seed };
        let spec = NodeSpec::new("12-db", format!("shard-{shard}")).config(&config)?;
        RoleResult::Ok(stack.tiers.spawn(spec).await?)
    });
    let databases = try_join_all(databases).await?;
    let servers: Vec<SocketAddr> = databases.iter().take(usize::from(setup.shards)).map(|node| node.addr()).collect();
    let webs = (1..=setup.webs).map(async |number| {
        let (seed, patience_ms) = (seed.wrapping_add(100 + u64::from(number)), setup.patience.as_millis() as u64);
        let sharding = Sharding { servers: servers.clone(), map: map.to_bytes(), patience_ms, seed };
        let config = WebConfig { sharding, is_fenced: setup.is_fenced, cost };
        let spec = NodeSpec::new("12-web", format!("web-{number}")).config(&config)?;
        RoleResult::Ok(stack.tiers.spawn(at(spec, listen.filter(|_| number == 1))).await?.addr())
    });
    stack.fronts = try_join_all(webs).await?;
    Ok(Site::new(stack, databases, map))
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    Box::pin(async move { Ok(start(&climb, climb.seed, Setup::of(SHARDS), Some(listen)).await?.stack) })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("12", RUNG.title);
        report.summary = "Four database servers, each with a quarter of the users; a fifth joins.".to_owned();
        let webs = TierView::new("web", (1..=3).map(|number| format!("web-{number}")));
        report.tiers = vec![webs, TierView::new("shards", (0..SHARDS).map(|shard| format!("shard-{shard}")))];
        report.nodes = 7;
        report.fault = "kill -9 one of 4 shards".to_owned();
        // What is compared by bursts runs by itself; beside the search for the capacity there is room for trials of little load.
        scale(&climb, &mut report).await?;
        let (measured, ()) = tokio::try_join!(capacity(&climb), trials(&climb, &mut report))?;
        measured.fill(&mut report);
        report.claims.sort_by(|one, other| one.id.cmp(&other.id));
        report.limits.extend(
            [
                "no transaction spans shards: money does not travel between two users here, and POST /transfer says 501",
                "a query of all shards is not one snapshot",
                "a shard is one server here; rung 05 shows what replicas add to each",
                "service times are modelled, and so is the biggest server; a shard serves one request at a time, not four",
                "users are written alike, not as the workload has it, but for the hot one",
                "the map has 40 slots, a real one a thousand or more",
                "one operator moves slots, and tells each web server the new map; where the map is kept is left open",
            ]
            .map(str::to_owned),
        );
        Ok(report)
    })
}

/// r55, r56 and r09: what is done at most, by bigger servers, by more of them, and with a hot key.
async fn scale(climb: &Climb, report: &mut RungReport) -> RoleResult {
    let twins = |shards, slots| {
        let setup = Setup { slots, are_twins: true, ..Setup::of(shards) };
        start(climb, climb.seed, setup, None)
    };
    let up = async |slots| Size::measure(climb, &twins(1, slots).await?, slots).await;
    let out = async |shards| {
        let site = twins(shards, 1).await?;
        let spread = Spread::measure(climb, &site, shards).await?;
        RoleResult::Ok((spread, HotTrial::even(&site, spread.writes).await?))
    };
    let hot = async { trials::hot_keys(climb, &twins(SHARDS, 1).await?).await };
    let outs = async {
        let ((one, _), (four, even)) = tokio::try_join!(out(1), out(SHARDS))?;
        let ((two, _), hot) = tokio::try_join!(out(2), hot)?;
        RoleResult::Ok(([one, two, four], even, hot))
    };
    let (sizes, (spreads, even, hot)) = tokio::try_join!(try_join_all([1, 2, LARGEST].map(up)), outs)?;
    report.claims.extend(trials::scale_claims(&climb.cost, &sizes, &spreads));
    report.claims.extend(trials::hot_claims(&climb.cost, &hot, &even));
    report.tables.extend(trials::scale_tables(&climb.cost, &sizes, &spreads));
    report.tables.push(trials::hot_table(&climb.cost, &hot, &even));
    Ok(())
}

/// r55, r56 and r09: a fifth shard joins, one dies, all are asked; each on systems of its own.
async fn trials(climb: &Climb, report: &mut RungReport) -> RoleResult {
    let go = |setup| start(climb, climb.seed, setup, None);
    let four = Setup { webs: 2, ..Setup::of(SHARDS) };
    let five = Setup { webs: 3, spares: 1, slots: 2, ..four };
    let dies = async |setup| trials::shard_dies(climb, &Arc::new(go(setup).await?)).await;
    let joins = async |setup: Setup| trials::join(climb, &go(setup).await?, setup.is_fenced).await;
    let (fenced, control) = tokio::try_join!(joins(five), joins(Setup { is_fenced: false, ..five }))?;
    let impatient = Setup { patience: IMPATIENT, ..four };
    let asks = async |setup| trials::price(&go(setup).await?, climb.pick(60, 30)).await;
    let (share, all, many, one, refusal) = tokio::try_join!(
        dies(impatient),
        dies(Setup { shards: 1, slots: LARGEST, ..impatient }),
        asks(four),
        asks(Setup { shards: 1, ..four }),
        async { Ok(go(Setup { shards: 1, slots: 2 * LARGEST, ..four }).await.err().map(|error| error.to_string())) },
    )?;
    (report.failed_ratio, report.control_failed_ratio) = (Some(share.failed), Some(all.failed));
    report.claims.push(trials::ceiling_claim(refusal, fenced.moved > 0.0 && fenced.astray == 0));
    report.claims.push(trials::death_claim(&share, &all));
    report.claims.extend(trials::join_claims(&climb.cost, &fenced, &control));
    report.claims.extend(trials::gather_claims(&climb.cost, &many, &one));
    report.claims.push(trials::part_claim(&share));
    report.tables.push(trials::join_table(&fenced, &control));
    report.tables.push(trials::gather_table(&many, &one, share.part.map(|part| part.users)));
    Ok(())
}

/// What four shards of one slot carry; theory knows how many users each has.
async fn capacity(climb: &Climb) -> RoleResult<Measured> {
    let (map, cost) = (homes::map(SHARDS)?, trials::size(climb.cost, 1));
    let model = trials::network(&cost, 3, &Homes::new(&map, USERS).shares(&map))?;
    let budget = Duration::from_secs(climb.pick(10, 7));
    let sizing = Sizing { label: "12 writes on 4 shards", model, budget, side_by_side: true };
    capacity_of(climb, 3, sizing, |seed| {
        let mut user = homes::any((1..=USERS).collect(), seed);
        async move { Ok((start(climb, seed, Setup::of(SHARDS), None).await?.stack, move || trials::write(user()))) }
    })
    .await
}
