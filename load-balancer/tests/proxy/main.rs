//! The proxy as its users meet it: a process on loopback, real clients and backends, nothing left running.
//!
//! Ports are the kernel's choice. Times in here only keep a failure from hanging; what is asserted does not depend on
//! how fast the machine is, unless it says so.

// Parts of the proxy that are tested by themselves, too.
#[path = "../../examples/proxy/clock.rs"]
mod clock;
#[allow(dead_code, unused_imports, reason = "the proxy uses all of it")]
#[path = "../../examples/proxy/link/mod.rs"]
mod link;
#[allow(dead_code, reason = "the proxy uses all of it")]
#[path = "../../examples/proxy/witness.rs"]
mod witness;

mod admin;
mod answers;
mod backend_http2;
mod faults;
mod framing;
mod http2;
mod limits;
mod options;
mod panics;
mod requests;
mod rig;
mod shutdown;
mod statuses;
mod tcp;
mod uploads;
