//! Rung 12: a database of several shards, each a process of its own that holds a part of the users.
//!
//! ```text
//!   web server ── Shards<ShardServers, UserSlots> ──HTTP──> database server of rung 05, a primary
//!                 user -> slot -> shard, by a map             users, accounts of its slots
//!                                                             holding: which slots are its own, since which map
//!   operator ──── the same; moves slots, tells web servers the next map
//! ```
//!
//! Which shard a user is on, and how a slot moves while it is written, is the business of `tenfold-replication`. What is here
//! is what its host brings: a driver, the tables, and the way of a new map to the web servers. A shard refuses a web server
//! whose map is old, in the transaction of the write; that one waits for the newer map and asks again.
//!
//! | module | what it is |
//! |---|---|
//! | [`driver`] | the database server as seen from here: a transaction is one batch, and rests on what is assumed of its slot |
//! | [`slots`] | what a shard's database keeps of its slots, and how a user's rows travel |
//! | [`users`], [`web`] | the product over shards, with a control that nobody fences; what a web server answers beside it |
//! | [`homes`] | which users are in which slot |
//! | [`site`], [`trials`] | a running system, and what the rung tries on it |

pub mod driver;
pub mod homes;
pub mod site;
pub mod slots;
pub mod trials;
pub mod users;
pub mod web;

pub use driver::{ShardServerError, ShardServers};
pub use site::{Setup, Site};
pub use slots::UserSlots;
pub use users::{Fenced, ShardedUsers, Sharding, Unfenced};
