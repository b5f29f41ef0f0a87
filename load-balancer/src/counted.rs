//! A value that lives as long as its owner or somebody who holds it, with one word for both: how many hold it, and how many of
//! those that let go were successes since somebody last looked.
//!
//! A request in flight keeps its backend's state alive, is counted, and ends as a success nearly always. An `Arc` with a
//! tally of successes in the value needs three locked additions for that, in up to two cache lines that the cores take from
//! each other, as the count of an `Arc` stands before the value, wherever the allocator puts it. Here the word is the first of
//! the value, whose alignment is its own, and a success is counted by the addition that lets go.
//!
//! | bits | what they count |
//! |---|---|
//! | 0..31 | who holds it |
//! | 31 | the owner: 1 until it is dropped |
//! | 32..64 | successes that nobody has [taken](Count::take_successes) |
//!
//! # Invariants
//! - **C1** The value is alive as long as bits 0..32 are not zero, and freed once, by whoever makes them zero.
//! - **C2** Only the owner lets others hold it; so bits 0..32 that are zero stay zero.
//!
//! # Source
//! The reference count is that of Boehm, "Weakening the synchronization of reference counting", as in `std::sync::Arc`
//! (Release to let go, Acquire before it is freed), without its weak half.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::sync::{AtomicU64, Ordering};

const OWNER: u64 = 1 << 31;
const ALIVE: u64 = u32::MAX as u64;
const SUCCESS: u64 = 1 << 32;
/// The process ends beyond it, as with an `Arc` that is cloned and forgotten too often: bit 31 is somebody else's.
const MOST: u64 = OWNER / 2;

/// The word.
#[derive(Debug)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Of a value that has its owner, and that nobody holds.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(OWNER))
    }

    /// How many hold it now. Others may come or let go meanwhile.
    #[inline]
    pub(crate) fn holders(&self) -> usize {
        (self.0.load(Ordering::Relaxed) & (OWNER - 1)) as usize
    }

    /// Counts a success of somebody who goes on holding it.
    #[inline]
    pub(crate) fn add_success(&self) {
        self.0.fetch_add(SUCCESS, Ordering::Relaxed);
    }

    pub(crate) fn successes(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / SUCCESS
    }

    /// The successes until now, which are forgotten here.
    pub(crate) fn take_successes(&self) -> u64 {
        self.0.fetch_and(ALIVE, Ordering::Relaxed) / SUCCESS
    }
}

/// What has such a word.
pub(crate) trait Counted {
    /// Always the same one, which nothing else is counted by.
    fn count(&self) -> &Count;
}

/// The one owner.
pub(crate) struct Owner<V: Counted>(NonNull<V>);

/// Somebody who holds it.
pub(crate) struct Held<V: Counted>(NonNull<V>);

// SAFETY: both give `&V` to whichever thread has them (hence `V: Sync`), and the last of them drops the value there (hence
// `V: Send`).
unsafe impl<V: Counted + Send + Sync> Send for Owner<V> {}
// SAFETY: as above; `&Owner` makes `Held`s, which may be the last.
unsafe impl<V: Counted + Send + Sync> Sync for Owner<V> {}
// SAFETY: as above.
unsafe impl<V: Counted + Send + Sync> Send for Held<V> {}
// SAFETY: `&Held` gives `&V` alone.
unsafe impl<V: Counted + Send + Sync> Sync for Held<V> {}

impl<V: Counted> Owner<V> {
    /// Takes a new value, whose count is new, too.
    pub(crate) fn new(value: V) -> Self {
        debug_assert!(value.count().holders() == 0 && value.count().successes() == 0);
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    /// Holds the value while what is returned lives.
    #[inline]
    pub(crate) fn hold(&self) -> Held<V> {
        // Ordering: the owner is there, so nobody frees it, and nothing is read by way of the count.
        let before = self.count().0.fetch_add(1, Ordering::Relaxed);
        if before & (OWNER - 1) >= MOST {
            std::process::abort();
        }
        Held(self.0)
    }
}

impl<V: Counted> Held<V> {
    /// Lets go, and counts a success.
    #[inline]
    pub(crate) fn succeed(self) {
        let value = std::mem::ManuallyDrop::new(self).0;
        // SAFETY: it is not dropped any more, so this is the one time that it lets go.
        unsafe { let_go(value, SUCCESS - 1) }
    }
}

/// Somebody lets go, by an addition that takes one from bits 0..32.
///
/// # Safety
/// Whoever calls holds or owns the value, with what is taken, and does not touch it any more.
#[inline]
unsafe fn let_go<V: Counted>(value: NonNull<V>, addition: u64) {
    // SAFETY: alive, as the caller is counted in bits 0..32 (C1).
    let count = unsafe { value.as_ref() }.count();
    // Ordering: what was done to the value comes before it is freed, by whomever.
    let before = count.0.fetch_add(addition, Ordering::Release);
    if before.wrapping_add(addition) & ALIVE == 0 {
        // SAFETY: it was made zero just now, so nobody else is or will be there (C1, C2).
        unsafe { free(value) }
    }
}

/// # Safety
/// Bits 0..32 are zero, and the caller made them so.
#[cold]
unsafe fn free<V: Counted>(value: NonNull<V>) {
    // SAFETY: nobody else can free it (C1). Ordering: pairs with the Releases of those who have let go.
    unsafe { value.as_ref() }.count().0.load(Ordering::Acquire);
    // SAFETY: made by `Box::leak` in `Owner::new`.
    drop(unsafe { Box::from_raw(value.as_ptr()) });
}

impl<V: Counted> Drop for Owner<V> {
    fn drop(&mut self) {
        // SAFETY: the owner owns it until here.
        unsafe { let_go(self.0, OWNER.wrapping_neg()) }
    }
}

impl<V: Counted> Drop for Held<V> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it held it until here.
        unsafe { let_go(self.0, 1_u64.wrapping_neg()) }
    }
}

