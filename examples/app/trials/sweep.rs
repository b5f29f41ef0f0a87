//! r25: reads against writes: the row at which a cache stops paying.

use std::sync::Arc;

use tenfold_rig::{Claim, Table};
use tenfold_rig::{Rng, RoleResult, now};
use tokio::task::JoinSet;

use super::site::Site;

/// Reads to writes.
const RATIOS: [(u64, u64); 6] = [(100, 1), (10, 1), (3, 1), (1, 1), (1, 3), (1, 10)];
const KEYS: u64 = 60;
const WORKERS: u64 = 3;
/// A cache that saves less than this share of the time is not worth its machines and its stale window.
const WORTH: f64 = 0.10;

/// One system at one ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sweep {
    /// Mean time of a request, in milliseconds.
    pub mean_ms: f64,
    /// Database queries a request, reads and writes.
    pub queries: f64,
}

/// Runs each ratio on `site`, `requests` each, a few at a time.
///
/// # Errors
///
/// The system does not answer.
pub async fn sweep(site: Site, seed: u64, requests: u64) -> RoleResult<Vec<Sweep>> {
    if !site.caches.is_empty() {
        // The first row is about steady use, not about a cold start.
        site.warm(1..=KEYS).await?;
    }
    let site = Arc::new(site);
    let mut rows = Vec::new();
    for (number, ratio) in RATIOS.into_iter().enumerate() {
        let before = site.database_stats().await?;
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let site = Arc::clone(&site);
            let rng = Rng::new(seed).fork(number as u64 * WORKERS + worker);
            workers.spawn(work(site, ratio, rng, requests / WORKERS));
        }
        let mut total_ms = 0.0;
        for worker in workers.join_all().await {
            total_ms += worker?;
        }
        let after = site.database_stats().await?;
        let queries = after.reads + after.writes - before.reads - before.writes;
        let sent = (requests / WORKERS * WORKERS) as f64;
        rows.push(Sweep { mean_ms: total_ms / sent, queries: queries as f64 / sent });
    }
    Ok(rows)
}

async fn work(site: Arc<Site>, (reads, writes): (u64, u64), mut rng: Rng, requests: u64) -> RoleResult<f64> {
    let mut total_ms = 0.0;
    for _ in 0..requests {
        let key = 1 + rng.below(KEYS);
        let began = now();
        if rng.below(reads + writes) < writes {
            site.write(key).await?;
        } else {
            site.read(key).await?;
        }
        total_ms += (now() - began).as_secs_f64() * 1e3;
    }
    Ok(total_ms)
}

/// The table of r25 and what it claims.
pub fn sweep_table(with: &[Sweep], without: &[Sweep]) -> (Table, Claim) {
    let columns = ["reads:writes", "ms with cache", "ms without", "queries with", "queries without", "pays"];
    let mut table = Table::new("when a cache pays", columns);
    let mut stops = None;
    let mut saved = Vec::new();
    for ((reads, writes), (with, without)) in RATIOS.into_iter().zip(with.iter().zip(without)) {
        let share = 1.0 - with.mean_ms / without.mean_ms;
        saved.push(share);
        if share < WORTH && stops.is_none() {
            stops = Some(format!("{reads}:{writes}"));
        }
        table.row([
            format!("{reads}:{writes}"),
            format!("{:.1}", with.mean_ms),
            format!("{:.1}", without.mean_ms),
            format!("{:.2}", with.queries),
            format!("{:.2}", without.queries),
            if share < WORTH { "no".to_owned() } else { format!("{:.0} %", share * 100.0) },
        ]);
    }
    table.note = format!("pays: mean time saved, at least {:.0} %; {KEYS} keys", WORTH * 100.0);
    let holds = saved.first().is_some_and(|first| *first > 0.5) && saved.last().is_some_and(|last| *last < WORTH);
    let value = stops.unwrap_or_else(|| "never".to_owned());
    let claim = Claim::new("r25", "the cache pays when reads prevail; it stops paying at this row", value, holds)
        .control(format!("{:.0} % saved at 100:1", saved.first().unwrap_or(&0.0) * 100.0));
    (table, claim)
}
