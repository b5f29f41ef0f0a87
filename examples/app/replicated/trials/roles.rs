//! r14: who takes writes, who refuses them, and whether all hold the same in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use tenfold_rig::{Claim, Exchange, Load, LoadPlan, Rng, RoleResult, RungReport, Table};

use super::write;
use crate::database::{Batch, Database, Statement, Value};
use crate::keys;
use crate::replicated::site::{Browser, Site};
use crate::rung::{Climb, USERS};
use crate::sqlite::DatabaseStats;

const RATE: f64 = 200.0;
const TIME: Duration = Duration::from_millis(800);
const WRITES_ONE_IN: u64 = 3;
const QUIET_WITHIN: Duration = Duration::from_secs(5);
/// Beyond the sample users.
const STRANGER: u64 = USERS + 1_000;
/// Longer than the comparison takes, however busy the machine is.
const HELD_BACK_MS: u64 = 600_000;

/// Loads `site`, writes to each of its database servers directly, compares what they hold. The replicas are left behind.
///
/// # Errors
///
/// The load cannot be made, or a server does not answer.
pub async fn roles(climb: &Climb, site: &Site, report: &mut RungReport) -> RoleResult {
    let (mut rng, before) = (Rng::new(climb.seed), site.stats().await);
    let source = move || {
        let key = 1 + rng.below(USERS);
        if rng.below(WRITES_ONE_IN) == 0 { write(key) } else { keys::read(key) }
    };
    let plan = LoadPlan::new(RATE, TIME).warm_up(Duration::from_millis(1)).seed(climb.seed);
    let result = Load::new(site.stack.client()?, plan)?.run(source, Exchange::verdict).await;
    let counts = |(now, before): (DatabaseStats, DatabaseStats)| (now.reads - before.reads, now.writes - before.writes);
    let stats: Vec<_> = site.stats().await.into_iter().zip(before).map(counts).collect();
    let (by_primary, by_replicas) = (stats[0].1, stats[1..].iter().map(|stats| stats.1).sum::<u64>());
    let mut table = Table::new("who did what", ["database server", "reads", "writes"]);
    for (node, (reads, writes)) in site.databases.iter().zip(&stats) {
        table.row([node.name().to_owned(), reads.to_string(), writes.to_string()]);
    }
    table.note =
        format!("{RATE} requests/s for {} ms, one in {WRITES_ONE_IN} a write; db-0 is the primary", TIME.as_millis());
    report.tables.push(table);

    let mut accepted = Vec::new();
    for id in 0..site.databases.len() as u16 {
        accepted.push(accepted_by(site, id).await?);
    }
    let (by_primary_directly, by_replicas_directly) = (accepted[0], accepted[1..].iter().sum::<u64>());
    let is_quiet = site.quiet(QUIET_WITHIN).await?;
    let same = different(site).await?;
    site.delay(HELD_BACK_MS).await?;
    site.write(0, &mut Browser::default(), 1).await?;
    let held_back = different(site).await?;

    report.claims.extend([
        Claim::new("r14", "the primary takes all writes: taken by the three replicas", by_replicas, {
            by_replicas == 0 && by_primary > 0 && result.failed == 0
        })
        .control(by_primary)
        .unit("writes")
        .note(format!("of {} requests, none failed; control: the primary", result.sent)),
        Claim::new("r14", "INSERT, UPDATE and DELETE sent to each replica: accepted", by_replicas_directly, {
            by_replicas_directly == 0 && by_primary_directly == 3
        })
        .control(by_primary_directly)
        .unit("statements")
        .note("past the web tier; control: the same three at the primary"),
        Claim::new("r14", "one primary, three replicas, the same rows on all: different hashes", same, {
            is_quiet && same == 1 && held_back > 1
        })
        .control(held_back)
        .unit("hashes")
        .note("when all is applied; control: a write is made that the replicas hold back"),
    ]);
    Ok(())
}

/// How many of three statements that write a server accepts.
async fn accepted_by(site: &Site, id: u16) -> RoleResult<u64> {
    let user = Value::from(STRANGER + u64::from(id));
    let statements = [
        "INSERT INTO users (id, first_name, last_name, phone) VALUES (?1, 'A', 'B', '123')",
        "UPDATE users SET phone = '456' WHERE id = ?1",
        "DELETE FROM users WHERE id = ?1",
    ];
    let (server, mut accepted) = (site.direct(id)?, 0);
    for sql in statements {
        accepted += u64::from(server.run(Batch::write([Statement::new(sql, [user.clone()])])).await.is_ok());
    }
    Ok(accepted)
}

async fn different(site: &Site) -> RoleResult<u64> {
    Ok(site.hashes().await?.into_iter().collect::<BTreeSet<_>>().len() as u64)
}
