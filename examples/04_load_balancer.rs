//! Rung 04: a load balancer. Clients know one address; behind it are three web servers that only the balancer can reach.
//! One of them may die, hang or be late, join or leave, and nobody notices. More capacity it does not give: the database
//! binds as before.
//!
//! `cargo run --release --example 04-load-balancer`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::balancer::{self, BalancerConfig, Member, Rules};
use app::cached::{CacheConfig, InProcess};
use app::fleet::{self, Change, Fault, Fleet, Island, Pair, Plan, Setup};
use app::host::{self, HostConfig};
use app::http::Http;
use app::measure::{Measured, Sizing, capacity, model};
use app::rung::{Climb, Rung, RungFuture, Stack, at};
use app::sqlite::Sqlite;
use app::users::{SqlUsers, Users};
use app::{grey, remote::RemoteDatabase, web};
use serde::{Deserialize, Serialize};
use tenfold_load_balancer::{AddressPolicy, HashConfig, Policy};
use tenfold_rig::{Claim, Cost, Network, NodeSpec, Role, RoleResult, Roles, RungReport, Tier, TierView};

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 4, title: "load balancer", is_light: false, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    let servers = Roles::new().add("04-db", host::serve).add("04-web", web_server).add("04-balancer", balancer::serve);
    servers.add("04-island", island).add("04-client", fleet::client)
}

#[derive(Serialize, Deserialize)]
struct WebConfig {
    database: SocketAddr,
    /// The database's file, where web servers are to read that themselves and keep what they read.
    near: Option<PathBuf>,
    cost: Cost,
    seed: u64,
}

/// The web server of rung 02, which can also be made late.
async fn web_server(mut role: Role<WebConfig>) -> RoleResult {
    let WebConfig { database, near, cost, seed } = &role.config;
    let users: Arc<dyn Users> = match near {
        Some(file) => Arc::new(InProcess::new(SqlUsers::new(Sqlite::open(file)?), &CacheConfig::default())?),
        None => Arc::new(SqlUsers::new(RemoteDatabase::new(*database))),
    };
    let routes = grey::router(web::router(users, cost.station(Tier::Web, *seed)?));
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// The whole system in a network of its own.
async fn island(role: Role<Plan>) -> RoleResult {
    fleet::explore(role, "04-client", |plan| start(plan, None)).await
}

/// The database first, then the web servers at their private addresses, then the balancer that knows them.
async fn start(Plan { cost, seed, setup }: Plan, listen: Option<SocketAddr>) -> RoleResult<Fleet> {
    let mut stack = Stack::new()?;
    let file = stack.dir.path().join("users.db");
    let config = HostConfig { file: file.clone(), cost, seed };
    let database = stack.tiers.spawn(setup.database(NodeSpec::new("04-db", "db").config(&config)?)).await?;
    let mut webs = vec![];
    for number in 1..=setup.webs + setup.spares {
        let near = setup.is_database_near.then(|| file.clone());
        let config = WebConfig { database: database.addr(), near, cost, seed: seed.wrapping_add(u64::from(number)) };
        let spec = NodeSpec::new("04-web", format!("web-{number}")).config(&config)?;
        webs.push(stack.tiers.spawn(setup.web(number, spec)).await?);
    }
    let known = webs.iter().take(setup.webs.into());
    if let Some(rules) = &setup.balancer {
        let config = BalancerConfig { backends: known.map(Member::of).collect(), rules: rules.clone(), seed };
        let spec = setup.front(NodeSpec::new("04-balancer", "balancer").config(&config)?);
        stack.fronts = vec![stack.tiers.spawn(at(spec, listen)).await?.addr()];
    } else {
        stack.fronts = known.map(|web| web.addr()).collect();
    }
    Ok(Fleet::new(stack, webs, database))
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    Box::pin(async move { Ok(start(Plan::new(&climb, Setup::default()), Some(listen)).await?.stack) })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("04", RUNG.title);
        report.summary = "One address for the clients; behind it three web servers that may fail.".to_owned();
        let webs = (1..=3).map(|number| format!("web-{number}"));
        let one = |label: &str, name: &str| TierView::new(label, [name.to_owned()]);
        report.tiers = vec![one("load balancer", "balancer"), TierView::new("web", webs), one("database", "db")];
        report.nodes = 5;
        // What is timed runs first, then the capacities: together they would compete for the machine.
        let (spread, (faults, changes, private, balanced, direct)) = tokio::try_join!(spread(&climb), async {
            let (faults, changes, private) = tokio::try_join!(faults(&climb), changes(&climb), private(&climb))?;
            let (balanced, direct) = tokio::try_join!(
                size(&climb, "04 balancer, 3 web | db", Setup::default()),
                size(&climb, "04 one web | db", Setup { webs: 1, balancer: None, ..Setup::default() }),
            )?;
            Ok((faults, changes, private, balanced, direct))
        })?;
        balanced.fill(&mut report);
        report.curves.push(direct.curve.clone());
        report.fault = "kill -9 one of 3 web servers".to_owned();
        report.failed_ratio = Some(faults[0].with.failed_ratio);
        report.control_failed_ratio = Some(faults[0].without.failed_ratio);
        report.claims.extend(spread);
        report.claims.extend(fleet::fault_claims(&faults));
        report.claims.push(unchanged(&climb, &balanced, &direct));
        report.claims.extend(changes);
        report.claims.extend(private);
        report.tables.push(fleet::fault_table(&faults));
        report.limits.push("availability, not speed: the database binds, as it did in rung 02".to_owned());
        report.limits.push("the balancer itself is one process, and nobody takes over when it dies".to_owned());
        Ok(report)
    })
}

