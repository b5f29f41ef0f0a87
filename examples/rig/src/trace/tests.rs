use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

static FILES: AtomicU32 = AtomicU32::new(0);

/// A file in the temporary folder, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(content: &[u8]) -> Self {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tenfold-trace-{}-{number}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn open(&self) -> Result<Trace, TraceError> {
        Trace::open(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn plain(keys: &[u64]) -> Vec<u8> {
    let before = [0].iter().chain(keys);
    keys.iter().zip(before).flat_map(|(key, before)| key.wrapping_sub(*before).to_le_bytes()).collect()
}

fn packed(plain: &[u8]) -> Vec<u8> {
    compress_to_vec(plain, CompressionLevel::Fastest)
}

#[test]
fn keys_come_back_in_order() {
    let many: Vec<u64> = (0..50_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).collect();
    for keys in [vec![u64::MAX], vec![5, 5, 3, u64::MAX, 0], many] {
        let trace = Scratch::new(&packed(&plain(&keys))).open().unwrap();
        assert_eq!(trace.accesses(), keys.len() as u64);
        assert!(trace.keys().eq(keys.iter().copied()));
        assert!(trace.keys().eq(keys), "a second reading begins again");
    }
}

#[test]
fn several_frames_are_one_sequence_and_skippable_ones_are_skipped() {
    let plain = plain(&[9, 8, 7, 6]);
    let mut content = packed(&plain[..13]);
    content.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    content.extend(packed(&plain[13..]));
    assert!(Scratch::new(&content).open().unwrap().keys().eq([9, 8, 7, 6]));
    content.extend([0x50, 0x2a, 0x4d, 0x18, 200, 0, 0, 0, 1, 2, 3]);
    assert!(matches!(Scratch::new(&content).open(), Err(TraceError::Truncated { accesses: 4, .. })));
}

#[test]
fn an_empty_file_says_so() {
    assert!(matches!(Scratch::new(&[]).open(), Err(TraceError::Empty { .. })));
    assert!(matches!(Scratch::new(&packed(&[])).open(), Err(TraceError::Empty { .. })));
}

#[test]
fn every_cut_is_noticed() {
    let whole = packed(&plain(&(0..5000).map(|n| n * n).collect::<Vec<u64>>()));
    for length in (1..whole.len()).step_by(1 + whole.len() / 300) {
        let error = Scratch::new(&whole[..length]).open().unwrap_err();
        assert!(matches!(error, TraceError::Truncated { .. }), "cut to {length} of {}: {error}", whole.len());
    }
    let odd = Scratch::new(&packed(&[1, 0, 0, 0, 0, 0, 0, 0, 2])).open();
    assert!(matches!(odd, Err(TraceError::Truncated { accesses: 1, .. })));
}

#[test]
fn damage_is_an_error_or_caught_by_the_checksum_and_never_a_panic() {
    let whole = packed(&plain(&(0..2000).map(|n| n * 3 % 700).collect::<Vec<u64>>()));
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        // Frames may do without a checksum, and unused header bits change nothing: then all the content must be there.
        if let Ok(trace) = Scratch::new(&damaged).open() {
            assert_eq!(trace.keys().count() as u64, trace.accesses());
        }
    }
    assert!(matches!(Scratch::new(b"GET / HTTP/1.1\r\n\r\n").open(), Err(TraceError::Corrupt { .. })));
}

#[test]
fn a_missing_file_is_named() {
    let error = Trace::open("no/such/trace.zst").unwrap_err();
    assert_eq!(error.to_string(), "the trace no/such/trace.zst cannot be read");
    assert!(Trace::open(std::env::temp_dir()).is_err(), "a folder is no trace");
}
