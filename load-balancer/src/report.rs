//! What a backend says of its own load: in a header of its answers, or when a probe asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::{Time, nanos};

/// What a backend says of its load, over all who send it requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// Requests that it works on.
    pub in_flight: u32,
    /// How long a request takes there at this load.
    pub latency: Duration,
}

/// A report older than this says nothing any more.
const LIFE: Duration = Duration::from_secs(1);

/// The last report. Written by whoever received it, read by picks.
///
/// The three words are not one: a reader may see parts of two reports that came together. Both are true, nearly.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// When it came, plus 1; 0 if none did.
    at: AtomicU64,
    /// The latency in nanoseconds, an `f32`, above the requests in flight.
    load: AtomicU64,
    /// What was in flight here from this balancer then.
    own_in_flight: AtomicU64,
}

/// A report as the policy takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) in_flight: u32,
    pub(crate) latency: f32,
    pub(crate) own_in_flight: u32,
}

impl Reported {
    pub(crate) fn set(&self, report: LoadReport, own_in_flight: usize, now: Time) {
        let latency = (nanos(report.latency) as f32).to_bits();
        self.load.store(u64::from(latency) << 32 | u64::from(report.in_flight), Ordering::Relaxed);
        self.own_in_flight.store(own_in_flight as u64, Ordering::Relaxed);
        self.at.store(now.as_nanos().saturating_add(1), Ordering::Relaxed);
    }

    /// The report, if it is fresh.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "halves of a word")]
    pub(crate) fn latest(&self, now: Time) -> Option<Report> {
        let at = self.at.load(Ordering::Relaxed).checked_sub(1)?;
        if now.as_nanos().saturating_sub(at) > nanos(LIFE) {
            return None;
        }
        let load = self.load.load(Ordering::Relaxed);
        let own_in_flight = u32::try_from(self.own_in_flight.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        Some(Report { in_flight: load as u32, latency: f32::from_bits((load >> 32) as u32), own_in_flight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_believed_for_a_second() {
        let reported = Reported::default();
        let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
        assert!(reported.latest(at(0)).is_none());
        reported.set(LoadReport { in_flight: 7, latency: Duration::from_millis(3) }, 2, at(0));
        let report = reported.latest(at(1000)).unwrap();
        assert_eq!((report.in_flight, report.own_in_flight, report.latency), (7, 2, 3e6));
        assert!(reported.latest(at(1001)).is_none());
    }
}
