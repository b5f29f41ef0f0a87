//! How requests are kept alive: the settings, and what all requests of one pool share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::exchange::nanos;
use crate::hedge::{HedgeConfig, HedgeDelay};
use crate::limit::{ConcurrencyLimit, LimitConfig};
use crate::range::{ConfigError, DAY, lasts, within};
use crate::retry::{BudgetConfig, Drought, MAX_TRIES, RetryBudget};
use crate::rng::mix;
use crate::stats::RequestStats;

/// How one request is tried, hedged and given up. Data; [`RequestPolicy::new`] checks it.
///
/// With the `serde` feature it reads from a file, where durations are texts and unknown fields are refused:
///
/// ```toml
/// max_tries = 3
/// try_timeout = "500ms"
/// hedge = { quantile_permille = 990 }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct RequestConfig {
    /// How often a request is sent at most, hedges included. Default 3, from 1 to 8; 1 switches retries and hedges off.
    /// More survives more backends that fail at once; how much load it adds is the budget's matter.
    pub max_tries: u8,
    /// How long one try may take before another takes its place. Default 1 s, from 1 us to a day. Applies only where another may: the request
    /// is idempotent, has tries left and a credit for one; otherwise the try goes on to the deadline. Shorter leaves a
    /// backend that hangs sooner, and does work twice that was only slow.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub try_timeout: Duration,
    /// How long all tries together may take, until the answer begins. Default 15 s, from 1 us to a day. A caller that knows its own deadline
    /// gives it with the request; the earlier one counts.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub deadline: Duration,
    /// The time that must be left for a try to be made. Default 1 ms, at most a day. Should be what a quick answer takes: a try that
    /// cannot be answered in time is load for nothing.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub min_try_time: Duration,
    /// When a second copy is sent. Default: with the defaults of [`HedgeConfig`]. `None` switches it off, and reports of
    /// tries that are overdue with it.
    pub hedge: Option<HedgeConfig>,
    /// How many retries and hedges all requests of the pool together may make.
    pub budget: BudgetConfig,
    /// How many requests may be in flight. Default `None`: no limit, so nothing is refused that the pool could have done. To
    /// be set where more can be offered than the pool can do: without it an overload by an eighth leaves a quarter of the
    /// requests answered, with it three quarters and seven times as fast; [`ConcurrencyLimit`] has the figures and why none is
    /// set by default.
    pub limit: Option<LimitConfig>,
}

impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            max_tries: 3,
            try_timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(15),
            min_try_time: Duration::from_millis(1),
            hedge: Some(HedgeConfig::default()),
            budget: BudgetConfig::default(),
            limit: None,
        }
    }
}

impl RequestConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let microsecond = Duration::from_micros(1);
        within("max_tries", self.max_tries.into(), 1..=MAX_TRIES as u32)?;
        lasts("try_timeout", self.try_timeout, microsecond..=DAY)?;
        lasts("deadline", self.deadline, microsecond..=DAY)?;
        lasts("min_try_time", self.min_try_time, Duration::ZERO..=DAY)?;
        self.hedge.as_ref().map_or(Ok(()), HedgeConfig::check)?;
        self.budget.check()?;
        self.limit.as_ref().map_or(Ok(()), LimitConfig::check)
    }
}

/// The settings, checked, and what the requests of one pool share: the budget, the measure of latency, the limit.
///
/// One for a pool, behind an `Arc`; every [`Exchange`](crate::Exchange) is given it at each step.
#[derive(Debug)]
pub struct RequestPolicy {
    /// When its measures began, all of them.
    origin: Instant,
    config: RequestConfig,
    budget: RetryBudget,
    drought: Drought,
    hedge: Option<HedgeDelay>,
    limit: Option<Arc<ConcurrencyLimit>>,
    deadline_nanos: u64,
    try_timeout_nanos: u64,
    /// The state of the jitter's generator.
    jitter: AtomicU64,
    counts: TryCounts,
}

/// What is counted of tries beyond the first. All of it is rare, and none is on the way of a request that is answered.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct TryCounts {
    retries: [AtomicU64; 2],
    hedges: [AtomicU64; 2],
    time_outs: AtomicU64,
}

impl TryCounts {
    pub(crate) fn asked_for(&self, is_hedge: bool, is_paid: bool) {
        let counts = if is_hedge { &self.hedges } else { &self.retries };
        counts[usize::from(is_paid)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn timed_out(&self) {
        self.time_outs.fetch_add(1, Ordering::Relaxed);
    }
}

impl RequestPolicy {
    /// A policy that has seen no request. `now` is when its measures begin.
    ///
    /// # Errors
    /// [`ConfigError`] for a setting outside its range.
    pub fn new(config: RequestConfig, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            origin: now,
            budget: RetryBudget::new(&config.budget, now)?,
            drought: Drought::new(now),
            hedge: config.hedge.clone().map(|hedge| HedgeDelay::new(hedge, now)),
            limit: config.limit.clone().map(|limit| ConcurrencyLimit::new(limit, now)).transpose()?.map(Arc::new),
            deadline_nanos: nanos(config.deadline),
            try_timeout_nanos: nanos(config.try_timeout),
            config,
            jitter: AtomicU64::new(crate::rng::seed_from_os()),
            counts: TryCounts::default(),
        })
    }

