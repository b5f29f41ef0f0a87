//! Which key each request asks for.
//!
//! How much a cache helps depends on nothing so much as on this, so it is a measured thing by default: see
//! [`WEB07`](crate::WEB07). A recorded trace can take its place, or Zipf's law for comparison with the literature.

use std::fmt;

use crate::profile::{Profile, ProfileKeys};
use crate::rng::Rng;
use crate::trace::{Trace, TraceKeys};
use crate::zipf::{Zipf, ZipfError};

/// An endless, repeatable sequence of keys.
pub struct Workload {
    origin: Origin,
    keys: Keys,
}

#[derive(Clone)]
enum Origin {
    Profile { profile: Profile, seed: u64 },
    Zipf { zipf: Zipf, key_count: u64, exponent: f64, seed: u64 },
    Trace { trace: Trace },
}

enum Keys {
    Profile(Box<ProfileKeys>),
    Zipf(Zipf, Rng),
    Trace(Box<TraceKeys>),
}

impl Workload {
    /// Keys with the popularity and recency of a measured sequence; a profile without keys gives key 0 for ever.
    pub fn profile(profile: Profile, seed: u64) -> Self {
        Self::start(Origin::Profile { profile, seed })
    }

    /// Independent draws by Zipf's law over `key_count` keys, key 0 the most popular.
    ///
    /// # Errors
    /// No keys, or an exponent that is negative or not finite.
    pub fn zipf(key_count: u64, exponent: f64, seed: u64) -> Result<Self, ZipfError> {
        let zipf = Zipf::new(key_count, exponent)?;
        Ok(Self::start(Origin::Zipf { zipf, key_count, exponent, seed }))
    }

    /// The keys of a recorded trace in their order; after its last access it begins again.
    pub fn trace(trace: Trace) -> Self {
        Self::start(Origin::Trace { trace })
    }

    /// The next key.
    pub fn next_key(&mut self) -> u64 {
        match &mut self.keys {
            Keys::Profile(keys) => keys.next().unwrap_or(0),
            Keys::Zipf(zipf, rng) => zipf.draw(rng) - 1,
            Keys::Trace(keys) => match keys.next() {
                Some(key) => key,
                None => {
                    self.keys = self.origin.start();
                    // A trace has at least one access, or it would not have opened.
                    if let Keys::Trace(keys) = &mut self.keys { keys.next().unwrap_or(0) } else { 0 }
                }
            },
        }
    }

    /// The next key as one of `key_count` rows: itself where it is small enough, else spread by a hash.
    ///
    /// For a trace whose keys are arbitrary numbers; different keys may then share a row. 0 if there are no rows.
    pub fn next_row(&mut self, key_count: u64) -> u64 {
        let key = self.next_key();
        if key < key_count { key } else { Rng::new(key).below(key_count) }
    }

    /// How many different keys there can be, where that is known.
    pub fn key_count(&self) -> Option<u64> {
        match &self.origin {
            Origin::Profile { profile, .. } => Some(u64::from(profile.keys).max(1)),
            Origin::Zipf { key_count, .. } => Some(*key_count),
            Origin::Trace { .. } => None,
        }
    }

    /// The same sequence from its beginning, for the other side of a comparison.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::start(self.origin.clone())
    }

    fn start(origin: Origin) -> Self {
        let keys = origin.start();
        Self { origin, keys }
    }
}

impl Origin {
    fn start(&self) -> Keys {
        match self {
            Self::Profile { profile, seed } => Keys::Profile(Box::new(ProfileKeys::new(profile, *seed))),
            Self::Zipf { zipf, seed, .. } => Keys::Zipf(*zipf, Rng::new(*seed)),
            Self::Trace { trace } => Keys::Trace(Box::new(trace.keys())),
        }
    }
}

impl Iterator for Workload {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        Some(self.next_key())
    }
}

/// One sentence for a report.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Profile { profile, seed } => {
                write!(f, "keys by the profile of {} ({} keys, seed {seed})", profile.name, profile.keys)?;
                if profile.source.is_empty() { Ok(()) } else { write!(f, ", {}", profile.source) }
            }
            Origin::Zipf { key_count, exponent, seed, .. } => {
                write!(f, "keys by Zipf's law, exponent {exponent}, {key_count} keys, seed {seed}")
            }
            Origin::Trace { trace } => {
                let name = trace.path().file_name().unwrap_or(trace.path().as_os_str());
                write!(f, "keys of the trace {} ({} accesses)", name.display(), trace.accesses())
            }
        }
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Workload").field(&format_args!("{self}")).finish()
    }
}

#[cfg(test)]
mod tests;
