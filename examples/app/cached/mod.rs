//! Caching in front of the store: three strategies over cache servers on a hash ring, or over a cache in the process.
//!
//! | strategy | who reads the database on a miss | who fills the cache | on an update |
//! |---|---|---|---|
//! | [`Strategy::Aside`] | the web server | the web server, under a lease | the web server invalidates |
//! | [`Strategy::ReadThrough`] | the cache server, once a key | the cache server | the web server invalidates |
//! | [`Strategy::RefreshAhead`] | the cache server, in the background before the entry expires | the cache server | the same |
//!
//! Whatever the strategy, a cache server that does not answer costs readers hit ratio and never an error: the web server
//! goes to the database itself. A writer waits for one that hangs, and a dead one costs it nothing.

mod config;
mod engine;
mod local;
mod ring;
mod server;
mod strategy;

pub use config::{CacheConfig, EvictionPolicy, UnknownPolicy};
pub use local::InProcess;
pub use ring::{Ring, owner_of};
pub use server::{CacheStats, router};
pub use strategy::{CachedUsers, Protection, Strategy};
