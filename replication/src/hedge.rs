//! When a late read is sent a second time.
//!
//! The wait is the latency that so many reads in a hundred exceed, followed as reads come in; the number of second
//! sendings is bounded by a budget beside, since when all is slow every read is late. Dean and Barroso, "The tail at
//! scale", CACM 56(2), 2013.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::HedgeConfig;

/// Second sendings that may be saved up, in hundredths.
const MAX_SAVED: i64 = 1_000;

#[derive(Debug)]
pub(crate) struct Hedger {
    percent: u32,
    min_delay: Duration,
    /// The estimate, in nanoseconds.
    delay: AtomicU64,
    /// Hundredths of second sendings that are paid for.
    budget: AtomicI64,
}

impl Hedger {
    pub(crate) fn new(config: &HedgeConfig) -> Self {
        let min = u64::try_from(config.min_delay.as_nanos()).unwrap_or(u64::MAX);
        Self {
            percent: config.percent.min(100),
            min_delay: config.min_delay,
            // Until it is known better: late enough to be rare.
            delay: AtomicU64::new(min.saturating_mul(16)),
            budget: AtomicI64::new(MAX_SAVED),
        }
    }

    /// How long the first sending has for itself.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_nanos(self.delay.load(Ordering::Relaxed)).max(self.min_delay)
    }

    /// A read has begun: it pays its share.
    pub(crate) fn earn(&self) {
        if self.budget.load(Ordering::Relaxed) < MAX_SAVED {
            self.budget.fetch_add(self.percent.into(), Ordering::Relaxed);
        }
    }

    /// Whether a second sending is paid for.
    pub(crate) fn spend(&self) -> bool {
        let take = |budget: i64| (budget >= 100).then(|| budget - 100);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// The first sending of a read took so long, or is late at so long.
    ///
    /// A step up when it is above the estimate, a smaller one down when it is below, in the ratio of the share: they
    /// balance where that share is above. Racing updates lose a step.
    pub(crate) fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let estimate = self.delay.load(Ordering::Relaxed).max(1_000);
        let step = estimate / 1_000;
        let moved = if took >= estimate {
            estimate.saturating_add(step * u64::from(100 - self.percent))
        } else {
            estimate - step * u64::from(self.percent)
        };
        self.delay.store(moved, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn the_estimate_finds_the_share_and_the_budget_holds() {
        let hedger = Hedger::new(&HedgeConfig { percent: 5, min_delay: Duration::from_micros(10) });
        let mut rng = Rng::new(1);
        let (mut late, mut hedged) = (0, 0);
        for round in 0..100_000 {
            let took = Duration::from_micros(100 + rng.below(1_000));
            hedger.earn();
            let is_late = took > hedger.delay();
            hedger.observe(took);
            if round >= 50_000 {
                late += u32::from(is_late);
            }
            hedged += u32::from(is_late && hedger.spend());
        }
        assert!((1_500..4_000).contains(&late), "about 5 % of 50 000: {late}");
        assert!(hedged <= 5_010, "{hedged}");
    }

    #[test]
    fn when_all_are_late_few_are_sent_twice() {
        let hedger = Hedger::new(&HedgeConfig::default());
        let sent = (0..10_000).filter(|_| {
            hedger.earn();
            hedger.spend()
        });
        assert!(sent.count() <= 510);
    }
}
