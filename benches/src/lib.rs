//! Time, hit ratio and memory of the tenfold caches, and the load balancer's proxy under faults, beside their peers in the
//! same run.
//!
//! Of the caches three kinds of measurement are kept apart, each with its own binary: `hit-ratio` replays recorded accesses, `throughput`
//! races all caches in interleaved rounds, and `memory` counts bytes an entry. The criterion benches time single operations.
//! All of them drive every cache through the same two traits of [`cache`], and check what the cache answers while they time
//! it: a value that does not belong to its key, or a miss where every key is resident, ends the run.
//!
//! The [`catalogue`] lists the caches: [`ours`], the [`peers`], and the plain simulators of [`mod@reference`] that ours have to
//! equal on any sequence.
//!
//! [`proxy_faults`] is apart: a binary of that name puts reverse proxies between a load and three backends, and breaks the
//! backends.
//!
//! [`pick`] is apart, too: its binary times how balancers choose among backends that do nothing.
//!
//! So is [`queue`]: durable queues, beside their peers and beside what the disk allows.
//!
//! [`replication`] is a database that answers at once, for the criterion bench of what a cluster costs; [`routing`] measures the
//! same on real servers, beside poolers, and what is promised of them.

#![deny(unsafe_code)]

pub mod cache;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod counting_alloc;
pub mod ours;
pub mod peers;
pub mod pick;
pub mod proxy_faults;
pub mod queue;
pub mod race;
pub mod reference;
pub mod replication;
pub mod report;
pub mod rng;
pub mod routing;
pub mod sizes;
pub mod trace;
pub mod workload;
pub mod zipf;
