//! Backends from a file that is looked at again and again.
//!
//! A look is a `stat`, and a read if that says anything new. No file-system notification: they differ from system to
//! system, are lost on network mounts and in containers, and a look a second costs nothing.
//!
//! Writers are not asked to be careful. A file may be replaced by a rename, written in place, or reached through
//! links that are turned (as Kubernetes mounts a ConfigMap), and a look may fall in the middle of a write. So a
//! content counts once two looks in a row have seen it the same, the second shortly after the first; and if it does
//! not parse, the backends before it stay.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{DiscoverError, ParseBackendsError, ParseBackendsErrorKind, parse_backends};
use crate::{Backend, Change};

#[cfg(test)]
mod tests;

/// How a [`FileSource`] looks at its file, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct FileConfig {
    /// The time between looks; default 1 s, at least 10 ms whatever it says. Shorter notices a change sooner.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub interval: Duration,
    /// The time from the look that sees a change to the one that confirms it; default 50 ms, at most `interval`.
    /// Longer is safer against writers that pause within a file, and as much later.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub settle: Duration,
    /// The longest file that is read; default 1 MiB. A longer one is invalid.
    pub max_bytes: u64,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), settle: Duration::from_millis(50), max_bytes: 1 << 20 }
    }
}

/// A source of the backends in a file, in the form of [`parse_backends`] or one of the host's own.
///
/// With feature `tokio` it is a [`Discover`](super::Discover); without a runtime, call [`check`](Self::check) now and
/// then from a thread that may block.
///
/// A missing, unreadable, overlong or malformed file is reported once and then watched on; the backends before it
/// stay.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::FileSource;
///
/// let path = std::env::temp_dir().join(format!("backends-{}", std::process::id()));
/// std::fs::write(&path, "10.0.0.1:80 weight=2\n")?;
/// let mut source = FileSource::new(&path);
/// assert_eq!(source.check()?, None, "seen once");
/// assert!(source.check()?.is_some(), "and again the same");
/// assert_eq!(source.check()?, None, "it has not changed since");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileSource {
    path: PathBuf,
    config: FileConfig,
    parse: Box<Parse>,
    hasher: RandomState,
    /// What the last look saw.
    seen: Option<Seen>,
    /// The content that was reported last, be it as backends or as malformed.
    reported: Option<u64>,
    /// The error that was reported last, unless a look succeeded since.
    failing: Option<io::ErrorKind>,
    /// Looks in a row that saw a new content.
    unsettled: u32,
    #[cfg(feature = "tokio")]
    timer: super::timer::Timer,
}

type Parse = dyn Fn(&str) -> Result<Vec<Backend>, DiscoverError> + Send + Sync;

/// A content, and how many looks in a row have seen it.
#[derive(Clone, Copy)]
struct Seen {
    stamp: Stamp,
    digest: u64,
    looks: u32,
}

