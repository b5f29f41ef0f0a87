//! Reverse proxies in front of three backends that break: how many requests fail or wait, and how many go through.
//!
//! The load, the backends and the proxy are processes of their own on one machine, connected by loopback. [`load`] counts
//! every latency from when a request was meant to leave, so that a proxy that stalls cannot hide what it did
//! (coordinated omission), and each [`backend`] keeps a record of its own, so that no proxy is taken at its word: when it
//! stopped sending to a broken backend, and how often it sent a request again.
//!
//! A [`scenario`] says what breaks and when; a [`trial`] plays it once; a [`verdict`] makes figures of it, or says why it
//! proves nothing; a [`contest`] lets all proxies take turns. Nothing outlives the measuring process: see [`process`].

pub mod arrivals;
pub mod backend;
mod connection;
pub mod contest;
pub mod cost;
pub mod fleet;
pub mod haproxy;
pub mod http;
pub mod load;
pub mod nginx;
pub mod process;
pub mod proxy;
pub mod row;
pub mod sample;
pub mod scenario;
pub mod schedule;
pub mod tenfold;
pub mod trial;
pub mod usage;
pub mod verdict;
mod wire;
