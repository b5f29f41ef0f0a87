//! The rows that `queue` prints, and what stands beside what in them.

use serde::Serialize;

use super::{Origin, Policy};

/// A row of every scenario but `recovery`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario's name.
    pub scenario: &'static str,
    /// How messages are sent or taken: `one`, `batch`, `window`, `tasks`, and in `memory` `turns` or `hop`.
    pub mode: &'static str,
    /// The queue's name.
    pub queue: &'static str,
    /// What a confirmation means.
    pub sync: Policy,
    /// The size of a body.
    pub size: usize,
    /// Threads or tasks that send, or take in `consume`.
    pub producers: usize,
    /// Messages a second, the median of the rounds.
    pub per_second: f64,
    /// Latency of a call, the median of the rounds.
    pub p50_us: Option<f64>,
    /// The same that one call in a hundred exceeds.
    pub p99_us: Option<f64>,
    /// Against the best peer of the same cell: `per_second` over its, in `end-to-end` its `p50_us` over this one's.
    pub ratio_to_best_peer: Option<f64>,
    /// The same against the best baseline.
    pub ratio_to_baseline: Option<f64>,
    /// What the probe of the disk gave before the turns, the median.
    pub probe_us: Option<f64>,
}

/// A row of `recovery`.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryRow {
    /// `recovery`.
    pub scenario: &'static str,
    /// The queue's name.
    pub queue: &'static str,
    /// What a confirmation means.
    pub sync: Policy,
    /// The size of a body.
    pub size: usize,
    /// Messages that were confirmed before the kill.
    pub messages: u64,
    /// How long filling it took.
    pub fill_s: f64,
    /// Resident memory that came with them, for each, its body included.
    pub memory_bytes_per_message: f64,
    /// Space on the disk for each.
    pub disk_bytes_per_message: f64,
    /// From before the opening until it was open.
    pub open_ms: f64,
    /// From before the opening until the first message was received.
    pub first_message_ms: f64,
    /// Messages received after that, within the time given to it.
    pub found: u64,
    /// Whether time was up before it was empty; if not, `found` is `messages`.
    pub is_cut_short: bool,
    /// Resident memory of the process that opened and drained it, at its most, in MiB; shared files that it has mapped left
    /// out.
    pub peak_mib: f64,
    /// The best peer's `first_message_ms` over this one's.
    pub ratio_to_best_peer: Option<f64>,
}

/// A row of `idle`.
#[derive(Clone, Debug, Serialize)]
pub struct IdleRow {
    /// `idle`.
    pub scenario: &'static str,
    /// The queue's name.
    pub queue: &'static str,
    /// What a confirmation means.
    pub sync: Policy,
    /// The size of a body.
    pub size: usize,
    /// Messages that wait for their time.
    pub messages: u64,
    /// How long a consumer waited.
    pub seconds: f64,
    /// Processor time meanwhile, as a share of one core.
    pub busy_percent: f64,
}

/// A figure of one contender, and with what it is compared.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Whose.
    pub origin: Origin,
    /// Whether its confirmations mean a sync: like is compared with like.
    pub is_durable: bool,
    /// More is better.
    pub merit: f64,
}

/// `of` over the best of the others that have this origin.
#[must_use]
pub fn ratio_to_best(of: &Figure, origin: Origin, all: &[Figure]) -> Option<f64> {
    let others = all.iter().filter(|other| other.origin == origin && other.is_durable == of.is_durable);
    others.map(|other| other.merit).max_by(f64::total_cmp).map(|best| of.merit / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_is_compared_with_like() {
        let figure = |origin, is_durable, merit| Figure { origin, is_durable, merit };
        let ours = figure(Origin::Ours, true, 6.0);
        let all = [
            ours,
            figure(Origin::Peer, true, 2.0),
            figure(Origin::Peer, true, 3.0),
            figure(Origin::Peer, false, 100.0),
            figure(Origin::Baseline, true, 12.0),
        ];
        assert_eq!(ratio_to_best(&ours, Origin::Peer, &all), Some(2.0));
        assert_eq!(ratio_to_best(&ours, Origin::Baseline, &all), Some(0.5));
        assert_eq!(ratio_to_best(&all[3], Origin::Baseline, &all), None);
    }
}
