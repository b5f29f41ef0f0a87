//! The list of caches under measurement, and how names select from it.

use crate::cache::Built;
use crate::{ours, peers, reference};

/// Whose cache it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One of this workspace.
    Ours,
    /// Another crate's.
    Peer,
    /// A plain simulator of [`crate::reference`]: right, and too slow to race.
    Reference,
}

/// What the cache is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Hit ratio. foyer is given one shard, its best case; everything else keeps its default settings.
    HitRatio,
    /// Time or memory: default settings throughout.
    Speed,
}

/// How many threads a cache serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One thread at a time.
    Local,
    /// Any number of threads.
    Shared,
}

/// A cache that can be built at any capacity.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The name in rows and on the command line: crate, then policy or flavour.
    pub name: &'static str,
    /// Whose it is.
    pub origin: Origin,
    /// Whether threads may share it.
    pub sharing: Sharing,
    /// Builds it with room for so many entries (at least 1).
    pub build: fn(usize, Purpose) -> Built,
}

impl Candidate {
    pub(crate) const fn local(name: &'static str, origin: Origin, build: fn(usize, Purpose) -> Built) -> Self {
        Self { name, origin, sharing: Sharing::Local, build }
    }

    pub(crate) const fn shared(name: &'static str, origin: Origin, build: fn(usize, Purpose) -> Built) -> Self {
        Self { name, origin, sharing: Sharing::Shared, build }
    }

    /// Whether one access takes microseconds, so that the longest traces take minutes.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.name.starts_with("moka-")
    }
}

/// Every cache: ours, the references, the peers.
#[must_use]
pub fn all() -> Vec<Candidate> {
    [ours::CANDIDATES, reference::CANDIDATES, peers::CANDIDATES].concat()
}

/// The caches worth timing: all but the references.
#[must_use]
pub fn timed() -> Vec<Candidate> {
    all().into_iter().filter(|candidate| candidate.origin != Origin::Reference).collect()
}

/// A name that no cache has.
#[derive(Debug, thiserror::Error)]
#[error("no cache is called `{name}`; --list prints the names")]
pub struct UnknownName {
    name: String,
}

/// Keeps the candidates with the given names, in the order of `candidates`; no name at all keeps everything.
///
/// # Errors
///
/// [`UnknownName`] for the first name that none of them has.
pub fn select(candidates: Vec<Candidate>, names: &[String]) -> Result<Vec<Candidate>, UnknownName> {
    if let Some(name) = names.iter().find(|name| candidates.iter().all(|candidate| candidate.name != name.as_str())) {
        return Err(UnknownName { name: name.clone() });
    }
    if names.is_empty() {
        return Ok(candidates);
    }
    Ok(candidates.into_iter().filter(|candidate| names.iter().any(|name| name == candidate.name)).collect())
}
