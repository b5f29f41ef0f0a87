//! For tests: seeds that are printed when one fails.

use crate::Rng;
use crate::rng::seed_from_os;

/// Runs `check` with eight fixed seeds and a fresh one. A failure prints its seed; `TENFOLD_SEED` replays one,
/// `TENFOLD_ROUNDS` asks for more fresh ones.
///
/// # Panics
/// When `check` does, and if one of the two variables is no number.
pub fn for_each_seed(check: impl Fn(u64)) {
    if let Some(seed) = number_from_env("TENFOLD_SEED") {
        return run(seed, &check);
    }
    (0..8).for_each(|seed| run(seed, &check));
    let mut fresh = Rng::new(seed_from_os());
    for _ in 0..number_from_env("TENFOLD_ROUNDS").unwrap_or(1) {
        run(fresh.next_u64(), &check);
    }
}

fn run(seed: u64, check: impl Fn(u64)) {
    let report = SeedReport(seed);
    check(seed);
    drop(report);
}

fn number_from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Prints its seed if it is dropped by a panic.
struct SeedReport(u64);

impl Drop for SeedReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with this seed; TENFOLD_SEED={} replays it", self.0);
        }
    }
}
