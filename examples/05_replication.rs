//! Rung 05: read replicas. One database server takes the writes and three follow its log; web servers send each read to a
//! replica that has all that its user has written and seen. Reads scale, writes do not, and the death of the primary is
//! survived: another is promoted, the old one is fenced.
//!
//! `cargo run --release --example 05-replication`; on PostgreSQL: `cargo climb 05 --engines postgres`

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::measure::{Measured, Sizing, capacity_of, model, throughput};
use app::replicated::trials::{self, Scaled};
use app::replicated::{self, InTurn, NodeConfig, Routed, Routing, Setup, Site, Stock, server};
use app::rung::{Climb, Rung, RungFuture, Stack, at};
use app::users::{SqlUsers, Users};
use app::web;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tenfold_rig::{Cost, Network, NodeSpec, Role, RoleResult, Roles, RungReport, Tier, TierView};

/// What the web servers sign sessions with.
const KEY: [u8; 32] = *b"shared by the web servers of 05.";

/// Of memory, for the files of all systems that are measured at a time.
const ROOM: u64 = 1 << 30;

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 5, title: "replication", is_light: false, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    Roles::new().add("05-db", server::serve).add("05-web", web_server)
}

#[derive(Serialize, Deserialize)]
struct WebConfig {
    routing: Routing,
    is_routed: bool,
    cost: Cost,
}

/// The web server of rung 02 over a cluster instead of one database; the users' sessions travel in a cookie.
async fn web_server(mut role: Role<WebConfig>) -> RoleResult {
    let WebConfig { routing, is_routed, cost } = &role.config;
    let users: Arc<dyn Users> = if *is_routed {
        Arc::new(SqlUsers::new(Routed::new(replicated::cluster(routing).await?)))
    } else {
        Arc::new(SqlUsers::new(InTurn::new(&routing.servers).ok_or("a database server is needed")?))
    };
    let routes = web::router(users, cost.station(Tier::Web, routing.seed)?);
    let routes = replicated::remember(routes, &routing.key);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// The primary first, then the replicas that copy it, then the web servers that know all of them.
async fn start(climb: &Climb, stock: &Stock, seed: u64, setup: Setup, listen: Option<SocketAddr>) -> RoleResult<Site> {
    let mut stack = Stack::in_memory(ROOM)?;
    let cost = climb.cost;
    let folders: Vec<PathBuf> = (0..=setup.replicas).map(|id| stack.dir.path().join(format!("db-{id}"))).collect();
    stock.lay_out(&folders, setup.quorum).await?;
    let database = |id: u16, primary| {
        let (folders, engine, seed) = (folders.clone(), stock.engine().clone(), seed.wrapping_add(u64::from(id)));
        let config = NodeConfig { id, folders, primary, engine, quorum: setup.quorum, cost, seed };
        NodeSpec::new("05-db", format!("db-{id}")).config(&config)
    };
    let mut databases = vec![stack.tiers.spawn(database(0, None)?).await?];
    let primary = databases.first().map(|primary| primary.addr());
    let replicas =
        (1..=setup.replicas).map(async |id| RoleResult::Ok(stack.tiers.spawn(database(id, primary)?).await?));
    databases.extend(try_join_all(replicas).await?);
    let servers: Vec<SocketAddr> = databases.iter().map(|database| database.addr()).collect();
    let webs = (1..=setup.webs).map(async |number| {
        let (seed, is_supervisor) = (seed.wrapping_add(100 + u64::from(number)), number == 1);
        let routing = Routing { servers: servers.clone(), quorum: setup.quorum, is_supervisor, key: KEY, seed };
        let config = WebConfig { routing, is_routed: setup.is_routed, cost };
        let spec = NodeSpec::new("05-web", format!("web-{number}")).config(&config)?;
        RoleResult::Ok(stack.tiers.spawn(at(spec, listen.filter(|_| number == 1))).await?.addr())
    });
    stack.fronts = try_join_all(webs).await?;
    Ok(Site::new(stack, databases))
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    Box::pin(async move {
        let stock = Stock::new(&climb.database).await?;
        Ok(start(&climb, &stock, climb.seed, Setup::default(), Some(listen)).await?.stack)
    })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("05", RUNG.title);
        let engine = climb.database.to_string();
        report.summary = format!("One primary takes the writes, three replicas the reads, all {engine}; any may die.");
        report.engine = Some(engine);
        let webs = TierView::new("web", (1..=3).map(|number| format!("web-{number}")));
        let replicas = TierView::new("replicas", (1..=3).map(|id| format!("db-{id}")));
        report.tiers = vec![webs, TierView::new("primary", ["db-0"]), replicas];
        report.nodes = 7;
        report.fault = "kill -9 one of 3 replicas".to_owned();
        let stock = Stock::new(&climb.database).await?;
        // What is timed runs first, then the capacities: together they would compete for the machine.
        let (writes, ()) =
            tokio::try_join!(writes(&climb, &stock), async { trials(&climb, &stock, &mut report).await })?;
        let rows = scale(&climb, &stock, writes).await?;
        if let Some(largest) = rows.last() {
            largest.reads.fill(&mut report);
        }
        report.curves.extend(rows.iter().rev().skip(1).map(|row| row.reads.curve.clone()));
        report.tables.insert(0, trials::scale_table(&climb.cost, &rows));
        report.claims.extend(trials::scale_claims(climb.quick, &rows));
        report.claims.sort_by(|one, other| one.id.cmp(&other.id));
        report.limits.push(climb.database.limit());
        report.limits.extend(
            [
                "the nodes' files are in memory where there is room, as the servers would share one disk here: what dies is a \
                 process, and its files stay",
                "one web server leads failovers; if it dies, another would have to be told to",
                "a quorum of one replica: an acknowledged write survives the loss of one server, not of two at once",
            ]
            .map(str::to_owned),
        );
        Ok(report)
    })
}

