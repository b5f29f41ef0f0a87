//! Settings that have a range, and what is said of one outside it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A setting outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number.
    #[error("`{field}` is {value}, not from {min} to {max}")]
    Number {
        /// The setting.
        field: &'static str,
        /// What it was.
        value: u32,
        /// The smallest that can be.
        min: u32,
        /// The largest that can be.
        max: u32,
    },
    /// A time.
    #[error("`{field}` is {value:?}, not from {min:?} to {max:?}")]
    Duration {
        /// The setting.
        field: &'static str,
        /// What it was.
        value: Duration,
        /// The shortest that can be.
        min: Duration,
        /// The longest that can be.
        max: Duration,
    },
}

impl ConfigError {
    /// The setting.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Number { field, .. } | Self::Duration { field, .. } => field,
        }
    }
}

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn within(field: &'static str, value: u32, range: RangeInclusive<u32>) -> Result<(), ConfigError> {
    let (min, max) = range.clone().into_inner();
    if range.contains(&value) { Ok(()) } else { Err(ConfigError::Number { field, value, min, max }) }
}

pub(crate) fn lasts(field: &'static str, value: Duration, range: RangeInclusive<Duration>) -> Result<(), ConfigError> {
    let (min, max) = range.clone().into_inner();
    if range.contains(&value) { Ok(()) } else { Err(ConfigError::Duration { field, value, min, max }) }
}
