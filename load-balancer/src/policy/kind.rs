//! The policies by name, and what can be set about them.

use std::fmt;
use std::str::FromStr;

use crate::range::{ConfigError, within};

/// How a backend is chosen.
///
/// | policy | looks at | weights | cost |
/// |---|---|---|---|
/// | [`RoundRobin`](Self::RoundRobin) | nothing | no | O(1) |
/// | [`WeightedRoundRobin`](Self::WeightedRoundRobin) | nothing | yes | O(1) |
/// | [`Random`](Self::Random) | nothing | yes | O(1) |
/// | [`P2c`](Self::P2c) | requests in flight of two | yes | O(1) |
/// | [`PeakEwma`](Self::PeakEwma) | those, and latency | yes | O(1) |
/// | [`Prequal`](Self::Prequal) | those of three, or what they report | no | O(1) |
/// | [`LeastRequest`](Self::LeastRequest) | requests in flight of all | yes | O(n) |
/// | [`RingHash`](Self::RingHash) | the key | yes | O(1) |
/// | [`Maglev`](Self::Maglev) | the key | yes | O(1) |
/// | [`CappedRendezvous`](Self::CappedRendezvous) | the key | yes | O(1) |
/// | [`Rendezvous`](Self::Rendezvous) | the key | yes | O(n) |
///
/// Which one: `P2c` where requests differ in cost, which is nearly always; `PeakEwma` where backends differ in speed or
/// distance; a hash where a backend has something of a key's, a cache or a session; `RoundRobin` where requests are
/// alike and counts must be equal.
///
/// Slow start scales weights, in every policy but those that place by key: moving keys to and fro would cost more than
/// it saves. A newcomer gets the share that its scaled weight says, at the most twice that, whether or not the others have
/// much to do.
///
/// Its text is its name: `round-robin`, `p2c`, `ring-hash` and so on; read with default settings. In a configuration file
/// (feature `serde`) it is its name too, or a map from the name of a hash policy to its settings:
/// `{ "ring-hash": { "load_bound_percent": 125 } }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Policy {
    /// One after the other; weights do not count. Equal numbers of requests, to within the number of pickers.
    #[default]
    RoundRobin,
    /// In turn, in proportion to the weights, and without bursts: of any two consecutive turns of one backend, the
    /// next is about its share away.
    ///
    /// # Source
    /// Baruah and others, "Proportionate progress", Algorithmica 1996.
    WeightedRoundRobin,
    /// A random one, in proportion to the weights.
    ///
    /// # Source
    /// Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", IEEE TSE 1991.
    Random,
    /// Two drawn by weight, and of these the one with fewer requests in flight for its weight.
    ///
    /// # Source
    /// Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001.
    P2c,
    /// Two drawn by weight, and of these the one where the latency of late times the requests in flight for its weight is
    /// lower.
    ///
    /// # Source
    /// Finagle's peak EWMA; see [`OutlierConfig::latency_decay`](crate::OutlierConfig::latency_decay) for its memory.
    PeakEwma,
    /// Three at random; of those that are not hot the fastest, of hot ones the least loaded. By what backends
    /// [report](crate::Balancer::report_load) of themselves, or else by what this balancer sees of them.
    ///
    /// The balancer asks nobody: the host tells it of each report, at best from a header of the backends' answers, or lets
    /// `drive_load_probes` (feature `tokio`) ask. The last report of a backend counts for a second. Without reports this
    /// policy knows what `PeakEwma` does.
    ///
    /// # Source
    /// Wydrowski and others, "Load is not what you should balance: Introducing Prequal", NSDI 2024.
    Prequal,
    /// The one with the fewest requests in flight for its weight, of all; of idle ones one drawn by weight.
    LeastRequest,
    /// By key, on a ring: [`hash::RingHash`](crate::hash::RingHash).
    RingHash(HashConfig),
    /// By key, in a flat table: [`hash::Maglev`](crate::hash::Maglev).
    Maglev(HashConfig),
    /// By key, in a flat table whose changes move hardly a key:
    /// [`hash::CappedRendezvous`](crate::hash::CappedRendezvous). The first choice of the hash policies.
    CappedRendezvous(HashConfig),
    /// By key, without a table: [`hash::Rendezvous`](crate::hash::Rendezvous).
    Rendezvous(HashConfig),
}

