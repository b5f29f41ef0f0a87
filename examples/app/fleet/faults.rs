//! r11: a web server dies, hangs, or answers late, under load.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tenfold_rig::{Claim, Faults, Instant, Load, LoadPlan, Node, RoleResult, Table, now};

use super::{Fleet, Operator};
use crate::http::Http;
use crate::measure::Outcomes;
use crate::rung::Climb;

const RATE: f64 = 200.0;
const FAULT_AT: Duration = Duration::from_millis(500);
const HEALED_AT: Duration = Duration::from_millis(3_000);
const TIME: Duration = Duration::from_millis(5_000);
const WARM_UP: Duration = Duration::from_millis(600);
/// How long users wait. A server that hangs costs them this long, so that the fault must last several times longer.
const PATIENCE: Duration = Duration::from_millis(500);
const SLOW_BY_MS: u64 = 200;
/// The balancer is asked so often what it thinks of the server.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What happens to one web server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, then a restart.
    Kill,
    /// SIGSTOP, then SIGCONT: it accepts and never answers.
    Hang,
    /// It answers everything, 200 ms late.
    Slow,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kill, Self::Hang, Self::Slow];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Hang => "SIGSTOP",
            Self::Slow => "+200 ms",
        }
    }

    async fn strike(self, node: &Node) {
        // A fault that is refused shows as a control that does not fail.
        let _ = match self {
            Self::Kill => node.kill(),
            Self::Hang => node.suspend(),
            Self::Slow => delay(node, SLOW_BY_MS).await,
        };
    }

    async fn heal(self, node: &Node) {
        // A server that does not come back shows as one that does not return to the pool.
        let _ = match self {
            Self::Kill => node.restart().await.map_err(std::io::Error::other),
            Self::Hang => node.resume(),
            Self::Slow => delay(node, 0).await,
        };
    }
}

async fn delay(node: &Node, ms: u64) -> std::io::Result<()> {
    let http = Http::new(Duration::from_secs(2));
    let answer = http.call(Method::POST, node.addr(), &format!("/delay/{ms}"), Bytes::new()).await;
    answer.map(drop).map_err(std::io::Error::other)
}

/// What a fault did.
#[derive(Debug, Clone, PartialEq)]
pub struct Struck {
    /// Requests sent, before, during and after it.
    pub sent: u64,
    /// Requests failed, of all.
    pub failed: u64,
    /// The failed share of those sent while it lasted.
    pub failed_ratio: f64,
    /// 99th percentile of the latency of those sent while it lasted and answered, in milliseconds.
    pub p99_ms: f64,
    /// From the fault until the server got no more requests; none if it went on getting them.
    pub ejected_after: Option<Duration>,
    /// From the end of the fault until it got requests again.
    pub returned_after: Option<Duration>,
}

/// A system with failover and the same without, both struck.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// What struck.
    pub fault: Fault,
    /// With failover.
    pub with: Struck,
    /// Without.
    pub without: Struck,
}

/// Loads `fleet` steadily and strikes its last web server.
///
/// # Errors
///
/// The load cannot be made.
pub async fn strike(climb: &Climb, fleet: &Fleet, fault: Fault) -> RoleResult<Struck> {
    let victim = fleet.webs.last().cloned().ok_or("a web server to strike is needed")?;
    let outcomes = Outcomes::default();
    let mut plan = LoadPlan::new(RATE, TIME).warm_up(WARM_UP).seed(climb.seed);
    plan.timeout = PATIENCE;
    let load = Load::new(fleet.stack.client()?, plan)?;
    let (down, up) = ((outcomes.clone(), victim.clone()), (outcomes.clone(), victim.clone()));
    let faults = Faults::new()
        .at(FAULT_AT, fault.name(), async move {
            down.0.mark();
            fault.strike(&down.1).await;
        })
        .at(HEALED_AT, "healed", async move {
            up.0.mark();
            fault.heal(&up.1).await;
        });
    let mut seen = Vec::new();
    let result = tokio::select! {
        result = load.run_with_faults(climb.keys.reads(climb.seed), outcomes.observer(), faults) => result,
        never = watch(fleet.operator()?, &victim, &mut seen) => match never {},
    };
    let after = |mark: usize, takes: bool| {
        let mark = outcomes.marked(mark)?;
        seen.iter().find(|(at, takes_requests)| *at >= mark && *takes_requests == takes).map(|(at, _)| *at - mark)
    };
    let ejected_after = after(0, false);
    Ok(Struck {
        sent: result.sent,
        failed: result.failed,
        failed_ratio: outcomes.failed_between(),
        p99_ms: outcomes.p99_between_ms(),
        returned_after: ejected_after.and_then(|_| after(1, true)),
        ejected_after,
    })
}

