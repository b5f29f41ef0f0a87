//! Other queues, and logs and stores that queues are made of.
//!
//! Each has the settings it comes with, but for when it syncs. Those that one thread at a time may use are behind a lock.

mod fjall;
mod nats;
mod okaywal;
mod queue_file;
mod raft_engine;
mod redb;
mod redis;
mod server;
mod sqlite;
mod sqlite_committer;
mod walrus;
mod yaque;

use super::{Candidate, Origin, Policy, Queue, Setting, Trouble};

/// All of them.
#[must_use]
pub fn candidates() -> Vec<Candidate> {
    let embedded: &[(&'static str, &[Policy], Open)] = &[
        ("sqlite", &[Policy::Always, Policy::Os], sqlite::open),
        ("sqlite-committer", &[Policy::Always, Policy::Os], sqlite_committer::open),
        ("raft-engine", &[Policy::Always, Policy::Os], raft_engine::open),
        ("okaywal", &[Policy::Always], okaywal::open),
        ("queue-file", &[Policy::Always, Policy::Os], queue_file::open),
        ("fjall", &[Policy::Always, Policy::Os], fjall::open),
        ("redb", &[Policy::Always, Policy::Os], redb::open),
        ("walrus", &[Policy::Always, Policy::Interval], walrus::open),
        ("yaque", &[Policy::Os], yaque::open),
    ];
    let servers: &[(&'static str, &[Policy], Open)] = &[
        ("redis", &[Policy::Always, Policy::Interval], redis::open),
        ("nats", &[Policy::Always, Policy::Interval], nats::open),
    ];
    let mut candidates = Vec::new();
    for (kinds, is_server) in [(embedded, false), (servers, true)] {
        for &(name, syncs, open) in kinds {
            for &sync in syncs {
                candidates.push(Candidate { name, sync, origin: Origin::Peer, is_server, only_in: None, open });
            }
        }
    }
    candidates
}

type Open = fn(&Setting<'_>) -> Result<Box<dyn Queue>, Trouble>;
