//! What health may be told: data, checked once.

use std::time::Duration;

use crate::range::{ConfigError, DAY, lasts, within};

/// How backends are judged by the requests that they serve (outlier detection).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_load_balancer::OutlierConfig;
///
/// let patient = OutlierConfig { consecutive_failures: 10, latency_floor: Duration::from_millis(100), ..Default::default() };
/// assert_eq!(patient.max_ejection_percent, 50);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct OutlierConfig {
    /// Failures in a row that eject a backend; a success takes back a fifth of one, so a mixture with many failures does
    /// it too, and a rejection ([`Failure::Rejected`](crate::Failure::Rejected)) weighs a fifth of a failure. 1 to 1,000,
    /// default 4. Lower: quicker, and chance ejects. Higher: more errors reach the clients.
    pub consecutive_failures: u32,
    /// The share of failures in the window above which a backend is ejected although they never come in a row. 1 to 100
    /// percent, default 15. Lower: finds smaller defects, and chance ejects. 100 switches this off.
    pub max_failure_percent: u8,
    /// Requests in the window below which its share means nothing. At least 1, default 50.
    pub min_requests: u32,
    /// How far back the window goes, counted in ten buckets. 10 ms to 1 h, default 5 s. Longer: smaller defects are
    /// found, and old trouble of the whole pool excuses new trouble of one for longer.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub window: Duration,
    /// Whether backends are ejected for being slow, too. Default true. The evidence is that peers answer fast meanwhile:
    /// beside the late requests, or, where one request at a time is sent, between them. A delay that all share ejects nobody.
    pub by_latency: bool,
    /// Slow answers in a row that eject a backend; a fast answer takes back a quarter of one, and a request that is
    /// overdue but not slow yet weighs a half. 1 to 1,000, default 6. Lower: quicker, and heavy tails eject.
    pub consecutive_slow: u32,
    /// An answer is slow if it takes longer than this many times what 95 of 100 answers of an ordinary backend of the
    /// pool take, in percent. 100 to 10,000, default 200. Lower: finds smaller delays, and heavy tails eject.
    pub slow_percent: u32,
    /// No answer faster than this is slow, and no backend is ejected for a delay before this much time of it. Default
    /// 20 ms. Lower: quicker, and pauses of the scheduler or of a collector of garbage eject.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub latency_floor: Duration,
    /// How long a backend stays out the first time. 1 ms to 1 h, default 500 ms: long enough that the requests it
    /// swallowed come to their end, short enough that a wrong ejection costs little. Longer: fewer requests are risked
    /// on a backend that is still bad, and a healed one waits longer.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub base_ejection: Duration,
    /// Each further time it stays out for this share of the time since it was first ejected, in percent, at least for
    /// the base time. 0 to 1,000, default 25: it is tried again at most a quarter of its trouble after it healed. 100
    /// doubles the time at each try. Lower: more requests are risked. Higher: a healed backend waits longer.
    pub ejection_growth_percent: u32,
    /// The longest time out. At least the base, default 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max_ejection: Duration,
    /// The share of the backends of one priority that may be ejected by suspicion at once, in percent; one may always,
    /// if there are two. Default 50; 0 switches ejection off. Lower: bad backends stay when many are bad. Higher: the few that are left may
    /// break under the load. Backends that refuse connections are not counted.
    pub max_ejection_percent: u8,
    /// Requests, one at a time, that a backend must answer well before it gets its share again. 1 to 100, default 3.
    /// Higher: a half-broken backend passes more rarely, a healed one waits longer. One of them that is late and fails at
    /// nothing is forgiven, and another made in its place.
    pub canaries: u32,
    /// When a canary that was neither answered nor given up counts as failed. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub canary_timeout: Duration,
    /// How long a latency is remembered by [`PeakEwma`](crate::Policy): the time constant of its decay. 1 ms to 1 h,
    /// default 1 s. Longer: steadier, and one slow answer keeps requests away for longer.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub latency_decay: Duration,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 4,
            max_failure_percent: 15,
            min_requests: 50,
            window: Duration::from_secs(5),
            by_latency: true,
            consecutive_slow: 6,
            slow_percent: 200,
            latency_floor: Duration::from_millis(20),
            base_ejection: Duration::from_millis(500),
            ejection_growth_percent: 25,
            max_ejection: Duration::from_secs(30),
            max_ejection_percent: 50,
            canaries: 3,
            canary_timeout: Duration::from_secs(5),
            latency_decay: Duration::from_secs(1),
        }
    }
}

