use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use parking_lot::lock_api::RawMutex;

use super::{Lock, Raw, wait_for_lock};
use crate::sync::atomic::Ordering;
use crate::{Clock, SystemClock};

/// More than the cores of most machines, so that holders are interrupted and waiters get as far as sleeping.
const THREADS: usize = if cfg!(miri) { 3 } else { 64 };
const ROUNDS: usize = if cfg!(miri) { 8 } else { 500 };

/// Two numbers that are equal whenever nobody is in between.
type Pair = (usize, usize);

fn raise(pair: &mut Pair, meanwhile: impl FnOnce()) {
    assert_eq!(pair.0, pair.1, "somebody else holds the lock");
    pair.0 += 1;
    meanwhile();
    pair.1 += 1;
}

fn raised_by_all(meanwhile: impl Fn(usize) + Sync) {
    let lock = Lock::new(Pair::default());
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for round in 0..ROUNDS {
                    raise(&mut lock.lock(), || meanwhile(round));
                }
            });
        }
    });
    assert_eq!(lock.into_inner(), (THREADS * ROUNDS, THREADS * ROUNDS));
}

#[test]
fn one_thread_at_a_time() {
    raised_by_all(|_| {});
}

/// Whoever holds the lock gives its core away, often long enough for waiters to sleep.
#[test]
fn a_holder_that_is_not_running_is_waited_for() {
    raised_by_all(|round| {
        for _ in 0..round % 16 {
            thread::yield_now();
        }
    });
}

#[test]
fn a_try_takes_what_is_free_and_nothing_else() {
    let lock = Lock::new(());
    let held = lock.try_lock().unwrap();
    assert!(lock.try_lock().is_none());
    drop(held);
    assert!(lock.try_lock().is_some());
}

#[test]
fn who_has_tried_in_vain_may_wait_at_once() {
    let lock = Lock::new(0);
    let held = lock.lock();
    thread::scope(|scope| {
        scope.spawn(|| *wait_for_lock(&lock) += 1);
        drop(held);
    });
    assert_eq!(*lock.try_lock().expect("freed by its guard"), 1);
}

#[test]
fn a_panic_frees_the_lock() {
    let lock = Lock::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut held = lock.lock();
        *held += 1;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(*lock.try_lock().unwrap(), 1);
}

/// The worst that the processor may do to a waiter: the holder has looked for waiters before it was marked, and nobody
/// comes afterwards.
#[test]
fn a_lost_wake_up_costs_a_nap() {
    let raw = Raw::INIT;
    raw.lock();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| raw.lock());
        while raw.parked.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        // The mark is made under this mutex, which is free once the waiter sleeps.
        drop(raw.queue.lock());
        raw.locked.store(false, Ordering::Release);
        let freed = SystemClock.now();
        waiter.join().unwrap();
        let napped = SystemClock.now().duration_since(freed);
        assert!(napped < Duration::from_secs(if cfg!(miri) { 600 } else { 10 }), "that was no nap");
    });
    assert!(raw.is_locked());
    assert_eq!(raw.parked.load(Ordering::Relaxed), 0);
}

/// What a hit writes is to lie in the lock's cache line, so it has to come right behind.
#[test]
#[cfg(target_pointer_width = "64")]
fn what_is_locked_begins_behind_the_lock() {
    let lock = Lock::new([0_u64; 20]);
    assert_eq!(lock.data_ptr().addr() - (&raw const lock).addr(), size_of::<Raw>());
}

/// A mark that nobody clears would keep every later waiter asleep for its nap.
#[test]
fn the_mark_of_a_woken_waiter_outlives_no_waiter() {
    let raw = Raw::INIT;
    raw.wake_one();
    assert!(!*raw.queue.lock(), "nobody waits");
    raw.lock();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| raw.lock());
        while raw.parked.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        raw.wake_one();
        raw.wake_one();
        raw.locked.store(false, Ordering::Release);
        raw.wake_one();
        waiter.join().unwrap();
    });
    raw.wake_one();
    assert!(!*raw.queue.lock(), "nobody waits any more");
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_lock_takes_sixteen_bytes() {
    assert_eq!(size_of::<Raw>(), 16);
}
