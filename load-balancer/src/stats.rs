//! What a pool did so far, and its word to the host's observers.
//!
//! Nothing here is written by a pick or by the end of a request that went well: the sums come from what health counts
//! anyway, and everything else happens rarely. With the feature `tracing` what happens to a backend is an event; with the
//! feature `metrics` the host hands the sums to its recorder when it is asked for them. Neither sets anything up.

use std::net::SocketAddr;

use crate::BackendId;
use crate::health::Fitness;
use crate::window::Counts;

/// What a balancer did since it was made; see [`Balancer::stats`](crate::Balancer::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolStats {
    /// Backends in the pool, whatever their state.
    pub backends: usize,
    /// Backends that take requests, those that warm up included.
    pub serving: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests that went well, at backends that left included.
    pub successes: u64,
    /// Requests that failed, likewise.
    pub failures: u64,
    /// Times that a backend that served was ejected by suspicion. Trials that went wrong and kept it out are not counted
    /// here, but in [`BackendStats::ejections`](crate::BackendStats::ejections).
    pub ejections: u64,
    /// Times that nobody served at a backend any more.
    pub downs: u64,
    /// Times that a backend took requests again.
    pub recoveries: u64,
    /// Times that suspicion was ignored, because too few backends were left.
    pub panics: u64,
    /// Whether it is ignored now.
    pub is_panicking: bool,
}

/// What all requests of a pool together did beyond their first tries; see
/// [`RequestPolicy::stats`](crate::RequestPolicy::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestStats {
    /// Tries in the place of one that failed or timed out.
    pub retries: u64,
    /// Such tries that were not made, because no credit was left or nothing succeeds.
    pub refused_retries: u64,
    /// Tries beside one that was late.
    pub hedges: u64,
    /// Such tries that were not made.
    pub refused_hedges: u64,
    /// Tries that were given up because they took too long.
    pub time_outs: u64,
    /// Requests that were refused because enough were in flight.
    pub sheds: u64,
}

/// What happened to a backend or to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Ejected(BackendId, SocketAddr),
    Down(BackendId, SocketAddr),
    Recovered(BackendId, SocketAddr),
    Panic { begins: bool },
}

/// What happens is counted, and told once no lock is held.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    ejections: u64,
    downs: u64,
    recoveries: u64,
    panics: u64,
    is_panicking: bool,
    /// What was counted at backends that left.
    departed: Counts,
    untold: Vec<Happening>,
}

impl Chronicle {
    /// A backend's fitness has changed.
    pub(crate) fn note(&mut self, (id, address): (BackendId, SocketAddr), before: Fitness, after: Fitness) {
        let happening = match (before, after) {
            (Fitness::Ejected | Fitness::OnTrial { .. } | Fitness::Down, Fitness::Fit { .. }) => {
                self.recoveries += 1;
                Happening::Recovered(id, address)
            }
            (Fitness::Fit { .. }, Fitness::Ejected) => {
                self.ejections += 1;
                Happening::Ejected(id, address)
            }
            (Fitness::Fit { .. } | Fitness::Ejected | Fitness::OnTrial { was_down: false }, Fitness::Down) => {
                self.downs += 1;
                Happening::Down(id, address)
            }
            _ => return,
        };
        self.tell(happening);
    }

    pub(crate) fn note_panic(&mut self, is_panicking: bool) {
        if is_panicking != self.is_panicking {
            self.is_panicking = is_panicking;
            self.panics += u64::from(is_panicking);
            self.tell(Happening::Panic { begins: is_panicking });
        }
    }

    pub(crate) fn note_departure(&mut self, counts: Counts) {
        self.departed = self.departed.plus(counts);
    }

    fn tell(&mut self, happening: Happening) {
        if cfg!(feature = "tracing") {
            self.untold.push(happening);
        }
    }

    /// What is to be [told](Happening::tell).
    pub(crate) fn take_untold(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.untold)
    }

    /// The sums, with what was counted at those who are there.
    pub(crate) fn stats(&self, there: Counts) -> PoolStats {
        let all = self.departed.plus(there);
        PoolStats {
            successes: all.successes,
            failures: all.failures,
            ejections: self.ejections,
            downs: self.downs,
            recoveries: self.recoveries,
            panics: self.panics,
            is_panicking: self.is_panicking,
            ..PoolStats::default()
        }
    }
}

impl Happening {
    /// Tells the host's observers.
    #[cfg(feature = "tracing")]
    pub(crate) fn tell(self) {
        match self {
            Self::Ejected(backend, address) => tracing::warn!(%backend, %address, "ejected by suspicion"),
            Self::Down(backend, address) => tracing::warn!(%backend, %address, "nobody serves there"),
            Self::Recovered(backend, address) => tracing::info!(%backend, %address, "takes requests again"),
            Self::Panic { begins: true } => tracing::error!("too few backends are left: suspicion is ignored"),
            Self::Panic { begins: false } => tracing::info!("enough backends are left"),
        }
    }

    #[cfg(not(feature = "tracing"))]
    pub(crate) fn tell(self) {}
}

#[cfg(feature = "metrics")]
mod recorded {
    use super::{PoolStats, RequestStats};

    impl PoolStats {
        /// Hands the figures to the recorder of the `metrics` crate that the host installed, under `load_balancer_*` with
        /// the label `pool`. To be called where the recorder is about to be read, or now and then.
        pub fn record(&self, pool: &str) {
            let labels = [("pool", pool.to_owned())];
            metrics::gauge!("load_balancer_backends", &labels).set(self.backends as f64);
            metrics::gauge!("load_balancer_backends_serving", &labels).set(self.serving as f64);
            metrics::gauge!("load_balancer_in_flight", &labels).set(self.in_flight as f64);
            metrics::gauge!("load_balancer_panicking", &labels).set(f64::from(u8::from(self.is_panicking)));
            metrics::counter!("load_balancer_successes_total", &labels).absolute(self.successes);
            metrics::counter!("load_balancer_failures_total", &labels).absolute(self.failures);
            metrics::counter!("load_balancer_ejections_total", &labels).absolute(self.ejections);
            metrics::counter!("load_balancer_downs_total", &labels).absolute(self.downs);
            metrics::counter!("load_balancer_recoveries_total", &labels).absolute(self.recoveries);
            metrics::counter!("load_balancer_panics_total", &labels).absolute(self.panics);
        }
    }

    impl RequestStats {
        /// As [`PoolStats::record`].
        pub fn record(&self, pool: &str) {
            let labels = [("pool", pool.to_owned())];
            metrics::counter!("load_balancer_retries_total", &labels).absolute(self.retries);
            metrics::counter!("load_balancer_refused_retries_total", &labels).absolute(self.refused_retries);
            metrics::counter!("load_balancer_hedges_total", &labels).absolute(self.hedges);
            metrics::counter!("load_balancer_refused_hedges_total", &labels).absolute(self.refused_hedges);
            metrics::counter!("load_balancer_time_outs_total", &labels).absolute(self.time_outs);
            metrics::counter!("load_balancer_sheds_total", &labels).absolute(self.sheds);
        }
    }
}
