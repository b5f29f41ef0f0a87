//! Which slots move when a shard comes or goes: as few as even shares allow.

use std::collections::BTreeMap;

use super::map::{MapError, Slot, SlotMap};
use crate::ShardId;

/// One slot that changes owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub slot: Slot,
    /// Who owns it.
    pub from: ShardId,
    /// Who is to own it.
    pub to: ShardId,
}

impl SlotMap {
    /// The moves that give a new shard an equal share: `slots / shards`, rounded down, each from whoever owns most then.
    ///
    /// # Errors
    /// [`MapError::Twice`], if it owns slots already; [`MapError::TooManyShards`].
    pub fn with_shard(&self, shard: ShardId) -> Result<Vec<Move>, MapError> {
        let mut held = self.held();
        if held.contains_key(&shard) {
            return Err(MapError::Twice(shard));
        }
        let shards = held.len() + 1;
        let share = usize::from(self.slots()) / shards;
        if share == 0 {
            return Err(MapError::TooManyShards { shards, slots: self.slots() });
        }
        Ok((0..share).filter_map(|_| give(&mut held, shard)).collect())
    }

    /// The moves that empty a shard: each slot to whoever owns least then.
    ///
    /// # Errors
    /// [`MapError::Unknown`], if it owns nothing; [`MapError::NoShard`], if nobody else is there.
    pub fn without_shard(&self, shard: ShardId) -> Result<Vec<Move>, MapError> {
        let mut held = self.held();
        let slots = held.remove(&shard).ok_or(MapError::Unknown(shard))?;
        if held.is_empty() {
            return Err(MapError::NoShard);
        }
        let moves = slots.into_iter().filter_map(|slot| {
            let (to, theirs) = held.iter_mut().min_by_key(|(_, slots)| slots.len())?;
            theirs.push(slot);
            Some(Move { slot, from: shard, to: *to })
        });
        Ok(moves.collect())
    }

    fn held(&self) -> BTreeMap<ShardId, Vec<Slot>> {
        let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (slot, owner) in (0..).zip(&self.owners) {
            held.entry(owner.shard).or_default().push(Slot(slot));
        }
        held
    }
}

/// One slot from whoever owns most; of those that own as many, the first.
fn give(held: &mut BTreeMap<ShardId, Vec<Slot>>, to: ShardId) -> Option<Move> {
    let (from, slots) = held.iter_mut().rev().max_by_key(|(_, slots)| slots.len())?;
    Some(Move { slot: slots.pop()?, from: *from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn carried_out(map: &SlotMap, moves: &[Move]) -> SlotMap {
        moves.iter().fold(map.clone(), |map, one| map.moved(*one).unwrap())
    }

    fn uneven(map: &SlotMap) -> usize {
        let counts: Vec<_> = map.shards().iter().map(|shard| map.count(*shard)).collect();
        counts.iter().max().unwrap() - counts.iter().min().unwrap()
    }

    #[test]
    fn a_new_shard_takes_its_share_from_all_and_no_other_slot_moves() {
        let four: Vec<_> = (0..4).map(ShardId).collect();
        let map = SlotMap::new(1_000, &four).unwrap();
        let moves = map.with_shard(ShardId(9)).unwrap();
        assert_eq!(moves.len(), 200);
        assert!(moves.iter().all(|one| one.to == ShardId(9)));
        let grown = carried_out(&map, &moves);
        assert!(grown.shards().iter().all(|shard| grown.count(*shard) == 200));
        assert_eq!(grown.version(), 201);
        assert_eq!(map.with_shard(ShardId(2)), Err(MapError::Twice(ShardId(2))));
    }

    #[test]
    fn what_shares_allow_is_all_that_moves() {
        let tiny = SlotMap::new(2, &[ShardId(0), ShardId(1)]).unwrap();
        assert_eq!(tiny.with_shard(ShardId(2)), Err(MapError::TooManyShards { shards: 3, slots: 2 }));
        assert_eq!(tiny.without_shard(ShardId(7)), Err(MapError::Unknown(ShardId(7))));
        let alone = carried_out(&tiny, &tiny.without_shard(ShardId(1)).unwrap());
        assert_eq!(alone.shards(), [ShardId(0)]);
        assert_eq!(alone.without_shard(ShardId(0)), Err(MapError::NoShard));
    }

    /// Shards come and go at random: shares stay even, and each change moves no more than one share.
    #[test]
    fn shares_stay_even_whatever_comes_and_goes() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let slots = 50 + rng.below(1_000) as u16;
            let mut map = SlotMap::new(slots, &[ShardId(0)]).unwrap();
            for next in 1..40 {
                let shards = map.shards();
                let grows = shards.len() == 1 || (shards.len() < 20 && rng.below(3) > 0);
                let moves = if grows {
                    map.with_shard(ShardId(next)).unwrap()
                } else {
                    map.without_shard(shards[rng.below(shards.len() as u64) as usize]).unwrap()
                };
                let share = usize::from(slots).div_ceil(shards.len() + usize::from(grows));
                assert!(moves.len() <= share, "seed {seed}: {} moves, a share is {share}", moves.len());
                map = carried_out(&map, &moves);
                assert!(uneven(&map) <= 1, "seed {seed}: {map}");
            }
        }
    }
}
