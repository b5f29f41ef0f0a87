//! A log of any bytes: it opens or is refused, and what it hands over can be read.
//!
//! `cargo +nightly fuzz run log`, in `mq`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _ = tenfold_mq::fuzz_log(bytes));