/// Notes again and again whether the balancer sends requests to `victim`.
async fn watch(operator: Operator, victim: &Node, seen: &mut Vec<(Instant, bool)>) -> Infallible {
    loop {
        if let Ok(takes) = operator.takes_requests(victim.addr()).await {
            seen.push((now(), takes));
        }
        tenfold_rig::sleep(LOOK_EVERY).await;
    }
}

/// The claims of r11.
pub fn fault_claims(pairs: &[Pair]) -> Vec<Claim> {
    pairs.iter().map(|pair| if pair.fault == Fault::Slow { late(pair) } else { lost(pair) }).collect()
}

fn lost(Pair { fault, with, without }: &Pair) -> Claim {
    let control = without.failed_ratio * 100.0;
    let is_back = with.ejected_after.is_some() && with.returned_after.is_some();
    let text = match fault {
        Fault::Kill => "kill -9 of one of three web servers: no GET fails",
        _ => "one of three web servers hangs (SIGSTOP): no GET fails",
    };
    Claim::new("r11", text, with.failed_ratio * 100.0, with.failed == 0 && control >= 20.0 && is_back)
        .control(control)
        .unit("% failed")
        .note(format!("{} of {} failed; {}; control: no failover", with.failed, with.sent, spell(with)))
}

fn late(Pair { with, without, .. }: &Pair) -> Claim {
    let is_cured = with.failed == 0 && with.p99_ms <= 0.6 * without.p99_ms && with.ejected_after.is_some();
    Claim::new("r11", "one of three web servers is 200 ms late: p99 meanwhile", with.p99_ms, is_cured)
        .control(without.p99_ms)
        .unit("ms")
        .note(format!("{}; at most 0.6 of the control: no failover", spell(with)))
}

fn spell(struck: &Struck) -> String {
    let ms = |time: Option<Duration>| time.map_or("never".to_owned(), |time| format!("after {} ms", time.as_millis()));
    format!("out {}, back {}", ms(struck.ejected_after), ms(struck.returned_after))
}

/// Each fault with what it did, with failover and without.
pub fn fault_table(pairs: &[Pair]) -> Table {
    let columns = ["one of three", "failed", "without", "p99, ms", "without", "out after, ms", "back after, ms"];
    let mut table = Table::new("faults", columns);
    let percent = |ratio: f64| format!("{:.1} %", ratio * 100.0);
    let ms = |time: Option<Duration>| time.map_or("–".to_owned(), |time| time.as_millis().to_string());
    for Pair { fault, with, without } in pairs {
        table.row([
            fault.name().to_owned(),
            percent(with.failed_ratio),
            percent(without.failed_ratio),
            format!("{:.0}", with.p99_ms),
            format!("{:.0}", without.p99_ms),
            ms(with.ejected_after),
            ms(with.returned_after),
        ]);
    }
    table.note = format!(
        "{RATE} requests/s, users wait {} ms; while the fault lasted; the balancer was looked at every {} ms",
        PATIENCE.as_millis(),
        LOOK_EVERY.as_millis()
    );
    table
}
