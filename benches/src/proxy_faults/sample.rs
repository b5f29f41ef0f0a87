//! What became of each request, and what all of them come to.

use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with 200, by the backend of that number if the body said so.
    Good(Option<u8>),
    /// Answered with another status.
    Status(u16),
    /// No connection could be opened.
    Refused,
    /// The connection ended before the answer did.
    Cut,
    /// No answer, long after the load had ended.
    Unanswered,
}

impl Outcome {
    /// Whether a caller would call it a failure.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Good(_))
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was meant to leave, from the start of the load.
    pub intended: Duration,
    /// From then to the end of its answer.
    pub latency: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

impl Sample {
    /// Whether it failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.outcome.is_failure()
    }

    /// Whether it was answered, but later than `limit`.
    #[must_use]
    pub fn is_slow(&self, limit: Duration) -> bool {
        !self.failed() && self.latency > limit
    }
}

/// Latencies in order.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// The latencies of the samples that were answered with 200.
    pub fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        samples.into_iter().filter(|sample| !sample.failed()).map(|sample| sample.latency).collect()
    }

    /// The least latency that `percent` of all do not exceed (nearest rank); zero if there is none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (percent / 100.0 * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The greatest; zero if there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(latencies: I) -> Self {
        let mut sorted: Vec<Duration> = latencies.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latencies: Latencies = (1..=200).rev().map(|n| n * MS).collect();
        for (percent, ms) in [(0.0, 1), (0.5, 1), (50.0, 100), (99.0, 198), (99.5, 199), (100.0, 200)] {
            assert_eq!(latencies.percentile(percent), ms * MS, "{percent}");
        }
        assert_eq!(latencies.max(), 200 * MS);
        assert_eq!(Latencies::default().percentile(50.0), Duration::ZERO);
    }

    #[test]
    fn failures_have_no_latency_and_are_not_slow() {
        let sample = |outcome, ms: u32| Sample { intended: MS, latency: ms * MS, outcome };
        let samples =
            [sample(Outcome::Good(None), 3), sample(Outcome::Status(503), 90), sample(Outcome::Good(Some(1)), 60)];
        assert_eq!(Latencies::of(&samples).max(), 60 * MS);
        assert_eq!(samples.map(|sample| sample.is_slow(50 * MS)), [false, false, true]);
        assert_eq!(samples.map(|sample| sample.failed()), [false, true, false]);
    }
}
