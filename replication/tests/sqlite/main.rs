//! The driver of SQLite on real files: the suite of all drivers, crashes, replay, and what is refused.

#[path = "../suite/shards.rs"]
mod moves;
#[path = "../suite/mod.rs"]
mod suite;
#[path = "../suite/supervised.rs"]
mod supervised;

mod behaviour;
mod crashes;
mod damage;
mod fixture;
mod refusals;
mod replay;
mod shards;
