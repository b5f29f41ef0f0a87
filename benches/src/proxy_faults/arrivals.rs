//! What the backends' own records say: when a proxy stopped sending to one of them, and how much it sent in all.

use std::time::Duration;

/// A backend without a request for so long is out of the rotation. In turn, each of three backends has a request in every
/// 3 ms; a slow one that is avoided but not ejected still has one in every delay, which is 200 ms.
pub const SILENCE: Duration = Duration::from_millis(400);

/// When the last request came in before the first silence that began within the span, if there was one. A span in which
/// nothing came in at all was silent from its beginning.
#[must_use]
pub fn fell_silent(arrivals: &[Duration], from: Duration, to: Duration) -> Option<Duration> {
    let mut last = from;
    let within = arrivals.iter().copied().filter(|&at| at >= from && at < to);
    for at in within.chain([to]) {
        if at - last >= SILENCE {
            return Some(last);
        }
        last = at;
    }
    None
}

/// The first request at or after `from`.
#[must_use]
pub fn first_since(arrivals: &[Duration], from: Duration) -> Option<Duration> {
    arrivals.iter().copied().find(|&at| at >= from)
}

/// Requests that came in within the span.
#[must_use]
pub fn count_within(arrivals: &[Duration], from: Duration, to: Duration) -> usize {
    arrivals.iter().filter(|&&at| at >= from && at < to).count()
}

/// Reads what a backend tells, one number of microseconds a line, in order.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<Duration>> {
    text.lines().map(|line| line.parse().ok().map(Duration::from_micros)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn every(gap: u32, from: u32, to: u32) -> impl Iterator<Item = Duration> {
        (from..to).step_by(gap as usize).map(|at| at * MS)
    }

    #[test]
    fn a_silence_begins_with_the_last_request() {
        let arrivals: Vec<_> = every(3, 0, 3_200).chain(every(3, 7_500, 12_000)).collect();
        assert_eq!(fell_silent(&arrivals, 3_000 * MS, 7_000 * MS), Some(3_198 * MS));
        assert_eq!(first_since(&arrivals, 7_000 * MS), Some(7_500 * MS));
        assert_eq!(count_within(&arrivals, 3_000 * MS, 7_000 * MS), 67);
        let all: Vec<_> = every(3, 0, 12_000).collect();
        assert_eq!(fell_silent(&all, 3_000 * MS, 7_000 * MS), None);
    }

    #[test]
    fn a_slow_backend_that_is_avoided_is_not_silent() {
        let arrivals: Vec<_> = every(3, 0, 3_000).chain(every(201, 3_000, 7_000)).collect();
        assert_eq!(fell_silent(&arrivals, 3_000 * MS, 7_000 * MS), None);
        assert_eq!(fell_silent(&[], 3_000 * MS, 7_000 * MS), Some(3_000 * MS));
    }

    #[test]
    fn a_record_is_lines_of_microseconds() {
        assert_eq!(parse("1000\n2000\n"), Some(vec![MS, 2 * MS]));
        assert_eq!(parse(""), Some(vec![]));
        assert_eq!(parse("soon"), None);
    }
}
