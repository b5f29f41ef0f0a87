//! r22 and r23: the three strategies under the same four experiments.

use std::sync::Arc;
use std::time::Duration;

use tenfold_rig::{Claim, Table};
use tenfold_rig::{Exchange, Load, LoadPlan, Rng, RoleResult, now, sleep};
use tokio::task::JoinSet;

use super::site::Site;
use crate::database::{Batch, Database, Statement, Value};
use crate::keys;
use crate::remote::RemoteDatabase;

/// Time to live of the entries in these experiments.
pub(super) const TIME_TO_LIVE_MS: u64 = 1_000;
/// Age from which refresh-ahead reloads.
pub(super) const REFRESH_AFTER_MS: u64 = 600;

const HOT_KEYS: u64 = 20;
const HOT_RATE: f64 = 200.0;
const HOT_WINDOWS: u32 = 3;
const COLD_KEYS: u64 = 160;
const COLD_AT_ONCE: u64 = 4;
const FORGOTTEN_KEYS: u64 = 50;
const STALE_KEYS: u64 = 5;
const POLL: Duration = Duration::from_millis(5);

/// One strategy's figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Share of reads of hot keys answered by the cache while entries expire again and again.
    pub hit_ratio: f64,
    /// Database reads in the same time.
    pub queries: u64,
    /// How far the 95th percentile of the same reads lies above their median: one of ten meets an expired entry, so it lies
    /// in the midst of those that wait for the database, and far from what the machine does to one in a hundred.
    pub spike_ms: f64,
    /// 99th percentile of first reads.
    pub cold_p99_ms: f64,
    /// The same of second reads.
    pub warm_p99_ms: f64,
    /// How long a value was served after it had been replaced past the cache.
    pub stale_ms: f64,
    /// Loads of entries that nobody read again.
    pub wasted: u64,
}

/// Measures one strategy on `site`, whose entries live for a second (and refresh after 0.6 s, if they do at all).
///
/// # Errors
///
/// The system does not answer.
pub async fn profile(site: Site, seed: u64, time: Duration) -> RoleResult<Profile> {
    let site = Arc::new(site);
    let cold_p99_ms = read_once(&site).await?;
    let warm_p99_ms = read_once(&site).await?;
    let (hit_ratio, queries, spike_ms) = hot(&site, seed, time).await?;
    let stale_ms = stale(&site).await?;
    let wasted = forgotten(&site).await?;
    Ok(Profile { hit_ratio, queries, spike_ms, cold_p99_ms, warm_p99_ms, stale_ms, wasted })
}

/// Reads many keys once, a few at a time; the 99th percentile.
async fn read_once(site: &Arc<Site>) -> RoleResult<f64> {
    let mut readers = JoinSet::new();
    for reader in 0..COLD_AT_ONCE {
        let site = Arc::clone(site);
        readers.spawn(async move {
            let mut times = Vec::new();
            for id in (10_000 + reader..10_000 + COLD_KEYS).step_by(COLD_AT_ONCE as usize) {
                let began = now();
                site.read(id).await?;
                times.push((now() - began).as_secs_f64() * 1e3);
            }
            Ok::<_, crate::http::CallError>(times)
        });
    }
    let mut times = Vec::new();
    for reader in readers.join_all().await {
        times.extend(reader?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() * 99 / 100).copied().unwrap_or_default())
}

/// Steady reads of a few keys through several lifetimes of their entries: share of hits, database reads, and the median of
/// the windows' spikes, so that one hiccup of the machine does not pass for one.
async fn hot(site: &Site, seed: u64, time: Duration) -> RoleResult<(f64, u64, f64)> {
    let (web, database) = (site.web_stats().await?, site.database_stats().await?);
    let mut spikes = Vec::new();
    for window in 0..HOT_WINDOWS {
        let mut rng = Rng::new(seed).fork(u64::from(window));
        let plan = LoadPlan::new(HOT_RATE, time / HOT_WINDOWS).warm_up(Duration::from_millis(200)).seed(seed);
        let load = Load::new(site.stack.client()?, plan)?;
        let result = load.run(move || keys::read(1 + rng.below(HOT_KEYS)), Exchange::verdict).await;
        spikes.push(result.latency.quantile_ms(0.95) - result.latency.quantile_ms(0.5));
    }
    spikes.sort_by(f64::total_cmp);
    let (web_after, database_after) = (site.web_stats().await?, site.database_stats().await?);
    let (hits, misses) = (web_after.hits - web.hits, web_after.misses - web.misses);
    let hit_ratio = hits as f64 / (hits + misses).max(1) as f64;
    Ok((hit_ratio, database_after.reads - database.reads, spikes[spikes.len() / 2]))
}

