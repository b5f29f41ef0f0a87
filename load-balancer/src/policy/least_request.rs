//! Least request: the least loaded backend of all.

use super::Place;
use super::p2c::is_lighter;
use super::random::Draw;
use crate::cursor::Cursor;

/// Starts where it draws by weight, so that idle backends are chosen as often as their weights say. Only a backend that
/// would be the less loaded one with the request takes its place: of one that was not drawn, being idle is not enough.
///
/// # Complexity
/// O(n) in the number of backends.
#[inline]
pub(super) fn choose<T>(places: &[Place<T>], draw: &Draw, cursor: &mut Cursor) -> usize {
    let start = draw.one(places.len(), cursor);
    if places[start].slot.in_flight() == 0 {
        return start;
    }
    let mut best = start;
    for at in (start + 1..places.len()).chain(0..start) {
        if is_lighter((&places[at], 1), (&places[best], 1)) {
            best = at;
        }
    }
    best
}
