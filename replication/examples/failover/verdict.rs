//! What is to be said of a run.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tenfold_replication::Mode;
use tenfold_replication::sim::Violation;

use super::Failure;
use super::load::Seen;
use super::options::Options;

/// When the node was lost, and how long it took to be a replica again after it was started.
pub(crate) struct Times {
    pub(crate) killed_at: Instant,
    pub(crate) rejoined: Duration,
}

pub(crate) struct Verdict {
    figures: Vec<(&'static str, u128)>,
    violations: Vec<Violation>,
}

impl Verdict {
    pub(crate) fn of(seen: &Seen, lists: &[(u64, Vec<u64>)], mode: Mode, times: &Times, has_own_places: bool) -> Self {
        let may_lose = !matches!(mode, Mode::Quorum { .. });
        let mut violations = seen.history.check(lists, may_lose).err().unwrap_or_default();
        violations.retain(|violation| has_own_places || !matches!(violation, Violation::SamePlace(_)));
        let count = |is: fn(&Violation) -> bool| violations.iter().filter(|violation| is(violation)).count();
        let kept: BTreeSet<u64> = lists.iter().flat_map(|(_, list)| list).copied().collect();
        let lost = seen.writes.iter().filter(|(number, _)| !kept.contains(number)).count();
        let lost_and_not_told = count(|violation| matches!(violation, Violation::LostWrite { .. }));
        let written: Vec<_> = seen.writes.iter().map(|(_, at)| *at).collect();
        let figures = [
            ("acknowledged_writes", seen.writes.len()),
            ("failed_writes", seen.failed_writes),
            ("reads", seen.reads.len()),
            ("failed_reads", seen.failed_reads),
            ("lost_and_told", lost.saturating_sub(lost_and_not_told)),
            ("lost_and_not_told", lost_and_not_told),
            ("doubled", count(|violation| matches!(violation, Violation::Doubled(_)))),
            ("stale_reads_of_own_writes", count(|violation| matches!(violation, Violation::StaleRead { .. }))),
            ("violations", violations.len()),
        ];
        let mut figures: Vec<_> = figures.map(|(name, count)| (name, count as u128)).into();
        figures.push(("writes_unavailable_ms", longest_gap(&written, times.killed_at).as_millis()));
        figures.push(("reads_unavailable_ms", longest_gap(&seen.reads, times.killed_at).as_millis()));
        figures.push(("rejoined_after_ms", times.rejoined.as_millis()));
        Self { figures, violations }
    }

    /// Prints it, and fails if something happened that must not.
    pub(crate) fn report(&self, engine: &str, options: &Options) -> Result<(), Failure> {
        let words = [("engine", engine), ("mode", options.mode_name()), ("kill", options.fault_name())];
        let words = words.iter().map(|(name, word)| format!("  \"{name}\": \"{word}\""));
        let figures = self.figures.iter().map(|(name, figure)| format!("  \"{name}\": {figure}"));
        let text = format!("{{\n{}\n}}\n", words.chain(figures).collect::<Vec<_>>().join(",\n"));
        print!("{text}");
        if let Some(path) = &options.json {
            std::fs::write(path, text)?;
        }
        if self.violations.is_empty() { Ok(()) } else { Err(format!("{:?}", self.violations).into()) }
    }
}

/// Between two successes, from the last one before the fault on.
fn longest_gap(successes: &[Instant], fault: Instant) -> Duration {
    let gaps = successes.windows(2).filter(|pair| pair[1] >= fault);
    gaps.map(|pair| pair[1].saturating_duration_since(pair[0])).max().unwrap_or_default()
}
