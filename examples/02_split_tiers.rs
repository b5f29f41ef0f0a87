//! Rung 02: the database gets a server of its own. Each tier can now be sized by itself, and one of them turns out to
//! be the bottleneck. What a relational database promises is tried with `kill -9`, next to a document store.
//!
//! `cargo run --release --example 02-split-tiers`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::bank;
use app::measure::{Measured, Sizing, capacity, model};
use app::rung::{BALANCE, Climb, Rung, RungFuture, Stack, USERS, at};
use app::sqlite::{Discipline, Sqlite};
use app::users::SqlUsers;
use app::{document, host, products, remote::RemoteDatabase, stores, web};
use serde::{Deserialize, Serialize};
use tenfold_rig::Network;
use tenfold_rig::{Claim, RungReport, TierView};
use tenfold_rig::{Cost, NodeSpec, Role, RoleResult, Roles, Service, Station, Tier};

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 2, title: "web | db", is_light: true, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    Roles::new().add("02-db", database).add("02-web", web_server).add("02-sql", sql_box).add("02-documents", documents)
}

#[derive(Serialize, Deserialize)]
struct DatabaseConfig {
    file: PathBuf,
    cost: Cost,
    service: Service,
    seed: u64,
    is_sloppy: bool,
    pause_ms: u64,
}

