//! A source whose backends are made others.

use std::fmt;
use std::marker::PhantomData;

use super::{Discover, DiscoverError, EmptyAnswer};
use crate::{Backend, Change};

/// A source with something else beside its backends; made by [`Discover::map`].
pub struct Mapped<D, T, F> {
    source: D,
    make: F,
    before: PhantomData<fn(T)>,
}

impl<D, T, F> Mapped<D, T, F> {
    pub(super) fn new(source: D, make: F) -> Self {
        Self { source, make, before: PhantomData }
    }
}

impl<D, T, U, F> Discover<U> for Mapped<D, T, F>
where
    D: Discover<T>,
    F: FnMut(Backend<T>) -> Backend<U> + Send,
{
    async fn next_change(&mut self) -> Option<Result<Change<U>, DiscoverError>> {
        let answer = self.source.next_change().await?;
        Some(answer.map(|change| change.map(&mut self.make)))
    }

    fn empty_answer(&self) -> EmptyAnswer {
        self.source.empty_answer()
    }
}

impl<D: fmt::Debug, T, F> fmt::Debug for Mapped<D, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("source", &self.source).finish_non_exhaustive()
    }
}
