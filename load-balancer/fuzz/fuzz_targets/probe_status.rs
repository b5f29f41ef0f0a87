//! The first line of an answer to a probe from any bytes: no panic, and a status has three digits and a whole line.
//!
//! `cargo +nightly fuzz run probe_status`, in `load-balancer`.
#![no_main]

#[path = "../../src/driver/status.rs"]
mod status;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|head: &[u8]| {
    if let Some(status) = status::parse_status(head) {
        assert!(status <= 999);
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        assert!(line.len() < head.len() && line.starts_with(b"HTTP/1."));
        assert_eq!(line[9..12], *format!("{status:03}").as_bytes());
    }
});
