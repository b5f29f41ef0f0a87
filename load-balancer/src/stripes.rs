//! Picking hands for callers that have no picker of their own: a few, each behind a lock that threads rarely share.

use crate::balancer::Shared;
use crate::picker::Hand;

/// Hands on cache lines of their own, made when first used.
pub(crate) struct Stripes<T>(Box<[Stripe<T>]>);

#[repr(align(128))]
struct Stripe<T>(parking_lot::Mutex<Option<Hand<T>>>);

impl<T> Stripes<T> {
    /// `count` stripes, rounded up to a power of two.
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count.next_power_of_two()).map(|_| Stripe(parking_lot::Mutex::new(None))).collect())
    }

    /// Runs `pick` with a hand that is up to date and that nobody else uses meanwhile.
    ///
    /// A thread comes back to the same stripe. Where another thread is just there it takes the next free one, since the
    /// other may have been stopped in the middle.
    #[inline]
    pub(crate) fn with<R>(&self, shared: &Shared<T>, pick: impl FnOnce(&mut Hand<T>) -> R) -> R {
        let mask = self.0.len() - 1;
        let home = thread_number() & mask;
        let free = (0..self.0.len()).find_map(|step| self.0[(home + step) & mask].0.try_lock());
        let mut stripe = free.unwrap_or_else(|| self.0[home].0.lock());
        let hand = stripe.get_or_insert_with(|| Hand::new(shared));
        let old = hand.renew(shared);
        let result = pick(hand);
        // The lock first: with the old version may go what the host keeps beside a backend.
        drop(stripe);
        drop(old);
        result
    }

    /// Brings the hands up to date that nobody uses just now, so that those which nobody uses any more do not keep what
    /// is beside removed backends.
    pub(crate) fn renew(&self, shared: &Shared<T>) {
        for stripe in &self.0 {
            let old = stripe.0.try_lock().and_then(|mut hand| hand.as_mut()?.renew(shared));
            drop(old);
        }
    }
}

/// A number that differs between threads, mostly: where the thread keeps its data.
#[inline]
pub(crate) fn thread_number() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| {
        let address = std::ptr::from_ref(here) as usize;
        // Thread-local blocks lie pages apart; their addresses differ in the higher bits.
        address.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> (usize::BITS - 16)
    })
}

/// How many stripes counters have that every request writes: one for each hardware thread, at most 8; a power of two.
pub(crate) fn stripe_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(8)
}
