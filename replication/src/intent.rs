//! What a read is for: said by its caller, not guessed from its text.

use std::time::Duration;

/// How fresh a read must be, and how it is run. The default follows the session and the cluster's
/// [`Config`](crate::Config).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_replication::ReadOptions;
///
/// // A report: one snapshot, at most ten seconds old, and it may take its time.
/// let report = ReadOptions::new().max_staleness(Duration::from_secs(10)).snapshot().timeout(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) primary: bool,
    pub(crate) snapshot: bool,
    pub(crate) once: bool,
    pub(crate) untracked: bool,
    pub(crate) timeout: Option<Duration>,
}

impl ReadOptions {
    /// As the session and the cluster's configuration ask for.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_staleness: None, primary: false, snapshot: false, once: false, untracked: false, timeout: None }
    }

    /// The state may be so old at most: all that was committed before is in it.
    #[must_use]
    pub const fn max_staleness(mut self, max: Duration) -> Self {
        self.max_staleness = Some(max);
        self
    }

    /// From the primary: the latest state.
    #[must_use]
    pub const fn from_primary(mut self) -> Self {
        self.primary = true;
        self
    }

    /// All statements see one state: they run in a transaction.
    #[must_use]
    pub const fn snapshot(mut self) -> Self {
        self.snapshot = true;
        self
    }

    /// Is sent to one node at a time: for reads that are so heavy that a second sending costs more than it gains.
    #[must_use]
    pub const fn without_hedge(mut self) -> Self {
        self.once = true;
        self
    }

    /// Sees all that its session has written and seen, and is not noted there itself: another read may be older than this one.
    /// Saves the question how far the node is, which on PostgreSQL costs more than a short statement. Means nothing for a
    /// snapshot.
    #[must_use]
    pub const fn untracked(mut self) -> Self {
        self.untracked = true;
        self
    }

    /// May take so long in all, instead of [`Config::read_timeout`](crate::Config::read_timeout).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}
