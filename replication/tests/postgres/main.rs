//! The driver of PostgreSQL on real servers: the suite of all drivers, its traps, failovers, and what is refused.

#[path = "../suite/shards.rs"]
mod moves;
#[path = "../suite/mod.rs"]
mod suite;
#[path = "../suite/supervised.rs"]
mod supervised;

mod behaviour;
mod examples;
mod failovers;
mod fixture;
mod shards;
mod statements;
mod traps;
