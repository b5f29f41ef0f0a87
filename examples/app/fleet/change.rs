//! r12: web servers join and leave under load.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenfold_rig::{Claim, Exchange, Faults, Instant, Load, LoadPlan, Node, RoleResult, now, sleep};

use super::{Fleet, Operator};
use crate::rung::Climb;

const RATE: f64 = 240.0;
const JOINS_AT: Duration = Duration::from_millis(400);
const LEAVES_AT: Duration = Duration::from_millis(3_600);
const TIME: Duration = Duration::from_millis(5_000);
const WARM_UP: Duration = Duration::from_millis(600);
const GRACE: Duration = Duration::from_secs(5);
/// How long an operator takes to tell a balancer of a server that was just switched off.
const TOLD_AFTER: Duration = Duration::from_millis(400);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The share of a server is looked at over so many looks.
const LOOKS: usize = 5;
/// So much of a fair share is one, as a look cuts rounds in two.
const NEARLY: f64 = 0.85;
/// The balancer's slow start, at the end of which a new server is like any other, and the time to see that.
const FAIR_WITHIN_MS: f64 = 2_700.0;

/// How a server leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Drained first, removed when its last request has ended, then switched off.
    Drained,
    /// Switched off in the middle of its work, and removed when somebody notices.
    SwitchedOff,
}

/// Loads `fleet` steadily; its last web server joins, then its first one leaves. Returns requests sent, requests
/// dropped, and how long the new server took to have its fair share.
///
/// # Errors
///
/// The load cannot be made.
pub async fn change(climb: &Climb, fleet: &Fleet, how: Change) -> RoleResult<(u64, u64, Option<Duration>)> {
    let operator = fleet.operator()?;
    let (Some(leaver), Some(joiner)) = (fleet.webs.first().cloned(), fleet.webs.last().cloned()) else {
        return Err("a server that joins and one that leaves are needed".into());
    };
    let joined = Arc::new(Mutex::new(None));
    let (mark, joining, leaving) = (Arc::clone(&joined), operator.clone(), operator);
    let faults = Faults::new()
        .at(JOINS_AT, "join", async move {
            // A server that is refused shows as one that never has its share.
            let _ = joining.add(joiner.addr()).await;
            *mark.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
        })
        .at(LEAVES_AT, "leave", async move { leave(&leaving, &leaver, how).await });
    let plan = LoadPlan::new(RATE, TIME).warm_up(WARM_UP).seed(climb.seed);
    let load = Load::new(fleet.stack.client()?, plan)?;
    let mut looks = Vec::new();
    let result = tokio::select! {
        result = load.run_with_faults(climb.keys.reads(climb.seed), Exchange::verdict, faults) => result,
        never = watch(fleet, &mut looks) => match never {},
    };
    let joined = *joined.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((result.sent, result.failed, joined.and_then(|joined| fair_after(&looks, joined))))
}

async fn leave(operator: &Operator, leaver: &Node, how: Change) {
    // What is refused here shows as requests that fail.
    match how {
        Change::Drained => {
            let _ = operator.drain(leaver.addr()).await;
            let _ = operator.remove(leaver.addr()).await;
            let _ = leaver.stop(GRACE).await;
        }
        Change::SwitchedOff => {
            let _ = leaver.stop(GRACE).await;
            sleep(TOLD_AFTER).await;
            let _ = operator.remove(leaver.addr()).await;
        }
    }
}

/// Notes again and again what each web server has answered, until one has left.
async fn watch(fleet: &Fleet, looks: &mut Vec<(Instant, Vec<u64>)>) -> Infallible {
    while let Ok(answered) = fleet.answered().await {
        looks.push((now(), answered));
        sleep(LOOK_EVERY).await;
    }
    std::future::pending().await
}

/// From `joined` until the last server had its fair share over some looks.
fn fair_after(looks: &[(Instant, Vec<u64>)], joined: Instant) -> Option<Duration> {
    let since = looks.iter().skip_while(|(at, _)| *at < joined).collect::<Vec<_>>();
    let fair = since.windows(LOOKS).find(|window| {
        let (first, last) = (&window[0].1, &window[LOOKS - 1].1);
        let gains: Vec<u64> = last.iter().zip(first).map(|(last, first)| last - first).collect();
        let fair = gains.iter().sum::<u64>() as f64 / gains.len() as f64;
        gains.last().is_some_and(|gain| *gain as f64 >= NEARLY * fair)
    });
    fair.map(|window| window[LOOKS - 1].0 - joined)
}

/// The claims of r12.
pub fn change_claims(
    (sent, dropped, fair): (u64, u64, Option<Duration>),
    (_, control, _): (u64, u64, Option<Duration>),
) -> Vec<Claim> {
    let window = LOOK_EVERY * (LOOKS as u32 - 1);
    let fair_ms = fair.map(|fair| fair.as_millis() as f64);
    let said = fair_ms.map_or("never".into(), tenfold_rig::Value::from);
    vec![
        Claim::new("r12", "one server joins and one leaves, drained, under load: requests dropped", dropped, {
            dropped == 0 && control > 0
        })
        .control(control)
        .unit("dropped")
        .note(format!("of {sent}, without retries; control: switched off, and removed when somebody notices")),
        Claim::new(
            "r12",
            "the new server has its fair share after",
            said,
            fair_ms.is_some_and(|ms| ms <= FAIR_WITHIN_MS),
        )
        .unit("ms")
        .note(format!("its share grows for 2 s (slow start); seen over windows of {} ms", window.as_millis())),
    ]
}
