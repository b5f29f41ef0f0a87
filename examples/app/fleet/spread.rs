//! r10: one address, and an even spread behind it, by the count of the web servers themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use tenfold_rig::{Claim, Exchange, Failure, Load, LoadPlan, RoleResult};

use super::Fleet;
use crate::rung::Climb;

/// The busiest server may have so many times the requests of the idlest.
const MOST_UNEVEN: f64 = 1.02;

/// Who answers is asked, not how fast: a machine that stands still for a moment shall cost no answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// See `PATIENCE`: as many as wait after so long.
const MAX_IN_FLIGHT: usize = 20_000;

/// Who answered what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Requests of the generator.
    pub sent: u64,
    /// Those that failed, by kind.
    pub failures: BTreeMap<Failure, u64>,
    /// What each web server answered, by its own count.
    pub answered: Vec<u64>,
    /// Addresses that the clients know.
    pub known: usize,
}

impl Spread {
    /// The busiest server's requests by the idlest one's.
    pub fn ratio(&self) -> f64 {
        let least = self.answered.iter().min().copied().unwrap_or(0);
        self.answered.iter().max().copied().unwrap_or(0) as f64 / least.max(1) as f64
    }

    /// Whether the servers answered what was sent, but for a few.
    fn adds_up(&self) -> bool {
        let answered = self.answered.iter().sum::<u64>();
        let failed = self.failures.values().sum::<u64>();
        failed * 100 <= self.sent && (self.sent - failed..=self.sent).contains(&answered)
    }
}

/// Sends reads at `rate` for `time` and asks the web servers what arrived. Waits before that, while the systems of the
/// other trials start, which takes all that the machine has.
///
/// # Errors
///
/// The load cannot be made, or a web server does not answer.
pub async fn spread(climb: &Climb, fleet: &Fleet, rate: f64, time: Duration) -> RoleResult<Spread> {
    let mut plan = LoadPlan::new(rate, time).warm_up(Duration::ZERO).seed(climb.seed);
    (plan.timeout, plan.max_in_flight) = (PATIENCE, MAX_IN_FLIGHT);
    let load = Load::new(fleet.stack.client()?, plan)?;
    tenfold_rig::sleep(Duration::from_secs(climb.pick(3, 1))).await;
    let result = load.run(climb.keys.reads(climb.seed), Exchange::verdict).await;
    let (known, answered) = (fleet.stack.fronts.len(), fleet.answered().await?);
    Ok(Spread { sent: result.sent, failures: result.failures, answered, known })
}

/// The claims of r10: in turn, beside the same requests placed by what they ask for.
pub fn spread_claims(in_turn: &Spread, by_key: &Spread) -> Vec<Claim> {
    let (even, uneven) = (in_turn.ratio(), by_key.ratio());
    let is_even = even <= MOST_UNEVEN && in_turn.adds_up() && by_key.adds_up() && uneven > MOST_UNEVEN;
    let servers = in_turn.answered.len();
    vec![
        Claim::new("r10", "clients know one address", in_turn.known, in_turn.known == 1 && servers > 1)
            .control(servers)
            .unit("addresses")
            .note("control: without the balancer, one a web server"),
        Claim::new("r10", "requests spread evenly: the busiest web server by the idlest", even, is_even)
            .control(uneven)
            .unit("times")
            .note(format!(
                "{} sent, answered by the servers' own count {:?}, failed {:?}; at most {MOST_UNEVEN}; control: placed by \
                 the user asked for, {} sent, failed {:?}",
                in_turn.sent, in_turn.answered, in_turn.failures, by_key.sent, by_key.failures
            )),
    ]
}
