//! Why a source had no change to report.

use std::error::Error as StdError;
use std::fmt;
use std::num::NonZeroU32;

use super::ParseBackendsError;

/// Why discovery failed, once. The backends that were known stay: a failing source takes nothing from the balancer.
///
/// Opaque, since callers only report it: the predicates say of which kind it is, [`source`](StdError::source) what
/// was behind it.
pub struct DiscoverError {
    kind: Kind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    TimedOut,
    NotFound,
    Invalid,
    Empty,
    TooMany { max_backends: usize },
    Refused,
}

impl DiscoverError {
    /// The source cannot be asked, or says that it failed: connection refused, I/O error, SERVFAIL, HTTP 500.
    pub fn unavailable(source: impl StdError + Send + Sync + 'static) -> Self {
        Self { kind: Kind::Unavailable, source: Some(Box::new(source)) }
    }

    /// The source did not answer in time.
    #[must_use]
    pub fn timed_out() -> Self {
        Self { kind: Kind::TimedOut, source: None }
    }

    /// There is no such file, name or service.
    pub fn not_found(source: impl StdError + Send + Sync + 'static) -> Self {
        Self { kind: Kind::NotFound, source: Some(Box::new(source)) }
    }

    /// The source answered, and the answer makes no sense.
    pub fn invalid(source: impl StdError + Send + Sync + 'static) -> Self {
        Self { kind: Kind::Invalid, source: Some(Box::new(source)) }
    }

    /// The source names no backend, and [`EmptyAnswer::Keep`](super::EmptyAnswer::Keep) is chosen.
    #[must_use]
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, source: None }
    }

    /// The source names more backends than this.
    #[must_use]
    pub fn too_many(max_backends: usize) -> Self {
        Self { kind: Kind::TooMany { max_backends }, source: None }
    }

    /// The host did not take the change.
    pub fn refused(source: impl StdError + Send + Sync + 'static) -> Self {
        Self { kind: Kind::Refused, source: Some(Box::new(source)) }
    }

    /// Whether the source cannot be asked, or did not answer in time.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::TimedOut)
    }

    /// Whether the source did not answer in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::TimedOut
    }

    /// Whether there is no such file, name or service.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether the answer makes no sense.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.kind == Kind::Invalid
    }

    /// Whether an empty answer was withheld.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kind == Kind::Empty
    }

    /// Whether the source names too many backends.
    #[must_use]
    pub fn is_too_many(&self) -> bool {
        matches!(self.kind, Kind::TooMany { .. })
    }

    /// Whether the host did not take the change.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// The line at which a list of backends does not parse, from 1.
    #[must_use]
    pub fn line(&self) -> Option<NonZeroU32> {
        self.source.as_ref()?.downcast_ref::<ParseBackendsError>()?.line()
    }
}

impl fmt::Display for DiscoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Unavailable => f.write_str("the discovery source is unavailable"),
            Kind::TimedOut => f.write_str("the discovery source did not answer in time"),
            Kind::NotFound => f.write_str("the discovery source does not exist"),
            Kind::Invalid => f.write_str("the discovery source gave an invalid answer"),
            Kind::Empty => f.write_str("the discovery source names no backend"),
            Kind::TooMany { max_backends } => write!(f, "the discovery source names more than {max_backends} backends"),
            Kind::Refused => f.write_str("the change was refused"),
        }
    }
}

impl fmt::Debug for DiscoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoverError").field("kind", &self.kind).field("source", &self.source).finish()
    }
}

impl StdError for DiscoverError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
