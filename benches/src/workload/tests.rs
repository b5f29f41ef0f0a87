use std::collections::{HashMap, HashSet};

use super::*;

#[test]
fn names_and_back() {
    for workload in Workload::ALL {
        assert_eq!(workload.name().parse::<Workload>().unwrap(), workload);
    }
    assert!("reads".parse::<Workload>().unwrap_err().to_string().contains("`reads`"));
}

#[test]
fn the_same_seed_gives_the_same_keys() {
    for workload in Workload::ALL {
        let keys = |seed| {
            let initial = workload.initial_keys(1_000, seed);
            let mut sequences = workload.sequences(1_000, &initial, 2, seed);
            (sequences[0].advance(5_000).to_vec(), sequences[1].advance(5_000).to_vec())
        };
        let (first, second) = keys(1);
        assert_eq!((first.clone(), second.clone()), keys(1), "{workload:?}");
        assert_ne!(first, second, "{workload:?}: threads share one sequence");
    }
}

#[test]
fn hits_asks_only_for_resident_keys() {
    let resident: Vec<u64> = (0..100).map(|key| key * 7).collect();
    let held: HashSet<u64> = resident.iter().copied().collect();
    let mut sequences = Workload::Hits.sequences(1_000, &resident, 1, 3);
    let mut counts = HashMap::new();
    for &key in sequences[0].advance(*DRAWS.end()) {
        assert!(held.contains(&key));
        *counts.entry(key).or_insert(0_u64) += 1;
    }
    // The hottest key is the last of `resident`.
    assert_eq!(counts.iter().max_by_key(|(_, count)| **count).map(|(key, _)| *key), Some(99 * 7));
}

#[test]
fn mixes_reach_ten_times_the_entries() {
    let mut sequences = Workload::Even.sequences(100, &[], 1, 3);
    let distinct: HashSet<u64> = sequences[0].advance(*DRAWS.end()).iter().copied().collect();
    assert_eq!(distinct.len(), 1_000);
    assert_eq!(Workload::Even.initial_keys(100, 3).len(), 100);
}

#[test]
fn scan_goes_by_number_and_starts_threads_apart() {
    let mut sequences = Workload::Scan.sequences(100, &[], 2, 3);
    assert_eq!(sequences[0].advance(1_000), (0..1_000).collect::<Vec<u64>>());
    assert_eq!(sequences[1].advance(3), [500, 501, 502]);
    // The keys held at the start are the ones a scan asks for last.
    assert_eq!(Workload::Scan.initial_keys(100, 3), (900..1_000).collect::<Vec<u64>>());
}

#[test]
fn sequences_start_over_at_their_end() {
    let mut sequence = Sequence::in_order(vec![1, 2, 3]);
    assert_eq!(sequence.advance(2), [1, 2]);
    assert_eq!(sequence.advance(2), [3]);
    assert_eq!(sequence.advance(0), [1]);
    assert_eq!(sequence.advance(9), [2, 3]);
}
