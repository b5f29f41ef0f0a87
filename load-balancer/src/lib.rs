//! Picks a healthy backend in nanoseconds and keeps requests alive when one dies.
//!
//! # Pick
//!
//! A [`Balancer`] is the handle to a pool of [`Backend`]s. Whoever sends requests takes a [`Picker`], one a thread,
//! connection or service, and asks it for a [`Pick`]: a guard that is in flight while it lives and is told how the
//! request went. [`Policy`] lists the ways to choose, with what each looks at and costs.
//!
//! ```
//! use std::time::Instant;
//! use tenfold_load_balancer::{Backend, Balancer, Failure, Key, Outcome, Policy, Request};
//!
//! let balancer = Balancer::builder().policy("p2c".parse::<Policy>()?).build()?;
//! balancer.replace(["10.0.0.1:80".parse()?, "10.0.0.2:80".parse()?].map(Backend::new).into())?;
//!
//! let mut picker = balancer.picker();
//! let first = picker.pick(&Request::default(), Instant::now())?;
//! let tried = [first.id()];
//! first.finish(Outcome::Failure(Failure::Refused), Instant::now());
//!
//! // Again, elsewhere.
//! let second = picker.pick(&Request { avoid: &tried, ..Request::default() }, Instant::now())?;
//! assert_ne!(second.id(), tried[0]);
//! second.finish(Outcome::Success, Instant::now());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Health
//!
//! What picks are told decides who gets requests. A refused connection takes a backend out at once; failures in a row, a
//! share of failures, answers that come late beside those of its peers, or not at all, do so soon ([`OutlierConfig`]).
//! Who is out is tried again with one request at a time and warms up ([`SlowStartConfig`]). Active probes
//! ([`ProbeConfig`]) find silent deaths. Two bounds keep this from doing harm: no more than a share of the pool is
//! ejected by suspicion, and if too few are left, suspicion is ignored ([`Config::panic_threshold_percent`]).
//!
//! Call [`Balancer::tick`] now and then, or spawn the driver of the feature `tokio`, which does that and probes.
//!
//! # Requests
//!
//! [`Exchange`] is one request through retries, hedges and its deadline: a state machine that says what to do next. It
//! sends nothing itself, so it serves blocking clients, async ones, proxies and simulations alike. The feature `tower`
//! has it as a service, around a client of yours for each backend.
//!
//! # Discovery
//!
//! A [`Discover`] source reports [`Change`]s: a list, a channel, a file, DNS (`dns`), Kubernetes (`kube`) or your own.
//! [`Drive`] takes them to the balancer and keeps the last good set when a source fails, flaps or answers nothing.
//!
//! # Time and randomness
//!
//! Every call that depends on the time is told it. All randomness follows from [`Builder::seed`]. So the same calls with
//! the same seed give the same picks and ejections, and a host can run weeks of faults in seconds of virtual time, as the
//! crate's own tests do.
#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod backend;
mod balancer;
mod breaker;
mod clock;
mod config;
mod control;
mod counted;
mod cursor;
mod discover;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "serde")]
mod duration;
mod endpoint;
mod exchange;
pub mod hash;
mod health;
mod hedge;
mod limit;
mod outcome;
mod pick;
mod picker;
mod policy;
mod pool;
mod probe;
mod publish;
mod quantile;
mod range;
mod report;
mod request;
mod request_config;
mod retry;
mod rng;
#[cfg(feature = "tower")]
mod service;
mod slow_start;
mod snapshot;
mod stats;
mod stripes;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod time;
mod window;

pub use address::{AddressPolicy, NotPrivate};
pub use backend::{Backend, BackendId, Change, ParseBackendIdError, Zone};
pub use balancer::{BackendState, BackendStats, Balancer, Builder};
pub use breaker::{Breaker, BreakerConfig, BreakerOpen, BreakerState, Pass};
pub use config::{Config, WhenAllDown};
pub use control::ChangeError;
pub use discover::{
    BoxDiscover, ChangeReceiver, ChangeSender, Discover, DiscoverError, Drive, DriveConfig, DriveCounters, DriveStats,
    EmptyAnswer, FileConfig, FileSource, Mapped, Merged, ParseBackendsError, ParseBackendsErrorKind, SendError,
    Sending, StaticSource, TrySendError, channel, parse_backends,
};
#[cfg(feature = "dns")]
pub use discover::{DnsConfig, DnsNameError, DnsSource};
#[cfg(feature = "kube")]
pub use discover::{KubeConfig, KubeNameError, KubeSource};
#[cfg(feature = "tokio")]
pub use driver::{HttpProbe, HttpProbeError, LoadProbeConfig, TcpProbe, drive_load_probes, drive_probes};
pub use endpoint::Endpoint;
pub use exchange::{Action, Attempt, Exchange, ExchangeError};
pub use health::{HealthState, OutlierConfig, ProbeConfig, SlowStartConfig};
pub use hedge::HedgeConfig;
pub use limit::{ConcurrencyLimit, LimitConfig, Overloaded, Permit, Priority};
pub use outcome::{Failure, Outcome};
pub use pick::{InFlight, Pick};
pub use picker::{PickError, Picker};
pub use policy::{HashConfig, ParsePolicyError, Policy};
pub use probe::{Probe, ProbeResult};
pub use quantile::LatencyQuantile;
pub use range::ConfigError;
pub use report::LoadReport;
pub use request::{Key, Request};
pub use request_config::{RequestConfig, RequestPolicy};
pub use retry::{BudgetConfig, RetryBudget};
pub use rng::Rng;
#[cfg(all(feature = "tower", feature = "tokio"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "tower", feature = "tokio"))))]
pub use service::TokioTimer;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use service::{Balance, BalanceError, BalanceLayer, Held, Protocol, ResponseFuture, Timer, Traits};
pub use snapshot::Choice;
pub use stats::{PoolStats, RequestStats};
