//! Rung 01: everything in one process. Web server, application, database, cache and DNS share one machine: the
//! simplest thing that works, the cheapest to run, and the one that a single crash takes away.
//!
//! `cargo run --release --example 01-single-server`

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::cached::{CacheConfig, InProcess};
use app::measure::{Measured, Outcomes, Sizing, capacity, model};
use app::rung::{BALANCE, Climb, Rung, RungFuture, Stack, USERS, at};
use app::sockets::{Protocol, listening};
use app::sqlite::Sqlite;
use app::user::{User, UserId};
use app::users::SqlUsers;
use app::{dns, web};
use serde::{Deserialize, Serialize};
use tenfold_rig::Network;
use tenfold_rig::{Claim, RungReport, TierView};
use tenfold_rig::{Cost, Load, LoadPlan, Node, NodeSpec, Role, RoleResult, Roles, Tier, now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 1, title: "single server", is_light: true, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    Roles::new().add("01-box", single_box)
}

#[derive(Serialize, Deserialize)]
struct BoxConfig {
    cost: Cost,
    seed: u64,
    file: PathBuf,
}

/// The one process: a cache in memory over SQLite on disk, behind HTTP, found by DNS.
async fn single_box(mut role: Role<BoxConfig>) -> RoleResult {
    let BoxConfig { cost, seed, file } = &role.config;
    let is_new = !file.exists();
    let database = Sqlite::open(file)?;
    if is_new {
        database.seed(USERS, BALANCE)?;
    }
    let users = InProcess::new(SqlUsers::new(database), &CacheConfig::default())?;
    let routes = web::router(Arc::new(users), cost.station(Tier::SingleBox, *seed)?);
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    role.announce("dns", names.local_addr()?);
    let listener = role.ready()?;
    let stop = role.stop();
    tokio::select! {
        served = axum::serve(listener, routes).with_graceful_shutdown(stop.wait()) => served?,
        answered = dns::serve(&names, dns::NAME, Ipv4Addr::LOCALHOST) => answered?,
    }
    Ok(())
}

async fn start(climb: &Climb, seed: u64, listen: Option<SocketAddr>) -> RoleResult<(Stack, Node)> {
    let mut stack = Stack::new()?;
    let file = stack.dir.path().join("users.db");
    let config = BoxConfig { cost: climb.cost, seed, file };
    let node = stack.tiers.spawn(at(NodeSpec::new("01-box", "box").config(&config)?, listen)).await?;
    stack.fronts = vec![node.addr()];
    Ok((stack, node))
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    Box::pin(async move { Ok(start(&climb, climb.seed, Some(listen)).await?.0) })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("01", RUNG.title);
        report.summary = "Web server, application, database and cache in one process.".to_owned();
        report.tiers = vec![TierView::new("everything", ["box"])];
        report.nodes = 1;
        let began = now();
        let (first, node) = start(&climb, climb.seed, None).await?;
        transcript(&mut report, &node).await?;
        let first_answer = now() - began;
        one_process(&mut report, &first, &node, first_answer)?;
        let (measured, outcomes) = tokio::try_join!(knee(&climb), kill(&climb, &first, &node))?;
        measured.fill(&mut report);
        let text = "the knee of the latency curve lies where queueing theory puts it";
        let ratio = measured.theory.map(|theory| measured.capacity / theory);
        let near = ratio.map(|ratio| Claim::new("r04", text, ratio, (0.8..=1.2).contains(&ratio)));
        report.claims.extend(near.map(|claim| claim.unit("measured/theory").note("within 20 %")));
        let (down, before) = (outcomes.failed_between(), outcomes.failed_before());
        report.fault = "kill -9 the box".to_owned();
        report.failed_ratio = Some(down);
        report.claims.push(
            Claim::new("r04", "a kill fails all until the restart", down * 100.0, down == 1.0 && before < 0.01)
                .control(before * 100.0)
                .unit("% failed")
                .note("control: the second before the kill"),
        );
        report.limits.push("service times are modelled; processes, sockets, SQL and the crash are real".to_owned());
        Ok(report)
    })
}