/// Settings of the policies that place by key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct HashConfig {
    /// How many slots a flat table has, from 1 to 16,777,216, or how many points a backend has on the ring, from 1 to
    /// 65,536. More is more even and takes more memory. Default: 65,537 slots, 160 points.
    pub slots: Option<u32>,
    /// How many slots a backend of [`Policy::CappedRendezvous`] may hold, in percent of its share, from 100 to 10,000.
    /// More lets fewer keys move and is less even. Default: 102, which is a fiftieth above the share.
    pub cap_percent: Option<u32>,
    /// How many of the requests in flight a backend may have, in percent of its share, from 100 to 10,000; beyond it
    /// requests go to their key's next choice. Less is more even and keeps fewer keys at home. 125, a quarter above the
    /// share, is usual. Default: no bound. Clients that come back by [`sticky`](crate::Request::sticky) go where they were, whatever
    /// the bound: what is kept for them there is worth more than evenness.
    ///
    /// # Source
    /// Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018.
    pub load_bound_percent: Option<u32>,
}

/// A text that names no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy has this name; there are {}", NAMES.map(|(name, _)| name).join(", "))]
#[non_exhaustive]
pub struct ParsePolicyError;

const HASH: HashConfig = HashConfig { slots: None, cap_percent: None, load_bound_percent: None };

const NAMES: [(&str, Policy); 11] = [
    ("round-robin", Policy::RoundRobin),
    ("weighted-round-robin", Policy::WeightedRoundRobin),
    ("random", Policy::Random),
    ("p2c", Policy::P2c),
    ("peak-ewma", Policy::PeakEwma),
    ("prequal", Policy::Prequal),
    ("least-request", Policy::LeastRequest),
    ("ring-hash", Policy::RingHash(HASH)),
    ("maglev", Policy::Maglev(HASH)),
    ("capped-rendezvous", Policy::CappedRendezvous(HASH)),
    ("rendezvous", Policy::Rendezvous(HASH)),
];

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, policy)| policy).ok_or(ParsePolicyError)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_same = |other: &Self| std::mem::discriminant(self) == std::mem::discriminant(other);
        let name = NAMES.into_iter().find(|(_, policy)| is_same(policy)).map(|(name, _)| name);
        f.write_str(name.expect("every policy has a name"))
    }
}

impl Policy {
    /// All of them, with default settings.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(_, policy)| policy)
    }

    pub(crate) fn hash_config(&self) -> Option<&HashConfig> {
        match self {
            Self::RingHash(config)
            | Self::Maglev(config)
            | Self::CappedRendezvous(config)
            | Self::Rendezvous(config) => Some(config),
            _ => None,
        }
    }

    /// The same with these settings, if it has any.
    #[cfg(feature = "serde")]
    pub(crate) fn with_hash_config(mut self, settings: HashConfig) -> Self {
        if let Self::RingHash(config)
        | Self::Maglev(config)
        | Self::CappedRendezvous(config)
        | Self::Rendezvous(config) = &mut self
        {
            *config = settings;
        }
        self
    }

    /// Whether its settings can be.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Some(config) = self.hash_config() else { return Ok(()) };
        let max_slots = if matches!(self, Self::RingHash(_)) { 1 << 16 } else { 1 << 24 };
        let ranges = [
            ("slots", config.slots, 1, max_slots),
            ("cap_percent", config.cap_percent, 100, 10_000),
            ("load_bound_percent", config.load_bound_percent, 100, 10_000),
        ];
        for (field, value, min, max) in ranges {
            within(field, value.unwrap_or(min), min..=max)?;
        }
        Ok(())
    }

    /// Whether weights count at all.
    pub(crate) fn has_weights(&self) -> bool {
        !matches!(self, Self::RoundRobin | Self::Prequal)
    }

    /// Whether a backend that is ejected keeps its place, so that only its requests go elsewhere meanwhile.
    pub(crate) fn keeps_its_table(&self) -> bool {
        self.hash_config().is_some()
    }

    /// By how much a backend's load may exceed the mean, if that is bounded.
    pub(crate) fn load_bound_percent(&self) -> Option<u32> {
        self.hash_config()?.load_bound_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_read_by_its_name() {
        for policy in Policy::all() {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        let error = "round robin".parse::<Policy>().unwrap_err().to_string();
        assert!(error.contains("weighted-round-robin, random"), "{error}");
    }
}