/// Reads a key, replaces it past the cache at once, and reads on until the new version is seen; the longest of a few.
async fn stale(site: &Arc<Site>) -> RoleResult<f64> {
    let database = RemoteDatabase::new(site.database.addr());
    let mut readers = JoinSet::new();
    for id in 15_000..15_000 + STALE_KEYS {
        let (site, database) = (Arc::clone(site), database.clone());
        readers.spawn(async move {
            let old = site.read(id).await?;
            let sql = "UPDATE users SET version = version + 1 WHERE id = ?1";
            database.run(Batch::write([Statement::new(sql, [Value::from(id)])])).await?;
            let written = now();
            while site.read(id).await? == old {
                sleep(POLL).await;
            }
            RoleResult::Ok((now() - written).as_secs_f64() * 1e3)
        });
    }
    let mut longest = 0.0_f64;
    for reader in readers.join_all().await {
        longest = longest.max(reader?);
    }
    Ok(longest)
}

/// Reads many keys, reads them once more late in their life, and never again: what is loaded after that is wasted.
async fn forgotten(site: &Arc<Site>) -> RoleResult<u64> {
    let ids = 17_000..17_000 + FORGOTTEN_KEYS;
    let read_all = || async {
        let mut readers = JoinSet::new();
        for id in ids.clone() {
            let site = Arc::clone(site);
            readers.spawn(async move { site.read(id).await });
        }
        for reader in readers.join_all().await {
            reader?;
        }
        RoleResult::Ok(())
    };
    read_all().await?;
    sleep(Duration::from_millis((REFRESH_AFTER_MS + TIME_TO_LIVE_MS) / 2 - 60)).await;
    let before = site.database_stats().await?.reads;
    read_all().await?;
    // The refreshes wait for the database's slots.
    sleep(Duration::from_millis(400)).await;
    Ok(site.database_stats().await?.reads - before)
}

/// The table of r23 and what it claims; `rows` are cache-aside, read-through and refresh-ahead, in this order.
pub fn strategy_table(rows: &[(&str, Profile); 3]) -> (Table, Vec<Claim>) {
    let columns =
        ["strategy", "hit %", "cold p99 ms", "expiry spike ms", "stale ms", "database queries", "wasted loads"];
    let mut table = Table::new("the three strategies, measured", columns);
    for (name, profile) in rows {
        table.row([
            (*name).to_owned(),
            format!("{:.1}", profile.hit_ratio * 100.0),
            format!("{:.0}", profile.cold_p99_ms),
            format!("{:.0}", profile.spike_ms),
            format!("{:.0}", profile.stale_ms),
            profile.queries.to_string(),
            profile.wasted.to_string(),
        ]);
    }
    table.note = format!(
        "{HOT_KEYS} hot keys at {HOT_RATE}/s for hits, spikes (from the median to p95) and queries; stale: replaced past the \
         cache; wasted: loaded and never read. Entries live {TIME_TO_LIVE_MS} ms, refresh after {REFRESH_AFTER_MS} ms."
    );
    let [(_, aside), (_, through), (_, ahead)] = rows;
    let lifetime = TIME_TO_LIVE_MS as f64;
    let oldest = aside.stale_ms.max(through.stale_ms);
    let bounded = [aside, through, ahead].iter().all(|profile| profile.stale_ms <= lifetime * 1.25);
    let (cold, warm) = (aside.cold_p99_ms, aside.warm_p99_ms);
    let (spike, without) = (ahead.spike_ms, through.spike_ms);
    let (wasted, none) = (ahead.wasted, through.wasted);
    let claims = vec![
        Claim::new("r20", "cache-aside: the first read of a key is slow", cold, cold > warm * 1.5)
            .control(warm)
            .unit("ms p99")
            .note("control: the second read of the same keys"),
        Claim::new("r22", "refresh-ahead: no latency spike when entries expire", spike, spike < without / 2.0)
            .control(without)
            .unit("ms from median to p95")
            .note("control: read-through without refresh"),
        Claim::new("r22", "its price: loads that nobody reads when it guessed wrong", wasted, wasted > 0 && none == 0)
            .control(none)
            .unit("wasted loads")
            .note(format!("{FORGOTTEN_KEYS} keys read late in their life and never again")),
        Claim::new("r23", "whatever the strategy, the time to live bounds how old an answer is", oldest, bounded)
            .control(ahead.stale_ms)
            .unit("ms")
            .note("written past the cache; beside it: refresh-ahead"),
    ];
    (table, claims)
}