/// The database server: SQLite with one connection that writes, behind a line of limited capacity.
async fn database(mut role: Role<DatabaseConfig>) -> RoleResult {
    let DatabaseConfig { file, cost, service, seed, is_sloppy, pause_ms } = &role.config;
    let discipline = if *is_sloppy { Discipline::Sloppy } else { Discipline::Acid };
    let station = cost.station_of(*service, *seed)?;
    let is_new = !file.exists();
    let database = Sqlite::open_with(file, discipline, Duration::from_millis(*pause_ms), station)?;
    if is_new {
        database.seed(USERS, BALANCE)?;
    }
    let routes = host::router(Arc::new(database), discipline);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

#[derive(Serialize, Deserialize)]
struct WebConfig {
    database: SocketAddr,
    cost: Cost,
    service: Service,
    seed: u64,
}

/// The web server: the same routes as in rung 01; only the store behind them is remote now.
async fn web_server(mut role: Role<WebConfig>) -> RoleResult {
    let WebConfig { database, cost, service, seed } = &role.config;
    let users = SqlUsers::new(RemoteDatabase::new(*database));
    let routes = web::router(Arc::new(users), cost.station_of(*service, *seed)?);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// Web and SQL in one process without modelled time, and the same on documents: for r07.
async fn sql_box(mut role: Role<PathBuf>) -> RoleResult {
    let users = SqlUsers::new(stores::sample_sql(&role.config)?);
    let routes = web::router(Arc::new(users), Station::instant());
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

async fn documents(mut role: Role<PathBuf>) -> RoleResult {
    let routes = document::router(Arc::new(stores::sample_documents(&role.config)?));
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// The two sizes of a stack: how the web server serves, and the database server.
type Sizes = (Service, Service);

async fn start(climb: &Climb, seed: u64, (web, db): Sizes, listen: Option<SocketAddr>) -> RoleResult<Stack> {
    let mut stack = Stack::new()?;
    let (cost, file) = (climb.cost, stack.dir.path().join("users.db"));
    let config = DatabaseConfig { file, cost, service: db, seed, is_sloppy: false, pause_ms: 0 };
    let db = stack.tiers.spawn(NodeSpec::new("02-db", "db").config(&config)?).await?;
    let config = WebConfig { database: db.addr(), cost, service: web, seed: seed.wrapping_add(1) };
    let web = stack.tiers.spawn(at(NodeSpec::new("02-web", "web").config(&config)?, listen)).await?;
    stack.fronts = vec![web.addr()];
    Ok(stack)
}

fn sizes(climb: &Climb) -> Sizes {
    (climb.cost.service(Tier::Web), climb.cost.service(Tier::Database))
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    Box::pin(async move { start(&climb, climb.seed, sizes(&climb), Some(listen)).await })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("02", RUNG.title);
        report.summary = "The database moves to a server of its own; each tier is sized by itself.".to_owned();
        report.tiers = vec![TierView::new("web", ["web"]), TierView::new("database", ["db"])];
        report.nodes = 2;
        let (web, db) = sizes(&climb);
        let narrow = async {
            let split = size(&climb, "02 web | db", (web, db));
            tokio::try_join!(split, size(&climb, "02 with 2 x web", (web.scaled(2), db)))
        };
        let wide = async {
            let wide_db = size(&climb, "02 with 2 x db", (web, db.scaled(2)));
            tokio::try_join!(wide_db, stores::compare(("02-sql", "02-documents"), climb.seed))
        };
        let (((split, wide_web), (wide_db, stores)), money) =
            tokio::try_join!(climb.both(narrow, wide), money(&climb))?;
        split.fill(&mut report);
        report.curves.extend([wide_web.curve.clone(), wide_db.curve.clone()]);
        report.claims.extend(sized_apart(&climb, &split, &wide_web, &wide_db));
        report.claims.extend(money);
        report.claims.extend(stores);
        report.claims.push(products::claim(climb.quick).await);
        report.limits.push("the database server is a thin host of SQLite, not a relational database server".to_owned());
        report.limits.push("durable against a crash of the process; power loss is not tried here".to_owned());
        Ok(report)
    })
}

async fn size(climb: &Climb, label: &str, (web, db): Sizes) -> RoleResult<Measured> {
    let model = Network::tandem([model(&climb.cost, web), model(&climb.cost, db)]);
    let budget = Duration::from_secs(climb.pick(6, 5));
    let sizing = Sizing { label, model, budget, side_by_side: true };
    let start = |seed| async move { Ok((start(climb, seed, (web, db), None).await?, climb.keys.reads(seed))) };
    capacity(climb, sizing, start).await
}

/// r05: doubling the tier that is not the bottleneck buys nothing; doubling the one that is, nearly everything.
fn sized_apart(climb: &Climb, split: &Measured, web: &Measured, db: &Measured) -> Option<Claim> {
    let (gain, control) = (db.capacity / split.capacity, web.capacity / split.capacity);
    let expected = db.theory? / split.theory?;
    let slack = climb.pick(0.15, 0.25);
    let holds = (gain / expected - 1.0).abs() <= slack && (control - 1.0).abs() <= slack;
    let claim = Claim::new("r05", "2 x database slots nearly double the capacity; 2 x web slots leave it", gain, holds);
    let note = format!("theory: {expected:.2} times; the control is 2 x web; each within {:.0} %", slack * 100.0);
    Some(claim.control(control).unit("times the capacity").note(note))
}

/// r06: atomicity and durability by crashes, isolation by races, consistency by rules; each beside a sloppy store.
async fn money(climb: &Climb) -> RoleResult<Vec<Claim>> {
    let stack = Stack::new()?;
    let bank = |name: &str, is_sloppy, pause_ms| {
        let file = stack.dir.path().join(format!("{name}.db"));
        let service = climb.cost.service(Tier::Database);
        let config = DatabaseConfig { file, cost: Cost::real(), service, seed: 1, is_sloppy, pause_ms };
        NodeSpec::new("02-db", name).config(&config)
    };
    let (acid, sloppy) = (bank("acid", false, 1)?, bank("sloppy", true, 1)?);
    let (acid, sloppy) = (stack.tiers.spawn(acid).await?, stack.tiers.spawn(sloppy).await?);
    let quiet = stack.tiers.spawn(bank("quiet", false, 0)?).await?;
    let (kills, seed) = (climb.pick(200, 40), climb.seed);
    let (crashes, control, rules) =
        tokio::try_join!(bank::crash(&acid, kills, seed), bank::crash(&sloppy, climb.pick(30, 15), seed), async {
            Ok(bank::rules(quiet.addr(), stack.dir.path(), BALANCE).await?)
        },)?;
    let (safe, racy) = (rules.atomic.paid_twice, rules.read_then_write.paid_twice);
    let is_whole = crashes.imbalance == 0 && crashes.in_mid_transfer * 2 > kills && control.imbalance != 0;
    let is_kept = crashes.lost == 0 && crashes.acknowledged > 0 && control.lost > 0;
    let is_ruled = rules.refused == rules.forbidden && rules.refused_without_rules == 0;
    let off = |report: &bank::CrashReport| report.imbalance as f64;
    Ok(vec![
        Claim::new("r06", "atomic: kill -9 in mid-transfer neither makes nor burns money", off(&crashes), is_whole)
            .control(off(&control))
            .unit("cents off")
            .note(format!("{} of {kills} kills in mid-transfer; control: no transaction", crashes.in_mid_transfer)),
        Claim::new("r06", "durable: what was acknowledged is there after the kill", crashes.lost, is_kept)
            .control(control.lost)
            .unit("lost")
            .note(format!("{} acknowledged; control: acknowledged before written", crashes.acknowledged)),
        Claim::new("r06", "isolated: of two withdrawals at once, one too many is refused", safe, safe == 0 && racy > 0)
            .control(racy)
            .unit("paid twice")
            .note(format!("{} races; control: read, compute, write", rules.atomic.pairs)),
        Claim::new("r06", "consistent: what breaks a foreign key or a rule is refused", rules.refused, is_ruled)
            .control(rules.refused_without_rules)
            .unit("refused")
            .note(format!("of {}; control: constraints off", rules.forbidden)),
    ])
}
