//! Who owns which slot.

use std::fmt;

use thiserror::Error;

use super::plan::Move;
use crate::ShardId;
use crate::rng::{mix, scale};

/// Slots of a map at most.
pub const MAX_SLOTS: u16 = 16_384;

/// A part of all keys that moves as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// Which shard owns each slot, at one version. Cheap to look at, and never changed: a change makes the next version.
///
/// # Invariants
/// - I1: from 1 to [`MAX_SLOTS`] slots, each with one owner.
/// - I2: a slot's change is no newer than the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    pub(super) version: u64,
    pub(super) owners: Box<[Owner]>,
}

/// An owner, and the version of the map in which it became that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) shard: ShardId,
    pub(super) since: u64,
}

/// What a map cannot be, or cannot become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MapError {
    /// The number of slots.
    #[error("a map has 1 to {MAX_SLOTS} slots, not {0}")]
    Slots(u16),
    /// There are no shards, or the last one is to go.
    #[error("a map needs a shard")]
    NoShard,
    /// More shards than slots: one would own nothing.
    #[error("{shards} shards cannot share {slots} slots")]
    TooManyShards {
        /// Shards.
        shards: usize,
        /// Slots.
        slots: u16,
    },
    /// A shard that is there already, or is named twice.
    #[error("shard {} is there already", .0.0)]
    Twice(ShardId),
    /// A shard that owns nothing.
    #[error("shard {} owns no slot", .0.0)]
    Unknown(ShardId),
    /// A slot beyond the last one.
    #[error("there is no slot {}", .0.0)]
    NoSuchSlot(Slot),
    /// A move from a shard that does not own the slot, as after another move of it.
    #[error("slot {} is owned by shard {}, not by shard {}", slot.0, owner.0, from.0)]
    NotOwner {
        /// The slot.
        slot: Slot,
        /// Who owns it.
        owner: ShardId,
        /// From whom it was to move.
        from: ShardId,
    },
    /// A move of a slot from a shard to the same one.
    #[error("slot {} is at shard {} already", .0.0, .1.0)]
    ToItself(Slot, ShardId),
}

/// One of both sides of a request works with an old map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("slot {} changed owners in version {theirs}, and the map at hand has it from version {ours}", slot.0)]
#[non_exhaustive]
pub struct StaleMap {
    /// The slot that was asked for.
    pub slot: Slot,
    /// Its last change that this map knows.
    pub ours: u64,
    /// Its last change that the other side knows.
    pub theirs: u64,
}

impl StaleMap {
    /// Whether it is this map that is behind: fetch the map again, and repeat the request; it has had no effect.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.ours < self.theirs
    }
}

impl SlotMap {
    /// Version 1: these shards own equal shares, give or take one slot, of consecutive slots.
    ///
    /// The number of slots is for ever. 1,024 serve up to some hundred shards; more make shares more even and moves smaller.
    ///
    /// # Errors
    /// [`MapError`], for no shards, too many, or one twice, and for a number of slots that is out of range.
    pub fn new(slots: u16, shards: &[ShardId]) -> Result<Self, MapError> {
        if slots == 0 || slots > MAX_SLOTS {
            return Err(MapError::Slots(slots));
        }
        if shards.is_empty() {
            return Err(MapError::NoShard);
        }
        if shards.len() > usize::from(slots) {
            return Err(MapError::TooManyShards { shards: shards.len(), slots });
        }
        if let Some((_, shard)) = shards.iter().enumerate().find(|(index, shard)| shards[..*index].contains(shard)) {
            return Err(MapError::Twice(*shard));
        }
        let owner = |slot| Owner { shard: shards[usize::from(slot) * shards.len() / usize::from(slots)], since: 1 };
        Ok(Self { version: 1, owners: (0..slots).map(owner).collect() })
    }

    /// The slot of a key: the same in every version, process and release.
    ///
    /// The 64-bit FNV-1a hash of the bytes, its bits mixed by the finaliser of SplitMix64, scaled to the number of slots by
    /// the upper half of the product. No hash for keys that somebody chooses to do harm: whoever may choose keys freely can
    /// fill one slot.
    ///
    /// # Complexity
    /// O(n) in the length of the key, about a nanosecond a byte.
    #[must_use]
    pub fn slot(&self, key: &[u8]) -> Slot {
        Slot(scale(hash(key), self.owners.len() as u64) as u16)
    }

    /// The shard that owns a slot; `None` beyond the last one.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.owners.get(usize::from(slot.0)).map(|owner| owner.shard)
    }

    /// The shard that owns a key.
    #[must_use]
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        self.owners[usize::from(self.slot(key).0)].shard
    }

    /// Counts the changes of the map, from 1.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The version in which a slot got its owner; `None` beyond the last slot. What the owner keeps beside its data.
    #[must_use]
    pub fn since(&self, slot: Slot) -> Option<u64> {
        self.owners.get(usize::from(slot.0)).map(|owner| owner.since)
    }

    /// Compares what this map knows of a slot with what the other side of a request knows: the version in which the slot
    /// changed owners last.
    ///
    /// Maps of other versions are no matter as long as this slot did not move between them.
    ///
    /// # Errors
    /// [`StaleMap`], which says who is behind.
    ///
    /// # Panics
    /// For a slot beyond the last one.
    pub fn check(&self, slot: Slot, theirs: u64) -> Result<(), StaleMap> {
        let ours = self.owners[usize::from(slot.0)].since;
        if ours == theirs { Ok(()) } else { Err(StaleMap { slot, ours, theirs }) }
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.owners.len() as u16
    }

    /// How many slots a shard owns.
    #[must_use]
    pub fn count(&self, shard: ShardId) -> usize {
        self.owners.iter().filter(|owner| owner.shard == shard).count()
    }

    /// The slots of a shard, in order.
    pub fn slots_of(&self, shard: ShardId) -> impl Iterator<Item = Slot> + '_ {
        (0..).zip(&self.owners).filter(move |(_, owner)| owner.shard == shard).map(|(slot, _)| Slot(slot))
    }

    /// The shards that own something, in order: whom a read of everything has to ask.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        let mut shards: Vec<_> = self.owners.iter().map(|owner| owner.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// The next version, in which one slot has moved.
    ///
    /// # Errors
    /// [`MapError::NotOwner`], if the slot has moved already; [`MapError::NoSuchSlot`]; [`MapError::ToItself`].
    pub fn moved(&self, one: Move) -> Result<Self, MapError> {
        if one.from == one.to {
            return Err(MapError::ToItself(one.slot, one.to));
        }
        let owner = self.owner(one.slot).ok_or(MapError::NoSuchSlot(one.slot))?;
        if owner != one.from {
            return Err(MapError::NotOwner { slot: one.slot, owner, from: one.from });
        }
        let mut next = self.clone();
        next.version += 1;
        next.owners[usize::from(one.slot.0)] = Owner { shard: one.to, since: next.version };
        Ok(next)
    }
}

