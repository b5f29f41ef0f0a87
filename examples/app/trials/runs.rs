//! The trials with the systems they need, side by side where they do not disturb each other.

use std::time::Duration;

use tenfold_rig::{Claim, RoleResult, RungReport, Table};

use super::{
    Hoard, Peak, Setup, Site, flood, forced_race, lose_a_server, lost, mass_expiry, memory, oracle, policies, profile,
    stale, strategy_table, sweep, sweep_table,
};
use crate::cached::Strategy;
use crate::rung::{Climb, Stack};

const BUDGET_BYTES: u64 = 48 << 20;
const UNBOUNDED_INSERTS: u64 = 1_000_000;
const MASS_TIME_TO_LIVE_MS: u64 = 2_000;
const MASS_JITTER_PERCENT: u8 = 60;

/// Tables and claims of some trials.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Tables.
    pub tables: Vec<Table>,
    /// Claims.
    pub claims: Vec<Claim>,
    /// Share of requests that failed when a cache server was killed: one of three, and the only one.
    pub loss: Option<(f64, f64)>,
}

impl Findings {
    /// Moves them into a report.
    pub fn add_to(self, report: &mut RungReport) {
        report.tables.extend(self.tables);
        report.claims.extend(self.claims);
        if let Some((ring, only)) = self.loss {
            report.fault = "kill -9 one of 3 cache servers".to_owned();
            (report.failed_ratio, report.control_failed_ratio) = (Some(ring), Some(only));
        }
    }
}

/// r28 and r29, which need no servers: processes of the role `hoarder`, and a replay.
///
/// # Errors
///
/// A process does not start.
pub async fn memory_and_policies(climb: &Climb, hoarder: &str, report: &mut RungReport) -> RoleResult {
    let stack = Stack::new()?;
    let bounded = Hoard { inserts: climb.pick(10_000_000, 1_500_000), budget_bytes: Some(BUDGET_BYTES) };
    let unbounded = Hoard { inserts: UNBOUNDED_INSERTS, budget_bytes: None };
    let (bounded, unbounded) =
        tokio::try_join!(Peak::of(&stack.tiers, hoarder, bounded), Peak::of(&stack.tiers, hoarder, unbounded),)?;
    let (table, claim) = policies(&climb.keys, climb.seed, climb.pick(76_000, 40_000));
    report.tables.push(table);
    report.claims.extend([memory(bounded, BUDGET_BYTES, unbounded), claim]);
    Ok(())
}

/// r22 and r23: the three strategies on systems that differ in nothing else; `start` starts one.
///
/// # Errors
///
/// A system does not start or does not answer.
pub async fn strategies<F, Fut>(climb: &Climb, start: F) -> RoleResult<Findings>
where
    F: Fn(Setup) -> Fut,
    Fut: Future<Output = RoleResult<Site>>,
{
    let time = Duration::from_secs(climb.pick(6, 4));
    let one = |strategy| {
        let site = start(Setup::of_profile(strategy));
        async move { profile(site.await?, climb.seed, time).await }
    };
    let (aside, through, ahead) =
        tokio::try_join!(one(Strategy::Aside), one(Strategy::ReadThrough), one(Strategy::RefreshAhead))?;
    let rows = [("cache-aside", aside), ("read-through", through), ("refresh-ahead", ahead)];
    let (table, claims) = strategy_table(&rows);
    Ok(Findings { tables: vec![table], claims, loss: None })
}

/// r20, r21 and r24 to r27: pairs of small systems, one with what the row is about and one without.
///
/// # Errors
///
/// A system does not start or does not answer.
pub async fn freshness<F, Fut>(climb: &Climb, start: F) -> RoleResult<Findings>
where
    F: Fn(Setup) -> Fut,
    Fut: Future<Output = RoleResult<Site>>,
{
    let (aside, through) = (Setup::small(Strategy::Aside), Setup::small(Strategy::ReadThrough));
    let expiring = |jitter| aside.expiring(MASS_TIME_TO_LIVE_MS, jitter);
    let (guarded, careless, steady, spread, ring, only) = tokio::try_join!(
        start(aside),
        start(aside.protection(false, true)),
        start(expiring(0)),
        start(expiring(MASS_JITTER_PERCENT)),
        start(Setup { caches: 3, ..aside }),
        start(aside),
    )?;
    let (seed, time, requests) = (climb.seed, Duration::from_secs(climb.pick(4, 2)), climb.pick(240, 150));
    let (guarded, careless, jitter, ring, only, with, without, flood, race) = tokio::try_join!(
        oracle(&guarded, seed, time),
        oracle(&careless, seed, time),
        mass_expiry(&steady, &spread, Duration::from_millis(MASS_TIME_TO_LIVE_MS), seed),
        lose_a_server(&ring, seed),
        lose_a_server(&only, seed),
        async { sweep(start(aside).await?, seed, requests).await },
        async { sweep(start(aside.without_cache()).await?, seed, requests).await },
        async { flood(start(through).await?, start(aside.protection(true, false)).await?).await },
        async { forced_race(&start(aside).await?).await },
    )?;
    let (table, pays) = sweep_table(&with, &without);
    let loss = Some((ring.failed_ratio, only.failed_ratio));
    let mut findings = Findings { tables: vec![table], claims: vec![jitter, race, pays], loss };
    findings.claims.extend(stale(&guarded, &careless));
    findings.claims.extend(lost(&ring, &only));
    findings.claims.extend(flood);
    Ok(findings)
}
