//! Rung 05: a database of several servers, each a process with a node of its own.
//!
//! ```text
//!   web server ── Cluster<Servers> ──HTTP──> database server ── SqliteDriver ── its folder
//!                 routes by the session       batches, orders      │ log          ▲
//!                                                                  └── replica: while a socket to the primary's
//!                                                                      process is open, its log is read
//! ```
//!
//! [`Servers`] is a driver of ours for `tenfold-replication`: the web tier reaches the nodes over sockets alone. What a node
//! keeps, promises and gives up is the business of that crate's SQLite driver in the server's process. The bytes of the
//! log go from one to the other through files that both processes reach, and only while the replica holds a connection
//! to the primary's process: what a dead primary had not handed over is lost with it, as it would be with its machine.
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | the database server's process; `link` keeps it up with its primary |
//! | [`driver`] | the web tier's driver; [`wire`] what goes over the socket |
//! | [`routed`] | the product's database on top of it; the session travels in a cookie |
//! | [`stock`] | folders of nodes with the sample users in them |
//! | [`site`], [`trials`] | a running system, and what the rung tries on it |

pub mod driver;
mod link;
pub mod routed;
pub mod server;
pub mod site;
pub mod stock;
pub mod trials;
pub mod wire;

pub use driver::{Connection, ServerError, Servers};
pub use routed::{InTurn, Routed, Routing, cluster, remember};
pub use server::{NodeConfig, Server};
pub use site::{Setup, Site};
pub use stock::Stock;
