//! How an insertion may fail.

use std::fmt;

/// An entry that was not stored; key and value come back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError<K, V> {
    /// The entry alone is heavier than the capacity.
    #[error("an entry of weight {weight} does not fit a capacity of {capacity}")]
    TooHeavy {
        /// The key given.
        key: K,
        /// The value given.
        value: V,
        /// Its weight, in the weigher's units.
        weight: u64,
        /// The capacity, in the same units.
        capacity: u64,
    },
    /// What would have to be evicted is pinned, or other threads took the room as fast as it was made.
    #[error("everything that could make room is pinned")]
    NoRoom {
        /// The key given.
        key: K,
        /// The value given.
        value: V,
    },
    /// The policy prefers the entries that are there.
    #[error("the policy did not admit the entry")]
    NotAdmitted {
        /// The key given.
        key: K,
        /// The value given.
        value: V,
    },
}

impl<K, V> InsertError<K, V> {
    /// The key and the value that were not stored.
    pub fn into_parts(self) -> (K, V) {
        match self {
            Self::TooHeavy { key, value, .. } | Self::NoRoom { key, value } | Self::NotAdmitted { key, value } => {
                (key, value)
            }
        }
    }
}

// By hand, so that keys and values need not be `Debug` for `Result::unwrap` and `?`.
impl<K, V> fmt::Debug for InsertError<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::TooHeavy { weight, capacity, .. } => {
                return f
                    .debug_struct("TooHeavy")
                    .field("weight", weight)
                    .field("capacity", capacity)
                    .finish_non_exhaustive();
            }
            Self::NoRoom { .. } => "NoRoom",
            Self::NotAdmitted { .. } => "NotAdmitted",
        };
        f.debug_struct(name).finish_non_exhaustive()
    }
}

/// How a conditional insertion ended.
pub(crate) enum Insertion<K, V> {
    /// With what it replaced.
    Stored(Option<(K, V)>),
    Refused(InsertError<K, V>),
    /// The condition did not hold.
    Void(K, V),
}
