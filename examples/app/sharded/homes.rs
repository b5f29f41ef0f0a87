//! Which users are in which slot, and the orders in which they are written.

use tenfold_replication::ShardId;
use tenfold_replication::shard::{MapError, Slot, SlotMap};
use tenfold_rig::Rng;

use super::slots::key;

/// Slots of the climb's map: few, so that a share of them moves within seconds. A real map has a thousand or more.
pub const SLOTS: u16 = 40;
/// Users on all shards together.
pub const USERS: u64 = 6_000;

/// The first map of so many shards.
///
/// # Errors
///
/// No shards, or too many.
pub fn map(shards: u16) -> Result<SlotMap, MapError> {
    let shards: Vec<_> = (0..shards).map(ShardId).collect();
    SlotMap::new(SLOTS, &shards)
}

/// Users by their slot.
#[derive(Debug, Clone)]
pub struct Homes {
    by_slot: Vec<Vec<u64>>,
}

impl Homes {
    /// Where the users are that this map's shards hold.
    pub fn new(map: &SlotMap, users: u64) -> Self {
        let mut by_slot = vec![Vec::new(); usize::from(map.slots())];
        for id in 1..=users {
            by_slot[usize::from(map.slot(&key(id)).0)].push(id);
        }
        Self { by_slot }
    }

    /// The users of some slots, in their order.
    pub fn of(&self, slots: impl IntoIterator<Item = Slot>) -> Vec<u64> {
        slots.into_iter().filter_map(|slot| self.by_slot.get(usize::from(slot.0))).flatten().copied().collect()
    }

    /// The share of all users that each shard of a map has, by its id.
    pub fn shares(&self, map: &SlotMap) -> Vec<f64> {
        let users = self.by_slot.iter().map(Vec::len).sum::<usize>().max(1);
        map.shards().into_iter().map(|shard| self.of(map.slots_of(shard)).len() as f64 / users as f64).collect()
    }

    /// One user of each slot in turn, far slots after each other: two, four or more shards are asked alike in any stretch.
    pub fn even(&self) -> impl FnMut() -> u64 + Send + use<> {
        let (by_slot, mut turn) = (self.by_slot.clone(), 0);
        let quarter = by_slot.len().div_ceil(4);
        // The shards 0, 2, 1, 3 of four; so the halves take turns, too.
        let order: Vec<usize> = (0..quarter).flat_map(|one| [0, 2, 1, 3].map(|shard| shard * quarter + one)).collect();
        move || loop {
            let slot = by_slot.get(order[turn % order.len()]);
            let round = turn / order.len();
            turn += 1;
            if let Some(users) = slot.filter(|users| !users.is_empty()) {
                return users[round % users.len()];
            }
        }
    }
}

/// Any of these users, each as often as the others.
pub fn any(users: Vec<u64>, seed: u64) -> impl FnMut() -> u64 + Send + use<> {
    let mut rng = Rng::new(seed).fork(12);
    move || users.get(rng.below(users.len() as u64) as usize).copied().unwrap_or(1)
}

/// One and the other in turn.
pub fn by_turns(
    mut one: impl FnMut() -> u64 + Send,
    mut other: impl FnMut() -> u64 + Send,
) -> impl FnMut() -> u64 + Send {
    let mut is_one = false;
    move || {
        is_one = !is_one;
        if is_one { one() } else { other() }
    }
}
