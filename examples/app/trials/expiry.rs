//! r26: entries that were stored together expire together, unless their times to live are jittered.

use std::time::Duration;

use tenfold_rig::Claim;
use tenfold_rig::{Exchange, Load, LoadPlan, Rng, RoleResult};

use super::site::Site;
use crate::keys;

const KEYS: u64 = 150;
const RATE: f64 = 450.0;
const STEP: Duration = Duration::from_millis(100);

/// Fills both caches with the same keys at one instant and reads them until all have expired once; compares the peaks
/// of the database's load. `steady` has a time to live without jitter, `spread` the same with jitter.
///
/// # Errors
///
/// A system does not answer.
pub async fn mass_expiry(steady: &Site, spread: &Site, time_to_live: Duration, seed: u64) -> RoleResult<Claim> {
    let (steady, spread) = tokio::try_join!(peak(steady, time_to_live, seed), peak(spread, time_to_live, seed))?;
    let text = "jitter spreads a mass expiry: peak of the database's load";
    Ok(Claim::new("r26", text, spread, spread * 10 <= steady * 7)
        .control(steady)
        .unit("queries in 100 ms")
        .note(format!("{KEYS} entries stored at once; control: no jitter")))
}

/// The most database reads in any tenth of a second.
async fn peak(site: &Site, time_to_live: Duration, seed: u64) -> RoleResult<u64> {
    site.warm(1..=KEYS).await?;
    let mut rng = Rng::new(seed);
    let time = time_to_live.mul_f64(1.2);
    let plan = LoadPlan::new(RATE, time).warm_up(Duration::from_millis(1)).seed(seed);
    let load = Load::new(site.stack.client()?, plan)?;
    let (_, steps) = tokio::join!(
        load.run(move || keys::read(1 + rng.below(KEYS)), Exchange::verdict),
        site.reads_over(time, STEP),
    );
    Ok(steps?.into_iter().max().unwrap_or(0))
}
