//! Which node serves a read: pure, from what is known and what is asked for.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::session::Floor;
use crate::{Lsn, Position, Rng, Role, Standing, Topology};

/// What a read asks of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What the session has written and seen.
    pub floor: Floor,
    /// How old the state may be.
    pub max_staleness: Option<Duration>,
    /// Whether only the primary will do.
    pub primary: bool,
    /// Whether a replica may be waited for; not twice.
    pub may_wait: bool,
}

impl Default for Need {
    fn default() -> Self {
        Self { floor: Floor::None, max_staleness: None, primary: false, may_wait: true }
    }
}

/// How a choice is made; the same for all reads of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What another zone costs, added to the latency of its nodes.
    pub zone_cost: Duration,
    /// How long a replica may be waited for.
    pub max_wait: Duration,
    /// What happens when no replica will do.
    pub when_behind: WhenBehind,
}

/// What becomes of a read for which no replica is fresh enough, in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum WhenBehind {
    /// The primary serves it.
    #[default]
    Primary,
    /// It is refused: the primary is for writes.
    Refuse,
}

/// Where a read goes. Nodes are indices of [`Topology::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this replica, which is sure to be fresh enough.
    Replica(usize),
    /// To this replica, once it has replayed its log up to here.
    Wait(usize, Lsn),
    /// To the primary.
    Primary(usize),
    /// Nowhere.
    Refuse(Refusal),
}

/// Why no node can serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No node that could is known or left.
    #[error("no node can serve the read")]
    NoNode,
    /// Only the primary would do, and there is none.
    #[error("only the primary could serve the read, and there is none")]
    NoPrimary,
    /// No replica is fresh enough, and the primary is not for such reads.
    #[error("no replica is fresh enough")]
    TooStale,
    /// The session has seen an epoch that no node here has reached: this view is old, or the session is from elsewhere.
    #[error("the session has seen {0}, of an epoch that no node here knows")]
    UnknownEpoch(Position),
}

/// Nodes that were tried in vain, as a set of the first 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// Adds a node.
    pub fn add(&mut self, index: usize) {
        self.0 |= 1u64.checked_shl(u32::try_from(index).unwrap_or(64)).unwrap_or(0);
    }

    /// Whether it was added.
    #[must_use]
    pub fn has(self, index: usize) -> bool {
        self.0 & 1u64.checked_shl(u32::try_from(index).unwrap_or(64)).unwrap_or(0) != 0
    }
}

/// Chooses the node for a read.
///
/// Of the replicas that are sure to be fresh enough, two are drawn and the one with the lower cost is taken: latency
/// times statements under way, more in another zone. If there is none, the replica that is furthest is waited for; if
/// that is hopeless, the primary serves the read or it is refused. Nodes that are ejected or do not answer come last.
///
/// # Complexity
/// O(n) in the nodes, no allocation.
#[must_use]
pub fn route(topology: &Topology, need: &Need, rules: &Rules, tried: Tried, now: Instant, rng: &mut Rng) -> Route {
    let floor = match floor_of(topology, need.floor) {
        Ok(floor) => floor,
        Err(refusal) => return Route::Refuse(refusal),
    };
    let must_be_primary = need.primary || need.floor == Floor::Primary;
    if must_be_primary {
        return primary(topology, tried).map_or(Route::Refuse(Refusal::NoPrimary), Route::Primary);
    }
    let choice = choose(topology, floor, need.max_staleness, rules, tried, now, rng);
    if let Some(index) = choice.sound {
        return Route::Replica(index);
    }
    if let Some((index, _)) = choice.furthest.filter(|_| need.may_wait) {
        return Route::Wait(index, floor);
    }
    let by_primary = (rules.when_behind == WhenBehind::Primary).then(|| primary(topology, tried)).flatten();
    match (by_primary, choice.suspect) {
        (Some(index), _) => Route::Primary(index),
        (None, Some(index)) => Route::Replica(index),
        (None, None) if choice.is_any => Route::Refuse(Refusal::TooStale),
        (None, None) => Route::Refuse(Refusal::NoNode),
    }
}

/// The place that a node must have reached, once the session is known to be of this log.
fn floor_of(topology: &Topology, floor: Floor) -> Result<Lsn, Refusal> {
    let Floor::At(position) = floor else { return Ok(Lsn(0)) };
    let standing = topology.history().map_or(Standing::Unknown, |history| history.standing(position));
    match standing {
        Standing::Kept => Ok(position.lsn),
        // Told to the session before it comes here; what is left of it is on every node that is kept.
        Standing::Lost { kept } => Ok(kept.lsn),
        Standing::Unknown => Err(Refusal::UnknownEpoch(position)),
    }
}

fn primary(topology: &Topology, tried: Tried) -> Option<usize> {
    topology.primary.filter(|index| !tried.has(*index))
}

#[derive(Default)]
struct Choice {
    /// Sure to be fresh, and well.
    sound: Option<usize>,
    /// Sure to be fresh, but ejected or silent.
    suspect: Option<usize>,
    /// Well, not sure to be fresh, and worth waiting for; with its bound.
    furthest: Option<(usize, Lsn)>,
    /// Whether there is any replica left.
    is_any: bool,
}

fn choose(
    topology: &Topology,
    floor: Lsn,
    max_staleness: Option<Duration>,
    rules: &Rules,
    tried: Tried,
    now: Instant,
    rng: &mut Rng,
) -> Choice {
    let mut choice = Choice::default();
    let mut drawn: [Option<usize>; 2] = [None; 2];
    let mut count = 0;
    for (index, member) in topology.members.iter().enumerate() {
        let is_replica = member.role() == Some(Role::Replica) && member.is_kept();
        if !is_replica || tried.has(index) {
            continue;
        }
        choice.is_any = true;
        let bound = member.replayed();
        let is_young = max_staleness.is_none_or(|max| member.staleness(now).is_some_and(|age| age <= max));
        let is_well = member.is_reachable() && !member.vitals.is_ejected(now);
        if !is_young {
            continue;
        }
        match (bound >= floor, is_well) {
            (true, true) => {
                // Two of a stream, each pair as likely as any other.
                count += 1;
                match drawn {
                    [None, _] => drawn[0] = Some(index),
                    [_, None] => drawn[1] = Some(index),
                    _ => {
                        if let place @ (0 | 1) = rng.below(count) {
                            drawn[place as usize] = Some(index);
                        }
                    }
                }
            }
            (true, false) => choice.suspect = Some(index),
            (false, true) => {
                let is_hopeful = member.staleness(now).is_none_or(|age| age <= rules.max_wait * 16);
                if is_hopeful && choice.furthest.is_none_or(|(_, furthest)| bound > furthest) {
                    choice.furthest = Some((index, bound));
                }
            }
            (false, false) => {}
        }
    }
    choice.sound = match drawn {
        [Some(one), Some(other)] => {
            let (left, right) = (cost(topology, one, rules), cost(topology, other, rules));
            let is_other = right < left || (left == right && rng.below(2) == 1);
            Some(if is_other { other } else { one })
        }
        [one, _] => one,
    };
    choice
}

/// What the next read would wait there: latency times the statements before it and itself, in microseconds.
fn cost(topology: &Topology, index: usize, rules: &Rules) -> u64 {
    let member = &topology.members[index];
    let zone_us = if member.is_local { 0 } else { u64::try_from(rules.zone_cost.as_micros()).unwrap_or(u64::MAX) };
    let ahead = u64::from(member.vitals.in_flight()) + 1;
    // Untried nodes are asked first, so that their latency gets known.
    (member.vitals.latency_us().saturating_mul(ahead)).saturating_add(zone_us)
}