impl fmt::Display for SlotMap {
    /// Each shard with how many slots it owns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}:", self.version)?;
        self.shards().iter().try_for_each(|shard| write!(f, " {}: {}", shard.0, self.count(*shard)))
    }
}

fn hash(key: &[u8]) -> u64 {
    let fnv = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(fnv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u16) -> Vec<ShardId> {
        (0..count).map(ShardId).collect()
    }

    #[test]
    fn slots_of_keys_never_change() {
        let map = SlotMap::new(1_024, &shards(3)).unwrap();
        let slots: Vec<u16> = [&b""[..], b"a", b"user/42", &[0xff; 300]].map(|key| map.slot(key).0).to_vec();
        assert_eq!(slots, SLOTS_OF_SAMPLES);
        let later = map.moved(Move { slot: Slot(0), from: ShardId(0), to: ShardId(2) }).unwrap();
        assert_eq!(later.slot(b"user/42"), map.slot(b"user/42"));
    }

    /// Worked out by a program in another language.
    const SLOTS_OF_SAMPLES: [u16; 4] = [980, 11, 78, 798];

    /// 100,000 keys over 64 slots: chi-square of 63 degrees of freedom is below 117 in all but one of 100,000 cases.
    #[test]
    fn keys_spread_evenly() {
        let map = SlotMap::new(64, &shards(1)).unwrap();
        for prefix in ["user/", "", "00000000-0000-0000-0000-"] {
            let mut counts = [0_u32; 64];
            (0..100_000).for_each(|n| counts[usize::from(map.slot(format!("{prefix}{n}").as_bytes()).0)] += 1);
            let expected = 100_000.0 / 64.0;
            let chi_square: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
            assert!(chi_square < 117.0, "{prefix}: {chi_square}");
        }
    }

    #[test]
    fn shares_differ_by_one_slot_at_most() {
        for (slots, count) in [(1, 1), (7, 7), (1_024, 3), (16_384, 100)] {
            let map = SlotMap::new(slots, &shards(count)).unwrap();
            let counts: Vec<_> = shards(count).iter().map(|shard| map.count(*shard)).collect();
            assert_eq!(counts.iter().sum::<usize>(), usize::from(slots));
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
            assert_eq!(map.shards(), shards(count));
            assert_eq!(map.slots_of(ShardId(0)).count(), counts[0]);
        }
    }

    #[test]
    fn what_cannot_be_a_map_is_refused() {
        let twice = [ShardId(1), ShardId(2), ShardId(1)];
        assert_eq!(SlotMap::new(0, &shards(1)), Err(MapError::Slots(0)));
        assert_eq!(SlotMap::new(MAX_SLOTS + 1, &shards(1)), Err(MapError::Slots(16_385)));
        assert_eq!(SlotMap::new(8, &[]), Err(MapError::NoShard));
        assert_eq!(SlotMap::new(2, &shards(3)), Err(MapError::TooManyShards { shards: 3, slots: 2 }));
        assert_eq!(SlotMap::new(8, &twice), Err(MapError::Twice(ShardId(1))));
    }

    #[test]
    fn a_slot_moves_once_and_its_version_tells_who_is_behind() {
        let old = SlotMap::new(8, &shards(2)).unwrap();
        let one = Move { slot: Slot(3), from: ShardId(0), to: ShardId(1) };
        let new = old.moved(one).unwrap();
        assert_eq!((new.version(), new.owner(Slot(3)), new.since(Slot(3))), (2, Some(ShardId(1)), Some(2)));
        let error = MapError::NotOwner { slot: Slot(3), owner: ShardId(1), from: ShardId(0) };
        assert_eq!(new.moved(one), Err(error));
        assert_eq!(error.to_string(), "slot 3 is owned by shard 1, not by shard 0");
        assert_eq!(new.moved(Move { slot: Slot(8), ..one }), Err(MapError::NoSuchSlot(Slot(8))));

        let behind = old.check(Slot(3), new.since(Slot(3)).unwrap()).unwrap_err();
        assert!(behind.is_ours() && behind.to_string().contains("slot 3"), "{behind}");
        assert!(!new.check(Slot(3), 1).unwrap_err().is_ours());
        // Of all other slots both know the same.
        assert_eq!(old.check(Slot(2), new.since(Slot(2)).unwrap()), Ok(()));
        assert_eq!(new.to_string(), "version 2: 0: 3 1: 5");
    }
}
