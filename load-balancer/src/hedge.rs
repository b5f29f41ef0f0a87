//! When a request has waited so long that it is worth asking somebody else as well.
//!
//! One slow backend of many makes the tail of everybody's latency. A second copy of a request, sent when the first has
//! taken longer than most do, cuts the tail for a few per cent more load: the first answer is taken, the other try is
//! cancelled. That works because slowness is mostly the backend's and of the moment, and it is affordable because
//! "longer than most" is measured: a delay at the pool's live 95th percentile hedges one request in twenty, whatever
//! the pool's latency has become.
//!
//! A busy pool makes its own hedges: waiting makes hedges, hedges make waiting. Two things bound that. A hedge goes only to
//! a backend that is clearly idler than the late one ([`Pick::is_idler_than`](crate::Pick::is_idler_than)); where all wait
//! alike, for the database that they share, there is none. And the [budget](crate::RetryBudget) pays for so many.
//!
//! The same moment is a sign for health: a try that is *overdue* says that its backend may hang, long before any
//! time-out does.
//!
//! # What is measured
//! The latency of first tries, whether or not a hedge overtakes them. One that was overtaken is recorded at the delay it
//! is known to have exceeded. Left out, the slowest requests would vanish from the measure, the delay would fall, more
//! would be overtaken, and so on; and recorded when it was cancelled, it would drag the delay up.
//!
//! # Source
//! J. Dean, L. A. Barroso, "The tail at scale", Communications of the ACM, 2013: hedged requests.

use std::time::{Duration, Instant};

use crate::exchange::nanos;
use crate::quantile::LatencyQuantile;
use crate::range::{ConfigError, DAY, lasts, within};
use crate::retry::MAX_TRIES;

/// When a second copy of a request is sent. Only for idempotent requests, to another backend, and paid from the
/// [budget](crate::BudgetConfig), of which hedges get half.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct HedgeConfig {
    /// The quantile of the pool's latency after which a request is hedged, in thousandths. Default 950, from 500 to 999.
    /// Lower cuts more of the tail, for (1,000 - this) / 10 per cent more load.
    pub quantile_permille: u16,
    /// What the quantile is multiplied with, in per cent. Default 100, from 10 to 10,000.
    pub multiplier_percent: u32,
    /// The shortest delay. Default 1 ms, from 1 us to a day. Shorter hedges what would have been answered anyway by the time that the timer
    /// has fired.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub min_delay: Duration,
    /// The longest delay, also the one before anything is known of the pool. Default 500 ms, from `min_delay`
    /// to a day. Longer leaves a hang to
    /// the time-out of the try.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max_delay: Duration,
    /// Hedges of one request. Default 1, from 0 to 7; 0 sends none and still reports tries that are overdue. A second
    /// one gains little: it helps where two backends are slow at once.
    pub max_hedges: u8,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            quantile_permille: 950,
            multiplier_percent: 100,
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(500),
            max_hedges: 1,
        }
    }
}

impl HedgeConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        within("hedge.quantile_permille", self.quantile_permille.into(), 500..=999)?;
        within("hedge.multiplier_percent", self.multiplier_percent, 10..=10_000)?;
        lasts("hedge.min_delay", self.min_delay, Duration::from_micros(1)..=DAY)?;
        lasts("hedge.max_delay", self.max_delay, self.min_delay..=DAY)?;
        within("hedge.max_hedges", self.max_hedges.into(), 0..=MAX_TRIES as u32 - 1)
    }
}

/// The delay of a pool's hedges, as its latency is now.
#[derive(Debug)]
pub(crate) struct HedgeDelay {
    config: HedgeConfig,
    /// The shortest and the longest delay, in nanoseconds.
    bounds: (u64, u64),
    latency: LatencyQuantile,
}

impl HedgeDelay {
    /// Of a configuration that was checked.
    pub(crate) fn new(config: HedgeConfig, now: Instant) -> Self {
        let latency = LatencyQuantile::new(config.quantile_permille, now);
        let bounds = (nanos(config.min_delay), nanos(config.max_delay));
        Self { config, bounds, latency }
    }

    /// How long after a try began it is overdue, so many nanoseconds after this was made; in nanoseconds, too.
    #[inline]
    pub(crate) fn current(&self, now: u64) -> u64 {
        let (min, max) = self.bounds;
        let Some(quantile) = self.latency.current_at(now) else { return max };
        (quantile * u64::from(self.config.multiplier_percent) / 100).clamp(min, max)
    }

    /// A first try was answered after so many nanoseconds.
    #[inline]
    pub(crate) fn answered(&self, latency: u64) {
        self.latency.record_nanos(latency);
    }

    /// A first try that was not answered within `delay` was overtaken by another.
    pub(crate) fn overtaken(&self, delay: u64) {
        // Just below, so that it falls into the bucket whose upper edge the delay is and does not raise it.
        self.latency.record_nanos(delay.saturating_sub(1));
    }

    pub(crate) fn max_hedges(&self) -> u8 {
        self.config.max_hedges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay_after(config: HedgeConfig, latency_us: u64) -> Duration {
        let start = crate::clock::now();
        let delay = HedgeDelay::new(config, start);
        (0..100).for_each(|_| delay.answered(latency_us * 1_000));
        Duration::from_nanos(delay.current(50_000_000))
    }

    #[test]
    fn the_delay_is_a_multiple_of_the_quantile_between_its_bounds() {
        let config = HedgeConfig { multiplier_percent: 200, ..HedgeConfig::default() };
        let doubled = delay_after(config.clone(), 8_000);
        assert!((16_000..=18_100).contains(&doubled.as_micros()), "{doubled:?}");
        assert_eq!(delay_after(config.clone(), 50), config.min_delay);
        assert_eq!(delay_after(config.clone(), 2_000_000), config.max_delay);
    }

    #[test]
    fn before_anything_is_known_the_delay_is_the_longest() {
        let start = crate::clock::now();
        let config = HedgeConfig::default();
        assert_eq!(HedgeDelay::new(config.clone(), start).current(0), nanos(config.max_delay));
    }

    #[test]
    fn those_overtaken_neither_raise_nor_lower_the_delay() {
        let start = crate::clock::now();
        let delay = HedgeDelay::new(HedgeConfig::default(), start);
        let mut now = 0;
        (0..1_000).for_each(|_| delay.answered(5_000_000));
        let at_first = delay.current(now);
        // For ten seconds a third of the requests hang and are overtaken.
        for _ in 0..200 {
            now += 50_000_000;
            let current = delay.current(now);
            assert_eq!(current, at_first);
            (0..20).for_each(|_| delay.answered(5_000_000));
            (0..10).for_each(|_| delay.overtaken(current));
        }
    }
}
