//! Rung 05: a database of several servers, each a process with a node of its own.
//!
//! ```text
//!   web server ── Cluster<Servers> ──HTTP──> database server ── a driver of the crate ── its node
//!                 routes by the session       batches, orders      SQLite's or PostgreSQL's   ▲ log
//!                                                                                             other nodes
//! ```
//!
//! [`Servers`] is a driver of ours for `tenfold-replication`: the web tier reaches the nodes over sockets alone. What a node
//! keeps, promises and gives up is the business of that crate's driver in the server's process. Which one that is says the
//! [`Engine`]: by default a file of SQLite, on request a server of [PostgreSQL](postgres).
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | the database server's process, over a `store` |
//! | [`engine`] | what the nodes are of: `sqlite`, whose `link` keeps it up with its primary, or [`postgres`] |
//! | [`driver`] | the web tier's driver; [`wire`] what goes over the socket |
//! | [`routed`] | the product's database on top of it; the session travels in a cookie |
//! | [`stock`] | folders of nodes with the sample users in them |
//! | [`site`], [`trials`] | a running system, and what the rung tries on it |

pub mod driver;
pub mod engine;
mod link;
pub mod postgres;
pub mod routed;
pub mod server;
pub mod site;
mod sqlite;
pub mod stock;
mod store;
pub mod trials;
pub mod wire;

pub use driver::{Connection, ServerError, Servers};
pub use engine::Engine;
pub use routed::{InTurn, Routed, Routing, cluster, remember};
pub use server::NodeConfig;
pub use site::{Setup, Site};
pub use stock::Stock;