impl<V: Counted> Deref for Owner<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        // SAFETY: alive, as the owner is (C1); nobody has it mutably but who frees it.
        unsafe { self.0.as_ref() }
    }
}

impl<V: Counted> Deref for Held<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        // SAFETY: alive, as this holds it (C1); nobody has it mutably but who frees it.
        unsafe { self.0.as_ref() }
    }
}

impl<V: Counted + fmt::Debug> fmt::Debug for Held<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;

    /// Says when it is dropped.
    struct Value {
        count: Count,
        dropped: Arc<AtomicU64>,
        text: String,
        #[cfg(tenfold_loom)]
        seen: loom::cell::UnsafeCell<()>,
    }

    // SAFETY: the model checker's cell is read by those who hold the value, and written when it is dropped.
    #[cfg(tenfold_loom)]
    unsafe impl Sync for Value {}

    impl Counted for Value {
        fn count(&self) -> &Count {
            &self.count
        }
    }

    impl Drop for Value {
        fn drop(&mut self) {
            #[cfg(tenfold_loom)]
            self.seen.with_mut(|_| ());
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn value() -> (Owner<Value>, Arc<AtomicU64>) {
        let dropped = Arc::new(AtomicU64::new(0));
        let value = Value {
            count: Count::new(),
            dropped: Arc::clone(&dropped),
            text: "alive".into(),
            #[cfg(tenfold_loom)]
            seen: loom::cell::UnsafeCell::new(()),
        };
        (Owner::new(value), dropped)
    }

    #[cfg(not(tenfold_loom))]
    #[test]
    fn it_lives_as_long_as_anybody_has_it() {
        let (owner, dropped) = value();
        let (a, b, c) = (owner.hold(), owner.hold(), owner.hold());
        assert_eq!((owner.count().holders(), owner.count().successes()), (3, 0));
        a.succeed();
        drop(b);
        assert_eq!((owner.count().holders(), owner.count().successes()), (1, 1));
        owner.count().add_success();
        assert_eq!((owner.count().take_successes(), owner.count().successes()), (2, 0));
        drop(owner);
        assert_eq!((dropped.load(Ordering::Relaxed), c.text.as_str(), c.count().holders()), (0, "alive", 1));
        c.succeed();
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        let (owner, dropped) = value();
        drop(owner.hold());
        drop(owner);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    /// Successes beyond the word are lost, and nothing else is.
    #[cfg(not(tenfold_loom))]
    #[test]
    fn successes_never_reach_the_holders() {
        let (owner, dropped) = value();
        owner.count.0.store(OWNER | (u64::MAX << 32), Ordering::Relaxed);
        owner.hold().succeed();
        assert_eq!((owner.count().holders(), owner.count().successes()), (0, 0));
        drop(owner);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    #[cfg(not(tenfold_loom))]
    #[test]
    fn threads_hold_and_let_go() {
        let (owner, dropped) = value();
        let rounds = if cfg!(miri) { 50 } else { 10_000 };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let owner = &owner;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let held = owner.hold();
                        assert_eq!(held.text, "alive");
                        if (thread + round) % 2 == 0 { held.succeed() } else { drop(held) }
                    }
                });
            }
        });
        assert_eq!((owner.count().holders(), owner.count().successes()), (0, 2 * rounds));
        let last = owner.hold();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(last));
            scope.spawn(move || drop(owner));
        });
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    /// Successes that are taken while they are counted are taken once, or left.
    #[cfg(tenfold_loom)]
    #[test]
    fn loom_no_success_is_lost() {
        loom::model(|| {
            let (owner, _) = value();
            let (a, b) = (owner.hold(), owner.hold());
            let threads = [loom::thread::spawn(move || a.succeed()), loom::thread::spawn(move || b.succeed())];
            let taken = owner.count().take_successes();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!((taken + owner.count().successes(), owner.count().holders()), (2, 0));
        });
    }

    /// C1 in every interleaving: of the owner and two who hold it one frees it, after all have read it.
    #[cfg(tenfold_loom)]
    #[test]
    fn loom_the_last_one_frees_it() {
        loom::model(|| {
            let (owner, dropped) = value();
            let (a, b) = (owner.hold(), owner.hold());
            let first = loom::thread::spawn(move || {
                a.seen.with(|_| assert_eq!(a.text, "alive"));
                a.succeed();
            });
            let second = loom::thread::spawn(move || {
                b.seen.with(|_| assert_eq!(b.text, "alive"));
                drop(b);
            });
            assert!(owner.count().holders() <= 2);
            drop(owner);
            first.join().unwrap();
            second.join().unwrap();
            assert_eq!(dropped.load(Ordering::Relaxed), 1);
        });
    }
}
