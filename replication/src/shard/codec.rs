//! A map as bytes, to be kept in a database or sent to others.
//!
//! All numbers are little-endian.
//!
//! ```text
//! "tfsm" | format 1: u8 | version: u64 | slots: u16 | runs, each: length u16, shard u16, since u64 | checksum: 8 bytes
//! ```
//!
//! A run is consecutive slots of one owner and one version. The checksum is the beginning of the BLAKE3 hash of all before it.

use thiserror::Error;

use super::map::{MAX_SLOTS, Owner, SlotMap};
use crate::ShardId;

const MAGIC: &[u8] = b"tfsm\x01";
const HEAD: usize = MAGIC.len() + 8 + 2;
const RUN: usize = 12;
const CHECKSUM: usize = 8;

/// Bytes that are no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They begin otherwise, or are of a later format.
    #[error("the bytes are no slot map of a format that is known")]
    Format,
    /// Some are missing, or were changed.
    #[error("the slot map is damaged")]
    Damaged,
}

impl SlotMap {
    /// The map as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.slots().to_le_bytes());
        for run in self.owners.chunk_by(PartialEq::eq) {
            bytes.extend((run.len() as u16).to_le_bytes());
            bytes.extend(run[0].shard.0.to_le_bytes());
            bytes.extend(run[0].since.to_le_bytes());
        }
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        bytes
    }

    /// The map of these bytes.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if !bytes.starts_with(MAGIC) {
            return Err(DecodeError::Format);
        }
        let (body, check) = bytes.split_last_chunk::<CHECKSUM>().ok_or(DecodeError::Damaged)?;
        if body.len() < HEAD || checksum(body) != *check {
            return Err(DecodeError::Damaged);
        }
        let (version, slots) = (word(&body[MAGIC.len()..]), short(&body[HEAD - 2..]));
        let runs = body[HEAD..].chunks_exact(RUN);
        let is_cut = !runs.remainder().is_empty();
        let owners = runs.flat_map(|run| {
            let owner = Owner { shard: ShardId(short(&run[2..])), since: word(&run[4..]) };
            std::iter::repeat_n(owner, short(run).into())
        });
        // A checksum can be forged: no more than a map may have is ever built.
        let owners: Box<[Owner]> = owners.take(usize::from(MAX_SLOTS) + 1).collect();
        let is_whole = !is_cut && owners.len() == usize::from(slots) && (1..=MAX_SLOTS).contains(&slots);
        if !is_whole || version == 0 || owners.iter().any(|owner| owner.since == 0 || owner.since > version) {
            return Err(DecodeError::Damaged);
        }
        Ok(Self { version, owners })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM]);
    sum
}

/// The first bytes as a number; there are so many.
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[index]))
}

fn short(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::shard::Move;

    fn sample(seed: u64) -> SlotMap {
        let mut rng = Rng::new(seed);
        let mut map = SlotMap::new(40, &[ShardId(0), ShardId(1), ShardId(700)]).unwrap();
        for _ in 0..rng.below(30) {
            let slot = crate::shard::Slot(rng.below(40) as u16);
            let (from, to) = (map.owner(slot).unwrap(), ShardId(rng.below(5) as u16));
            if from != to {
                map = map.moved(Move { slot, from, to }).unwrap();
            }
        }
        map
    }

    #[test]
    fn a_map_comes_back_whole() {
        (0..50).for_each(|seed| assert_eq!(SlotMap::from_bytes(&sample(seed).to_bytes()), Ok(sample(seed))));
        let fresh = SlotMap::new(MAX_SLOTS, &[ShardId(1), ShardId(2)]).unwrap();
        assert_eq!(fresh.to_bytes().len(), HEAD + 2 * RUN + CHECKSUM);
        assert_eq!(SlotMap::from_bytes(&fresh.to_bytes()), Ok(fresh));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = sample(3).to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SlotMap::from_bytes(&damaged).is_err(), "bit {bit}");
        }
        (0..bytes.len()).for_each(|length| assert!(SlotMap::from_bytes(&bytes[..length]).is_err(), "{length} bytes"));
        assert_eq!(SlotMap::from_bytes(b"other"), Err(DecodeError::Format));
    }

    /// Bytes with a right checksum and any content are refused or are a map, and never more than a map may be.
    #[test]
    fn forged_maps_do_no_harm() {
        let mut rng = Rng::new(1);
        for _ in 0..5_000 {
            let mut bytes = sample(rng.below(50)).to_bytes();
            bytes.truncate(bytes.len() - CHECKSUM);
            for _ in 0..1 + rng.below(4) {
                let at = MAGIC.len() + rng.below((bytes.len() - MAGIC.len()) as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            let sum = checksum(&bytes);
            bytes.extend(sum);
            if let Ok(map) = SlotMap::from_bytes(&bytes) {
                assert_eq!(SlotMap::from_bytes(&map.to_bytes()), Ok(map));
            }
        }
    }
}
