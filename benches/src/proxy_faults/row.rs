//! The rows that the binary prints, medians of the rounds.

use std::time::Duration;

use serde::Serialize;

use super::contest::Lap;
use super::verdict::Figures;
use crate::report::{median, rounded};

/// A row of a scenario with an open load. Each figure is the median of the rounds, but for those that say otherwise; one
/// that not every round has is null unless most have it.
#[derive(Clone, Debug, Serialize)]
pub struct FaultRow {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The proxy's name, or `direct`.
    pub proxy: &'static str,
    /// How often it was run with a result.
    pub rounds: usize,
    /// Requests that count, of each round.
    pub requests: usize,
    /// Requests not answered with 200.
    pub failed: f64,
    /// In the worst round.
    pub failed_worst: usize,
    /// Requests answered later than 50 ms, of those meant to leave from the fault to a second after the healing; of all,
    /// without a fault.
    pub slow: f64,
    /// In the worst round.
    pub slow_worst: usize,
    /// Those of them meant to leave more than 100 ms after the ejection, or after the fault without one.
    pub slow_after_detection: f64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// The latest answer of the same. Milliseconds.
    pub max_ms: f64,
    /// The latest answer before the fault, which is what the machine does to everybody. Milliseconds.
    pub max_before_ms: f64,
    /// From the fault until the proxy said that the backend was out of rotation; null if it never did, or says nothing.
    pub ejected_ms: Option<f64>,
    /// From the fault until the last request that the backend got before 400 ms without one; null if it always got some, or
    /// was stopped or killed and kept no record.
    pub silent_ms: Option<f64>,
    /// From the healing until the backend got a request, if it had been left alone.
    pub returned_ms: Option<f64>,
    /// From the healing until the last request that failed was meant to leave; 0 if none was.
    pub recovered_ms: f64,
    /// Requests that the backends got during the fault over those offered; null where backends were killed.
    pub amplification: Option<f64>,
    /// Processors that were busy with something else meanwhile. Above some tenths, latencies mean little.
    pub busy_elsewhere: f64,
}

impl FaultRow {
    /// The row of a proxy's runs.
    #[must_use]
    pub fn new(scenario: &'static str, proxy: &'static str, runs: &[Figures]) -> Self {
        let middle = |figure: fn(&Figures) -> f64| of_all(runs, figure);
        let most = |figure: fn(&Figures) -> Option<f64>| of_most(runs, figure);
        Self {
            scenario,
            proxy,
            rounds: runs.len(),
            requests: runs.first().map_or(0, |run| run.requests),
            failed: middle(|run| run.failed as f64),
            failed_worst: runs.iter().map(|run| run.failed).max().unwrap_or_default(),
            slow: middle(|run| run.slow as f64),
            slow_worst: runs.iter().map(|run| run.slow).max().unwrap_or_default(),
            slow_after_detection: middle(|run| run.slow_after_detection as f64),
            p50_ms: middle(|run| ms(run.p50)),
            p99_ms: middle(|run| ms(run.p99)),
            max_ms: middle(|run| ms(run.max)),
            max_before_ms: middle(|run| ms(run.max_before)),
            ejected_ms: most(|run| run.ejected.map(ms)),
            silent_ms: most(|run| run.silent.map(ms)),
            returned_ms: most(|run| run.returned.map(ms)),
            recovered_ms: middle(|run| ms(run.recovered)),
            amplification: most(|run| run.amplification),
            busy_elsewhere: middle(|run| run.busy_elsewhere),
        }
    }
}

/// A row of the throughput scenario, medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct ThroughputRow {
    /// `throughput`.
    pub scenario: &'static str,
    /// The proxy's name, or `direct`.
    pub proxy: &'static str,
    /// Connections that the load keeps busy.
    pub connections: u32,
    /// How often it was run with a result.
    pub rounds: usize,
    /// Answers a second, all of them good.
    pub requests_per_s: f64,
    /// Processor seconds of the proxy for a thousand requests; null without a proxy.
    pub cpu_s_per_1000: Option<f64>,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// The proxy's resident memory, 2^20 bytes; null without a proxy.
    pub resident_mib: Option<f64>,
    /// Processors that were busy with something else meanwhile. Above some tenths, the row means little.
    pub busy_elsewhere: f64,
}

impl ThroughputRow {
    /// The row of a proxy's runs.
    #[must_use]
    pub fn new(proxy: &'static str, connections: u32, laps: &[Lap]) -> Self {
        let middle = |figure: fn(&Lap) -> f64| of_all(laps, figure);
        let most = |figure: fn(&Lap) -> Option<f64>| of_most(laps, figure);
        Self {
            scenario: "throughput",
            proxy,
            connections,
            rounds: laps.len(),
            requests_per_s: rounded(middle(|lap| lap.requests as f64 / lap.elapsed.as_secs_f64()), 0),
            cpu_s_per_1000: most(|lap| {
                (lap.cost.resident_bytes > 0).then(|| lap.cost.proxy_cpu.as_secs_f64() * 1e3 / lap.requests as f64)
            }),
            p50_ms: middle(|lap| ms(lap.latencies.percentile(50.0))),
            p99_ms: middle(|lap| ms(lap.latencies.percentile(99.0))),
            resident_mib: most(|lap| {
                (lap.cost.resident_bytes > 0).then(|| lap.cost.resident_bytes as f64 / 1_048_576.0)
            }),
            busy_elsewhere: middle(|lap| lap.cost.others_cpu.as_secs_f64() / lap.elapsed.as_secs_f64()),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Enough decimals for microseconds in milliseconds, and for a processor's time.
const DECIMALS: i32 = 4;

fn of_all<T>(runs: &[T], figure: fn(&T) -> f64) -> f64 {
    let figures: Vec<f64> = runs.iter().map(figure).collect();
    rounded(median(&figures).unwrap_or_default(), DECIMALS)
}

/// The median of the runs that have the figure, if that is more than half of them.
fn of_most<T>(runs: &[T], figure: fn(&T) -> Option<f64>) -> Option<f64> {
    let figures: Vec<f64> = runs.iter().filter_map(figure).collect();
    (2 * figures.len() > runs.len()).then(|| median(&figures)).flatten().map(|figure| rounded(figure, DECIMALS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy_faults::cost::Cost;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_figure_that_few_rounds_have_is_none() {
        let figure = |value: &Option<f64>| *value;
        assert_eq!(of_most(&[Some(1.0), None, None], figure), None);
        assert_eq!(of_most(&[Some(1.0), None], figure), None);
        assert_eq!(of_most(&[Some(1.0), None, Some(3.0)], figure), Some(2.0));
        assert_eq!(of_most(&[], figure), None);
    }

    #[test]
    fn costs_are_for_a_thousand_requests() {
        let lap = |requests| Lap {
            requests,
            elapsed: 2_000 * MS,
            latencies: [MS, 3 * MS].into_iter().collect(),
            cost: Cost { proxy_cpu: 1_000 * MS, others_cpu: 500 * MS, resident_bytes: 3 << 20, ..Cost::default() },
        };
        let row = ThroughputRow::new("some", 32, &[lap(50_000), lap(10_000), lap(100_000)]);
        assert_eq!((row.requests_per_s, row.cpu_s_per_1000), (25_000.0, Some(0.02)));
        assert_eq!((row.p50_ms, row.p99_ms, row.resident_mib, row.busy_elsewhere), (1.0, 3.0, Some(3.0), 0.25));
    }
}
