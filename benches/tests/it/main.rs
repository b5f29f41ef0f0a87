//! The binaries as their users see them, and the trace reader on good and bad files.

mod hit_ratio;
mod memory;
mod pick;
mod proxy_faults;
mod queue;
mod routing;
mod run;
mod throughput;
mod trace;
