//! Rung 10: a message queue. The web server only takes jobs; workers do them later: thumbnails, mail, text messages,
//! notifications. The broker may die, nobody may work for a while, ten times as many jobs may come, and no job that was
//! accepted is lost.
//!
//! `cargo run --release --example 10-message-queue`; on a NATS server: `cargo climb 10 --engines nats`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app::jobs::broker;
use app::jobs::engine::Engine;
use app::jobs::front::{self, Front};
use app::jobs::nats;
use app::jobs::queue::{Address, Jobs};
use app::jobs::site::{Mix, Setup, Site, THUMBNAILS, UPLOADS, jobs};
use app::jobs::trials::{self, Crashed};
use app::jobs::work::{Hands, Places};
use app::jobs::worker::{self, WorkerConfig};
use app::jobs::world::{self, WorldConfig};
use app::measure::{Sizing, capacity, model};
use app::rung::{Climb, Rung, RungFuture, Stack, at};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Cost, Network, NodeSpec, Role, RoleResult, Roles, RungReport, Station, Tier, TierView};

const SECRET: &str = "shared with the provider";
/// Shorter than it would be, so that the death of a worker is over soon.
const SHORT_LEASE_MS: u64 = 1_000;
const BOUND: u64 = 150;

/// The rung, as the climb runs it.
pub(crate) const RUNG: Rung = Rung { number: 10, title: "message queue", is_light: false, roles, climb, play };

#[allow(dead_code, reason = "the climb includes this file as a module and has a main of its own")]
fn main() -> std::process::ExitCode {
    RUNG.main()
}

fn roles() -> Roles {
    let ours = Roles::new().add("10-broker", broker::serve).add("10-nats", nats::serve).add("10-web", web_server);
    ours.add("10-worker", worker::serve).add("10-world", world::serve)
}

#[derive(Serialize, Deserialize)]
struct WebConfig {
    queue: Address,
    places: Places,
    cost: Cost,
    is_modelled: bool,
    seed: u64,
}

async fn web_server(mut role: Role<WebConfig>) -> RoleResult {
    let WebConfig { queue, places, cost, is_modelled, seed } = &role.config;
    // Notifications of work within requests go to this server's own browsers.
    let places = Places { browsers: Some(role.addr()), ..places.clone() };
    let front = Front {
        jobs: Jobs::connect(queue.clone()).await?,
        station: if *is_modelled { cost.station(Tier::Web, *seed)? } else { Station::instant() },
        inline: cost.station(Tier::Worker, *seed)?,
        uploads: places.uploads.clone(),
        hands: Hands::new(places),
    };
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, front::router(front)).with_graceful_shutdown(stop.wait()).await?)
}