/// r02: name, connection, request, answer, each printed.
async fn transcript(report: &mut RungReport, node: &Node) -> RoleResult {
    let server = node.announced("dns").ok_or("the box announced no DNS socket")?;
    let address = dns::resolve(server, dns::NAME, 0x7e4f).await?;
    report.transcript.push(format!("DNS  {} A? -> {address} (asked {server} over UDP)", dns::NAME));
    let to = SocketAddr::from((address, node.addr().port()));
    let mut stream = TcpStream::connect(to).await?;
    report.transcript.push(format!("TCP  connected {} -> {to}", stream.local_addr()?));
    let request = format!("GET /users/123 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", dns::NAME);
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
    report.transcript.push("HTTP GET /users/123".to_owned());
    report.transcript.push(format!("HTTP {}", head.lines().next().unwrap_or_default()));
    report.transcript.push(format!("JSON {body}"));
    let is_user = serde_json::from_str::<User>(body).is_ok_and(|user| user == User::sample(UserId(123)));
    let missing = dns::resolve(server, "elsewhere.test", 0x7e50).await.is_err();
    report.claims.push(
        Claim::new("r02", "DNS, then TCP, then HTTP, then the JSON of user 123", body, is_user && missing)
            .control("NXDOMAIN for another name"),
    );
    Ok(())
}

/// r01 and r03: one process has every socket and the database file; it is up at once and needs nothing.
fn one_process(report: &mut RungReport, stack: &Stack, node: &Node, first_answer: Duration) -> RoleResult {
    let sockets = listening(node.pid())?;
    let known = [Some((Protocol::Tcp, node.addr())), node.announced("dns").map(|dns| (Protocol::Udp, dns))];
    let owns = known.iter().flatten().all(|socket| sockets.contains(socket)) && sockets.len() == 2;
    let harness = listening(std::process::id())?;
    let rss_mib = stack.rss_bytes() as f64 / f64::from(1 << 20);
    let lines = include_str!("01_single_server.rs").lines().count();
    let note = format!("{rss_mib:.1} MiB resident; {lines} lines here; control: sockets of the load generator");
    let is_alone = owns && harness.is_empty();
    report.claims.push(
        Claim::new("r01", "one process owns every listening socket: DNS and HTTP", sockets.len(), is_alone)
            .control(harness.len())
            .unit("sockets")
            .note(note),
    );
    let seconds = first_answer.as_secs_f64();
    report.claims.push(
        Claim::new("r03", "no service, no root, no network: the first answer comes at once", seconds, seconds < 1.0)
            .unit("s")
            .note("process start, an empty database filled, DNS, TCP and HTTP included"),
    );
    Ok(())
}

/// r04: the capacity of a box, measured on several at once.
async fn knee(climb: &Climb) -> RoleResult<Measured> {
    let model = Network::tandem([model(&climb.cost, climb.cost.service(Tier::SingleBox))]);
    let budget = Duration::from_secs(climb.pick(12, 5));
    let sizing = Sizing { label: "01 single server", model, budget, side_by_side: true };
    let start = |seed| async move { Ok((start(climb, seed, None).await?.0, climb.keys.reads(seed))) };
    capacity(climb, sizing, start).await
}

/// r04: half the capacity, a kill after one second, a restart one second later.
async fn kill(climb: &Climb, stack: &Stack, node: &Node) -> RoleResult<Outcomes> {
    let outcomes = Outcomes::default();
    let plan = LoadPlan::new(80.0, Duration::from_secs(3)).seed(climb.seed);
    let load = Load::new(stack.client()?, plan)?;
    load.run_with_faults(climb.keys.reads(climb.seed), outcomes.observer(), outcomes.kill_and_restart(node)).await;
    Ok(outcomes)
}
