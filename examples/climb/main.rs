//! `cargo climb`: the rungs one after the other under the same load, and a report of what each step bought.
//!
//! There is no wiring here: a rung's file says what runs in its processes, how they are connected, which fault it takes
//! and what it claims. This binary knows all their roles, so that it can play any of them when it starts itself again.

#![forbid(unsafe_code)]

mod anew;
mod args;
mod facts;
mod plan;
mod play;
mod start;

#[path = "../06_cache_layer.rs"]
mod cache_layer;
#[path = "../04_load_balancer.rs"]
mod load_balancer;
#[path = "../10_message_queue.rs"]
mod message_queue;
#[path = "../05_replication.rs"]
mod replication;
#[path = "../12_sharding.rs"]
mod sharding;
#[path = "../01_single_server.rs"]
mod single_server;
#[path = "../02_split_tiers.rs"]
mod split_tiers;
#[path = "../03_up_or_out.rs"]
mod up_or_out;

use std::process::ExitCode;

use app::rung::Rung;
use tenfold_rig::Roles;

const RUNGS: [Rung; 8] = [
    single_server::RUNG,
    split_tiers::RUNG,
    up_or_out::RUNG,
    load_balancer::RUNG,
    replication::RUNG,
    cache_layer::RUNG,
    message_queue::RUNG,
    sharding::RUNG,
];

fn main() -> ExitCode {
    let roles = RUNGS.iter().fold(Roles::new(), |roles, rung| roles.merge((rung.roles)()));
    tenfold_rig::run(roles, || start::start(&RUNGS))
}
