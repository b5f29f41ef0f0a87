//! What rung 12 tries on shards: each trial gets running systems and returns claims with the figure of a negative control.

mod death;
mod gather;
mod hot;
mod moves;
mod scale;

pub use death::{Death, death_claim, part_claim, shard_dies};
pub use gather::{Price, gather_claims, gather_table, price};
pub use hot::{HOT, HotTrial, hot_claims, hot_keys, hot_table};
pub use moves::{Joined, join, join_claims, join_table};
pub use scale::{LARGEST, Size, Spread, TooBig, ceiling_claim, check_size, network, scale_claims, scale_tables, size};

pub use crate::replicated::trials::write;