    /// Replaces the seed of the jitter, so that a run can be repeated. Default: from the operating system.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        *self.jitter.get_mut() = seed;
        self
    }

    /// The settings.
    #[inline]
    #[must_use]
    pub fn config(&self) -> &RequestConfig {
        &self.config
    }

    /// The credits for retries and hedges.
    #[inline]
    #[must_use]
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// The limit of requests in flight, if there is one. The host takes a [`Permit`](crate::Permit) for each request;
    /// exchanges tell it how long answers took and what was dropped.
    #[inline]
    #[must_use]
    pub fn limit(&self) -> Option<&Arc<ConcurrencyLimit>> {
        self.limit.as_ref()
    }

    /// What its requests did so far beyond their first tries.
    #[must_use]
    pub fn stats(&self) -> RequestStats {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let TryCounts { retries, hedges, time_outs } = &self.counts;
        RequestStats {
            retries: count(&retries[1]),
            refused_retries: count(&retries[0]),
            hedges: count(&hedges[1]),
            refused_hedges: count(&hedges[0]),
            time_outs: count(time_outs),
            sheds: self.limit.as_ref().map_or(0, |limit| limit.sheds()),
        }
    }

    pub(crate) fn counts(&self) -> &TryCounts {
        &self.counts
    }

    /// How long after it was sent a request is hedged, at present; `None` if hedging is off.
    #[inline]
    #[must_use]
    pub fn hedge_delay(&self, now: Instant) -> Option<Duration> {
        self.hedge.as_ref().map(|hedge| Duration::from_nanos(hedge.current(self.time(now))))
    }

    /// Nanoseconds since its measures began. They all are told the time so, since to compare two instants costs as much as
    /// what they then do.
    #[inline]
    pub(crate) fn time(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    /// Whether anything succeeds at all.
    #[inline]
    pub(crate) fn drought(&self) -> &Drought {
        &self.drought
    }

    #[inline]
    pub(crate) fn deadline_nanos(&self) -> u64 {
        self.deadline_nanos
    }

    #[inline]
    pub(crate) fn try_timeout_nanos(&self) -> u64 {
        self.try_timeout_nanos
    }

    #[inline]
    pub(crate) fn hedge(&self) -> Option<&HedgeDelay> {
        self.hedge.as_ref()
    }

    /// 64 uniform bits for a jitter.
    pub(crate) fn jitter(&self) -> u64 {
        mix(self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused() {
        let default = RequestConfig::default;
        let hedge = |hedge: HedgeConfig| RequestConfig { hedge: Some(hedge), ..default() };
        let second = Duration::from_secs(1);
        for (config, text) in [
            (RequestConfig { max_tries: 0, ..default() }, "`max_tries` is 0, not from 1 to 8"),
            (RequestConfig { max_tries: 9, ..default() }, "`max_tries` is 9, not from 1 to 8"),
            (
                RequestConfig { try_timeout: Duration::ZERO, ..default() },
                "`try_timeout` is 0ns, not from 1µs to 86400s",
            ),
            (RequestConfig { deadline: 86_401 * second, ..default() }, "`deadline` is 86401s, not from 1µs to 86400s"),
            (
                hedge(HedgeConfig { quantile_permille: 499, ..Default::default() }),
                "`hedge.quantile_permille` is 499, not from 500 to 999",
            ),
            (
                hedge(HedgeConfig { quantile_permille: 1_000, ..Default::default() }),
                "`hedge.quantile_permille` is 1000, not from 500 to 999",
            ),
            (
                hedge(HedgeConfig { multiplier_percent: 9, ..Default::default() }),
                "`hedge.multiplier_percent` is 9, not from 10 to 10000",
            ),
            (
                hedge(HedgeConfig { min_delay: Duration::ZERO, ..Default::default() }),
                "`hedge.min_delay` is 0ns, not from 1µs to 86400s",
            ),
            (
                hedge(HedgeConfig { min_delay: second, ..Default::default() }),
                "`hedge.max_delay` is 500ms, not from 1s to 86400s",
            ),
            (hedge(HedgeConfig { max_hedges: 8, ..Default::default() }), "`hedge.max_hedges` is 8, not from 0 to 7"),
            (
                RequestConfig { budget: BudgetConfig { percent: 1_001, ..Default::default() }, ..default() },
                "`budget.percent` is 1001, not from 0 to 1000",
            ),
            (
                RequestConfig { limit: Some(LimitConfig { min: 0, ..Default::default() }), ..default() },
                "`limit.min` is 0, not from 1 to 10000",
            ),
        ] {
            let refused = RequestPolicy::new(config, crate::clock::now()).unwrap_err();
            assert_eq!(refused.to_string(), text);
        }
        assert!(RequestPolicy::new(default(), crate::clock::now()).is_ok());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn reads_what_was_written_and_refuses_what_it_does_not_know() {
        let text =
            r#"{ "max_tries": 2, "try_timeout": "250ms", "hedge": { "min_delay": "2ms" }, "limit": { "max": 600 } }"#;
        let config: RequestConfig = serde_json::from_str(text).unwrap();
        let expected = RequestConfig {
            max_tries: 2,
            try_timeout: Duration::from_millis(250),
            hedge: Some(HedgeConfig { min_delay: Duration::from_millis(2), ..Default::default() }),
            limit: Some(LimitConfig { max: 600, ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(config, expected);
        assert_eq!(serde_json::from_str::<RequestConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert!(serde_json::from_str::<RequestConfig>(r#"{ "max_retries": 2 }"#).is_err());
        assert!(serde_json::from_str::<RequestConfig>(r#"{ "budget": { "share": 2 } }"#).is_err());
    }
}
