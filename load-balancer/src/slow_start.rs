//! The share of a backend that is new, or was out: small at first and growing to the whole.
//!
//! A backend whose caches are cold, or that was just in trouble, does worse under its full share at once than under one
//! that grows. The share grows in ten steps at most, because each step rebuilds the tables that requests are spread by.

use std::time::Duration;

use crate::SlowStartConfig;
use crate::time::{Time, nanos};

/// Steps of a ramp.
const STEPS: u64 = 10;

/// The course of a ramp: a function of time alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowStart {
    window: Duration,
    min_percent: u8,
    exponent: f64,
}

impl SlowStart {
    /// The settings were checked.
    pub(crate) fn new(config: SlowStartConfig) -> Self {
        let exponent = 100.0 / f64::from(config.aggression_percent);
        Self { window: config.window, min_percent: config.min_percent, exponent }
    }

    /// The share of a backend that began at `since`, from 1 to 100 percent.
    pub(crate) fn percent(&self, since: Time, now: Time) -> u8 {
        let elapsed = now.since(since);
        if elapsed >= self.window {
            return 100;
        }
        let step = self.step(elapsed);
        let share = (step as f64 / STEPS as f64).powf(self.exponent);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
        let percent = (100.0 * share).round() as u8;
        percent.clamp(self.min_percent, 100)
    }

    /// When the share changes next; `None` once it is whole.
    pub(crate) fn next_step(&self, since: Time, now: Time) -> Option<Time> {
        let elapsed = now.since(since);
        if elapsed >= self.window {
            return None;
        }
        let next = u128::from(nanos(self.window)) * u128::from(self.step(elapsed) + 1);
        let next = u64::try_from(next.div_ceil(u128::from(STEPS))).unwrap_or(u64::MAX);
        Some(since.after(Duration::from_nanos(next)))
    }

    /// How many steps lie behind, from 0 to 9. The window is not zero.
    fn step(&self, elapsed: Duration) -> u64 {
        let step = u128::from(nanos(elapsed)) * u128::from(STEPS) / u128::from(nanos(self.window));
        u64::try_from(step).unwrap_or(STEPS).min(STEPS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::for_each_seed;

    fn ramp(config: SlowStartConfig, since: Time) -> Vec<u8> {
        let slow_start = SlowStart::new(config);
        let (mut now, mut shares) = (since, vec![slow_start.percent(since, since)]);
        while let Some(next) = slow_start.next_step(since, now) {
            assert!(next > now, "a step must lie ahead");
            assert_eq!(slow_start.percent(since, Time::from_nanos(next.as_nanos() - 1)), *shares.last().unwrap());
            shares.push(slow_start.percent(since, next));
            now = next;
        }
        shares
    }

    #[test]
    fn the_default_grows_evenly() {
        let shares = ramp(SlowStartConfig::default(), Time::from_nanos(7));
        assert_eq!(shares, [10, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    }

    #[test]
    fn every_ramp_grows_to_the_whole_in_few_steps() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            for _ in 0..200 {
                let scale = rng.below(42);
                let config = SlowStartConfig {
                    window: Duration::from_nanos(rng.below(1 << scale)),
                    min_percent: 1 + rng.below(100) as u8,
                    aggression_percent: 10 + rng.below(991) as u32,
                };
                let shares = ramp(config, Time::from_nanos(rng.below(1 << 60)));
                assert!(shares.len() <= 11, "{config:?}: {shares:?}");
                assert!(shares.is_sorted(), "{config:?}: {shares:?}");
                assert!(shares[0] >= config.min_percent, "{config:?}: {shares:?}");
                assert_eq!(shares.last(), Some(&100), "{config:?}");
            }
        });
    }
}
