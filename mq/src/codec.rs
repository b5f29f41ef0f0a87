//! Numbers of few bytes, and reading that cannot run over the end.
//!
//! The numbers are LEB128: seven bits a byte, the lowest first, the high bit set while more follow.

use bytes::{Buf, BufMut, Bytes};

/// Bytes that do not say what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end too early.
    #[error("the record ends too early")]
    Short,
    /// A number that no field of this kind can have.
    #[error("a number is out of its range")]
    Range,
    /// Flags or kinds that this version does not know: a newer version wrote them.
    #[error("a flag or kind that this version does not know")]
    Unknown,
    /// A text that is no UTF-8.
    #[error("a text is no UTF-8")]
    Text,
    /// Bytes behind the end.
    #[error("bytes behind the end of the record")]
    Trailing,
    /// Messages that are needed, and whose records are not in the log.
    #[error("it speaks of messages that are not there")]
    Missing,
}

/// The most bytes that a number takes.
const MAX_VARINT: usize = 10;

#[inline]
pub(crate) fn put_varint(out: &mut (impl BufMut + ?Sized), mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

pub(crate) fn put_bytes(out: &mut (impl BufMut + ?Sized), bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

pub(crate) fn read_u8(from: &mut Bytes) -> Result<u8, DecodeError> {
    if from.is_empty() { Err(DecodeError::Short) } else { Ok(from.get_u8()) }
}

pub(crate) fn read_varint(from: &mut Bytes) -> Result<u64, DecodeError> {
    let (number, length) = varint(from)?;
    from.advance(length);
    Ok(number)
}

/// The number that the bytes begin with, and how many it takes.
#[inline]
pub(crate) fn varint(from: &[u8]) -> Result<(u64, usize), DecodeError> {
    let mut number = 0;
    for (index, byte) in from.iter().take(MAX_VARINT).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == MAX_VARINT - 1 && bits > 1 {
            return Err(DecodeError::Range);
        }
        number |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((number, index + 1));
        }
    }
    Err(if from.len() < MAX_VARINT { DecodeError::Short } else { DecodeError::Range })
}

pub(crate) fn read_u32(from: &mut Bytes) -> Result<u32, DecodeError> {
    u32::try_from(read_varint(from)?).map_err(|_| DecodeError::Range)
}

/// Shares the memory of what it reads from.
pub(crate) fn read_bytes(from: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = usize::try_from(read_varint(from)?).map_err(|_| DecodeError::Range)?;
    if length > from.len() { Err(DecodeError::Short) } else { Ok(from.split_to(length)) }
}

pub(crate) fn read_text(from: &mut Bytes) -> Result<Bytes, DecodeError> {
    let bytes = read_bytes(from)?;
    if std::str::from_utf8(&bytes).is_err() { Err(DecodeError::Text) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for shift in 0..64 {
            for number in [1 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, number);
                let mut bytes = Bytes::from(out);
                assert_eq!((read_varint(&mut bytes), bytes.len()), (Ok(number), 0));
            }
        }
    }

    #[test]
    fn numbers_without_end_are_refused() {
        assert_eq!(read_varint(&mut Bytes::from_static(&[0x80; 9])), Err(DecodeError::Short));
        assert_eq!(read_varint(&mut Bytes::from_static(&[0x80; 20])), Err(DecodeError::Range));
        assert_eq!(
            read_varint(&mut Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])),
            Err(DecodeError::Range)
        );
        assert_eq!(read_bytes(&mut Bytes::from_static(&[3, 1, 2])), Err(DecodeError::Short));
    }
}