/// The world first, then the broker, the web server, and the workers that reach all of them.
async fn start(climb: &Climb, seed: u64, setup: Setup, listen: Option<SocketAddr>) -> RoleResult<Site> {
    let mut stack = Stack::new()?;
    let folder = |name: &str| -> RoleResult<PathBuf> {
        let folder = stack.dir.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    let (uploads, thumbnails, cost) = (folder(UPLOADS)?, folder(THUMBNAILS)?, climb.cost);
    let world = NodeSpec::new("10-world", "world").config(&WorldConfig { secret: SECRET.to_owned() })?;
    let world = stack.tiers.spawn(world).await?;
    let (broker, queue) = climb.queue.start(&stack, &setup).await?;
    let smtp = world.announced("smtp").ok_or("the world announced no mail server")?;
    let (sms, secret) = (world.addr(), SECRET.to_owned());
    let mut places = Places { smtp, sms, secret, browsers: None, uploads, thumbnails };
    let is_modelled = setup.is_front_modelled;
    let config = WebConfig { queue: queue.clone(), places: places.clone(), cost, is_modelled, seed };
    let web = stack.tiers.spawn(at(NodeSpec::new("10-web", "web").config(&config)?, listen)).await?;
    (stack.fronts, places.browsers) = (vec![web.addr()], Some(web.addr()));
    let mut workers = vec![];
    for number in 1..=setup.workers {
        let seed = seed.wrapping_add(u64::from(number));
        let config = WorkerConfig { queue: queue.clone(), places: places.clone(), cost, seed };
        let spec = NodeSpec::new("10-worker", format!("worker-{number}")).config(&config)?;
        workers.push(stack.tiers.spawn(spec).await?);
    }
    Site::new(stack, (broker, queue), web, workers, world).await
}

fn play(climb: Arc<Climb>, listen: SocketAddr) -> RungFuture<Stack> {
    let setup = Setup { workers: 4, ..Setup::default() };
    Box::pin(async move { Ok(start(&climb, climb.seed, setup, Some(listen)).await?.stack) })
}

fn climb(climb: Arc<Climb>) -> RungFuture<RungReport> {
    Box::pin(async move {
        let mut report = RungReport::new("10", RUNG.title);
        let engine = climb.queue.to_string();
        report.summary = format!("The web server takes jobs; a durable queue, {engine}, keeps them; workers do them.");
        report.engine = Some(engine);
        let workers = (1..=4).map(|number| format!("worker-{number}"));
        let one = |label: &str, name: &str| TierView::new(label, [name.to_owned()]);
        report.tiers = vec![one("web", "web"), one("broker", "broker"), TierView::new("workers", workers)];
        report.nodes = 6;
        report.fault = format!("kill -9 the broker, {} times", climb.pick(8, 3));
        let ((), (durable, forgetful)) = tokio::try_join!(decoupled(&climb, &mut report), crashes(&climb))?;
        let ratio = |crashed: &Crashed| crashed.lost() as f64 / crashed.accepted().max(1) as f64;
        (report.failed_ratio, report.control_failed_ratio) = (Some(ratio(&durable)), Some(ratio(&forgetful)));
        report.claims.extend(trials::crash_claims(&durable, &forgetful));
        report.claims.extend(trials::use_case_claims(&durable));
        if climb.queue == Engine::Tenfold {
            let dir = tenfold_rig::TempDir::new()?;
            let (time, path) = (Duration::from_millis(climb.pick(500, 200)), dir.path().to_owned());
            report.tables.push(tokio::task::spawn_blocking(move || trials::policies(&path, time)).await??);
        }
        size(&climb).await?.fill(&mut report);
        report.claims.sort_by(|one, other| one.id.cmp(&other.id));
        let twice = "at least once: a job may be done twice, and its key makes the second time harmless";
        report.limits.extend([twice.to_owned(), climb.queue.limit()]);
        Ok(report)
    })
}

/// r43, r44 and r45, side by side: most of the time of these systems is modelled.
async fn decoupled(climb: &Climb, report: &mut RungReport) -> RoleResult {
    let go = |workers| start(climb, climb.seed, Setup { workers, ..Setup::default() }, None);
    let short = |workers| Setup { workers, lease_ms: SHORT_LEASE_MS, ..Setup::default() };
    let (time, few, many) = (Duration::from_secs(climb.pick(5, 2)), climb.pick(160, 80), climb.pick(320, 160));
    let (queued, inline, off, hung, full, one, four, died, given_up) = tokio::try_join!(
        async { trials::surge(climb, &go(4).await?, "/jobs", time).await },
        async { trials::surge(climb, &go(0).await?, "/inline", time).await },
        async { trials::switched_off(climb, &go(2).await?, "/jobs").await },
        async { trials::switched_off(climb, &go(0).await?, "/inline").await },
        async {
            let setup = Setup { workers: 0, max_jobs: BOUND, ..Setup::default() };
            trials::bounded(climb, &start(climb, climb.seed, setup, None).await?).await
        },
        async { trials::drain(&go(1).await?, many).await },
        async { trials::drain(&go(4).await?, many).await },
        async { trials::worker_dies(&start(climb, climb.seed, short(2), None).await?, few).await },
        async { trials::poison(&start(climb, climb.seed, short(1), None).await?).await },
    )?;
    report.claims.extend(trials::switched_off_claims(&off, queued.usual_p99_ms, &hung));
    report.claims.extend(trials::surge_claims(&queued, &inline));
    report.claims.push(trials::bounded_claim(full, BOUND));
    report.claims.push(trials::drain_claim(one, four));
    report.claims.push(trials::redelivered_claims(&died, Duration::from_millis(SHORT_LEASE_MS)));
    report.claims.push(given_up);
    report.tables.push(trials::surge_table(&queued));
    Ok(())
}

/// r41 and r46: a durable broker and a forgetful one under the same kills.
async fn crashes(climb: &Climb) -> RoleResult<(Crashed, Crashed)> {
    let crash = async |is_durable| {
        // One worker is too few, so that jobs wait in the queue when it dies.
        let setup = Setup { workers: 1, lease_ms: climb.queue.crash_lease_ms(), is_durable, ..Setup::default() };
        trials::crash(climb, &start(climb, climb.seed, setup, None).await?, climb.pick(8, 3)).await
    };
    tokio::try_join!(crash(true), crash(false))
}

/// How many jobs a second the web server takes.
async fn size(climb: &Climb) -> RoleResult<app::measure::Measured> {
    let model = Network::tandem([model(&climb.cost, climb.cost.service(Tier::Web))]);
    let budget = Duration::from_secs(climb.pick(5, 4));
    let sizing = Sizing { label: "10 web | queue", model, budget, side_by_side: true };
    capacity(climb, sizing, |seed| async move {
        let site = start(climb, seed, Setup::default(), None).await?;
        Ok((site.stack, jobs(Mix::Sms, "/jobs", seed)))
    })
    .await
}
