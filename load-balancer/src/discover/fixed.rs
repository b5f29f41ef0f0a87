//! A list that does not change.

use super::{Discover, DiscoverError, EmptyAnswer, ParseBackendsError, parse_backends};
use crate::{Backend, Change};

/// A source that names its backends once and ends.
#[derive(Clone, Debug)]
pub struct StaticSource<T = ()> {
    backends: Option<Vec<Backend<T>>>,
}

impl<T> StaticSource<T> {
    /// A source of these.
    #[must_use]
    pub fn new(backends: impl IntoIterator<Item = Backend<T>>) -> Self {
        Self { backends: Some(backends.into_iter().collect()) }
    }
}

impl StaticSource {
    /// A source of the backends in this text; its form is that of [`parse_backends`].
    ///
    /// # Errors
    /// As [`parse_backends`].
    pub fn parse(text: &str) -> Result<Self, ParseBackendsError> {
        parse_backends(text).map(Self::new)
    }
}

impl<T: Send> Discover<T> for StaticSource<T> {
    async fn next_change(&mut self) -> Option<Result<Change<T>, DiscoverError>> {
        self.backends.take().map(|backends| Ok(Change::Replace(backends)))
    }

    fn empty_answer(&self) -> EmptyAnswer {
        EmptyAnswer::Apply
    }
}
