//! Turns weights into whole numbers of slots that fill a table exactly.

/// Gives `total` slots to the weights in proportion, at least one to each.
///
/// Weights whose exact share is below one slot get one; the others share the rest by largest remainder, so each gets
/// its exact share of that rest rounded down or up. Equal remainders go to those that come first.
///
/// Weights are at least 1, and there are at most `total` of them.
///
/// # Complexity
/// O(n log n) in the number of weights.
///
/// # Source
/// The method of Hamilton (Balinski, Young, "Fair Representation", 1982), after the minimum.
pub(super) fn apportion(weights: &[u64], total: u64) -> Vec<u32> {
    debug_assert!(weights.len() as u64 <= total, "a slot for each");
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&at| weights[at]);

    let (mut slots, mut weight) = (total, weights.iter().sum::<u64>());
    let mut counts = vec![1_u32; weights.len()];
    let is_heavy = |at: usize, slots: u64, weight: u64| wide(weights[at], slots) >= u128::from(weight);
    let mut light = 0;
    while order.get(light).is_some_and(|&at| !is_heavy(at, slots, weight)) {
        slots -= 1;
        weight -= weights[order[light]];
        light += 1;
    }

    let mut remainders = Vec::with_capacity(order.len() - light);
    for &at in &order[light..] {
        let exact = wide(weights[at], slots);
        counts[at] = count(exact / u128::from(weight));
        remainders.push((exact % u128::from(weight), at));
    }
    let given: u64 = order[light..].iter().map(|&at| u64::from(counts[at])).sum();
    remainders.sort_unstable_by_key(|&(remainder, at)| (std::cmp::Reverse(remainder), at));
    for (_, at) in remainders.into_iter().take(count(u128::from(slots.saturating_sub(given))) as usize) {
        counts[at] += 1;
    }
    counts
}

fn wide(weight: u64, slots: u64) -> u128 {
    u128::from(weight) * u128::from(slots)
}

fn count(slots: u128) -> u32 {
    u32::try_from(slots).expect("a table has fewer than 2^32 slots")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::for_each_seed;

    #[track_caller]
    fn check(weights: &[u64], total: u64, expected: &[u32]) {
        assert_eq!(apportion(weights, total), expected, "{weights:?}");
    }

    #[test]
    fn shares_are_exact_where_they_can_be() {
        check(&[1], 7, &[7]);
        check(&[1, 1, 1], 9, &[3, 3, 3]);
        check(&[1, 2, 3], 12, &[2, 4, 6]);
        check(&[1, 1, 1], 10, &[4, 3, 3]);
        check(&[1, u64::from(u32::MAX)], 10, &[1, 9]);
        check(&[5, 1_000, 5, 1_000], 10, &[1, 4, 1, 4]);
        check(&[9, 9, 9], 3, &[1, 1, 1]);
        check(&[14, 10, 16], 4, &[1, 1, 2]);
    }

    #[test]
    fn every_slot_is_given_and_nobody_is_off_by_a_whole_one() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            for _ in 0..200 {
                let bits = rng.below(33);
                let weights: Vec<u64> = (0..=rng.below(40)).map(|_| 1 + rng.below(1 << bits)).collect();
                let total = weights.len() as u64 + rng.below(10_000);
                let counts = apportion(&weights, total);
                assert_eq!(counts.iter().map(|&count| u64::from(count)).sum::<u64>(), total);
                assert!(counts.iter().all(|&count| count > 0));
                // Of those above the minimum, each has its quota of what these have together, to within one.
                let above = || counts.iter().zip(&weights).filter(|(count, _)| **count > 1);
                let slots: f64 = above().map(|(&count, _)| f64::from(count)).sum();
                let weight: f64 = above().map(|(_, &weight)| weight as f64).sum();
                for (&count, &own) in above() {
                    let quota = slots * own as f64 / weight;
                    // The weights at the minimum of one may hold up to two slots' worth of the remainders.
                    assert!((f64::from(count) - quota).abs() < 2.0, "{count} of {quota} in {weights:?}, {total}");
                }
            }
        });
    }
}
