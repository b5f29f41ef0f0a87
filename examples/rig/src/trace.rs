//! Recorded access sequences: zstd over little-endian `u64`s, each the wrapping difference to the key before.
//!
//! A trace is other people's data, so nothing in it is trusted: it is decoded once from end to end when it is opened, and
//! a file that is empty, cut off, corrupt or unreasonably large is refused with its reason before any load is made of it.
//! Afterwards only the compressed bytes stay in memory and keys are decoded as they are asked for.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use thiserror::Error;

/// Largest compressed file that is read.
pub const MAX_TRACE_BYTES: u64 = 256 << 20;
/// Most accesses a trace may have: an end for files made to unpack without one.
pub const MAX_TRACE_ACCESSES: u64 = 1 << 31;
/// Bytes decoded at a time.
const CHUNK: usize = 16 << 10;

/// Why a trace cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be read.
    #[error("the trace {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`MAX_TRACE_BYTES`].
    #[error("the trace {} is larger than {MAX_TRACE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file has no access at all.
    #[error("the trace {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is no zstd, or it is damaged.
    #[error("the trace {} is damaged or no zstd; {accesses} accesses were read before", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Accesses that were read before; the decoder holds back what a later block may refer to.
        accesses: u64,
    },
    /// The file is cut off, or does not unpack to a whole number of accesses.
    #[error("the trace {} is cut off; {accesses} accesses were read before", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Accesses that were read before; the decoder holds back what a later block may refer to.
        accesses: u64,
    },
    /// The file unpacks to more than [`MAX_TRACE_ACCESSES`].
    #[error("the trace {} has more than {MAX_TRACE_ACCESSES} accesses", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// An opened trace: checked from end to end, cheap to clone.
#[derive(Clone)]
pub struct Trace {
    path: PathBuf,
    packed: Arc<[u8]>,
    accesses: u64,
}

impl Trace {
    /// Reads and checks a trace.
    ///
    /// # Errors
    /// The file cannot be read, or is not a whole trace; see [`TraceError`].
    ///
    /// # Complexity
    /// Decodes the file once; keeps its compressed bytes, at most [`MAX_TRACE_BYTES`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        let path = path.as_ref().to_path_buf();
        let read = |source| TraceError::Read { path: path.clone(), source };
        let mut packed = Vec::new();
        let file = File::open(&path).map_err(read)?;
        file.take(MAX_TRACE_BYTES + 1).read_to_end(&mut packed).map_err(read)?;
        if packed.len() as u64 > MAX_TRACE_BYTES {
            return Err(TraceError::TooLarge { path });
        }
        if packed.is_empty() {
            return Err(TraceError::Empty { path });
        }
        let mut trace = Self { path, packed: packed.into(), accesses: 0 };
        let mut keys = trace.keys();
        loop {
            match keys.advance() {
                Ok(Some(_)) if trace.accesses == MAX_TRACE_ACCESSES => {
                    return Err(TraceError::TooLong { path: trace.path });
                }
                Ok(Some(_)) => trace.accesses += 1,
                Ok(None) if trace.accesses == 0 => return Err(TraceError::Empty { path: trace.path }),
                Ok(None) => return Ok(trace),
                Err(Damage::Corrupt) => {
                    return Err(TraceError::Corrupt { path: trace.path, accesses: trace.accesses });
                }
                Err(Damage::Truncated) => {
                    return Err(TraceError::Truncated { path: trace.path, accesses: trace.accesses });
                }
            }
        }
    }

    /// Accesses in the trace, at least one.
    pub fn accesses(&self) -> u64 {
        self.accesses
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys of the trace from its first access on, once.
    pub fn keys(&self) -> TraceKeys {
        TraceKeys { frames: Frames::new(Arc::clone(&self.packed)), chunk: Vec::new(), next: 0, key: 0 }
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("path", &self.path).field("accesses", &self.accesses).finish()
    }
}

/// The keys of one trace, in order.
pub struct TraceKeys {
    frames: Frames,
    chunk: Vec<u8>,
    next: usize,
    key: u64,
}

/// What is wrong with a trace, as its reader sees it.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Corrupt,
    Truncated,
}

impl TraceKeys {
    fn advance(&mut self) -> Result<Option<u64>, Damage> {
        if self.next == self.chunk.len() {
            self.chunk.resize(CHUNK, 0);
            let filled = self.frames.fill(&mut self.chunk)?;
            self.chunk.truncate(filled);
            self.next = 0;
        }
        match self.chunk[self.next..].first_chunk() {
            Some(delta) => {
                self.next += delta.len();
                self.key = self.key.wrapping_add(u64::from_le_bytes(*delta));
                Ok(Some(self.key))
            }
            None if self.next == self.chunk.len() => Ok(None),
            None => Err(Damage::Truncated),
        }
    }
}

impl Iterator for TraceKeys {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.advance().expect("the same bytes were decoded to their end when the trace was opened")
    }
}

impl std::fmt::Debug for TraceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceKeys").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The content of all zstd frames of a file, one after the other.
struct Frames {
    packed: Cursor<Arc<[u8]>>,
    decoder: FrameDecoder,
    is_open: bool,
    damage: Option<Damage>,
}

impl Frames {
    fn new(packed: Arc<[u8]>) -> Self {
        Self { packed: Cursor::new(packed), decoder: FrameDecoder::new(), is_open: false, damage: None }
    }

    /// Fills `chunk` as far as there is intact content and returns how far; damage is reported once nothing comes before.
    fn fill(&mut self, chunk: &mut [u8]) -> Result<usize, Damage> {
        let mut filled = 0;
        while filled < chunk.len() && self.damage.is_none() {
            match self.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(damage) => self.damage = Some(damage),
            }
        }
        match self.damage {
            Some(damage) if filled == 0 => Err(damage),
            _ => Ok(filled),
        }
    }

    /// Some content; 0 bytes at the end of the file.
    fn read(&mut self, chunk: &mut [u8]) -> Result<usize, Damage> {
        while self.is_open || !self.is_at_end() {
            if !self.is_open {
                self.is_open = self.open_frame()?;
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                if self.decoder.decode_blocks(&mut self.packed, one).is_err() {
                    return Err(self.failed());
                }
            }
            match self.decoder.read(chunk) {
                Ok(0) => self.close_frame()?,
                Ok(bytes) => return Ok(bytes),
                Err(_) => return Err(self.failed()),
            }
        }
        Ok(0)
    }

    /// Begins the next frame; false if it was one to skip.
    fn open_frame(&mut self) -> Result<bool, Damage> {
        match self.decoder.reset(&mut self.packed) {
            Ok(()) => Ok(true),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let next = self.packed.position() + u64::from(length);
                if next > self.packed.get_ref().len() as u64 {
                    return Err(Damage::Truncated);
                }
                self.packed.set_position(next);
                Ok(false)
            }
            Err(_) => Err(self.failed()),
        }
    }

    fn close_frame(&mut self) -> Result<(), Damage> {
        self.is_open = false;
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() { Err(Damage::Corrupt) } else { Ok(()) }
    }

    fn is_at_end(&self) -> bool {
        self.packed.position() >= self.packed.get_ref().len() as u64
    }

    /// What a failed decoding means: at the end of the file, something is missing there.
    fn failed(&self) -> Damage {
        if self.is_at_end() { Damage::Truncated } else { Damage::Corrupt }
    }
}

#[cfg(test)]
mod tests;
