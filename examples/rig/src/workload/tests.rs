use std::fs;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;
use crate::profile::WEB07;

#[test]
fn a_trace_begins_again_after_its_end() {
    let path = std::env::temp_dir().join(format!("tenfold-workload-{}", std::process::id()));
    let deltas: Vec<u8> = [4u64, 1, 1].iter().flat_map(|delta| delta.to_le_bytes()).collect();
    fs::write(&path, compress_to_vec(deltas.as_slice(), CompressionLevel::Fastest)).unwrap();
    let mut workload = Workload::trace(Trace::open(&path).unwrap());
    fs::remove_file(&path).unwrap();
    assert_eq!([0; 7].map(|_| workload.next_key()), [4, 5, 6, 4, 5, 6, 4]);
    assert_eq!(workload.again().next_key(), 4);
    assert!(workload.to_string().contains("3 accesses"), "{workload}");
    assert_eq!(workload.key_count(), None);
}

#[test]
fn every_kind_repeats_from_its_seed() {
    let kinds = [Workload::profile(WEB07, 3), Workload::zipf(1000, 0.99, 3).unwrap()];
    for workload in kinds {
        let again = workload.again();
        let keys = workload.key_count().unwrap();
        let first: Vec<u64> = workload.take(500).collect();
        assert!(first.iter().all(|key| *key < keys));
        assert!(again.take(500).eq(first));
    }
}

#[test]
fn rows_fit_the_table() {
    let mut workload = Workload::profile(WEB07, 3);
    assert!((0..10_000).all(|_| workload.next_row(100) < 100));
    assert_eq!(workload.next_row(0), 0);
    let empty = Profile { keys: 0, ..WEB07 };
    assert_eq!(Workload::profile(empty, 1).next_row(10), 0);
}