impl FileSource {
    /// A source of the file at this path, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            config: FileConfig::default(),
            parse: Box::new(|text| parse_backends(text).map_err(DiscoverError::invalid)),
            hasher: RandomState::new(),
            seen: None,
            reported: None,
            failing: None,
            unsettled: 0,
            #[cfg(feature = "tokio")]
            timer: super::timer::Timer::default(),
        }
    }

    /// Replaces the configuration.
    #[must_use]
    pub fn config(mut self, config: FileConfig) -> Self {
        self.config = config;
        self
    }

    /// Reads another form, as JSON.
    #[must_use]
    pub fn parser(
        mut self,
        parse: impl Fn(&str) -> Result<Vec<Backend>, DiscoverError> + Send + Sync + 'static,
    ) -> Self {
        self.parse = Box::new(parse);
        self
    }

    /// Looks at the file, and says what changed if two looks have seen the same. Blocks while the file is read.
    ///
    /// # Errors
    /// [`DiscoverError`], once for each new fault: the file is missing, cannot be read, is too long or malformed.
    pub fn check(&mut self) -> Result<Option<Change>, DiscoverError> {
        let look = self.look();
        self.conclude(look.take())
    }

    /// How long to wait before the next [`check`](Self::check).
    #[must_use]
    pub fn wait(&self) -> Duration {
        let interval = self.config.interval.max(MIN_INTERVAL);
        let is_settling = (1..=MAX_QUICK_LOOKS).contains(&self.unsettled);
        if is_settling { self.config.settle.min(interval) } else { interval }
    }

    /// What a look needs to know: so that it can be taken on another thread.
    fn look(&self) -> Look {
        let trusted = self.seen.filter(|seen| seen.looks >= self.looks_to_trust()).map(|seen| seen.stamp);
        Look { path: self.path.clone(), trusted, max_bytes: self.config.max_bytes }
    }

    /// A time stamp that is as old as the clock of its file system is coarse says for sure that nothing was written
    /// since; before, only the content does.
    fn looks_to_trust(&self) -> u32 {
        let looks = COARSEST_CLOCK.as_nanos() / self.config.interval.max(MIN_INTERVAL).as_nanos();
        u32::try_from(looks).unwrap_or(u32::MAX).saturating_add(3)
    }

    fn conclude(&mut self, view: io::Result<View>) -> Result<Option<Change>, DiscoverError> {
        match view {
            Ok(View::Unchanged) => {
                self.unsettled = 0;
                Ok(None)
            }
            Ok(View::Changing) => {
                self.seen = None;
                self.unsettled = self.unsettled.saturating_add(1);
                Ok(None)
            }
            Ok(View::Content { stamp, bytes }) => {
                self.failing = None;
                self.compare(stamp, &bytes)
            }
            Err(error) => self.fail(error),
        }
    }

    fn compare(&mut self, stamp: Stamp, bytes: &[u8]) -> Result<Option<Change>, DiscoverError> {
        let digest = self.hasher.hash_one(bytes);
        match &mut self.seen {
            Some(seen) if seen.stamp == stamp && seen.digest == digest => seen.looks = seen.looks.saturating_add(1),
            _ => {
                self.seen = Some(Seen { stamp, digest, looks: 1 });
                self.unsettled = self.unsettled.saturating_add(1);
                return Ok(None);
            }
        }
        self.unsettled = 0;
        if self.reported.replace(digest) == Some(digest) {
            return Ok(None);
        }
        let invalid = |error| DiscoverError::invalid(error);
        if bytes.len() as u64 > self.config.max_bytes {
            return Err(invalid(ParseBackendsError::whole(ParseBackendsErrorKind::TooLong)));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| invalid(ParseBackendsError::not_utf8(&bytes[..error.valid_up_to()])))?;
        (self.parse)(text).map(|backends| Some(Change::Replace(backends)))
    }

    fn fail(&mut self, error: io::Error) -> Result<Option<Change>, DiscoverError> {
        self.seen = None;
        self.unsettled = 0;
        // When the file is back, it is reported even if it is the old one: that ends the alarm.
        self.reported = None;
        if self.failing.replace(error.kind()) == Some(error.kind()) {
            return Ok(None);
        }
        Err(match error.kind() {
            io::ErrorKind::NotFound => DiscoverError::not_found(error),
            _ => DiscoverError::unavailable(error),
        })
    }
}

/// The shortest time between looks.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// So many looks in a row are taken `settle` apart; a file that still changes is then looked at in the usual rhythm.
const MAX_QUICK_LOOKS: u32 = 16;
/// The coarsest time stamps of a file system in use: FAT.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

#[cfg(feature = "tokio")]
impl super::Discover for FileSource {
    async fn next_change(&mut self) -> Option<Result<Change, DiscoverError>> {
        loop {
            self.timer.wait().await;
            let look = self.look();
            let view = tokio::task::spawn_blocking(move || look.take()).await;
            let result = self.conclude(view.unwrap_or_else(|error| Err(io::Error::other(error))));
            self.timer.set(self.wait());
            if let Some(answer) = result.transpose() {
                return Some(answer);
            }
        }
    }
}

/// A look to be taken.
struct Look {
    path: PathBuf,
    /// With this stamp the file is what it was.
    trusted: Option<Stamp>,
    max_bytes: u64,
}

enum View {
    Unchanged,
    /// It was written while it was read.
    Changing,
    /// At most one byte more than is allowed.
    Content {
        stamp: Stamp,
        bytes: Vec<u8>,
    },
}

impl Look {
    fn take(self) -> io::Result<View> {
        let stamp = Stamp::of(&regular(&self.path)?);
        if self.trusted == Some(stamp) {
            return Ok(View::Unchanged);
        }
        let mut bytes = Vec::new();
        let file = File::open(&self.path)?;
        (&file).take(self.max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        if Stamp::of(&file.metadata()?) == stamp { Ok(View::Content { stamp, bytes }) } else { Ok(View::Changing) }
    }
}

/// Opening anything but a file may wait for ever, as a pipe does for its writer.
fn regular(path: &Path) -> io::Result<Metadata> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() { Ok(metadata) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file")) }
}

/// What `stat` says of a content.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, file number and the time of the last change of either content or attributes, which no tool sets back.
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            identity: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).field("config", &self.config).finish_non_exhaustive()
    }
}
