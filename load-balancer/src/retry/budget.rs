//! How many retries a pool can bear: a share of what it answers, not a number a request.
//!
//! "Three tries a request" triples the load exactly when the pool can bear it least, and keeps it down after whatever
//! started the trouble has passed: a metastable failure. A budget turns that around: retries are paid with credits that
//! *successful* requests have earned, so where little succeeds, little is retried.
//!
//! # How it works
//! Credits expire, so that a quiet day does not pay for a storm. Time is cut into slots of a tenth of the time to live;
//! earned and spent are each counted in a ring of slots, and a retry is paid if, over the live slots, what is spent stays
//! within the share of what is earned and the reserve. A slot is one word, the number of its slot of time in the upper
//! half and the count in the lower, so a slot is cleared and used again by one compare-and-swap.
//!
//! Every request earns and few spend. So earning is striped over threads (one uncontended addition), and spending adds
//! all stripes up.
//!
//! # Source
//! Finagle's `RetryBudget` (2016): 20 % of the requests and 10 a second, credits live 10 s; linkerd and tower follow it.
//! Difference: there every request earns; here those that succeed, which bounds the tries of a pool that fails by what
//! it did before. N. Bronson et al., "Metastable failures in distributed systems", HotOS 2021, is why.

use std::time::{Duration, Instant};

use crate::exchange::nanos;
use crate::range::{ConfigError, lasts, within};
use crate::stripes::{stripe_count, thread_number};
use crate::sync::{AtomicU64, Ordering};

#[cfg(test)]
mod tests;

/// How many retries and hedges are paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct BudgetConfig {
    /// Retries and hedges for each hundred requests that succeed. Default 20, at most 1,000; 0 leaves the reserve alone.
    /// Higher hides more failures of a part of the pool, and adds as much load when all of it is in trouble.
    pub percent: u32,
    /// Retries and hedges a second that need no success before: without them a pool of few requests could never
    /// retry. Default 10, at most 1,000,000. Higher lets a small pool hide more; where it is near the rate of requests
    /// it undoes the bound.
    pub min_per_second: u32,
    /// How long a credit lives. Default 10 s, from 1 s to 60 s. Longer rides out longer troubles of a part of the pool,
    /// and lets the retries of that much time come in one burst.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub time_to_live: Duration,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10, time_to_live: Duration::from_secs(10) }
    }
}

impl BudgetConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let seconds = Duration::from_secs(1)..=Duration::from_secs(60);
        within("budget.percent", self.percent, 0..=1_000)?;
        within("budget.min_per_second", self.min_per_second, 0..=1_000_000)?;
        lasts("budget.time_to_live", self.time_to_live, seconds)
    }
}

/// Slots that a credit lives.
const SLOTS: u32 = 10;
/// Slots that hedges live on.
const SPARE_SLOTS: u32 = 2;
/// Slots of a ring; more than live, so that a slot is clear before its turn comes again.
const RING: usize = 16;

/// The credits for retries and hedges of one pool, shared by its requests.
///
/// # Invariants
/// - **B1** Whenever a retry is paid: over the slots of one time to live up to now, 100 x spent is at most
///   percent x earned + 100 x min_per_second x time_to_live. Concurrent callers included; callers that race for the last
///   credit may all be refused.
///
/// So over a stretch of time T in which n requests came, of which s succeeded, there are at most
/// n + percent/100 x (s + the successes of one time to live before) + min_per_second x (T + 1.1 x time_to_live) tries:
/// with the defaults, a pool that fails altogether for longer than 10 s sees at most 1.2 times the requests and the
/// reserve.
///
/// # Complexity
/// [`deposit`](Self::deposit): one atomic addition in a cache line of few threads. [`withdraw`](Self::withdraw): 16
/// loads for each stripe; lock-free. 128 bytes a stripe, of which there is one for each hardware thread, at most 8.
#[derive(Debug)]
pub struct RetryBudget {
    origin: Instant,
    /// 2^64 / nanoseconds of a slot: a multiplication where a division would cost five times as much.
    slots_per_nano: u64,
    percent: u64,
    /// Hundred times the reserve of one time to live.
    reserve: u64,
    earned: Box<[Ring]>,
    spent: Ring,
}

impl RetryBudget {
    /// A budget with nothing earned yet; slots of time are counted from `now`.
    ///
    /// # Errors
    /// [`ConfigError`] for a setting outside its range.
    pub fn new(config: &BudgetConfig, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        let time_to_live = config.time_to_live.as_nanos() as u64;
        let reserve = u128::from(config.min_per_second) * u128::from(time_to_live) / 10_000_000;
        Ok(Self {
            origin: now,
            slots_per_nano: u64::MAX / (time_to_live / u64::from(SLOTS)),
            percent: config.percent.into(),
            reserve: reserve as u64,
            earned: (0..stripe_count()).map(|_| Ring::default()).collect(),
            spent: Ring::default(),
        })
    }

    /// Earns the share of one request that succeeded.
    #[inline]
    pub fn deposit(&self, now: Instant) {
        self.deposit_at(nanos(now.saturating_duration_since(self.origin)));
    }

