//! The engine's features through its public API, with the naive policies of [`recency`].

mod bad_input;
mod concurrent;
mod expiry;
mod lease;
mod model;
mod oracle;
mod recency;
mod removal;
mod staged;
mod sync_send;
