//! Every modelled quantity of the climb, in one struct, so that a report can print all of them in one line.
//!
//! A laptop cannot show what ten machines buy: ten processes share its cores. So each tier holds a *slot* for a service
//! time that the rig adds on purpose, small numbers of slots make the tiers saturate long before the cores do, and
//! scaling out becomes visible. Everything else in a run (sockets, processes, SQL, caches, crashes) is real and measured.
//! [`Cost::real`] switches the modelled times off and shows the machine as it is.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::station::{Station, StationError};

const SECONDS_A_DAY: f64 = 86_400.0;

/// Whether tiers hold a slot for a modelled time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostMode {
    /// Each tier holds one of its slots for an exponential service time.
    #[default]
    Modelled,
    /// No time is added: what the machine itself does.
    Real,
}

/// The tiers that have a modelled service time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Web server and database in one box.
    SingleBox,
    /// One web server.
    Web,
    /// One database server.
    Database,
    /// One cache server.
    Cache,
    /// One worker of a queue.
    Worker,
}

/// How one node serves: so many requests at once, each for an exponential time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Requests served at the same time, at least 1.
    pub slots: u32,
    /// Mean service time in microseconds, above 0.
    pub mean_us: u64,
}

impl Service {
    /// `slots` requests at a time, each taking `mean` on average.
    pub const fn new(slots: u32, mean: Duration) -> Self {
        Self { slots, mean_us: mean.as_micros() as u64 }
    }

    /// Mean service time.
    pub fn mean(&self) -> Duration {
        Duration::from_micros(self.mean_us)
    }

    /// The rate at which the node saturates, in requests a second.
    pub fn saturation(&self) -> f64 {
        f64::from(self.slots) / self.mean().as_secs_f64()
    }

    /// A node `factor` times as big: more slots, the same speed each.
    #[must_use]
    pub const fn scaled(self, factor: u32) -> Self {
        Self { slots: self.slots.saturating_mul(factor), mean_us: self.mean_us }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slots x exp({} ms)", self.slots, self.mean_us as f64 / 1000.0)
    }
}

/// Every quantity of a run that is modelled and not measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cost {
    /// Whether the service times below apply.
    pub mode: CostMode,
    /// The one box of rung 01: 4 slots of 20 ms, as a request there is web work and database work.
    pub single_box: Service,
    /// A web server: 8 slots of 10 ms.
    pub web: Service,
    /// A database server: 4 slots of 10 ms.
    pub database: Service,
    /// The hop to a cache server: 8 slots of 0.5 ms.
    pub cache: Service,
    /// A worker: 4 slots of 50 ms.
    pub worker: Service,
    /// Requests that may wait in a node's line; one more is refused. Longer lines turn overload into time-outs instead
    /// of refusals.
    pub max_waiting: u32,
    /// Requests one user makes in a day; 20.
    pub requests_per_user_day: f64,
    /// How many times the mean rate of a day its busiest moment has; 3.
    pub peak_factor: f64,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            mode: CostMode::Modelled,
            single_box: Service::new(4, Duration::from_millis(20)),
            web: Service::new(8, Duration::from_millis(10)),
            database: Service::new(4, Duration::from_millis(10)),
            cache: Service::new(8, Duration::from_micros(500)),
            worker: Service::new(4, Duration::from_millis(50)),
            max_waiting: 512,
            requests_per_user_day: 20.0,
            peak_factor: 3.0,
        }
    }
}

impl Cost {
    /// The defaults with modelled service times.
    pub fn modelled() -> Self {
        Self::default()
    }

    /// The defaults without any modelled time.
    pub fn real() -> Self {
        Self { mode: CostMode::Real, ..Self::default() }
    }

    /// Whether no time is modelled.
    pub fn is_real(&self) -> bool {
        self.mode == CostMode::Real
    }

    /// How a node of `tier` serves, whatever the mode.
    pub fn service(&self, tier: Tier) -> Service {
        match tier {
            Tier::SingleBox => self.single_box,
            Tier::Web => self.web,
            Tier::Database => self.database,
            Tier::Cache => self.cache,
            Tier::Worker => self.worker,
        }
    }

    /// The station of one node of `tier`; it adds no time if the mode is real.
    ///
    /// # Errors
    /// No slots or a mean of zero.
    pub fn station(&self, tier: Tier, seed: u64) -> Result<Station, StationError> {
        self.station_of(self.service(tier), seed)
    }

    /// The station of one node with a service of its own, such as a bigger box; no time is added if the mode is real.
    ///
    /// # Errors
    /// No slots or a mean of zero.
    pub fn station_of(&self, service: Service, seed: u64) -> Result<Station, StationError> {
        match self.mode {
            CostMode::Modelled => Station::new(service, self.max_waiting, seed),
            CostMode::Real => Ok(Station::instant()),
        }
    }

    /// Daily users that a peak `rate` (requests a second) serves.
    pub fn daily_users(&self, rate: f64) -> f64 {
        rate * SECONDS_A_DAY / (self.requests_per_user_day * self.peak_factor)
    }

    /// The peak rate (requests a second) that `users` daily users make.
    pub fn peak_rate(&self, users: f64) -> f64 {
        users * self.requests_per_user_day * self.peak_factor / SECONDS_A_DAY
    }
}

/// The line that stands above every table: what is modelled, and that the rest is measured.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            CostMode::Modelled => write!(
                f,
                "modelled: single box = {}, web = {}, database = {}, cache hop = {}, worker = {}, line of at most {}; ",
                self.single_box, self.web, self.database, self.cache, self.worker, self.max_waiting
            )?,
            CostMode::Real => write!(f, "modelled: no service time; ")?,
        }
        write!(
            f,
            "users = rate x 86400 / ({} req/day x peak {}). measured: everything else",
            self.requests_per_user_day, self.peak_factor
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_each_modelled_quantity() {
        let line = Cost::modelled().to_string();
        for part in ["4 slots x exp(20 ms)", "8 slots x exp(10 ms)", "4 slots x exp(10 ms)", "20 req/day", "peak 3"] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(line.ends_with("measured: everything else"));
        assert!(Cost::real().to_string().contains("no service time"));
    }

    #[test]
    fn users_and_rate_are_inverse() {
        let cost = Cost::default();
        assert!((cost.peak_rate(1e6) - 694.4).abs() < 0.1);
        assert!((cost.daily_users(cost.peak_rate(5e6)) - 5e6).abs() < 1e-3);
        assert!((cost.single_box.saturation() - 200.0).abs() < 1e-9);
    }

    #[test]
    fn survives_a_trip_through_json_and_refuses_unknown_fields() {
        let json = serde_json::to_string(&Cost::real()).unwrap();
        assert_eq!(serde_json::from_str::<Cost>(&json).unwrap(), Cost::real());
        assert_eq!(serde_json::from_str::<Cost>("{}").unwrap(), Cost::default());
        assert!(serde_json::from_str::<Cost>(r#"{"slotz": 1}"#).is_err());
    }
}
