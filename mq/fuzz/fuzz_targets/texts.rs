//! Any text as a receipt and as a trace context: what is read is written as what is read again.
//!
//! `cargo +nightly fuzz run texts`, in `mq`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenfold_mq::fuzz_texts(bytes));
