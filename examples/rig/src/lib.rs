//! The plumbing of the climb: what every rung needs and no component should know.
//!
//! - [`run`], [`Roles`], [`Supervisor`], [`Node`]: each tier is a process of its own that can be killed, hung and restarted.
//! - [`Cost`], [`Station`]: every quantity that is modelled, and the slots that model it.
//! - [`Client`], [`Load`], [`Faults`]: open-loop requests whose latency counts from the intended start.
//! - [`measure_capacity`]: the highest rate that keeps the promise on p99 and errors, with its spread.
//! - [`Truth`]: what was acknowledged, so that stale and lost writes are counted from outside.
//! - [`Network`]: what queueing theory says the same topology can carry.
//! - [`Workload`]: which keys are asked for: a measured profile, a recorded trace, or Zipf's law.
//! - [`Report`]: what came out, as data and as tables, files and a page; [`ROWS`]: which requirement it proves.
//! - [`enter_own_network`]: a private network for processes, without root.
//! - [`Machine`]: what the run cost, and whether the machine was free for it.
#![forbid(unsafe_code)]

mod capacity;
mod clock;
mod cost;
mod ledger;
mod load;
mod machine;
mod namespace;
mod node;
mod process;
mod profile;
mod progress;
mod report;
mod rng;
mod role;
mod spawner;
mod station;
mod story;
mod supervisor;
mod temp;
mod theory;
mod trace;
mod truth;
mod workload;
mod zipf;

pub use bytes::Bytes;
pub use capacity::{Capacity, CapacityError, CapacityPlan, CopyId, CurvePoint, Promise, Subject, measure_capacity};
pub use clock::{Instant, now, sleep, sleep_until, unix_seconds};
pub use cost::{Cost, CostMode, Service, Tier};
pub use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, StatusCode};
pub use ledger::{
    Drift, LastVerdict, ROWS, Row, Status, VerdictsError, check as check_ledger, check_tree as check_ledger_tree,
    read_verdicts, render as render_ledger, tests_in,
};
pub use load::{
    Client, Event, Exchange, Failure, Faults, Latency, Load, LoadError, LoadPlan, LoadResult, Request, Response, Second,
};
pub use machine::{
    BusyError, MAX_MACHINE_SHARE, Machine, MachineUse, Neighbours, ProcessUsage, Quiet, check_quiet, own_usage,
    process_usage,
};
pub use namespace::{enter_next_network, enter_own_network, ip};
pub use node::{Node, NodeSpec, StartError};
pub use profile::{Profile, ProfileKeys, WEB07};
pub use progress::Progress;
pub use report::{
    Claim, Curve, Fact, HIGHEST_RATIO, LOWEST_RATIO, Point, Report, RungReport, Table, TierView, UserModel, Value,
    Verdict, WriteError,
};
pub use rng::Rng;
pub use role::{ReadyError, Role, RoleResult, Roles, Stop, run};
pub use station::{Overloaded, Served, Station, StationError, StationStats};
pub use story::Story;
pub use supervisor::Supervisor;
pub use temp::TempDir;
pub use theory::{Mmc, Network, NetworkError, Quantiles, StationId};
pub use trace::{MAX_TRACE_ACCESSES, MAX_TRACE_BYTES, Trace, TraceError, TraceKeys};
pub use truth::{ReadVerdict, Truth, TruthCounts};
pub use workload::Workload;
pub use zipf::{Zipf, ZipfError};
