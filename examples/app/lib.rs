//! The little product that every rung of the climb runs: users with an id, a first name, a last name and a phone
//! number, and accounts that pay each other.
//!
//! A rung swaps parts, not code. The handlers in [`web`] speak to the [`users::Users`] trait; behind it sit the
//! statements of [`users::SqlUsers`] over any [`database::Database`], which is either a file in the same process
//! ([`sqlite::Sqlite`]) or a server of its own on the other end of a socket ([`remote::RemoteDatabase`]), or one of
//! the [`cached`] strategies in front of either.
//!
//! | module | what it is |
//! |---|---|
//! | [`user`] | the four fields and their JSON |
//! | [`database`] | statements, batches and their errors: the seam between the product and its store |
//! | [`sqlite`], [`remote`], [`host`] | SQLite on disk; the same over HTTP; the thin server in between |
//! | [`document`] | the schemaless alternative, on redb |
//! | [`users`] | what the product does with a store |
//! | [`web`] | `GET /users/{id}` and its companions |
//! | [`dns`] | a responder and a resolver for one name |
//! | [`cached`] | cache-aside, read-through, refresh-ahead, and cache servers on a ring |
//! | [`replicated`] | database servers that replicate, the web tier's way to the right one, and the experiments of rung 05 |
//! | [`sharded`] | database servers that share the users between them, and the experiments of rung 12 |
//! | [`balancer`] | the load balancer's process: one address in front of many servers |
//! | [`http`] | the client with which tiers call each other |
//!
//! Beside the product stands what the rungs do to it:
//!
//! | module | what it is |
//! |---|---|
//! | [`rung`], [`keys`], [`measure`] | what a rung is and is given; who is asked for; capacity and failed shares |
//! | [`bank`], [`stores`], [`products`] | the experiments of rung 02: crashes and races, SQL against documents, PostgreSQL |
//! | [`fleet`], [`grey`] | the experiments of rung 04, and a web server that is late on demand |
//! | [`trials`] | the experiments of rung 06 |
//! | [`sockets`] | what a process listens on, by the kernel's word |

#![forbid(unsafe_code)]

pub mod balancer;
pub mod bank;
pub mod cached;
pub mod database;
pub mod dns;
pub mod document;
pub mod fleet;
pub mod grey;
pub mod host;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod measure;
pub mod products;
pub mod remote;
pub mod replicated;
pub mod rung;
pub mod sharded;
pub mod sockets;
pub mod sqlite;
pub mod stores;
pub mod trials;
pub mod user;
pub mod users;
pub mod web;
