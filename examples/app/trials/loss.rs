//! r27: a cache server dies.

use std::net::SocketAddr;
use std::time::Duration;

use tenfold_rig::Claim;
use tenfold_rig::{Exchange, Faults, Load, LoadPlan, Node, Rng, RoleResult};

use super::site::Site;
use crate::cached::owner_of;
use crate::keys;

const KEYS: u64 = 400;
const RATE: f64 = 240.0;
const STEP: Duration = Duration::from_millis(500);

/// What the loss of one cache server did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Share of the keys whose owner changed.
    pub moved: f64,
    /// Requests that failed.
    pub failed: u64,
    /// The same as a share.
    pub failed_ratio: f64,
    /// The most database reads in half a second after the kill.
    pub peak: u64,
}

/// Warms the caches, loads them steadily and kills the first cache server after a second.
///
/// # Errors
///
/// The system does not answer.
pub async fn lose_a_server(site: &Site, seed: u64) -> RoleResult<Loss> {
    site.warm(1..=KEYS).await?;
    let victim = site.caches.first().cloned().ok_or("a cache server to kill is needed")?;
    let all: Vec<SocketAddr> = site.caches.iter().map(Node::addr).collect();
    let moved = (1..=KEYS).filter(|key| owner_of(&all, *key) == Some(victim.addr())).count();
    let faults = Faults::new().at(Duration::from_secs(1), "kill -9 a cache server", async move {
        // A kill that is refused shows as a peak that does not come.
        let _ = victim.kill();
    });
    let mut rng = Rng::new(seed);
    let time = Duration::from_secs(3);
    let plan = LoadPlan::new(RATE, time).warm_up(Duration::from_millis(1)).seed(seed);
    let load = Load::new(site.stack.client()?, plan)?;
    let source = move || keys::read(1 + rng.below(KEYS));
    let (result, steps) =
        tokio::join!(load.run_with_faults(source, Exchange::verdict, faults), site.reads_over(time, STEP));
    let peak = steps?.into_iter().max().unwrap_or(0);
    Ok(Loss { moved: moved as f64 / KEYS as f64, failed: result.failed, failed_ratio: result.failed_ratio(), peak })
}

/// The claims of r27: one of three servers lost, beside the only one lost.
pub fn lost(ring: &Loss, only: &Loss) -> Vec<Claim> {
    let third = (0.2..=0.47).contains(&ring.moved);
    vec![
        Claim::new("r27", "one of three cache servers dies: about a third of the keys move", ring.moved, third)
            .control(only.moved)
            .unit("share of keys")
            .note("control: the only cache server dies"),
        Claim::new("r27", "the loss costs hit ratio and never an error", ring.failed, ring.failed + only.failed == 0)
            .control(only.failed)
            .unit("failed requests")
            .note("time-outs and refusals fall through to the database"),
        Claim::new("r27", "the database's peak after the loss", ring.peak, ring.peak * 10 <= only.peak * 7)
            .control(only.peak)
            .unit("queries in 500 ms")
            .note("control: the only cache server dies"),
    ]
}
