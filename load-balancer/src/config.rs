//! What a balancer is told when it is made.

use crate::{AddressPolicy, HealthConfigError, OutlierConfig, Policy, ProbeConfig, SlowStartConfig, Zone};

/// The settings of a balancer, all of them data.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Config {
    /// How a backend is chosen. Default: round robin.
    pub policy: Policy,
    /// Where this balancer stands; backends in the same zone are preferred. Default: nowhere, which prefers nobody.
    pub zone: Option<Zone>,
    /// The share of the own zone's backends, in percent from 0 to 100, that must take requests for the own zone to be
    /// preferred; below it requests go to all zones. Lower keeps traffic near, and may overload who is left there.
    /// Default: 70.
    pub zone_threshold_percent: u8,
    /// The share of a priority's backends, in percent from 0 to 100, that must take requests. Below it the next priority
    /// serves, and if none has that share, suspicion is ignored: backends that were ejected by their answers get
    /// requests again, because those that are left could not carry the load alone (a *panic*). Those that are down
    /// stay out, and count as missing: in a pool of three of which one is dead, the ejection of another is a panic already.
    /// 0 never panics, and gives up a priority when nobody is left in it. Default: 50.
    pub panic_threshold_percent: u8,
    /// What happens when every backend is down. Default: they are tried.
    pub when_all_down: WhenAllDown,
    /// Which addresses backends may have. Default: any. `PrivateOnly` refuses a public one with
    /// [`ChangeError::NotPrivate`](crate::ChangeError::NotPrivate), whatever discovery says.
    pub addresses: AddressPolicy,
    /// How many backends there may be, from 1. Default: 65,536.
    pub max_backends: usize,
    /// How many requests may be in flight at one backend, from 1. Beyond it the backend is passed over, and when all are
    /// full picks fail with [`PickError::AllFull`](crate::PickError::AllFull). Counts are read before they are raised, so
    /// pickers that meet at the last place may exceed it by as many as they are. Default: no limit. For backends that
    /// take a fixed number of connections; what a pool can bear as a whole is learnt by
    /// [`ConcurrencyLimit`](crate::ConcurrencyLimit).
    pub max_in_flight: Option<u32>,
    /// How backends are judged by the requests that they serve.
    pub outlier: OutlierConfig,
    /// When backends are asked how they are. Default: never. The host sends the probes, by `drive_probes` (feature
    /// `tokio`) or by its own means; see [`Balancer::due_probes`](crate::Balancer::due_probes).
    pub probes: Option<ProbeConfig>,
    /// How a backend that is new or was out gets its share.
    pub slow_start: SlowStartConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            zone: None,
            zone_threshold_percent: 70,
            panic_threshold_percent: 50,
            when_all_down: WhenAllDown::default(),
            addresses: AddressPolicy::Any,
            max_backends: 1 << 16,
            max_in_flight: None,
            outlier: OutlierConfig::default(),
            probes: None,
            slow_start: SlowStartConfig::default(),
        }
    }
}

/// What happens when every backend is known to be down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum WhenAllDown {
    /// They are tried all the same: the checks may be wrong, and a try costs little.
    #[default]
    Try,
    /// Picks fail with [`PickError::NoneAvailable`](crate::PickError::NoneAvailable).
    Refuse,
}

/// Settings that no balancer can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A share above 100 percent.
    #[error("`{field}` is {percent} percent, more than all")]
    PercentAbove100 {
        /// The setting.
        field: &'static str,
        /// What it was.
        percent: u8,
    },
    /// Room for no backend, or for no request at one.
    #[error("`{field}` is 0, which leaves room for nothing")]
    NoRoom {
        /// The setting.
        field: &'static str,
    },
    /// A setting of the policy outside its range.
    #[error("`{field}` is {value}, not from {min} to {max}")]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// What it was.
        value: u32,
        /// The smallest that can be.
        min: u32,
        /// The largest that can be.
        max: u32,
    },
    /// Settings of health out of their range.
    #[error(transparent)]
    Health(#[from] HealthConfigError),
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let percents = [
            ("zone_threshold_percent", self.zone_threshold_percent),
            ("panic_threshold_percent", self.panic_threshold_percent),
        ];
        if let Some((field, percent)) = percents.into_iter().find(|(_, percent)| *percent > 100) {
            return Err(ConfigError::PercentAbove100 { field, percent });
        }
        let rooms = [("max_backends", self.max_backends == 0), ("max_in_flight", self.max_in_flight == Some(0))];
        if let Some((field, _)) = rooms.into_iter().find(|(_, is_none)| *is_none) {
            return Err(ConfigError::NoRoom { field });
        }
        self.policy.check()?;
        self.outlier.check()?;
        self.slow_start.check()?;
        self.probes.as_ref().map_or(Ok(()), ProbeConfig::check)?;
        Ok(())
    }
}
