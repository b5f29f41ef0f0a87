//! What the log would take long to say, or cannot say any more: who is done with what.
//!
//! Acks lie in other segments than the messages they are about. A segment whose messages nobody needs may be given up
//! only if the acks in it, which are about messages of other segments, are kept elsewhere: in a checkpoint. So one is
//! appended before segments are released, and the segments of the latest one stay.
//!
//! A checkpoint may be larger than a segment and therefore comes in parts, with ordinary records between them. It stands
//! for all that is before its first part; what lies between its parts comes after it. One whose last part is missing (a
//! crash came first) is nothing: what it would have released has not been.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::DecodeError;

const FIXED: usize = 8 + 8 + 4 + 4;

/// A piece of a checkpoint, as a record.
///
/// ```text
/// identity u64 | serial u64 | index u32 | count u32 | bytes
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The random number by which the queue tells its receipts from others'.
    pub(crate) identity: u64,
    /// Which checkpoint: one more each time.
    pub(crate) serial: u64,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) bytes: Bytes,
}

impl Part {
    /// Cuts a state into parts of at most this many bytes.
    pub(crate) fn cut(identity: u64, serial: u64, mut state: Bytes, max: usize) -> Vec<Self> {
        let count = state.len().div_ceil(max).max(1) as u32;
        let part = |index| Self { identity, serial, index, count, bytes: state.split_to(max.min(state.len())) };
        (0..count).map(part).collect()
    }

    /// What comes before the bytes.
    pub(crate) fn head(&self) -> [u8; FIXED] {
        let mut head = [0; FIXED];
        let mut out = head.as_mut_slice();
        out.put_u64_le(self.identity);
        out.put_u64_le(self.serial);
        out.put_u32_le(self.index);
        out.put_u32_le(self.count);
        head
    }

    pub(crate) fn decode(mut record: Bytes) -> Result<Self, DecodeError> {
        if record.len() < FIXED {
            return Err(DecodeError::Short);
        }
        let (identity, serial) = (record.get_u64_le(), record.get_u64_le());
        let (index, count) = (record.get_u32_le(), record.get_u32_le());
        if index >= count {
            return Err(DecodeError::Range);
        }
        Ok(Self { identity, serial, index, count, bytes: record })
    }
}

/// Puts parts together.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    serial: u64,
    next: u32,
    bytes: BytesMut,
}

/// What a part came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// It is the first of several.
    Begun,
    /// There are more to come.
    More,
    /// All of the checkpoint.
    Whole(Bytes),
    /// It does not follow the one before: its checkpoint was never finished, or begins in a segment that is gone.
    Stray,
}

impl Gathering {
    pub(crate) fn add(&mut self, part: Part) -> Gathered {
        if part.index == 0 {
            (self.serial, self.next) = (part.serial, 0);
            self.bytes.clear();
        }
        if part.serial != self.serial || part.index != self.next {
            return Gathered::Stray;
        }
        self.next += 1;
        self.bytes.extend_from_slice(&part.bytes);
        match (self.next == part.count, part.index) {
            (true, _) => Gathered::Whole(self.bytes.split().freeze()),
            (false, 0) => Gathered::Begun,
            (false, _) => Gathered::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(serial: u64, length: usize) -> Vec<Part> {
        let state: Vec<u8> = (0..length).map(|at| at as u8).collect();
        Part::cut(7, serial, state.into(), 100)
    }

    #[test]
    fn parts_read_back_and_come_together() {
        for (length, count) in [(0, 1), (1, 1), (100, 1), (101, 2), (1000, 10)] {
            let parts = parts(1, length);
            assert_eq!(parts.len(), count);
            let mut gathering = Gathering::default();
            let mut whole = None;
            for part in parts {
                let mut record = part.head().to_vec();
                record.extend_from_slice(&part.bytes);
                assert_eq!(Part::decode(record.into()), Ok(part.clone()));
                whole = Some(gathering.add(part));
            }
            let expected: Vec<u8> = (0..length).map(|at| at as u8).collect();
            assert_eq!(whole, Some(Gathered::Whole(expected.into())));
        }
    }

    #[test]
    fn what_was_not_finished_is_nothing() {
        let (old, new) = (parts(1, 250), parts(2, 150));
        let mut gathering = Gathering::default();
        assert_eq!(gathering.add(old[1].clone()), Gathered::Stray);
        assert_eq!(gathering.add(old[0].clone()), Gathered::Begun);
        assert_eq!(gathering.add(old[1].clone()), Gathered::More);
        assert_eq!(gathering.add(new[0].clone()), Gathered::Begun);
        assert_eq!(gathering.add(old[2].clone()), Gathered::Stray);
        assert!(matches!(gathering.add(new[1].clone()), Gathered::Whole(bytes) if bytes.len() == 150));
    }

    #[test]
    fn nothing_is_believed() {
        assert_eq!(Part::decode(Bytes::from_static(&[0; FIXED - 1])), Err(DecodeError::Short));
        assert_eq!(Part::decode(Bytes::from_static(&[0; FIXED])), Err(DecodeError::Range));
    }
}
