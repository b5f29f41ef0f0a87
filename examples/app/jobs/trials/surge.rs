//! r44: ten times the usual load for some seconds.

use std::sync::Mutex;
use std::time::Duration;

use tenfold_rig::{Claim, Exchange, Failure, Load, LoadPlan, RoleResult, Table};

use super::super::site::{Accepted, Mix, Site, jobs};
use crate::rung::Climb;

/// The usual rate, which the work within requests carries well.
const USUAL: f64 = 40.0;
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests may be slower by so much, in milliseconds, before the surge is felt.
const SLACK_MS: f64 = 60.0;

/// What a surge did.
#[derive(Debug, Clone, PartialEq)]
pub struct Surge {
    /// 99th percentile before, in milliseconds.
    pub usual_p99_ms: f64,
    /// And while it lasted, of the requests that were answered well.
    pub p99_ms: f64,
    /// Failed share while it lasted.
    pub failed: f64,
    /// Jobs in the queue, with the time since the surge began.
    pub depth: Vec<(Duration, u64)>,
    /// From its end until nothing was left to do.
    pub drained_after: Option<Duration>,
}

impl Surge {
    fn peak(&self) -> u64 {
        self.depth.iter().map(|(_, jobs)| *jobs).max().unwrap_or(0)
    }
}

/// Sends text messages at the usual rate, then ten times as many for `time`.
///
/// # Errors
///
/// The load cannot be made.
pub async fn surge(climb: &Climb, site: &Site, path: &'static str, time: Duration) -> RoleResult<Surge> {
    let mut source = jobs(Mix::Sms, path, climb.seed);
    let usual = LoadPlan::new(USUAL, Duration::from_secs(2)).warm_up(Duration::from_millis(300)).seed(climb.seed);
    let usual = Load::new(site.stack.client()?, usual)?.run(&mut source, Exchange::verdict).await;
    let plan = LoadPlan::new(USUAL * 10.0, time).warm_up(Duration::from_millis(1)).seed(climb.seed);
    let depth = Mutex::new(Vec::new());
    let load = Load::new(site.stack.client()?, plan)?;
    let watched = async {
        let result = load.run(&mut source, Exchange::verdict).await;
        (result, site.drained(PATIENCE).await)
    };
    let (result, drained_after) = tokio::select! {
        ended = watched => ended,
        never = site.watch_depth(&depth) => match never {},
    };
    Ok(Surge {
        usual_p99_ms: usual.p99_ms,
        p99_ms: result.p99_ms,
        failed: result.failed_ratio(),
        depth: depth.into_inner().unwrap_or_default(),
        drained_after,
    })
}

/// The claims of r44: with a queue, beside the work done within requests.
pub fn surge_claims(queued: &Surge, inline: &Surge) -> Vec<Claim> {
    let is_flat = queued.failed == 0.0 && queued.p99_ms <= queued.usual_p99_ms + SLACK_MS;
    let collapses = inline.failed > 0.05 || inline.p99_ms > queued.p99_ms * 4.0;
    vec![
        Claim::new("r44", "ten times the usual load: p99 of the requests", queued.p99_ms, is_flat && collapses)
            .control(inline.p99_ms)
            .unit("ms")
            .note(format!(
                "{:.0} ms before; control: the work within the request, where {:.0} % fail besides",
                queued.usual_p99_ms,
                inline.failed * 100.0
            )),
        Claim::new("r44", "the surge waits in the queue and drains: jobs at the peak", queued.peak(), {
            queued.peak() > 50 && queued.drained_after.is_some()
        })
        .unit("jobs")
        .note(queued.drained_after.map_or("it did not drain".to_owned(), |time| format!("none {time:.1?} later"))),
    ]
}

/// How the queue grew and shrank.
pub fn surge_table(queued: &Surge) -> Table {
    let mut table = Table::new("Jobs in the queue in and after the surge", ["seconds", "jobs"]);
    let step = (queued.depth.len() / 12).max(1);
    for (at, jobs) in queued.depth.iter().step_by(step) {
        table.row([format!("{:.1}", at.as_secs_f64()), jobs.to_string()]);
    }
    table
}

/// A queue with room for `max_jobs` and nobody who works: what it refuses, what it holds, and what the broker's memory
/// grew by, in bytes.
///
/// # Errors
///
/// The load cannot be made.
pub async fn bounded(climb: &Climb, site: &Site) -> RoleResult<(u64, u64, u64)> {
    let before = rss(site);
    let accepted = Accepted::default();
    let plan = LoadPlan::new(USUAL * 10.0, Duration::from_secs(1)).warm_up(Duration::from_millis(1)).seed(climb.seed);
    let load = Load::new(site.stack.client()?, plan)?;
    let result = load.run(jobs(Mix::Sms, "/jobs", climb.seed), accepted.observer()).await;
    let refused = result.failures.get(&Failure::Overloaded).copied().unwrap_or(0);
    if refused != result.failed {
        return Err(format!("requests failed otherwise than by 429: {:?}", result.failures).into());
    }
    Ok((refused, accepted.count() as u64, rss(site).saturating_sub(before)))
}

fn rss(site: &Site) -> u64 {
    tenfold_rig::process_usage(site.broker.pid()).map_or(0, |usage| usage.rss_bytes)
}

/// The claim of r44 about the bound.
pub fn bounded_claim((refused, accepted, grown): (u64, u64, u64), max_jobs: u64) -> Claim {
    let is_bounded = refused > 0 && accepted == max_jobs && grown < 64 << 20;
    Claim::new("r44", "a queue with a bound refuses what is too much, with 429", refused, is_bounded)
        .unit("refused")
        .note(format!("{accepted} of at most {max_jobs} accepted; the broker's memory grew by {} KiB", grown >> 10))
}
