//! Rung 03: more capacity, twice. One box four times as big, or four boxes of the old size: about the same capacity, and
//! a very different day when one box dies, or when the biggest one that is sold is no longer big enough.
//!
//! `cargo run --release --example 03-up-or-out`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::balancer::{self, BalancerConfig, Member, Rules};
use app::measure::{Measured, Outcomes, Sizing, capacity, model};
use app::rung::{BALANCE, Climb, Rung, RungFuture, Stack, USERS, at};
use app::sqlite::Sqlite;
use app::users::SqlUsers;
use app::{keys, web};
use serde::{Deserialize, Serialize};
use tenfold_rig::Network;
use tenfold_rig::{Claim, RungReport, Table, TierView};
use tenfold_rig::{Cost, Load, LoadPlan, NodeSpec, Request, Rng, Role, RoleResult, Roles, Service, Tier};

/// How much more capacity is wanted.
const FACTOR: u32 = 4;
/// The biggest box on sale, in slots. Modelled: every catalogue of machines ends somewhere.
const BIGGEST_BOX: u32 = 16;

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 3, title: "up or out", is_light: false, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    Roles::new().add("03-box", sized_box).add("03-balancer", balancer::serve)
}

#[derive(Serialize, Deserialize)]
struct BoxConfig {
    cost: Cost,
    service: Service,
    seed: u64,
    file: PathBuf,
}

/// A box with its own copy of the database; it refuses to be bigger than the biggest on sale.
async fn sized_box(mut role: Role<BoxConfig>) -> RoleResult {
    let BoxConfig { cost, service, seed, file } = &role.config;
    if service.slots > BIGGEST_BOX {
        return Err(format!("no box has {} slots; the biggest has {BIGGEST_BOX}", service.slots).into());
    }
    let is_new = !file.exists();
    let database = Sqlite::open(file)?;
    if is_new {
        database.seed(USERS, BALANCE)?;
    }
    let routes = web::router(Arc::new(SqlUsers::new(database)), cost.station_of(*service, *seed)?);
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

/// The box that everything is measured in: 4 slots.
fn unit(climb: &Climb) -> Service {
    climb.cost.service(Tier::Database)
}

async fn start(
    climb: &Climb,
    seed: u64,
    (boxes, service): (u32, Service),
    listen: Option<SocketAddr>,
) -> RoleResult<Stack> {
    let mut stack = Stack::new()?;
    for number in 1..=boxes {
        let file = stack.dir.path().join(format!("box-{number}.db"));
        let config = BoxConfig { cost: climb.cost, service, seed: seed.wrapping_add(u64::from(number)), file };
        let spec = NodeSpec::new("03-box", format!("box-{number}")).config(&config)?;
        let listen = listen.filter(|_| number == 1);
        stack.fronts.push(stack.tiers.spawn(at(spec, listen)).await?.addr());
    }
    Ok(stack)
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    Box::pin(async move { start(&climb, climb.seed, (FACTOR, unit(&climb)), Some(listen)).await })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("03", RUNG.title);
        let unit = unit(&climb);
        report.summary = format!("The same {} slots as one big box and as {FACTOR} small ones.", unit.slots * FACTOR);
        report.tiers = vec![TierView::new("boxes", (1..=FACTOR).map(|number| format!("box-{number}")))];
        report.nodes = FACTOR;
        let boxes = |boxes, service| start(&climb, climb.seed, (boxes, service), None);
        let (up, out, lost_up, lost_out, behind, limit) = tokio::join!(
            size(&climb, "03 up: 1 big box", 1, unit.scaled(FACTOR)),
            size(&climb, "03 out: 4 boxes", FACTOR, unit),
            async { kill_one(&climb, boxes(1, unit.scaled(FACTOR)).await?).await },
            async { kill_one(&climb, boxes(FACTOR, unit).await?).await },
            async { kill_one(&climb, balanced(&climb, boxes(FACTOR, unit).await?).await?).await },
            boxes(1, unit.scaled(2 * FACTOR)),
        );
        let (up, out, behind) = (up?, out?, behind?);
        let (lost_up, lost_out) = (lost_up?.failed_between(), lost_out?.failed_between());
        out.fill(&mut report);
        report.curves.push(up.curve.clone());
        report.fault = "kill -9 one box".to_owned();
        (report.failed_ratio, report.control_failed_ratio) = (Some(lost_out), Some(lost_up));
        let ratio = out.capacity / up.capacity;
        let slack = climb.pick(0.15, 0.20);
        report.claims.push(
            Claim::new("r09", "the same slots up or out: equal capacity", out.capacity, (ratio - 1.0).abs() <= slack)
                .control(up.capacity)
                .unit("requests/s")
                .note(format!("out/up = {ratio:.2}; within {:.0} %; control: one big box", slack * 100.0)),
        );
        let (share, all) = (lost_out * 100.0, lost_up * 100.0);
        let is_share = (15.0..=35.0).contains(&share) && all > 99.0;
        report.claims.push(
            Claim::new("r09", "a kill costs a share of four boxes, and all of one", share, is_share)
                .control(all)
                .unit("% failed")
                .note("from the kill to the restart; control: one big box"),
        );
        let behind = behind.failed_ratio() * 100.0;
        let is_nobody = behind == 0.0 && share > 15.0;
        report.claims.push(
            Claim::new("r09", "behind a load balancer the kill of one of four costs nobody", behind, is_nobody)
                .control(share)
                .unit("% failed")
                .note(format!("{all:.0} % of one big box; control: clients know all four and pick one at random")),
        );
        let refusal = limit.err().map(|error| error.to_string());
        let wider = boxes(FACTOR + 1, unit).await.is_ok();
        let answer = refusal.as_deref().unwrap_or("started").to_owned();
        let is_wider = refusal.is_some() && wider;
        report.claims.push(
            Claim::new("r09", "up ends at the biggest box; out goes on with a fifth", answer, is_wider)
                .control(if wider { "5 boxes serve" } else { "5 boxes do not start" }),
        );
        report.tables.push(pros_and_cons(&up, &out, share, all));
        report.limits.push("slots are modelled, and so is the biggest box".to_owned());
        report.limits.push("capacity is that of clients who know all addresses; rung 04 has one address".to_owned());
        report.limits.push("each box has its own copy of the database, so this rung only reads".to_owned());
        Ok(report)
    })
}

