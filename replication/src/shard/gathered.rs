//! What shards answered that were asked at once.

use thiserror::Error;

use super::shards::ShardError;
use crate::ShardId;

/// What each shard answered, or why it did not: some may fail while others do not.
#[derive(Debug)]
pub struct Gathered<T, E> {
    parts: Vec<(ShardId, Result<T, ShardError<E>>)>,
}

/// A read of all shards to which some gave no answer.
#[derive(Debug, Error)]
#[error("{} of {} shards gave no answer", .failures.len(), .failures.len() + .answers.len())]
#[non_exhaustive]
pub struct Incomplete<T, E> {
    /// What the others answered, by shard.
    pub answers: Vec<(ShardId, T)>,
    /// Why these did not, by shard; at least one.
    pub failures: Vec<(ShardId, ShardError<E>)>,
}

impl<T, E> Gathered<T, E> {
    pub(super) const fn new(parts: Vec<(ShardId, Result<T, ShardError<E>>)>) -> Self {
        Self { parts }
    }

    /// What was answered, by shard.
    pub fn answers(&self) -> impl Iterator<Item = (ShardId, &T)> {
        self.parts.iter().filter_map(|(shard, part)| Some((*shard, part.as_ref().ok()?)))
    }

    /// Who gave no answer, and why, by shard.
    pub fn failures(&self) -> impl Iterator<Item = (ShardId, &ShardError<E>)> {
        self.parts.iter().filter_map(|(shard, part)| Some((*shard, part.as_ref().err()?)))
    }

    /// Whether all have answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures().next().is_none()
    }

    /// What all have answered, for whom a part is of no use.
    ///
    /// # Errors
    /// [`Incomplete`], if one of them did not.
    pub fn complete(self) -> Result<Vec<(ShardId, T)>, Incomplete<T, E>> {
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for (shard, part) in self.parts {
            match part {
                Ok(answer) => answers.push((shard, answer)),
                Err(error) => failures.push((shard, error)),
            }
        }
        if failures.is_empty() { Ok(answers) } else { Err(Incomplete { answers, failures }) }
    }
}

impl<T, E> IntoIterator for Gathered<T, E> {
    type Item = (ShardId, Result<T, ShardError<E>>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// All parts, by shard.
    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}
