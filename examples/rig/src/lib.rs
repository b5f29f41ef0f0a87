//! The plumbing of the climb: what every rung needs and no component should know.
//!
//! - [`run`], [`Roles`], [`Supervisor`], [`Node`]: each tier is a process of its own that can be killed, hung and restarted.
//! - [`Cost`], [`Station`]: every quantity that is modelled, and the slots that model it.
//! - [`Client`], [`Load`], [`Faults`]: open-loop requests whose latency counts from the intended start.
//! - [`measure_capacity`]: the highest rate that keeps the promise on p99 and errors, with its spread.
//! - [`Truth`]: what was acknowledged, so that stale and lost writes are counted from outside.
//! - [`Machine`]: what the run cost, and whether the machine was free for it.
#![forbid(unsafe_code)]

mod capacity;
mod clock;
mod cost;
mod load;
mod machine;
mod node;
mod process;
mod progress;
mod rng;
mod role;
mod spawner;
mod station;
mod supervisor;
mod temp;
mod truth;

pub use bytes::Bytes;
pub use capacity::{Capacity, CapacityError, CapacityPlan, CopyId, CurvePoint, Promise, Subject, measure_capacity};
pub use clock::{Instant, now, sleep, sleep_until, unix_seconds};
pub use cost::{Cost, CostMode, Service, Tier};
pub use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, StatusCode};
pub use load::{
    Client, Event, Exchange, Failure, Faults, Latency, Load, LoadError, LoadPlan, LoadResult, Request, Response, Second,
};
pub use machine::{
    BusyError, MAX_MACHINE_SHARE, Machine, MachineUse, Neighbours, ProcessUsage, Quiet, check_quiet, own_usage,
    process_usage,
};
pub use node::{Node, NodeSpec, StartError};
pub use progress::Progress;
pub use rng::Rng;
pub use role::{ReadyError, Role, RoleResult, Roles, Stop, run};
pub use station::{Overloaded, Served, Station, StationError, StationStats};
pub use supervisor::Supervisor;
pub use temp::TempDir;
pub use truth::{ReadVerdict, Truth, TruthCounts};
