//! The bounds of a log and when it may say that something is confirmed.

use super::error::OpenError;
use super::segment::{MAX_SEGMENT_BYTES, SIZE_UNIT};

/// What must have happened before an append is confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// A sync of it has returned: it survives a power cut.
    #[default]
    Synced,
    /// The system has it: it survives the process, and a power cut once [`Log::sync`](super::Log::sync) has returned.
    Written,
}

/// Bounds of a log.
#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    pub(crate) confirm: Confirm,
    /// Size of a segment's file, 8 MiB by default; 4 KiB to 1 GiB, a multiple of 4 KiB. The first segments are smaller.
    /// A batch must fit into one. Larger ones are changed less often; smaller ones give the disk back sooner.
    pub(crate) segment_bytes: u32,
    /// Recycled files kept for new segments, 2 by default.
    pub(crate) spare_segments: usize,
    /// Bytes appended and not yet written, 16 MiB by default, beyond which an append must wait; a batch may exceed it.
    pub(crate) max_unwritten_bytes: usize,
    /// Bytes of disk for everything, no limit by default; the last segment of a full log may exceed it by the reserve.
    pub(crate) max_disk_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            confirm: Confirm::Synced,
            segment_bytes: 8 << 20,
            spare_segments: 2,
            max_unwritten_bytes: 16 << 20,
            max_disk_bytes: u64::MAX,
        }
    }
}

impl LogConfig {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if self.segment_bytes < SIZE_UNIT
            || self.segment_bytes > MAX_SEGMENT_BYTES
            || self.segment_bytes % SIZE_UNIT != 0
        {
            return Err(OpenError::Config("segment_bytes"));
        }
        if self.max_unwritten_bytes == 0 {
            return Err(OpenError::Config("max_unwritten_bytes"));
        }
        Ok(())
    }
}
