//! Several futures at once, in the task of whoever waits for them: nothing is spawned.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

pub(crate) type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// They are few, so each is polled when any may go on.
pub(crate) struct Tasks<'a, T>(Vec<Task<'a, T>>);

impl<'a, T> Tasks<'a, T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, task: impl Future<Output = T> + Send + 'a) {
        self.0.push(Box::pin(task));
    }

    /// What the next one that ends gives; never, if there are none.
    pub(crate) async fn next(&mut self) -> T {
        poll_fn(|cx| {
            for index in 0..self.0.len() {
                if let Poll::Ready(value) = self.0[index].as_mut().poll(cx) {
                    drop(self.0.remove(index));
                    return Poll::Ready(value);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Until all have ended.
    pub(crate) async fn all(mut self) {
        while !self.0.is_empty() {
            self.next().await;
        }
    }
}
