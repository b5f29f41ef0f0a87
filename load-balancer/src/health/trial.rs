//! The place of the one request that tries a backend which was out.
//!
//! One word, so that taking and leaving the place are one exchange each, and whoever took too long and lost it to another
//! cannot give the other's away.
//!
//! | word | means |
//! |---|---|
//! | 0 | no trial |
//! | time * 2 + 1 | the place is free since then |
//! | time * 2 | a request has it that began then |

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::Time;

/// So long a place waits for a request that may be lost; after that it takes any, or else a backend whose requests all may
/// not would never come back.
const PATIENCE: Duration = Duration::from_secs(1);

const NONE: u64 = 0;

/// # Invariants
/// - **T1** Between two offers at most one request has the place at a time.
/// - **T2** Only the request that has the place leaves it.
#[derive(Debug)]
pub(crate) struct Trial(AtomicU64);

impl Trial {
    pub(crate) fn none() -> Self {
        Self(AtomicU64::new(NONE))
    }

    /// Opens the place to one request, or ends the trial.
    pub(crate) fn offer(&self, is_open: bool, now: Time) {
        self.0.store(if is_open { free_since(now) } else { NONE }, Ordering::Relaxed);
    }

    /// Takes the place; false if another has it, or there is none, or there may yet come a request that may be lost while
    /// this one may not.
    pub(crate) fn take(&self, now: Time, may_be_lost: bool) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        let since = Time::from_nanos(word >> 1);
        // Ordering: the exchange alone decides who has the place.
        word & 1 == 1 && (may_be_lost || now.since(since) >= PATIENCE) && self.exchange(word, taken_at(now))
    }

    /// Gives the place up that the request which began at `started` has. False if it had been taken from it, because it
    /// took too long.
    pub(crate) fn leave(&self, started: Time, is_open: bool) -> bool {
        self.exchange(taken_at(started), if is_open { free_since(started) } else { NONE })
    }

    /// Lets the request that has the place begin later. False if it had been taken from it.
    pub(crate) fn restart(&self, from: Time, to: Time) -> bool {
        self.exchange(taken_at(from), taken_at(to))
    }

    /// When the request began that has the place, if there is one.
    pub(crate) fn began(&self) -> Option<Time> {
        let word = self.0.load(Ordering::Relaxed);
        (word != NONE && word & 1 == 0).then(|| Time::from_nanos(word >> 1))
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn free_since(time: Time) -> u64 {
    time.as_nanos() << 1 | 1
}

/// Not 0, which is no trial.
fn taken_at(time: Time) -> u64 {
    time.as_nanos().max(1) << 1
}

#[cfg(all(test, not(tenfold_loom)))]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_place_is_one_requests() {
        let trial = Trial::none();
        assert!(!trial.take(at(0), true));
        trial.offer(true, at(0));
        assert!(trial.take(at(0), true) && !trial.take(at(0), true));
        assert!(!trial.leave(at(1), true), "who has it began at another time");
        assert!(trial.leave(at(0), true) && trial.began().is_none());
        assert!(trial.take(at(7), true));
        assert!(trial.restart(at(7), at(8)) && !trial.restart(at(7), at(9)));
        assert_eq!(trial.began(), Some(at(8)));
        trial.offer(false, at(8));
        assert!(!trial.leave(at(8), true) && !trial.take(at(9), true));
    }

    #[test]
    fn who_may_not_be_lost_is_taken_when_no_other_comes() {
        let trial = Trial::none();
        trial.offer(true, at(5_000));
        assert!(!trial.take(at(5_999), false));
        assert!(trial.take(at(6_000), false));
    }
}

#[cfg(all(test, tenfold_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;

    /// T1 and T2 in every interleaving: two requests that want the place, of which one may find that the trial was ended
    /// and offered anew under it.
    #[test]
    fn loom_the_place_is_one_requests() {
        loom::model(|| {
            let (trial, inside) = (Arc::new(Trial::none()), Arc::new(AtomicU64::new(0)));
            trial.offer(true, Time::from_nanos(1));
            let threads: Vec<_> = (0..2)
                .map(|thread| {
                    let (trial, inside) = (Arc::clone(&trial), Arc::clone(&inside));
                    loom::thread::spawn(move || {
                        let now = Time::from_nanos(10 + thread);
                        if trial.take(now, true) {
                            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "T1");
                            inside.fetch_sub(1, Ordering::Relaxed);
                            assert!(trial.leave(now, true), "T2: nobody took it away");
                            assert!(!trial.leave(now, false), "T2: it is given up");
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(trial.began().is_none() && trial.take(Time::from_nanos(20), true));
        });
    }
}