/// Reads that pick a box at random, as clients do who know all addresses and nothing else.
fn reads(climb: &Climb, boxes: u32, seed: u64) -> impl FnMut() -> Request + Send + use<> {
    let (mut stream, mut rng) = (climb.keys.stream(seed), Rng::new(seed).fork(3));
    move || keys::read(stream()).target(rng.below(u64::from(boxes)) as usize)
}

async fn size(climb: &Climb, label: &str, boxes: u32, service: Service) -> RoleResult<Measured> {
    let model = Network::tandem([model(&climb.cost, service).copies(boxes)]);
    let budget = Duration::from_secs(climb.pick(5, 4));
    let sizing = Sizing { label, model, budget, side_by_side: false };
    let start =
        |seed| async move { Ok((start(climb, seed, (boxes, service), None).await?, reads(climb, boxes, seed))) };
    capacity(climb, sizing, start).await
}

/// The same boxes behind a load balancer, the only address that clients know.
async fn balanced(climb: &Climb, mut stack: Stack) -> RoleResult<Stack> {
    let backends = stack.tiers.all().iter().map(Member::of).collect();
    let config = BalancerConfig { backends, rules: Rules::default(), seed: climb.seed };
    stack.fronts = vec![stack.tiers.spawn(NodeSpec::new("03-balancer", "balancer").config(&config)?).await?.addr()];
    Ok(stack)
}

/// What became of requests before, during and after a second without the first box.
async fn kill_one(climb: &Climb, stack: Stack) -> RoleResult<Outcomes> {
    let source = reads(climb, stack.fronts.len() as u32, climb.seed);
    let node = stack.tiers.all().into_iter().next().ok_or("a stack has a box")?;
    let outcomes = Outcomes::default();
    let load = Load::new(stack.client()?, LoadPlan::new(200.0, Duration::from_secs(2)).seed(climb.seed))?;
    load.run_with_faults(source, outcomes.observer(), outcomes.kill_and_restart(&node)).await;
    Ok(outcomes)
}

fn pros_and_cons(up: &Measured, out: &Measured, share: f64, all: f64) -> Table {
    let mut table = Table::new("up or out", ["", "up: one big box", "out: four boxes"]);
    table.row(["capacity, requests/s".to_owned(), format!("{:.0}", up.capacity), format!("{:.0}", out.capacity)]);
    table.row(["one box dies, % failed".to_owned(), format!("{all:.0}"), format!("{share:.0}")]);
    table.row(["the same behind a load balancer", "as many: nobody is left", "none"]);
    table.row(["processes", "1", "4"]);
    table.row(["what clients know", "one address", "four addresses; one, with a load balancer"]);
    table.row(["the next step", "none: the biggest box is in use", "a fifth box"]);
    table.row(["state", "in one place", "a copy a box, or a database apart"]);
    table
}
