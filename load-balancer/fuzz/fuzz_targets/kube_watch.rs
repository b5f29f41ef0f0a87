//! The lines of a watch of EndpointSlices from any bytes: no panic, and the changes that follow name no backend twice.
//!
//! `cargo +nightly fuzz run kube_watch`, in `load-balancer`.
#![no_main]
#![allow(dead_code, reason = "the source uses all of it")]

#[path = "../../src/discover/kube/event.rs"]
mod event;
#[path = "../../src/discover/kube/slices.rs"]
mod slices;

use std::collections::BTreeSet;

use event::{Event, parse};
use libfuzzer_sys::fuzz_target;
use slices::Slices;
// What the parsers call their crate's.
pub(crate) use tenfold_load_balancer::{Backend, Change, Zone};

fuzz_target!(|text: &[u8]| {
    let mut slices = Slices::default();
    for line in text.split(|byte| *byte == b'\n') {
        match parse(line) {
            Ok(Some(Event::Put(slice))) => slices.put(slice),
            Ok(Some(Event::Delete(slice))) => slices.delete(&slice.metadata.name),
            Ok(Some(Event::Bookmark(_)) | None) | Err(_) => continue,
        }
        for change in slices.changes(None) {
            if let Change::Replace(backends) = change {
                let ids: BTreeSet<_> = backends.iter().map(Backend::id).collect();
                assert_eq!(ids.len(), backends.len());
            }
        }
    }
});
