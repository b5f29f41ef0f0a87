//! The lock around a shard.
//!
//! A hit holds its shard's lock for some twenty instructions, so the lock itself is most of what a hit costs. A general
//! mutex takes one atomic read-modify-write to lock and another to unlock, because it keeps "locked" and "somebody waits"
//! in one word that both sides change. Each of the two also waits until every store before it has reached the cache: after
//! a hit those are the policy's. Here the two facts stand in two words, so that unlocking is a plain store that waits for
//! nothing, and a look at a word of the same cache line. In the `hits` race of `benches/` that is worth about a third of a
//! hit.
//!
//! # Protocol
//! ```text
//!   holder                              waiter
//!   locked = false   (release)          spins, then yields; then, under the queue's mutex:
//!   if parked != 0:                     parked += 1
//!     under the queue's mutex:          until it takes the lock (swap locked = true, acquire):
//!       if parked != 0 and not woken:     sleeps until woken, or for a nap
//!         woken = true, wake one          woken = false
//!                                       parked -= 1
//! ```
//! Whoever comes may take the lock, woken or not; there is no order among waiters. A waiter that was woken takes some
//! microseconds to come, in which the lock may be taken and freed a hundred times; these wake nobody else, who would only
//! find it taken. While `woken` is set somebody is on the way: it is set under the mutex while there is a waiter that has not
//! looked since it slept, and the first one to look clears it.
//!
//! **No wake-up is lost for longer than a nap,** which is [`NAP`] at first, and twice as long after each that ended with the
//! lock taken, up to [`LONGEST_NAP`]. If all threads saw these steps in one order, none would be lost at
//! all: a waiter that finds the lock taken has marked itself before, so the holder's look at `parked`, which follows its
//! store to `locked`, finds the mark; and it cannot be woken too early, as it holds the queue's mutex from the mark to its
//! sleep. That much is what shuttle searches. A processor may however let the holder's look pass its store, and to forbid
//! that is what the second read-modify-write would be for. The look passes the store by as long as a store takes to
//! leave the core, some hundred nanoseconds; if a waiter's last try falls in between and nobody takes and frees the lock
//! afterwards, the waiter finds it free when its nap ends.
//!
//! # Source
//! T. E. Anderson, "The performance of spin lock alternatives for shared-memory multiprocessors", IEEE TPDS 1(1), 1990
//! (test and test and set, with backoff). A. R. Karlin, K. Li, M. S. Manasse, S. Owicki, "Empirical studies of competitive
//! spinning for a shared-memory multiprocessor", SOSP 1991 (spin about as long as sleeping costs, then sleep).

use std::time::Duration;

use parking_lot::lock_api::{self, GuardNoSend, RawMutex};

use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Condvar, Mutex, hint, thread, wait_for};

#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(shuttle)))]
mod tests;

/// Exclusive access to a `T`, for critical sections of some ten nanoseconds. A panic does not poison it.
pub(crate) type Lock<T> = lock_api::Mutex<Raw, T>;

/// Exclusive access as long as this lives.
pub(crate) type LockGuard<'a, T> = lock_api::MutexGuard<'a, Raw, T>;

/// Takes a lock that a try has just found taken, without another try first: that would only pull its cache line away from
/// the holder.
pub(crate) fn wait_for_lock<T>(lock: &Lock<T>) -> LockGuard<'_, T> {
    // SAFETY: `wait` returns when this thread holds the lock, and no guard of it is there yet.
    #[allow(unsafe_code)]
    unsafe {
        lock.raw().wait();
        lock.make_guard_unchecked()
    }
}

/// The lock without what it protects: 16 bytes.
pub(crate) struct Raw {
    locked: AtomicBool,
    /// Waiters that have given up spinning. Changed under `queue`.
    parked: AtomicU32,
    /// Whether a waiter that was woken has not looked yet.
    queue: Mutex<bool>,
    wake: Condvar,
}

// SAFETY: at most one thread holds the lock at a time. It is taken by a swap of `locked` from false to true and by
// nothing else; swaps of one atomic are in one order, so between two that found false there was a store of false, which
// only `unlock` makes, which only the holder may call. What the holder wrote is seen by the next: its store to `locked`
// is a release, and the swap that reads it an acquire. `parked`, `queue` and `wake` decide only when a waiter tries.
#[allow(unsafe_code)]
unsafe impl RawMutex for Raw {
    #[allow(clippy::declare_interior_mutable_const, reason = "how lock_api makes a new lock")]
    const INIT: Self = Self {
        locked: AtomicBool::new(false),
        parked: AtomicU32::new(0),
        queue: Mutex::new(false),
        wake: Condvar::new(),
    };

    type GuardMarker = GuardNoSend;

    #[inline(always)]
    fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    #[inline(always)]
    fn try_lock(&self) -> bool {
        !self.locked.swap(true, Ordering::Acquire)
    }

    /// # Safety
    /// The caller holds the lock and gives it up: it touches nothing that the lock protects until it has taken it again.
    #[inline(always)]
    unsafe fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
        if self.parked.load(Ordering::Relaxed) != 0 {
            self.wake_one();
        }
    }
}

impl Raw {
    #[cold]
    #[inline(never)]
    fn wait(&self) {
        let taken = self.spin() || self.yield_to_others();
        if !taken {
            self.park();
        }
    }

    /// Tries after pauses that double; a try while the lock is taken would only pull its cache line away from the holder.
    fn spin(&self) -> bool {
        (0..SPINS).any(|round| {
            for _ in 0..1_u32 << round {
                hint::spin_loop();
            }
            self.try_if_free()
        })
    }

    /// Lets the holder run, if it is one of more threads than there are cores.
    fn yield_to_others(&self) -> bool {
        (0..YIELDS).any(|_| {
            thread::yield_now();
            self.try_if_free()
        })
    }

    fn try_if_free(&self) -> bool {
        !self.locked.load(Ordering::Relaxed) && self.try_lock()
    }

    fn park(&self) {
        let mut woken = self.queue.lock();
        self.parked.fetch_add(1, Ordering::SeqCst);
        let mut nap = NAP;
        while !self.try_lock() {
            woken = wait_for(&self.wake, woken, nap);
            *woken = false;
            nap = LONGEST_NAP.min(nap * 2);
        }
        self.parked.fetch_sub(1, Ordering::Relaxed);
    }

    #[cold]
    #[inline(never)]
    fn wake_one(&self) {
        let mut woken = self.queue.lock();
        // Nobody is left to clear the mark once the last waiter has gone.
        if !*woken && self.parked.load(Ordering::Relaxed) != 0 {
            *woken = true;
            self.wake.notify_one();
        }
    }
}

/// Rounds of spinning: 127 pauses in all, a few microseconds. A critical section takes a tenth of one, unless its thread
/// was interrupted.
const SPINS: u32 = if cfg!(all(test, shuttle)) { 1 } else { 7 };

/// How often a waiter yields before it sleeps.
const YIELDS: u32 = if cfg!(all(test, shuttle)) { 1 } else { 4 };

/// How long a waiter sleeps at first without looking.
const NAP: Duration = Duration::from_millis(1);

/// How long at most.
const LONGEST_NAP: Duration = Duration::from_millis(64);