async fn size(climb: &Climb, label: &str, setup: Setup) -> RoleResult<Measured> {
    let web = model(&climb.cost, climb.cost.service(Tier::Web)).copies(setup.webs.into());
    let model = Network::tandem([web, model(&climb.cost, climb.cost.service(Tier::Database))]);
    let budget = Duration::from_secs(climb.pick(6, 5));
    let sizing = Sizing { label, model, budget, side_by_side: true };
    let start = |seed| {
        let plan = Plan { seed, ..Plan::new(climb, setup.clone()) };
        async move { Ok((start(plan, None).await?.stack, climb.keys.reads(seed))) }
    };
    capacity(climb, sizing, start).await
}

/// r10: 30,000 requests, or fewer in a quick run, in turn and by key; without second tries, which servers would count,
/// and without the database server, which would only be a burden to the trials beside them.
async fn spread(climb: &Climb) -> RoleResult<Vec<Claim>> {
    let in_turn = Rules::default().without_failover();
    let by_key = Rules { policy: Policy::CappedRendezvous(HashConfig::default()), ..in_turn.clone() };
    let (in_turn, by_key) = tokio::try_join!(
        start(Plan::new(climb, Setup::default().to_count().with(in_turn)), None),
        start(Plan::new(climb, Setup::default().to_count().with(by_key)), None),
    )?;
    let time = Duration::from_secs(climb.pick(15, 5));
    let (in_turn, by_key) = tokio::try_join!(
        fleet::spread(climb, &in_turn, climb.pick(2_050.0, 700.0), time),
        fleet::spread(climb, &by_key, 200.0, time),
    )?;
    Ok(fleet::spread_claims(&in_turn, &by_key))
}

/// r11: each fault on a system with failover and on one without.
async fn faults(climb: &Climb) -> RoleResult<Vec<Pair>> {
    let pair = async |fault| {
        let with = start(Plan::new(climb, Setup::default()), None).await?;
        let without = start(Plan::new(climb, Setup::default().without_failover()), None).await?;
        let (with, without) =
            tokio::try_join!(fleet::strike(climb, &with, fault), fleet::strike(climb, &without, fault))?;
        RoleResult::Ok(Pair { fault, with, without })
    };
    let (kill, hang, slow) = tokio::try_join!(pair(Fault::Kill), pair(Fault::Hang), pair(Fault::Slow))?;
    Ok(vec![kill, hang, slow])
}

/// r12: without retries, so that nothing but the draining keeps requests alive.
async fn changes(climb: &Climb) -> RoleResult<Vec<Claim>> {
    let one = async |how| {
        let setup = Setup { spares: 1, ..Setup::default().without_failover() };
        fleet::change(climb, &start(Plan::new(climb, setup), None).await?, how).await
    };
    let (drained, control) = tokio::try_join!(one(Change::Drained), one(Change::SwitchedOff))?;
    Ok(fleet::change_claims(drained, control))
}

/// r13: on this machine, and between networks where the kernel gives some.
async fn private(climb: &Climb) -> RoleResult<Vec<Claim>> {
    let careless = Setup::default().with(Rules { addresses: AddressPolicy::Any, ..Rules::default() });
    let (fleet, careless) =
        tokio::try_join!(start(Plan::new(climb, Setup::default()), None), start(Plan::new(climb, careless), None))?;
    let mut claims = fleet::private(&fleet, &careless).await?;
    let plan = Plan::new(climb, Setup { has_own_network: true, ..Setup::default() });
    let island = fleet.stack.tiers.spawn(NodeSpec::new("04-island", "island").config(&plan)?).await?;
    let found: Island = Http::new(Duration::from_secs(5)).get(island.addr(), "/").await?.json()?;
    claims.push(fleet::island_claim(&found));
    Ok(claims)
}

/// r05 once more: three web servers carry what one carried, while the database is the same.
fn unchanged(climb: &Climb, balanced: &Measured, direct: &Measured) -> Claim {
    let (ratio, slack) = (balanced.capacity / direct.capacity, climb.pick(0.15, 0.25));
    let text = "availability, not speed: the capacity is that of one web server, as the database binds";
    Claim::new("r05", text, balanced.capacity, (ratio - 1.0).abs() <= slack)
        .control(direct.capacity)
        .unit("requests/s")
        .note(format!("ratio {ratio:.2}, within {:.0} %; control: one web server, no balancer", slack * 100.0))
}
