//! Where things are: in a file, and in the endless log.

use std::fmt;

/// Where a record lies: the segment, and the byte in its file. Eight bytes, since a queue keeps one for each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    /// The segment's number; numbers grow and are never used twice.
    pub(crate) segment: u32,
    /// From the beginning of the segment's file.
    pub(crate) offset: u32,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// A place in the endless log, in bytes since its first. It grows with everything that is appended, over segments and
/// restarts, and so says of any two appends which came first. An append is confirmed once the log is to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lsn(pub(crate) u64);