/// When backends are asked how they are, and what the answers mean (active probes).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ProbeConfig {
    /// Time from the start of a probe to the next, in calm times. 1 ms to 1 day, default 2 s. Shorter: silent deaths
    /// are found sooner, and each balancer costs each backend more.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub interval: Duration,
    /// The same while a backend is suspected, on trial, or between up and down. At most `interval`, default 200 ms.
    /// Set it as well where `interval` is shorter than that.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub fast_interval: Duration,
    /// Each interval is longer or shorter by up to this share, at random, so that probes of many balancers do not meet.
    /// 0 to 90 percent, default 10.
    pub jitter_percent: u8,
    /// When a probe without an answer has failed. 1 ms to 1 h, default 1 s. Shorter than the backend's bad moments: it
    /// is down too often.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub timeout: Duration,
    /// Good probes in a row that bring a backend up. 1 to 1,000, default 2.
    pub rise: u32,
    /// Bad probes in a row that take it down. 1 to 1,000, default 3.
    pub fall: u32,
    /// Whether a new backend takes requests before its first good probe. Default true.
    pub assume_up: bool,
    /// Probes under way at once, over all backends. At least 1, default 64.
    pub max_concurrent: usize,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(200),
            jitter_percent: 10,
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            assume_up: true,
            max_concurrent: 64,
        }
    }
}

/// How a backend that is new or was out gets its share back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct SlowStartConfig {
    /// Time from the first request that ends after the backend joined (or the first tick) to the full share; 0 switches slow start off. Up to 1 h, default 2 s. Longer: caches
    /// and compilers of the backend have time to warm, and the others carry its share meanwhile.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub window: Duration,
    /// The share at the beginning. 1 to 100 percent, default 10.
    pub min_percent: u8,
    /// How the share grows: as `(elapsed / window) ^ (100 / aggression_percent)`. 10 to 1,000, default 100, which is
    /// even growth; higher gives more at the beginning.
    pub aggression_percent: u32,
}

impl Default for SlowStartConfig {
    fn default() -> Self {
        Self { window: Duration::from_secs(2), min_percent: 10, aggression_percent: 100 }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

impl OutlierConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        within("consecutive_failures", self.consecutive_failures, 1..=1_000)?;
        within("max_failure_percent", u32::from(self.max_failure_percent), 1..=100)?;
        within("min_requests", self.min_requests, 1..=u32::MAX)?;
        lasts("window", self.window, 10 * MILLISECOND..=HOUR)?;
        within("consecutive_slow", self.consecutive_slow, 1..=1_000)?;
        within("slow_percent", self.slow_percent, 100..=10_000)?;
        lasts("latency_floor", self.latency_floor, Duration::ZERO..=HOUR)?;
        lasts("base_ejection", self.base_ejection, MILLISECOND..=HOUR)?;
        within("ejection_growth_percent", self.ejection_growth_percent, 0..=1_000)?;
        lasts("max_ejection", self.max_ejection, self.base_ejection..=DAY)?;
        within("max_ejection_percent", u32::from(self.max_ejection_percent), 0..=100)?;
        within("canaries", self.canaries, 1..=100)?;
        lasts("canary_timeout", self.canary_timeout, MILLISECOND..=HOUR)?;
        lasts("latency_decay", self.latency_decay, MILLISECOND..=HOUR)
    }
}

impl ProbeConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        lasts("interval", self.interval, MILLISECOND..=DAY)?;
        lasts("fast_interval", self.fast_interval, MILLISECOND..=self.interval)?;
        within("jitter_percent", u32::from(self.jitter_percent), 0..=90)?;
        lasts("timeout", self.timeout, MILLISECOND..=HOUR)?;
        within("rise", self.rise, 1..=1_000)?;
        within("fall", self.fall, 1..=1_000)?;
        within("max_concurrent", u32::try_from(self.max_concurrent).unwrap_or(u32::MAX), 1..=u32::MAX)
    }
}

impl SlowStartConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        lasts("slow start's window", self.window, Duration::ZERO..=HOUR)?;
        within("min_percent", u32::from(self.min_percent), 1..=100)?;
        within("aggression_percent", self.aggression_percent, 10..=1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(OutlierConfig::default().check(), Ok(()));
        assert_eq!(ProbeConfig::default().check(), Ok(()));
        assert_eq!(SlowStartConfig::default().check(), Ok(()));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let outlier = OutlierConfig { consecutive_failures: 0, ..Default::default() };
        let error = ConfigError::Number { field: "consecutive_failures", value: 0, min: 1, max: 1_000 };
        assert_eq!(outlier.check(), Err(error));
        assert_eq!(error.to_string(), "`consecutive_failures` is 0, not from 1 to 1000");
        let probes = ProbeConfig { fast_interval: Duration::from_secs(3), ..Default::default() };
        assert!(matches!(probes.check(), Err(ConfigError::Duration { field: "fast_interval", .. })));
        let slow_start = SlowStartConfig { min_percent: 0, ..Default::default() };
        assert!(slow_start.check().is_err());
    }
}
