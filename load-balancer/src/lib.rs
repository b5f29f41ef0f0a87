//! Picks a healthy backend in nanoseconds and keeps requests alive when one dies.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod backend;
mod balancer;
mod clock;
mod config;
mod control;
mod cursor;
mod discover;
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
mod publish;
mod quantile;
mod request;
mod request_config;
mod retry;
mod rng;
#[cfg(feature = "tower")]
mod service;
mod slow_start;
mod snapshot;
mod stripes;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod time;
mod window;

pub use address::{AddressPolicy, NotPrivate};
pub use backend::{Backend, BackendId, Change, ParseBackendIdError, Zone};
pub use balancer::{BackendState, BackendStats, Balancer, Builder, Probe};
pub use config::{Config, ConfigError, WhenAllDown};
pub use control::ChangeError;
pub use discover::{
    BoxDiscover, ChangeReceiver, ChangeSender, Discover, DiscoverError, Drive, DriveConfig, DriveCounters, DriveStats,
    EmptyAnswer, FileConfig, FileSource, ParseBackendsError, ParseBackendsErrorKind, SendError, Sending, StaticSource,
    TrySendError, channel, parse_backends,
};
#[cfg(feature = "dns")]
pub use discover::{DnsConfig, DnsNameError, DnsSource};
#[cfg(feature = "kube")]
pub use discover::{KubeConfig, KubeNameError, KubeSource};
pub use endpoint::Endpoint;
pub use exchange::{Action, Attempt, Exchange, ExchangeError};
pub use health::{HealthConfigError, HealthState, OutlierConfig, ProbeConfig, SlowStartConfig};
pub use hedge::HedgeConfig;
pub use limit::{ConcurrencyLimit, LimitConfig, Overloaded, Permit, Priority};
pub use outcome::{Failure, Outcome};
pub use pick::Pick;
pub use picker::{PickError, Picker};
pub use policy::{HashConfig, ParsePolicyError, Policy};
pub use quantile::LatencyQuantile;
pub use request::{Key, Request};
pub use request_config::{RequestConfig, RequestConfigError, RequestPolicy};
pub use retry::{BudgetConfig, RetryBudget};
pub use rng::Rng;
#[cfg(all(feature = "tower", feature = "tokio"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "tower", feature = "tokio"))))]
pub use service::TokioTimer;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use service::{Balance, BalanceError, BalanceLayer, Protocol, ResponseFuture, Timer, Traits};
pub use snapshot::Choice;
