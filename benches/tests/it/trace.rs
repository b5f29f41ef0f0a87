use std::path::Path;

use tenfold_benches::rng::Rng;
use tenfold_benches::trace::{Trace, TraceError};

use crate::run::{compress, encode, file};

fn keys() -> Vec<u64> {
    let mut rng = Rng::new(11);
    let mut keys: Vec<u64> = (0..10_000).map(|_| rng.below(500)).collect();
    keys.extend([u64::MAX, 0, 1 << 63, 7]);
    keys
}

#[test]
fn keys_come_back_as_they_were_written() {
    let trace = Trace::read(&file("roundtrip.d64.zst", &encode(&keys()))).unwrap();
    assert_eq!(trace.name, "roundtrip");
    assert_eq!(trace.keys, keys());
}

#[test]
fn a_file_cut_anywhere_is_damaged() {
    let whole = encode(&keys());
    for cut in (1..whole.len()).step_by(97).chain([4, whole.len() - 1]) {
        let error = Trace::read(&file("cut.d64.zst", &whole[..cut])).unwrap_err();
        assert!(matches!(error, TraceError::Damaged { .. }), "cut at {cut} of {}: {error:?}", whole.len());
    }
    let nothing = Trace::read(&file("nothing.d64.zst", &[])).unwrap_err();
    assert!(matches!(nothing, TraceError::Damaged { .. }), "{nothing:?}");
}

#[test]
fn a_flipped_bit_anywhere_is_damaged() {
    let whole = encode(&keys());
    for at in (0..whole.len()).step_by(101) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let result = Trace::read(&file("flipped.d64.zst", &bytes));
        // The header holds a few bits that change nothing; anywhere else the keys must not come out different.
        match result {
            Ok(trace) => assert_eq!(trace.keys, keys(), "flipped at {at}"),
            Err(error) => assert!(matches!(error, TraceError::Damaged { .. }), "flipped at {at}: {error:?}"),
        }
    }
}

#[test]
fn what_is_no_trace_is_refused() {
    let plain = file("plain.d64.zst", b"these are no compressed keys");
    assert!(matches!(Trace::read(&plain), Err(TraceError::Damaged { .. })));
    let partial = file("partial.d64.zst", &compress(&[1; 20]));
    assert!(matches!(Trace::read(&partial), Err(TraceError::PartialWord { bytes: 20, .. })));
    let empty = file("empty.d64.zst", &compress(&[]));
    assert!(matches!(Trace::read(&empty), Err(TraceError::Empty { .. })));
    assert!(matches!(Trace::read(Path::new("no/such/file")), Err(TraceError::Open { .. })));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    assert!(Trace::read(folder).is_err());
}
