//! The lock under shuttle, which picks the thread that runs next at every atomic, and under which no wait times out: a
//! wake-up that is lost is a deadlock. Run with `RUSTFLAGS="--cfg shuttle" cargo test -p tenfold-cache-core --lib shuttle`.

use parking_lot::lock_api::RawMutex;

use super::{Lock, Raw};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread;

const ITERATIONS: usize = 2_000;
const THREADS: usize = 3;
const ROUNDS: usize = 2;

/// A lock, and the same without what makes it safe to use.
struct Locks {
    whole: Lock<()>,
    raw: Raw,
}

/// Threads do something a few times that `locked` is to keep apart.
fn contend(locked: fn(&Locks, &dyn Fn())) {
    let shared = Arc::new((Locks { whole: Lock::new(()), raw: Raw::INIT }, AtomicUsize::new(0)));
    let contend = |shared: Arc<(Locks, AtomicUsize)>| {
        move || {
            let (locks, holders) = &*shared;
            for _ in 0..ROUNDS {
                locked(locks, &|| {
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two threads hold the lock");
                    assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                });
            }
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(contend(Arc::clone(&shared)))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(!shared.0.whole.is_locked() && !shared.0.raw.is_locked());
}

fn check(scenario: fn()) {
    shuttle::check_random(scenario, ITERATIONS);
    for depth in [2, 3, 5] {
        shuttle::check_pct(scenario, ITERATIONS / 4, depth);
    }
}

#[test]
fn shuttle_one_thread_at_a_time_and_no_wake_up_lost() {
    check(|| {
        contend(|locks, inside| {
            let _held = locks.whole.lock();
            inside();
        });
    });
}

/// The negative control: with the holder's look before its store, as a processor may have it, shuttle finds the wake-up
/// that is lost.
#[test]
#[should_panic(expected = "deadlock")]
fn shuttle_finds_a_wake_up_that_is_lost() {
    check(|| {
        contend(|Locks { raw, .. }, inside| {
            raw.lock();
            inside();
            let parked = raw.parked.load(Ordering::SeqCst);
            raw.locked.store(false, Ordering::SeqCst);
            if parked != 0 {
                raw.wake_one();
            }
        });
    });
}
