//! What the tests of discovery share.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Discover, DiscoverError};
use crate::{Backend, Change};

/// Polls once: for futures that need not wait.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A backend at 10.0.0.`host`:80.
pub(crate) fn backend(host: u8) -> Backend {
    Backend::new(([10, 0, 0, host], 80).into())
}

pub(crate) fn backends(hosts: &[u8]) -> Vec<Backend> {
    hosts.iter().copied().map(backend).collect()
}

/// A source that gives these answers in turn, then ends.
pub(crate) fn script(answers: Vec<Result<Change, DiscoverError>>) -> impl Discover {
    let mut answers = answers.into_iter();
    move || std::future::ready(answers.next())
}
