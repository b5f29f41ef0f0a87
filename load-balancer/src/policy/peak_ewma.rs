//! Peak EWMA: of two backends drawn by weight the one where the request is likely to be done sooner.
//!
//! The cost of a backend is the latency to expect there, times one more than the requests it has for its weight. The
//! latency is a moving average that jumps to a higher sample at once and comes down slowly, so that one bad answer is
//! believed and one good one is not; failures are charged, so that a backend that fails fast does not look fast. (Both
//! are `health/`'s.)
//!
//! # Source
//! Finagle's `p2c` with peak EWMA, as described in W. Morgan, "Beyond Round Robin: Load Balancing for Latency", 2016.

use super::Place;
use super::random::Draw;
use crate::cursor::Cursor;
use crate::time::Time;

/// `full` is the largest weight.
#[inline]
pub(super) fn choose<T>(places: &[Place<T>], (draw, full): (&Draw, u32), cursor: &mut Cursor, now: Time) -> usize {
    let (a, b) = draw.two(places.len(), cursor);
    if cost(&places[b], full, now) < cost(&places[a], full, now) { b } else { a }
}

/// The time until a request that is sent now is done there, in a unit that is the same for all.
///
/// Of a backend of which nothing is known no latency is expected: it gets the next request, and while that is in flight
/// no other, since then it is taken for as slow as the slowest.
#[inline]
fn cost<T>(place: &Place<T>, full: u32, now: Time) -> f32 {
    let endpoint = place.slot.endpoint();
    let latency = endpoint.vitals().latency_nanos(endpoint.pool().norm(), now);
    let in_flight = place.slot.in_flight() as f32;
    if latency == 0.0 && in_flight > 0.0 {
        return f32::MAX;
    }
    latency * (1.0 + in_flight * full as f32 / place.weight as f32)
}
