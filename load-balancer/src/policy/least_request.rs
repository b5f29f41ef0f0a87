//! Least request: the least loaded backend of all.

use super::{Place, p2c::is_lighter};
use crate::cursor::Cursor;

/// Starts at a random place, so that backends with equal loads are chosen equally often.
///
/// # Complexity
/// O(n) in the number of backends.
#[inline]
pub(super) fn choose<T>(places: &[Place<T>], cursor: &mut Cursor) -> usize {
    let start = cursor.below(places.len());
    let mut best = start;
    for at in (start + 1..places.len()).chain(0..start) {
        if is_lighter(&places[at], &places[best]) {
            best = at;
        }
    }
    best
}
