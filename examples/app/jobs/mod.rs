//! What rung 10 adds: work that is put into a queue and done later, by others.
//!
//! | module | what it is |
//! |---|---|
//! | [`job`], [`effects`] | one thing to do and its key; what was done, by key |
//! | [`front`], [`hub`] | the web server that only takes jobs; the browsers it tells |
//! | [`engine`], [`queue`] | what the queue runs on: [`broker`], a process of ours, or [`nats`]; the way to it |
//! | [`worker`], [`work`] | takes jobs and does them: [`pictures`], [`smtp`], [`webhook`] |
//! | [`world`], [`browser`] | a mail server, a provider of text messages, and users who look |
//! | [`site`], [`trials`] | the whole of it, and what is tried on it |

pub mod broker;
pub mod browser;
pub mod effects;
pub mod engine;
pub mod front;
pub mod hub;
pub mod job;
pub mod nats;
pub mod pictures;
pub mod queue;
pub mod site;
pub mod smtp;
pub mod trials;
pub mod webhook;
pub mod work;
pub mod worker;
pub mod world;

/// The header of a message that has its job's key.
pub const KEY: &str = "job-key";
