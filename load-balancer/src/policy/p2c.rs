//! Power of two choices: of two backends drawn by weight the less loaded one.

use super::Place;
use super::random::Draw;
use crate::cursor::Cursor;

/// The first of two that are loaded alike, so that idle backends are chosen as they are drawn.
#[inline]
pub(super) fn choose<T>(places: &[Place<T>], draw: &Draw, cursor: &mut Cursor) -> usize {
    let (a, b) = draw.two(places.len(), cursor);
    if is_lighter((&places[b], 0), (&places[a], 0)) { b } else { a }
}

/// The same where all weights are one.
#[inline]
pub(super) fn choose_of_equals<T>(places: &[Place<T>], cursor: &mut Cursor) -> usize {
    let (a, b) = cursor.two_below(places.len());
    if places[b].slot.in_flight() < places[a].slot.in_flight() { b } else { a }
}

/// Whether the first has less to do for its weight than the second, each with so many requests more than now.
#[inline]
pub(super) fn is_lighter<T>((a, more_a): (&Place<T>, u64), (b, more_b): (&Place<T>, u64)) -> bool {
    // Fractions compared crosswise, whose products have room in 64 bits.
    let load = |place: &Place<T>, more: u64| (place.slot.in_flight() as u64 + more).min(u32::MAX.into());
    load(a, more_a) * u64::from(b.weight) < load(b, more_b) * u64::from(a.weight)
}
