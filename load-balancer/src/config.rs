//! What a balancer is told when it is made.

use crate::range::{ConfigError, within};
use crate::{AddressPolicy, OutlierConfig, Policy, ProbeConfig, SlowStartConfig, Zone};

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

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let at_most_u32 = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        within("zone_threshold_percent", self.zone_threshold_percent.into(), 0..=100)?;
        within("panic_threshold_percent", self.panic_threshold_percent.into(), 0..=100)?;
        within("max_backends", at_most_u32(self.max_backends), 1..=u32::MAX)?;
        within("max_in_flight", self.max_in_flight.unwrap_or(u32::MAX), 1..=u32::MAX)?;
        self.policy.check()?;
        self.outlier.check()?;
        self.slow_start.check()?;
        self.probes.as_ref().map_or(Ok(()), ProbeConfig::check)
    }
}
