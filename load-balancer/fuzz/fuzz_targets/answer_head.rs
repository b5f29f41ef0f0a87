//! The head of a backend's answer to the proxy, from any bytes: no panic, nothing of the connection gets through, and a
//! head that is whole means the same whatever follows.
//!
//! `cargo +nightly fuzz run answer_head`, in `load-balancer`.
#![no_main]
#![allow(dead_code, reason = "the proxy uses all of it")]

#[path = "../../examples/proxy/link/framing.rs"]
mod framing;
#[path = "../../examples/proxy/link/head.rs"]
mod head;

use bytes::BytesMut;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (is_head, bytes) = input;
    let method = if is_head { Method::HEAD } else { Method::GET };
    let parse = |bytes: &[u8]| {
        let mut inbox = BytesMut::from(bytes);
        let parsed = head::parse(&mut inbox, &mut HeaderMap::new(), &mut vec![], &method);
        (parsed, bytes.len() - inbox.len())
    };
    let (parsed, taken) = parse(bytes);
    let Ok(Some(found)) = parsed else {
        assert!(parsed.is_err() || taken == 0, "a head that is not whole stays where it is");
        return;
    };
    for name in ["connection", "transfer-encoding", "te", "upgrade", "keep-alive", "proxy-connection"] {
        assert!(!found.headers.contains_key(name), "{name} goes no further");
    }
    assert!(found.headers.get_all("content-length").iter().count() <= 1);
    if is_head {
        assert!(found.framing.is_done(), "an answer to HEAD has no body");
    }
    let (again, taken_again) = parse(&bytes[..taken]);
    let again = again.expect("it was right before").expect("it was whole before");
    assert_eq!((again.status, again.headers, again.framing), (found.status, found.headers, found.framing));
    assert_eq!(taken_again, taken);
});
