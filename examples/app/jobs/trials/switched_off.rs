//! r43: nobody works, and nobody who sends notices.

use std::time::Duration;

use tenfold_rig::{Claim, Exchange, Faults, Load, LoadPlan, RoleResult};

use super::super::site::{Accepted, Mix, Site, jobs};
use crate::measure::Outcomes;
use crate::rung::Climb;

const RATE: f64 = 60.0;
const OFF_AT: Duration = Duration::from_millis(1_500);
const ON_AT: Duration = Duration::from_millis(3_500);
const TIME: Duration = Duration::from_millis(4_000);
const PATIENCE: Duration = Duration::from_secs(15);
/// The 99th percentile may grow so much, in milliseconds, before it is not the same any more.
const SLACK_MS: f64 = 40.0;

/// What senders noticed while the workers were off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwitchedOff {
    /// Failed share of the requests before.
    pub failed_before: f64,
    /// And while it lasted.
    pub failed_between: f64,
    /// 99th percentile of all requests that were answered well while it lasted, in milliseconds.
    pub p99_ms: f64,
    /// Jobs accepted.
    pub accepted: usize,
    /// Jobs done in the end.
    pub done: usize,
    /// From the workers' return until nothing was left to do.
    pub drained_after: Option<Duration>,
}

/// Sends jobs and stops whoever does them, for two seconds.
///
/// # Errors
///
/// The load cannot be made.
pub async fn switched_off(climb: &Climb, site: &Site, path: &'static str) -> RoleResult<SwitchedOff> {
    let (accepted, outcomes) = (Accepted::default(), Outcomes::default());
    // Without a queue, those who do the work are whoever the web server asks.
    let doers = if site.workers.is_empty() { vec![site.world.clone()] } else { site.workers.clone() };
    let (off, on, marks) = (doers.clone(), doers, (outcomes.clone(), outcomes.clone()));
    let faults = Faults::new()
        .at(OFF_AT, "workers off", async move {
            marks.0.mark();
            off.iter().for_each(|doer| drop(doer.suspend()));
        })
        .at(ON_AT, "workers on", async move {
            marks.1.mark();
            on.iter().for_each(|doer| drop(doer.resume()));
        });
    let mut plan = LoadPlan::new(RATE, TIME).warm_up(Duration::from_millis(1)).seed(climb.seed);
    plan.timeout = Duration::from_secs(1);
    let (note, observe) = (accepted.observer(), outcomes.observer());
    let both = move |exchange: &Exchange| {
        let _ = note(exchange);
        observe(exchange)
    };
    Load::new(site.stack.client()?, plan)?.run_with_faults(jobs(Mix::Sms, path, climb.seed), both, faults).await;
    let drained_after = site.drained(PATIENCE).await;
    let done = site.effects().await?.remove("sms").unwrap_or_default().once;
    Ok(SwitchedOff {
        failed_before: outcomes.failed_before(),
        failed_between: outcomes.failed_between(),
        p99_ms: outcomes.p99_between_ms(),
        accepted: accepted.count(),
        done: accepted.of("sms").intersection(&done).count(),
        drained_after,
    })
}

/// The claims of r43.
pub fn switched_off_claims(queued: &SwitchedOff, usual_p99_ms: f64, inline: &SwitchedOff) -> Vec<Claim> {
    let percent = |share: f64| share * 100.0;
    // About a half: who asks within a request's time of the end has an answer after all.
    let holds = queued.failed_between == 0.0 && inline.failed_between > 0.25;
    let is_flat = queued.p99_ms <= usual_p99_ms + SLACK_MS;
    let drained_ms = queued.drained_after.map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3);
    vec![
        Claim::new("r43", "nobody works for 2 s: requests that fail", percent(queued.failed_between), holds)
            .control(percent(inline.failed_between))
            .unit("% failed")
            .note("control: the work is done within the request, and its provider hangs"),
        Claim::new("r43", "meanwhile a request takes, at the 99th percentile", queued.p99_ms, is_flat)
            .control(usual_p99_ms)
            .unit("ms")
            .note("control: the same with workers at work"),
        Claim::new("r43", "the backlog drains when they are back, nothing lost", drained_ms, {
            queued.drained_after.is_some() && queued.done == queued.accepted
        })
        .unit("ms")
        .note(format!("{} of {} accepted jobs done", queued.done, queued.accepted)),
    ]
}