/// r14, r16 and r17, each on systems of its own.
async fn trials(climb: &Climb, stock: &Stock, report: &mut RungReport) -> RoleResult {
    let go = |setup| start(climb, stock, climb.seed, setup, None);
    let few = Setup { webs: 2, ..Setup::default() };
    let quorum = Setup { quorum: NonZeroU16::new(1), ..few };
    let (lag, with, without, safe, fast) = tokio::try_join!(
        async { trials::lag(climb, &go(few).await?).await },
        async {
            let site = go(few).await?;
            let dies = trials::replica_dies(climb, &site).await?;
            trials::roles(climb, &site, report).await?;
            RoleResult::Ok(dies)
        },
        async { trials::replica_dies(climb, &go(Setup { is_routed: false, ..few }).await?).await },
        async { trials::primary_dies(climb, go(quorum).await?).await },
        async { trials::primary_dies(climb, go(few).await?).await },
    )?;
    (report.failed_ratio, report.control_failed_ratio) = (Some(with.2), Some(without.2));
    report.claims.push(trials::replica_claim(with, without));
    report.claims.extend(trials::death_claims(&safe, &fast));
    report.claims.extend(trials::lag_claims(&lag));
    report.tables.extend([trials::death_table(&safe, &fast), trials::lag_table(&lag)]);
    Ok(())
}

/// r18: what is written at most with no replica and with all. On small servers: the ratio is the same, and what this machine
/// has to do for it is less.
async fn writes(climb: &Climb, stock: &Stock) -> RoleResult<[f64; 2]> {
    let small = &Climb { cost: trials::small(climb.cost), ..climb.clone() };
    let done = async |replicas| {
        let site = start(small, stock, climb.seed, Setup { replicas, ..Setup::default() }, None).await?;
        let (mut keys, limit) = (climb.keys.stream(climb.seed), small.cost.service(Tier::Database).saturation());
        throughput(climb, &site.stack, limit, || trials::write(keys())).await
    };
    let (without, with) = tokio::try_join!(done(0), done(3))?;
    Ok([without, with])
}

/// r15: reads for each number of replicas, a system that is busy beside one that is less so.
async fn scale(climb: &Climb, stock: &Stock, [least, most]: [f64; 2]) -> RoleResult<Vec<Scaled>> {
    let reads = |replicas| size(climb, stock, replicas);
    let (none, all) = tokio::try_join!(reads(0), reads(3))?;
    let mut rows = vec![Scaled { replicas: 0, reads: none, writes: Some(least) }];
    if !climb.quick {
        let (one, two) = tokio::try_join!(reads(1), reads(2))?;
        rows.push(Scaled { replicas: 1, reads: one, writes: None });
        rows.push(Scaled { replicas: 2, reads: two, writes: None });
    }
    rows.push(Scaled { replicas: 3, reads: all, writes: Some(most) });
    Ok(rows)
}

async fn size(climb: &Climb, stock: &Stock, replicas: u16) -> RoleResult<Measured> {
    let web = model(&climb.cost, climb.cost.service(Tier::Web)).copies(3);
    // The replicas read, and the primary where there is none. A read goes to the less busy of two, which makes nearly one
    // line of theirs all.
    let servers = climb.cost.service(Tier::Database).scaled(u32::from(replicas.max(1)));
    let model = Network::tandem([web, model(&climb.cost, servers)]);
    let label = format!("05 reads with {replicas} replicas");
    let budget = Duration::from_secs(climb.pick(5, 4));
    let sizing = Sizing { label: &label, model, budget, side_by_side: true };
    capacity_of(climb, 1, sizing, |seed| async move {
        let setup = Setup { replicas, ..Setup::default() };
        Ok((start(climb, stock, seed, setup, None).await?.stack, climb.keys.reads(seed)))
    })
    .await
}