    /// The same, so many nanoseconds after the budget was made.
    #[inline]
    pub(crate) fn deposit_at(&self, passed: u64) {
        // Ordering: the sum is all that is asked, and a withdrawal that just misses a deposit is refused at worst.
        self.earned[thread_number() & (self.earned.len() - 1)].add(self.slot_at(passed), Ordering::Relaxed);
    }

    /// Pays one retry, if there is a credit for it.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.pay(now, |slot| self.affords(slot, SLOTS, 1))
    }

    /// Pays one hedge, if there is a credit for it and less than half of what the last tenths of the time to live (the
    /// present one and the one before) brought is spent.
    ///
    /// A hedge is a luxury and leaves room for retries. It is also load that a busy pool makes for itself: waiting makes
    /// hedges, hedges make waiting. The credits of ten seconds, spent on hedges in one, tip a pool over that could have
    /// gone on.
    pub fn withdraw_spare(&self, now: Instant) -> bool {
        self.pay(now, |slot| self.affords(slot, SPARE_SLOTS, 2) && self.affords(slot, SLOTS, 1))
    }

    fn pay(&self, now: Instant, affords: impl FnOnce(u32) -> bool) -> bool {
        let slot = self.slot(now);
        // Ordering: first the claim, then the look at all others' claims. In the one order of SeqCst, of two callers in
        // different slots the later one sees the earlier one's claim (B1).
        if !self.spent.add(slot, Ordering::SeqCst) {
            return false;
        }
        let is_paid = affords(slot);
        if !is_paid {
            self.spent.take_back(slot);
        }
        is_paid
    }

    /// Whether what is spent in the last `slots` is at most one part in so many of what they brought.
    fn affords(&self, slot: u32, slots: u32, parts: u64) -> bool {
        let after = slot - slots;
        let earned = self.earned.iter().map(|ring| ring.sum_after(after)).sum::<u64>();
        let reserve = self.reserve * u64::from(slots) / u64::from(SLOTS);
        100 * self.spent.sum_after(after) * parts <= self.percent * earned + reserve
    }

    fn slot(&self, now: Instant) -> u32 {
        self.slot_at(nanos(now.saturating_duration_since(self.origin)))
    }

    /// The number of the slot of time; from [`SLOTS`] on, so that the word 0 is long expired.
    #[inline]
    fn slot_at(&self, passed: u64) -> u32 {
        let passed = (u128::from(passed) * u128::from(self.slots_per_nano)) >> 64;
        (passed as u32).saturating_add(SLOTS)
    }
}

/// Counts by slots of time.
///
/// # Invariants
/// - **R1** The number in a word's upper half never falls; the lower half counts what was added under that number, less
///   what was taken back.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Ring([AtomicU64; RING]);

impl Ring {
    /// Counts one in this slot. False if the slot's word is already used for a later one, which means that the caller's
    /// time is more than a time to live behind others'.
    #[inline]
    fn add(&self, slot: u32, order: Ordering) -> bool {
        let word = &self.0[slot as usize % RING];
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let owner = (seen >> 32) as u32;
            if owner == slot {
                // If the slot has just passed, this counts for a later one: a retry is held against the pool for longer.
                word.fetch_add(1, order);
                return true;
            }
            if owner > slot {
                return false;
            }
            match word.compare_exchange_weak(seen, u64::from(slot) << 32 | 1, order, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes one back that was added in this slot, unless the slot has passed.
    fn take_back(&self, slot: u32) {
        let is_there = |word: u64| (word >> 32) as u32 == slot && word as u32 > 0;
        let less = |word| is_there(word).then(|| word - 1);
        let _ = self.0[slot as usize % RING].fetch_update(Ordering::SeqCst, Ordering::Relaxed, less);
    }

    /// The counts of the slots after this one.
    fn sum_after(&self, slot: u32) -> u64 {
        let is_after = |word: &u64| (*word >> 32) as u32 > slot;
        self.0
            .iter()
            .map(|word| word.load(Ordering::SeqCst))
            .filter(is_after)
            .map(|word| word & u64::from(u32::MAX))
            .sum()
    }
}

#[cfg(all(test, tenfold_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;

    /// B1 for the last credit: of two callers, in the same or in different slots of time, at most one is paid.
    #[test]
    fn loom_the_last_credit_is_spent_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let (now, second) = (crate::clock::now(), Duration::from_secs(1));
            let config = BudgetConfig { percent: 0, min_per_second: 1, time_to_live: second };
            let budget = Arc::new(RetryBudget::new(&config, now).unwrap());
            let threads: Vec<_> = (0..2)
                .map(|slot| {
                    let budget = Arc::clone(&budget);
                    loom::thread::spawn(move || budget.withdraw(now + slot * second / 10))
                })
                .collect();
            let paid = threads.into_iter().map(|thread| u32::from(thread.join().unwrap())).sum::<u32>();
            assert!(paid <= 1, "B1: {paid}");
        });
    }
}
