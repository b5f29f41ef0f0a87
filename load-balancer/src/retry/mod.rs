//! What may be tried again, where, and when.
//!
//! A retry hides a failure only if it is *safe* (it cannot do the request's work twice), if it goes *elsewhere* (what
//! failed a moment ago fails again), and if it is *rare* (retries of a pool that is overloaded keep it overloaded). The
//! first two are rules in this file, the third is the [budget](budget); where nothing succeeds there is nothing to hide,
//! and retries [stop](drought).

use std::time::Duration;

use crate::rng::scale;
use crate::{BackendId, Failure};

mod budget;
mod drought;

pub use budget::{BudgetConfig, RetryBudget};
pub(crate) use drought::Drought;

impl Failure {
    /// Whether a request that failed so may be sent again: because it had no effect, or because doing it twice is the
    /// same as doing it once.
    ///
    /// # Examples
    /// ```
    /// use tenfold_load_balancer::Failure;
    ///
    /// assert!(Failure::Refused.may_be_repeated(false));
    /// assert!(!Failure::Broken.may_be_repeated(false));
    /// assert!(Failure::Broken.may_be_repeated(true));
    /// ```
    ///
    /// # Source
    /// RFC 9110 section 9.2.2.
    #[inline]
    #[must_use]
    pub const fn may_be_repeated(self, is_idempotent: bool) -> bool {
        is_idempotent || self.had_no_effect()
    }
}

/// How often one request may be tried at most, whatever is configured: the backends it was sent to are kept in place,
/// without an allocation.
pub(crate) const MAX_TRIES: usize = 8;

/// The backends that a request was sent to, in the order of its tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    ids: [BackendId; MAX_TRIES],
    count: u8,
}

impl Tried {
    pub(crate) const NOBODY: Self = Self { ids: [BackendId::from_u64(0); MAX_TRIES], count: 0 };

    #[cfg(feature = "tower")]
    #[inline]
    pub(crate) fn only(id: BackendId) -> Self {
        let mut tried = Self::NOBODY;
        tried.push(id);
        tried
    }

    #[inline]
    pub(crate) fn ids(&self) -> &[BackendId] {
        &self.ids[..usize::from(self.count)]
    }

    #[inline]
    pub(crate) fn contains(&self, id: BackendId) -> bool {
        self.ids().contains(&id)
    }

    /// Adds one; its caller has looked that fewer than [`MAX_TRIES`] are there.
    #[inline]
    pub(crate) fn push(&mut self, id: BackendId) {
        self.ids[usize::from(self.count)] = id;
        self.count += 1;
    }
}

/// The pause before the `count`-th time (from 0) that a request goes to a backend it was at before: uniform up to
/// twice as much each time, so that requests that failed together do not come back together. `bits` are uniform.
///
/// # Source
/// M. Brooker, "Exponential backoff and jitter", 2015: full jitter.
pub(crate) fn backoff(count: u32, bits: u64) -> Duration {
    const BASE: Duration = Duration::from_millis(10);
    const DOUBLINGS: u32 = 5;
    let ceiling = BASE.as_nanos() as u64 * (1 << count.min(DOUBLINGS));
    Duration::from_nanos(1 + scale(bits, ceiling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_no_effect_or_is_idempotent_is_repeated() {
        use Failure::{Answered, Broken, NotSent, Refused, Rejected, TimedOut};
        for failure in [Refused, NotSent, Rejected] {
            assert!(failure.may_be_repeated(false) && failure.may_be_repeated(true), "{failure:?}");
        }
        for failure in [Broken, TimedOut, Answered] {
            assert!(!failure.may_be_repeated(false) && failure.may_be_repeated(true), "{failure:?}");
        }
    }

    #[test]
    fn backoff_doubles_up_to_a_bound_and_is_never_zero() {
        for (count, ceiling_ms) in [(0, 10), (1, 20), (4, 160), (5, 320), (6, 320), (u32::MAX, 320)] {
            assert_eq!(backoff(count, 0), Duration::from_nanos(1));
            let longest = backoff(count, u64::MAX);
            assert!(longest <= Duration::from_millis(ceiling_ms), "{count}: {longest:?}");
            assert!(longest > Duration::from_millis(ceiling_ms - 1), "{count}: {longest:?}");
        }
    }

    #[test]
    fn the_tried_are_known_in_order() {
        let mut tried = Tried::NOBODY;
        assert!(!tried.contains(BackendId::from_u64(0)));
        for id in 1..=MAX_TRIES as u64 {
            tried.push(BackendId::from_u64(id));
            assert!(tried.contains(BackendId::from_u64(id)));
            assert_eq!(tried.ids().len() as u64, id);
        }
    }
}
