//! r17: how late replicas are, and what that does to who reads what they have just written.

use std::time::Duration;

use futures_util::future::try_join_all;
use tenfold_rig::{Claim, Latency, RoleResult, Table, now, sleep};

use crate::replicated::site::{Browser, Site};
use crate::rung::Climb;

/// So late replicas apply the log once that is injected.
const INJECTED_MS: u64 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(1);
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Upper bounds of the histogram, in milliseconds.
const BOUNDS_MS: [u64; 7] = [2, 5, 10, 20, 50, 100, 200];
/// Users that the two kinds of browsers write.
const FIRST: [u64; 2] = [2_000, 4_000];

/// What was seen of the lag and of its effect.
#[derive(Debug, Clone, Default)]
pub struct Lag {
    plain: Times,
    injected: Times,
    /// Reads after one's own write that showed an older version: with the session, and without.
    stale: [u64; 2],
    reads: u64,
}

#[derive(Debug, Clone, Default)]
struct Times {
    latency: Latency,
    buckets: [u64; BOUNDS_MS.len() + 1],
}

impl Times {
    fn record(&mut self, time: Duration) {
        self.latency.record(time);
        let bucket = BOUNDS_MS.iter().position(|bound| time <= Duration::from_millis(*bound));
        self.buckets[bucket.unwrap_or(BOUNDS_MS.len())] += 1;
    }
}

/// Measures the lag of `site`, injects more of it live, and reads behind its writes.
///
/// # Errors
///
/// A server does not answer, or a replica does not catch up.
pub async fn lag(climb: &Climb, site: &Site) -> RoleResult<Lag> {
    let (writes, late, reads) = (climb.pick(80, 40), climb.pick(15, 10), climb.pick(40, 20));
    let mut seen = Lag { reads, ..Lag::default() };
    measure(site, writes, &mut seen.plain).await?;
    site.delay(INJECTED_MS).await?;
    measure(site, late, &mut seen.injected).await?;
    let (with, without) = tokio::try_join!(
        stale(site, Browser::default(), FIRST[0], reads),
        stale(site, Browser::forgetful(), FIRST[1], reads)
    )?;
    seen.stale = [with, without];
    site.delay(0).await?;
    Ok(seen)
}

/// From the acknowledgement of a write until each replica shows it, one write after the other.
async fn measure(site: &Site, writes: u64, times: &mut Times) -> RoleResult {
    let mut browser = Browser::forgetful();
    for id in 1..=writes {
        site.write(0, &mut browser, id).await?;
        let acknowledged = now();
        let place = site.seen(0).await?.replayed;
        let replicas = 1..site.databases.len() as u16;
        let lags = try_join_all(replicas.map(|replica| async move {
            loop {
                if site.seen(replica).await?.replayed >= place {
                    return RoleResult::Ok(now() - acknowledged);
                }
                if now() > acknowledged + SEEN_WITHIN {
                    return Err("a replica does not catch up".into());
                }
                sleep(LOOK_EVERY).await;
            }
        }));
        lags.await?.into_iter().for_each(|lag| times.record(lag));
    }
    Ok(())
}

/// Writes through one web server and reads through the next; how often the read is older than the write.
async fn stale(site: &Site, mut browser: Browser, first: u64, reads: u64) -> RoleResult<u64> {
    let (mut stale, webs) = (0, site.stack.fronts.len());
    for turn in 0..reads {
        let (id, web) = (first + turn, turn as usize % webs);
        let written = site.write(web, &mut browser, id).await?;
        let seen = site.read((web + 1) % webs, &mut browser, id).await?;
        stale += u64::from(seen < written);
    }
    Ok(stale)
}

/// The claims of r17.
pub fn lag_claims(lag: &Lag) -> Vec<Claim> {
    let (plain, injected) = (lag.plain.latency.quantile_ms(0.5), lag.injected.latency.quantile_ms(0.5));
    let [with, without] = lag.stale;
    vec![
        Claim::new("r17", "replication lag, median", plain, {
            plain < INJECTED_MS as f64 / 2.0 && injected >= INJECTED_MS as f64 * 0.9
        })
        .control(injected)
        .unit("ms")
        .note(format!(
            "from the acknowledgement until a replica shows it; p99 {:.0} ms; control: {INJECTED_MS} ms injected live",
            lag.plain.latency.quantile_ms(0.99)
        )),
        Claim::new("r17", "reads older than one's own write before them", with, with == 0 && without > 0)
            .control(without)
            .unit("stale reads")
            .note(format!(
                "of {}, written through one web server and read through the next, {INJECTED_MS} ms lag; control: no cookie",
                lag.reads
            )),
    ]
}

/// The histogram of the lag.
pub fn lag_table(lag: &Lag) -> Table {
    let injected = format!("{INJECTED_MS} ms injected");
    let mut table = Table::new("replication lag", ["at most, ms", "as it is", injected.as_str()]);
    for (index, (plain, injected)) in lag.plain.buckets.iter().zip(&lag.injected.buckets).enumerate() {
        let bound = BOUNDS_MS.get(index).map_or("more".to_owned(), u64::to_string);
        table.row([bound, plain.to_string(), injected.to_string()]);
    }
    let row = |label: &str, quantile: f64| {
        let ms = |times: &Times| format!("{:.1}", times.latency.quantile_ms(quantile));
        [label.to_owned(), ms(&lag.plain), ms(&lag.injected)]
    };
    table.row(row("median, ms", 0.5));
    table.row(row("p99, ms", 0.99));
    table.note = "how many times a replica showed a write so late; replicas were looked at every ms".to_owned();
    table
}
