//! What the tests are made of: the proxy's process, backends that say what they are told to, a client that sees bytes.

mod backend;
mod client;
mod process;

pub(crate) use backend::{Conn, Fake, ok};
pub(crate) use client::{Answer, Client, get};
pub(crate) use process::{BackendProcess, Process, Proxy, eventually};
