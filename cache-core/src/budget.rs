//! The capacity, shared by all shards.
//!
//! Dividing a capacity into fixed shares makes a sharded cache evict before it is full and refuse an entry that is
//! heavier than one share. Here all shards draw on one account instead: an insertion reserves its weight *before*
//! the entry exists, so the sum of the weights never exceeds the capacity, at any instant. An insertion that evicts
//! from its own shard passes the freed weight on and does not touch the account, so a full cache writes no shared
//! line.

use crate::sync::atomic::{AtomicU64, Ordering};

/// # Invariants
/// - **B1** `used` is the sum of the weights of all entries and of all reservations not yet turned into entries.
/// - **B2** `used <= capacity`, unless the capacity was lowered and the excess is pinned or still being evicted.
#[derive(Debug)]
pub(crate) struct Budget {
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity: AtomicU64::new(capacity), used: AtomicU64::new(0) }
    }

    // Ordering: the account orders no other memory; every access to entries is ordered by its shard's lock. A
    // read-modify-write on one atomic always sees the latest value, which is all that B2 needs as long as the capacity
    // stays. A reservation and a lowered capacity write one atomic and then read the other, so those are SeqCst.

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// By how much the account is overdrawn after the capacity was lowered.
    pub(crate) fn excess(&self) -> u64 {
        let used = self.used.load(Ordering::SeqCst);
        used.saturating_sub(self.capacity.load(Ordering::SeqCst))
    }

    /// Reserves `weight` if there is that much room.
    #[inline]
    pub(crate) fn reserve(&self, weight: u64) -> bool {
        let mut used = self.used();
        loop {
            match used.checked_add(weight) {
                Some(sum) if sum <= self.capacity() => {
                    match self.used.compare_exchange_weak(used, sum, Ordering::SeqCst, Ordering::Relaxed) {
                        // Either this sees the capacity that was lowered meanwhile, or whoever lowered it sees this.
                        Ok(_) if sum <= self.capacity.load(Ordering::SeqCst) => return true,
                        Ok(_) => {
                            self.release(weight);
                            return false;
                        }
                        Err(actual) => used = actual,
                    }
                }
                _ => return false,
            }
        }
    }

    /// Gives `weight` back.
    #[inline]
    pub(crate) fn release(&self, weight: u64) {
        if weight > 0 {
            self.used.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

/// Units that are reserved and belong to no entry yet. Given back when this is dropped: by a panic of the host's `Hash`, for
/// instance.
#[must_use = "what is dropped is given back"]
pub(crate) struct Reservation<'a> {
    budget: &'a Budget,
    units: u64,
}

impl<'a> Reservation<'a> {
    pub(crate) const fn none(budget: &'a Budget) -> Self {
        Self { budget, units: 0 }
    }

    /// Adds units that are reserved already.
    pub(crate) fn add(&mut self, units: u64) {
        self.units += units;
    }

    /// Gives up to so many units back.
    pub(crate) fn give_back(&mut self, units: u64) {
        let units = units.min(self.units);
        self.budget.release(units);
        self.units -= units;
    }

    /// Reserves what is missing to `need`, or gives back what is too much. False if there is no room.
    #[inline]
    pub(crate) fn fill_up(&mut self, need: u64) -> bool {
        if self.units >= need {
            self.give_back(self.units - need);
            return true;
        }
        let reserved = self.budget.reserve(need - self.units);
        if reserved {
            self.units = need;
        }
        reserved
    }

    /// The units are an entry's from now on.
    #[inline]
    pub(crate) fn settle(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.budget.release(self.units);
    }
}
