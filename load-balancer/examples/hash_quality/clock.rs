//! How long something takes.

use std::time::Instant;

/// The best of a few tries, in seconds: on a busy machine the others tell of its neighbours.
pub(crate) fn seconds<R>(work: impl Fn() -> R) -> f64 {
    let time = || {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| time()).fold(f64::INFINITY, f64::min)
}
