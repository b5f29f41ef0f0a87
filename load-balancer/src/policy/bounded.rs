//! Consistent hashing with bounded loads: how much a backend may have in flight before its keys go on.
//!
//! A hash policy sends a popular key's requests to one backend, however many they are. So a backend refuses what is beyond
//! a bound, relative to the load of all, and the request goes to its key's next choice. Popular keys then spread over as
//! many backends as they need, and all others stay.
//!
//! # Guarantee
//! Where the bound is `c` > 100 % and a request is added to `t` in flight, a backend takes up to `c * (t + 1)` times its share
//! of the weight, rounded up. So
//!
//! - **B1** no backend that was picked under the bound has more in flight than its share of `c` times all, rounded up,
//!   at the moment of the pick;
//! - **B2** some backend always fits: all bounds together are at least `c * (t + 1)`, more than is in flight;
//! - **B3** when a request comes or goes, O(1 / (c - 1)^2) others would be placed differently, expected: a key does
//!   not wander far.
//!
//! Counts that are read while others change them may be a few requests behind; the bound is exceeded by no more than as many.
//!
//! # Source
//! Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018 (arXiv 2016), theorem 1; bounds
//! in proportion to weights as they remark.

/// A backend's weight among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) weight: u32,
    /// At least `weight`, and at least 1.
    pub(crate) total_weight: u64,
}

/// Whether a backend with so many requests in flight may take one more, when `total_in_flight` are in flight at all
/// backends of the share. A bound below 100 counts as 100, at which some backend fits as well, but keys wander far.
///
/// There is no division: `in_flight < bound * (total + 1) * weight / total_weight` is what "at most, rounded up, with this
/// one" means.
#[inline]
pub(crate) fn fits(in_flight: u32, total_in_flight: u64, share: Share, bound_percent: u32) -> bool {
    let bound = u128::from(bound_percent.max(100)) * u128::from(share.weight.max(1));
    let load = u128::from(in_flight) * 100 * u128::from(share.total_weight);
    // 40 bits of the one factor and 64 of the other.
    load < bound * (u128::from(total_in_flight) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::for_each_seed;

    /// Fills backends by random keys, each going on from seat to seat until it fits, and checks the guarantee.
    #[test]
    fn somebody_fits_and_nobody_exceeds_the_bound() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            let weights: Vec<u32> = (0..1 + rng.below(20)).map(|_| 1 + rng.below(9) as u32).collect();
            let total_weight = weights.iter().map(|&weight| u64::from(weight)).sum();
            let bound = 100 + rng.below(60) as u32;
            let mut loads = vec![0_u32; weights.len()];
            for total in 0..2_000_u64 {
                // Popular keys: most go to the first few.
                let first = (rng.below(weights.len() as u64) * rng.below(2)) as usize;
                let fits = |&at: &usize| fits(loads[at], total, Share { weight: weights[at], total_weight }, bound);
                let at = (first..weights.len()).chain(0..first).find(fits).expect("B2: some backend fits");
                loads[at] += 1;
                let share = f64::from(weights[at]) / total_weight as f64;
                let most = (f64::from(bound) / 100.0 * (total + 1) as f64 * share - 1e-9).ceil();
                assert!(f64::from(loads[at]) <= most, "B1: {} of {most}", loads[at]);
            }
        });
    }

    #[test]
    fn extremes() {
        let share = |weight, total_weight| Share { weight, total_weight };
        assert!(fits(0, 0, share(1, u64::MAX), 125), "one request always finds a place");
        assert!(fits(u32::MAX - 1, u64::MAX, share(u32::MAX, u64::from(u32::MAX)), 100));
        assert!(!fits(u32::MAX, 0, share(1, u64::MAX), u32::MAX));
        assert!(!fits(1, 0, share(1, 1), 0), "below 100 counts as 100");
        assert!(fits(1, 1, share(1, 1), 0));
    }
}
