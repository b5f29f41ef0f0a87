//! The engine's features through its public API, with the naive policies of [`recency`].

mod bad_input;
mod concurrent;
mod expiry;
mod lease;
mod load_bulk;
mod load_task;
mod load_thread;
mod model;
mod oracle;
mod overtaken;
mod recency;
mod refresh;
mod refresh_task;
mod removal;
mod settings;
mod snapshot;
mod staged;
mod stand_in;
mod subject;
mod sync_send;
mod told;
mod unsync_load;
