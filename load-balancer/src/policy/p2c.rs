//! Power of two choices: of two random backends the less loaded one.

use super::Place;
use crate::cursor::Cursor;

#[inline]
pub(super) fn choose<T>(places: &[Place<T>], cursor: &mut Cursor) -> usize {
    let (a, b) = cursor.two_below(places.len());
    if is_lighter(&places[b], &places[a]) { b } else { a }
}

/// Whether `a` would have less to do for its weight than `b`, each with one request more than now.
#[inline]
pub(super) fn is_lighter<T>(a: &Place<T>, b: &Place<T>) -> bool {
    // Fractions compared crosswise. Requests in flight are references, so both products stay below 2^96.
    let load = |place: &Place<T>| place.slot.in_flight() as u128 + 1;
    load(a) * u128::from(b.weight) < load(b) * u128::from(a.weight)
}
