//! Reading a segment from front to back, however long its groups are, through one buffer that is used again.

use std::io;

use super::segment::Segment;
use crate::storage::read_full;

/// Reads a segment from front to back through one buffer.
pub(super) struct Window<'a> {
    segment: &'a Segment,
    buffer: &'a mut Vec<u8>,
    start: u64,
    filled: usize,
}

/// Bytes read at a time: few system calls, and small enough for a processor's cache.
const WINDOW_BYTES: usize = 256 << 10;

impl<'a> Window<'a> {
    pub(super) fn new(segment: &'a Segment, buffer: &'a mut Vec<u8>) -> Self {
        Self { segment, buffer, start: 0, filled: 0 }
    }

    /// So many bytes from this place on; fewer where the file ends.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let within = offset.checked_sub(self.start).filter(|at| *at as usize <= self.filled);
        let mut at = within.map_or(self.filled, |at| at as usize);
        if within.is_none() {
            self.start = offset;
            self.filled = 0;
            at = 0;
        }
        if at + len > self.filled {
            self.buffer.copy_within(at..self.filled, 0);
            self.start += at as u64;
            self.filled -= at;
            at = 0;
            let left = u64::from(self.segment.size).saturating_sub(self.start);
            let room = len.max(WINDOW_BYTES).min(left as usize);
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            let from = self.start + self.filled as u64;
            self.filled += read_full(&*self.segment.file, from, &mut self.buffer[self.filled..room])?;
        }
        Ok(&self.buffer[at..(at + len).min(self.filled)])
    }
}
