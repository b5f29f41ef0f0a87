//! The list of backends from any text: no panic, an error names a line of it, and what was read obeys the rules.
//!
//! `cargo +nightly fuzz run backends`, in `load-balancer`.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use tenfold_load_balancer::parse_backends;

fuzz_target!(|text: &str| {
    match parse_backends(text) {
        Ok(backends) => {
            assert!(backends.len() <= text.lines().count());
            assert!(backends.iter().all(|backend| backend.weight() > 0));
            let ids: BTreeSet<_> = backends.iter().map(|backend| backend.id()).collect();
            let addresses: BTreeSet<_> = backends.iter().map(|backend| backend.address()).collect();
            assert_eq!((ids.len(), addresses.len()), (backends.len(), backends.len()));
        }
        Err(error) => {
            let line = error.line().expect("a text that fits has a line that does not").get();
            assert!(line as usize <= text.lines().count());
        }
    }
});
