//! The part of the log that is in memory: pieces of it, in order, each a slice of refcounted memory.
//!
//! A message is delivered as a slice of its piece, so it is copied once, when it is appended. Pieces leave memory from
//! the front when the owner wants the memory back; what is handed out keeps its piece alive.

use std::collections::VecDeque;

use bytes::Bytes;

use super::position::{Address, Lsn};

/// Records one behind the other, as they lie in the file.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Of its first byte.
    pub(crate) address: Address,
    /// Of the byte behind it.
    pub(crate) end: Lsn,
    pub(crate) bytes: Bytes,
}

impl Piece {
    /// Where in the piece this address is, if it is.
    #[inline]
    pub(crate) fn find(&self, address: Address) -> Option<usize> {
        let at = address.offset.checked_sub(self.address.offset)? as usize;
        (address.segment == self.address.segment && at < self.bytes.len()).then_some(at)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Piece) {
        self.bytes += piece.bytes.len();
        self.pieces.push_back(piece);
    }

    /// The piece that this address is in.
    pub(crate) fn find(&self, address: Address) -> Option<&Piece> {
        let behind = self.pieces.partition_point(|piece| piece.address <= address);
        let piece = self.pieces.get(behind.checked_sub(1)?)?;
        piece.find(address).map(|_| piece)
    }

    /// Bytes of all pieces.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of the oldest pieces that are written, until at most so many bytes are left; and of those of segments
    /// before `live_from`, which nobody will ask for.
    pub(crate) fn shrink(&mut self, max_bytes: usize, written: Lsn, live_from: u32) -> Vec<Piece> {
        let mut gone = Vec::new();
        while let Some(piece) = self.pieces.front() {
            let wanted = self.bytes <= max_bytes && piece.address.segment >= live_from;
            if wanted || piece.end > written {
                break;
            }
            self.bytes -= piece.bytes.len();
            gone.extend(self.pieces.pop_front());
        }
        gone
    }
}
