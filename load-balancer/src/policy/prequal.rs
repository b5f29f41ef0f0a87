//! Prequal: requests in flight decide who is out of the question, latency decides between the others.
//!
//! Of three random backends those with many requests in flight, as many as only a fifth of all have, are *hot*. Of the
//! *cold* ones the one with the lowest latency is chosen; if all are hot, the one with the fewest requests in flight.
//! Latency alone herds requests to whoever was fast a moment ago; requests in flight alone cannot tell a fast backend
//! from a slow one that is just idle. Together they are the *hot-cold lexicographic rule*.
//!
//! The paper's signals come from probes that servers answer with their own counts. Here probing is the host's: what it
//! learns goes to [`Balancer::report_load`](crate::Balancer::report_load), where the last report of each backend is kept,
//! in place of the paper's pool of the last 16. A backend is judged by its report as long as that is fresh, plus what was
//! sent to it since; others are judged by what this balancer knows itself. A report that came with an answer costs
//! nothing; `drive_load_probes` (feature `tokio`) asks on its own.
//!
//! What is hot is estimated by the picker from the backends it looked at before: a value that goes up by 4 steps for
//! each one above it and down by 1 for each one not above settles where a fifth is above.
//!
//! # Source
//! Wydrowski and others, "Load is not what you should balance: Introducing Prequal", NSDI 2024, sections 3 and 4: the
//! rule, and Q_RIF 0.8. The estimate by steps is that of Robbins and Monro (1951), in place of the paper's window.

use super::Place;
use crate::cursor::Cursor;
use crate::time::Time;

/// Steps up for a backend above the estimate, and down for one that is not: they balance where one in five is above.
const UP: u32 = 4;
const DOWN: u32 = 1;
/// Backends looked at for a request.
const SAMPLES: usize = 3;
/// Steps to one request in flight.
const STEPS: u32 = 16;

/// What a picker knows of the loads, in steps: the count in flight that a fifth of the backends exceed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HotFrom(u32);

impl HotFrom {
    #[inline]
    fn learn(&mut self, in_flight: u32) {
        let is_above = in_flight.saturating_mul(STEPS) > self.0;
        self.0 = if is_above { self.0.saturating_add(UP) } else { self.0.saturating_sub(DOWN) };
    }

    #[inline]
    fn is_hot(self, in_flight: u32) -> bool {
        in_flight.saturating_mul(STEPS) > self.0
    }
}

/// What is known of a backend's load.
#[derive(Clone, Copy, Debug)]
struct Load {
    in_flight: u32,
    /// To expect, in nanoseconds.
    latency: f32,
}

impl Load {
    #[inline]
    fn of<T>(place: &Place<T>, now: Time) -> Self {
        Self::known(place, now).unless_unknown()
    }

    /// Of a backend of which nothing is known no latency is expected: it gets the next request, and while that is in
    /// flight no other, since then it is taken for as slow as the slowest. Or else all requests went to a newcomer until
    /// its first answer.
    #[inline]
    fn unless_unknown(self) -> Self {
        let latency = if self.latency == 0.0 && self.in_flight > 0 { f32::MAX } else { self.latency };
        Self { latency, ..self }
    }

    #[inline]
    fn known<T>(place: &Place<T>, now: Time) -> Self {
        let endpoint = place.slot.endpoint();
        let own = u32::try_from(place.slot.in_flight()).unwrap_or(u32::MAX);
        if let Some(report) = endpoint.report().latest(now) {
            let sent_since = own.saturating_sub(report.own_in_flight);
            return Self { in_flight: report.in_flight.saturating_add(sent_since), latency: report.latency };
        }
        Self { in_flight: own, latency: endpoint.vitals().latency_nanos(endpoint.pool().norm(), now) }
    }
}

/// `full` is the weight of a place that is not ramped up.
#[inline]
pub(super) fn choose<T>(places: &[Place<T>], full: u32, cursor: &mut Cursor, now: Time) -> usize {
    let hot_from = cursor.hot_from;
    let mut best: Option<(usize, Load)> = None;
    for _ in 0..SAMPLES {
        let at = cursor.below(places.len());
        if is_passed_over(&places[at], full, cursor) {
            continue;
        }
        let load = Load::of(&places[at], now);
        cursor.hot_from.learn(load.in_flight);
        if best.is_none_or(|(_, best)| is_better(load, best, hot_from)) {
            best = Some((at, load));
        }
    }
    best.map_or_else(|| any_full(places, full, cursor), |(at, _)| at)
}

/// A backend that is ramped up is looked at as often as its share says, so that it cannot win more.
#[inline]
fn is_passed_over<T>(place: &Place<T>, full: u32, cursor: &mut Cursor) -> bool {
    place.weight < full && cursor.below(full as usize) >= place.weight as usize
}

/// Where chance passed over all.
#[cold]
fn any_full<T>(places: &[Place<T>], full: u32, cursor: &mut Cursor) -> usize {
    let start = cursor.below(places.len());
    (start..places.len()).chain(0..start).find(|at| places[*at].weight == full).unwrap_or(start)
}

/// The hot-cold lexicographic rule.
#[inline]
fn is_better(a: Load, b: Load, hot_from: HotFrom) -> bool {
    match (hot_from.is_hot(a.in_flight), hot_from.is_hot(b.in_flight)) {
        (false, true) => true,
        (true, false) => false,
        (true, true) => a.in_flight < b.in_flight,
        // Of a backend without a latency nothing is known; if it is idle it is worth a try.
        (false, false) => (a.latency, a.in_flight) < (b.latency, b.in_flight),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn a_fifth_is_hot() {
        let mut rng = Rng::new(1);
        let mut hot_from = HotFrom::default();
        let mut hot = 0;
        for round in 0..20_000 {
            let in_flight = rng.below(100) as u32;
            hot_from.learn(in_flight);
            hot += u32::from(round >= 10_000 && hot_from.is_hot(in_flight));
        }
        assert!((1_500..2_500).contains(&hot), "{hot} of 10,000");
    }

    #[test]
    fn cold_ones_are_told_by_latency_and_hot_ones_by_load() {
        let hot_from = HotFrom(10 * STEPS);
        let load = |in_flight, latency| Load { in_flight, latency };
        let better = |a, b| is_better(a, b, hot_from);
        assert!(better(load(9, 1.0), load(2, 5.0)), "both cold: the faster");
        assert!(better(load(10, 9.0), load(11, 1.0)), "a cold one before a hot one");
        assert!(better(load(11, 9.0), load(12, 1.0)), "both hot: the less loaded");
        assert!(!better(load(3, 1.0), load(3, 1.0)));
        let unknown = |in_flight| load(in_flight, 0.0).unless_unknown();
        assert!(better(unknown(0), load(1, 1.0)), "nothing is known: it is worth a try");
        assert!(better(load(9, 5.0), unknown(1)), "one try at a time");
    }
}
