//! A log of any records: a queue opens on it or refuses it, and one that opens works.
//!
//! `cargo +nightly fuzz run queue`, in `mq`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _ = tenfold_mq::fuzz_queue(bytes));
