//! Recorded accesses: reading the file format of the traces.
//!
//! A trace is zstd over little-endian `u64` words, one an access. Each word is the wrapping difference to the key before, and
//! the first to 0. A file is read to its end before any key of it is used, so that a damaged file counts for nothing.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// How many accesses a trace may hold: 256 Mi, 2 GiB of keys. Compressed input says little about its length.
pub const MAX_ACCESSES: usize = 1 << 28;

/// How a trace file's name ends.
const SUFFIX: &str = ".d64.zst";

/// A sequence of accesses.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The file's name without `.d64.zst`.
    pub name: String,
    /// The keys in the order of access.
    pub keys: Vec<u64>,
}

/// Why a file is no trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be read or decompressed to its end: truncated, corrupt, or not zstd at all.
    #[error("{} is truncated or corrupt", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: io::Error,
    },
    /// The words do not fill up.
    #[error("{} is truncated: {bytes} bytes are no whole number of 8-byte words", path.display())]
    PartialWord {
        /// The file.
        path: PathBuf,
        /// The length of the decompressed content.
        bytes: usize,
    },
    /// There is no access in it.
    #[error("{} holds no access", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There are more than [`MAX_ACCESSES`] accesses.
    #[error("{} holds more than {MAX_ACCESSES} accesses", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl Trace {
    /// Reads a trace file to its end.
    ///
    /// # Errors
    ///
    /// [`TraceError`] if the file is missing, truncated, corrupt, empty or too long.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::Open { path: path.to_owned(), source })?;
        let damaged = |source| TraceError::Damaged { path: path.to_owned(), source };
        let decoder = zstd::Decoder::new(BufReader::new(file)).map_err(damaged)?;
        let limit = (MAX_ACCESSES * 8) as u64;
        let mut bytes = Vec::new();
        decoder.take(limit + 1).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 > limit {
            return Err(TraceError::TooLong { path: path.to_owned() });
        }
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(TraceError::PartialWord { path: path.to_owned(), bytes: bytes.len() });
        }
        if words.is_empty() {
            return Err(TraceError::Empty { path: path.to_owned() });
        }
        Ok(Self { name: name_of(path), keys: running_sums(words) })
    }
}

fn running_sums(words: &[[u8; 8]]) -> Vec<u64> {
    let mut key = 0_u64;
    let step = |word: &[u8; 8]| {
        key = key.wrapping_add(u64::from_le_bytes(*word));
        key
    };
    words.iter().map(step).collect()
}

fn name_of(path: &Path) -> String {
    let file_name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    file_name.strip_suffix(SUFFIX).unwrap_or(&file_name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_differences_that_wrap() {
        let words = [5_u64, 1, u64::MAX, u64::MAX - 10, 16].map(u64::to_le_bytes);
        assert_eq!(running_sums(&words), [5, 6, 5, u64::MAX - 5, 10]);
    }

    #[test]
    fn names_lose_the_suffix_and_the_folder() {
        for (path, name) in [
            ("a/b/web.d64.zst", "web"),
            ("web.d64.zst", "web"),
            ("a/two.parts.d64.zst", "two.parts"),
            ("plain", "plain"),
            ("x.zst", "x.zst"),
        ] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
