//! At which capacities a trace is replayed.

use std::collections::HashSet;

use crate::trace::Trace;

/// Small, medium and large cache for each known trace, in entries. They are the sizes used throughout the measurements, so that
/// rows of different runs can be compared.
const KNOWN: &[(&str, [usize; 3])] = &[
    ("arc-oltp", [1_000, 5_000, 15_000]),
    ("orm-busy", [800, 4_000, 15_000]),
    ("corda-vault", [1_000, 5_000, 20_000]),
    ("sprite", [200, 500, 1_400]),
    ("arc-p3", [8_000, 40_000, 150_000]),
    ("arc-p6", [6_000, 30_000, 120_000]),
    ("cp-w106", [2_500, 15_000, 55_000]),
    ("web07", [200, 1_000, 4_000]),
    ("scarab-recs", [2_500, 13_000, 50_000]),
    ("loop", [256, 512, 768]),
    ("2pools", [100, 500, 2_000]),
    ("multi1", [200, 600, 1_400]),
    ("multi3", [400, 1_500, 3_500]),
    ("cs", [300, 600, 1_000]),
    ("glimpse", [250, 1_000, 2_000]),
    ("stress-corda-loop", [512, 1_024, 4_096]),
    ("mem-gcc", [350, 1_750, 7_000]),
    ("mem-twolf", [128, 370, 1_470]),
];

/// The shares of an unknown trace's keys that its three capacities hold, in percent.
const SHARES: [usize; 3] = [1, 5, 20];

/// The three capacities for a trace: from the table, else 1, 5 and 20 percent of its distinct keys, at least 1 each.
#[must_use]
pub fn default_capacities(trace: &Trace) -> Vec<usize> {
    if let Some((_, sizes)) = KNOWN.iter().find(|(name, _)| *name == trace.name) {
        return sizes.to_vec();
    }
    let distinct = trace.keys.iter().collect::<HashSet<_>>().len();
    let mut sizes = SHARES.map(|share| (distinct * share).div_ceil(100).max(1)).to_vec();
    // A trace of a few keys would have the same size twice.
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, keys: Vec<u64>, sizes: &[usize]) {
        assert_eq!(default_capacities(&Trace { name: name.to_owned(), keys }), sizes);
    }

    #[test]
    fn known_traces_have_their_own_sizes() {
        check("loop", vec![1, 2, 3], &[256, 512, 768]);
    }

    #[test]
    fn other_traces_have_shares_of_their_distinct_keys() {
        check("mine", (0..1_000).chain(0..1_000).collect(), &[10, 50, 200]);
        check("mine", vec![7; 50], &[1]);
        check("mine", (0..30).collect(), &[1, 2, 6]);
    }
}
