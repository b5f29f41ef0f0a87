//! r09 and r56: one of four shards dies, or the one big server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenfold_rig::{Claim, Load, LoadPlan, RoleResult};

use super::write;
use crate::measure::Outcomes;
use crate::rung::Climb;
use crate::sharded::homes::{Homes, USERS};
use crate::sharded::site::Site;
use crate::sharded::users::Total;

const RATE: f64 = 100.0;
const TIME: Duration = Duration::from_millis(2_300);
const WARM_UP: Duration = Duration::from_millis(200);
/// While the server is dead.
const ASKED_AT: Duration = Duration::from_millis(1_400);

/// What the death of a database server did.
#[derive(Debug, Clone)]
pub struct Death {
    /// The share of writes that failed until its restart.
    pub failed: f64,
    /// What a query of all users answered meanwhile.
    pub part: Option<Total>,
    /// Whether the query that wants all or nothing was refused meanwhile.
    pub is_refused: bool,
}

/// Loads `site` with writes while its first database server dies and returns.
///
/// # Errors
///
/// The load cannot be made.
pub async fn shard_dies(climb: &Climb, site: &Arc<Site>) -> RoleResult<Death> {
    let victim = site.databases.first().ok_or("a database server is needed")?;
    let (outcomes, mut users) = (Outcomes::default(), Homes::new(&site.map, USERS).even());
    let plan = LoadPlan::new(RATE, TIME).warm_up(WARM_UP).seed(climb.seed);
    let load = Load::new(site.stack.client()?, plan)?;
    let asked = Arc::<Mutex<(Option<Total>, bool)>>::default();
    let (asks, answer) = (Arc::clone(site), Arc::clone(&asked));
    let faults = outcomes.kill_and_restart(victim).at(ASKED_AT, "query", async move {
        let seen = (asks.total(false).await.ok(), asks.total(true).await.is_err());
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    });
    load.run_with_faults(move || write(users()), outcomes.observer(), faults).await;
    let (part, is_refused) = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Death { failed: outcomes.failed_between(), part, is_refused })
}

/// A death costs a share of four shards, and all of one server.
pub fn death_claim(shards: &Death, big: &Death) -> Claim {
    let (share, all) = (shards.failed * 100.0, big.failed * 100.0);
    let is_share = (15.0..=35.0).contains(&share) && all > 80.0;
    Claim::new("r09", "kill -9 of one of four shards costs a share of the writes", share, is_share)
        .control(all)
        .unit("% failed")
        .note("from the kill to the restart; what came just before that has waited for it; control: one large server")
}

/// A query of all shards while one is dead.
pub fn part_claim(death: &Death) -> Claim {
    let counted = death.part.as_ref().map_or(0, |part| part.users);
    let share = counted as f64 / USERS as f64 * 100.0;
    let is_named = death.part.as_ref().is_some_and(|part| part.missing == [0]);
    Claim::new("r56", "a query of all shards while one is dead says who is missing and counts the rest", share, {
        is_named && death.is_refused && (70.0..80.0).contains(&share)
    })
    .control(if death.is_refused { 0.0 } else { 100.0 })
    .unit("% of users")
    .note("control: a query for whom a part is of no use is refused")
}
