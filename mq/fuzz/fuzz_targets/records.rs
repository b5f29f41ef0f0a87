//! Any bytes as the header of a group and as records: what is decoded encodes to the same bytes.
//!
//! `cargo +nightly fuzz run records`, in `mq`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenfold_mq::fuzz_records(bytes));
