//! A chunked body from any bytes, in any pieces: no panic, and the pieces do not matter.
//!
//! `cargo +nightly fuzz run chunks`, in `load-balancer`.
#![no_main]
#![allow(dead_code, reason = "the proxy uses all of it")]

#[path = "../../examples/proxy/link/framing.rs"]
mod framing;
#[path = "../../examples/proxy/link/head.rs"]
mod head;

use bytes::BytesMut;
use framing::{Chunk, Framing, Piece};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Default, PartialEq)]
struct Read {
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    is_done: bool,
    is_bad: bool,
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let (mut framing, mut inbox, mut read) = (Framing::Chunked(Chunk::Size), BytesMut::new(), Read::default());
    for piece in pieces {
        inbox.extend_from_slice(piece);
        while !framing.is_done() {
            match framing.next(&mut inbox) {
                Ok(Piece::Data(data)) => {
                    assert!(!data.is_empty());
                    read.body.extend_from_slice(&data);
                }
                Ok(Piece::Trailers(fields)) => {
                    let fields = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                    read.trailers.extend(fields);
                }
                Ok(Piece::End) => assert!(framing.is_done()),
                Ok(Piece::Short) => break,
                Err(_) => {
                    read.is_bad = true;
                    return read;
                }
            }
        }
    }
    read.is_done = framing.is_done();
    read
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = read(std::iter::once(bytes));
    let in_pieces = read(bytes.chunks(usize::from(step).max(1)));
    // What is wrong may be noticed before what is right behind it was read.
    assert_eq!((whole.is_done, whole.is_bad), (in_pieces.is_done, in_pieces.is_bad));
    assert_eq!(whole, in_pieces);
});
