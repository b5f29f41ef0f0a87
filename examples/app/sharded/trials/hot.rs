//! r56: one user gets half of all writes, and whom the report of hot keys names.

use tenfold_rig::{Claim, Cost, RoleResult, Table, Tier};

use super::{size, write};
use crate::measure::throughput;
use crate::rung::Climb;
use crate::sharded::homes::{Homes, USERS, by_turns};
use crate::sharded::site::Site;
use crate::sharded::users::Hot;

/// The user that is written every other time.
pub const HOT: u64 = 123;
/// Of four shards, the hot one gets its user's half and a quarter of the rest.
const BUSIEST: f64 = 0.5 + 0.5 / 4.0;
/// The hottest of evenly written users has a smaller share than this.
const COLD: f64 = 0.1;

/// What was done with a hot key, and without.
#[derive(Debug, Clone)]
pub struct HotTrial {
    /// Writes a second.
    pub writes: f64,
    /// Whom the web server names first, and of how many requests.
    pub named: Option<Hot>,
    /// See `named`.
    pub total: u64,
}

/// Writes to four shards, every other time the same user.
///
/// # Errors
///
/// The load cannot be made, or a web server does not answer.
pub async fn hot_keys(climb: &Climb, site: &Site) -> RoleResult<HotTrial> {
    let limit = size(climb.cost, 1).service(Tier::Database).saturation() / BUSIEST;
    let mut users = by_turns(|| HOT, Homes::new(&site.map, USERS).even());
    let writes = throughput(climb, &site.stack, limit, || write(users())).await?;
    let (hottest, total) = site.hot().await?;
    Ok(HotTrial { writes, named: hottest.into_iter().next(), total })
}

impl HotTrial {
    /// What the report says of evenly written users on this system.
    ///
    /// # Errors
    ///
    /// A web server does not answer.
    pub async fn even(site: &Site, writes: f64) -> RoleResult<Self> {
        let (hottest, total) = site.hot().await?;
        Ok(Self { writes, named: hottest.into_iter().next(), total })
    }

    fn share(&self) -> f64 {
        // What is sure: the count may be too high by the error.
        self.named.as_ref().map_or(0.0, |hot| (hot.count - hot.error) as f64 / self.total.max(1) as f64)
    }
}

/// What a hot key costs, and that it is found.
pub fn hot_claims(cost: &Cost, hot: &HotTrial, even: &HotTrial) -> Vec<Claim> {
    let named = hot.named.as_ref().map_or(0, |hot| hot.id);
    vec![
        Claim::new("r56", "shards do not help one hot key: done by four", hot.writes, {
            cost.is_real() || hot.writes < 0.6 * even.writes
        })
        .control(even.writes)
        .unit("writes/s")
        .note("half of the writes are to one user; control: all users alike"),
        Claim::new("r56", "the report of hot keys names it: its share", hot.share() * 100.0, {
            named == HOT && hot.share() > 0.4 && even.share() < COLD
        })
        .control(even.share() * 100.0)
        .unit("% of writes")
        .note(format!("user {named}, as one web server counts; control: the hottest when all users are written alike")),
    ]
}

/// Both, beside theory.
pub fn hot_table(cost: &Cost, hot: &HotTrial, even: &HotTrial) -> Table {
    let mut table = Table::new("a hot key on four shards", ["keys", "writes/s", "theory", "busiest shard gets"]);
    let slot = size(*cost, 1).service(Tier::Database).saturation();
    for (keys, trial, busiest) in [("all alike", even, 0.25), ("half to one user", hot, BUSIEST)] {
        let theory = if cost.is_real() { "–".to_owned() } else { format!("{:.0}", slot / busiest) };
        table.row([keys.to_owned(), format!("{:.0}", trial.writes), theory, format!("{:.1} %", busiest * 100.0)]);
    }
    table.note = "a key is on one shard: split it, cache it, or give its shard a bigger server".to_owned();
    table
}
