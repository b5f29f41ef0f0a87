//! The reader of answers' bodies, beside one that has the whole text before it.

use bytes::{BufMut, BytesMut};
use tenfold_load_balancer::Rng;
use tenfold_load_balancer::testing::for_each_seed;

use crate::link::framing::{Chunk, Framing, Piece};

/// What came out, and how it ended.
#[derive(Debug, PartialEq)]
struct Read {
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    /// How many bytes were left behind the body; nothing if it is not complete, an error if it is wrong.
    rest: Option<Result<usize, ()>>,
}

/// Reads a chunked body that comes in these pieces.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let (mut framing, mut inbox) = (Framing::Chunked(Chunk::Size), BytesMut::new());
    let mut read = Read { body: vec![], trailers: vec![], rest: None };
    for piece in pieces {
        inbox.put_slice(piece);
        loop {
            match framing.next(&mut inbox) {
                Ok(Piece::Data(data)) => read.body.extend_from_slice(&data),
                Ok(Piece::Trailers(fields)) => {
                    read.trailers
                        .extend(fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().into())));
                    assert!(framing.is_done());
                }
                Ok(Piece::Short) => break,
                Ok(Piece::End) => {
                    assert!(framing.is_done());
                    break;
                }
                Err(_) => {
                    read.rest = Some(Err(()));
                    return read;
                }
            }
        }
    }
    if framing.is_done() {
        read.rest = Some(Ok(inbox.len()));
    }
    read
}

/// A chunked body and what it means.
fn random_body(rng: &mut Rng) -> (Vec<u8>, Read) {
    let (mut text, mut meaning) = (vec![], Read { body: vec![], trailers: vec![], rest: None });
    for _ in 0..rng.below(5) {
        let chunk: Vec<u8> = (0..=rng.below(40)).map(|_| b"a\r\n0;"[rng.below(5) as usize]).collect();
        let extension = ["", ";a", "; a=\"b\""][rng.below(3) as usize];
        let size = if rng.below(2) == 0 { format!("{:x}", chunk.len()) } else { format!("0{:X}", chunk.len()) };
        text.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
        text.extend_from_slice(&chunk);
        text.extend_from_slice(b"\r\n");
        meaning.body.extend_from_slice(&chunk);
    }
    text.extend_from_slice(b"0\r\n");
    for index in 0..rng.below(3) {
        text.extend_from_slice(format!("X-{index}: v\r\n").as_bytes());
        meaning.trailers.push((format!("x-{index}"), b"v".to_vec()));
    }
    text.extend_from_slice(b"\r\n");
    let rest = rng.below(10) as usize;
    text.resize(text.len() + rest, b'H');
    meaning.rest = Some(Ok(rest));
    (text, meaning)
}

#[test]
fn chunks_mean_the_same_however_they_come() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..100 {
            let (text, meaning) = random_body(&mut rng);
            let mut pieces = vec![];
            let mut left = &text[..];
            while !left.is_empty() {
                let (piece, tail) = left.split_at(1 + rng.below(left.len() as u64) as usize);
                pieces.push(piece);
                left = tail;
            }
            assert_eq!(read(pieces), meaning, "{}", String::from_utf8_lossy(&text));
        }
    });
}

#[test]
fn no_part_of_a_body_is_taken_for_a_whole_one() {
    for_each_seed(|seed| {
        let (text, meaning) = random_body(&mut Rng::new(seed));
        let Some(Ok(rest)) = meaning.rest else { unreachable!("a random body is right") };
        for end in 0..text.len() - rest {
            assert_eq!(read([&text[..end]]).rest, None, "{end} bytes of {}", String::from_utf8_lossy(&text));
        }
    });
}

#[test]
fn what_is_no_chunk_is_an_error() {
    for text in [
        &b"\r\n"[..],
        b"-1\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"g\r\n",
        b"5\nhello\n0\n\n",
        b"5 hello\r\n",
        b" 5\r\nhello\r\n",
        b";a\r\n",
        b"5\rhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n",
        b"11111111111111111\r\n",
        b"0\r\nbad name: 1\r\n\r\n",
        b"0\r\nx: a\0b\r\n\r\n",
    ] {
        assert_eq!(read([text]).rest, Some(Err(())), "{}", String::from_utf8_lossy(text));
    }
    let endless = [b"1;".as_slice(), &vec![b'a'; 2000]].concat();
    assert_eq!(read([&endless[..]]).rest, Some(Err(())), "a size line without end");
    let endless = [b"0\r\nx: ".as_slice(), &vec![b'a'; 20_000]].concat();
    assert_eq!(read([&endless[..]]).rest, Some(Err(())), "trailers without end");
}
