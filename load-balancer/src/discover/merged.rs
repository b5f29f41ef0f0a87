//! Two sources that are one.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::{Discover, DiscoverError, EmptyAnswer};
use crate::{BackendId, Change};

#[cfg(test)]
mod tests;

/// The backends of two sources together; made by [`Discover::merge`], once for each further source.
///
/// A source replaces and removes its own backends only. One that both name is there as long as one of them names it, as
/// whoever spoke last says. What a source replaces comes before what it takes away, so that there is never less than
/// before or after.
///
/// An answer without a backend empties the pool only if both sources mean that by it; the errors of both are
/// reported, and it ends when both have ended.
pub struct Merged<T, A, B> {
    a: Side<A>,
    b: Side<B>,
    /// What is still to be reported.
    changes: VecDeque<Change<T>>,
    is_second_turn: bool,
}

/// One of the sources, and whom it names.
#[derive(Debug)]
struct Side<D> {
    source: D,
    named: BTreeSet<BackendId>,
    has_spoken: bool,
    has_ended: bool,
}

impl<D> Side<D> {
    fn new(source: D) -> Self {
        Self { source, named: BTreeSet::new(), has_spoken: false, has_ended: false }
    }
}

/// Whose answer it is.
enum Answer<T> {
    A(Option<Result<Change<T>, DiscoverError>>),
    B(Option<Result<Change<T>, DiscoverError>>),
}

impl<T, A, B> Merged<T, A, B> {
    pub(super) fn new(a: A, b: B) -> Self {
        Self { a: Side::new(a), b: Side::new(b), changes: VecDeque::new(), is_second_turn: true }
    }

    /// Takes a change in.
    fn take<D, O>(own: &mut Side<D>, other: &Side<O>, change: Change<T>, changes: &mut VecDeque<Change<T>>) {
        match change {
            Change::Replace(backends) if !own.has_spoken && !other.has_spoken => {
                own.named = backends.iter().map(crate::Backend::id).collect();
                changes.push_back(Change::Replace(backends));
            }
            Change::Replace(backends) => {
                let named: BTreeSet<_> = backends.iter().map(crate::Backend::id).collect();
                let gone = own.named.difference(&named).filter(|id| !other.named.contains(id));
                let gone: Vec<_> = gone.map(|id| Change::Remove(*id)).collect();
                changes.extend(backends.into_iter().map(Change::Insert));
                changes.extend(gone);
                own.named = named;
            }
            Change::Insert(backend) => {
                own.named.insert(backend.id());
                changes.push_back(Change::Insert(backend));
            }
            Change::Remove(id) => {
                if own.named.remove(&id) && !other.named.contains(&id) {
                    changes.push_back(Change::Remove(id));
                }
            }
            Change::Drain(id) => {
                if own.named.contains(&id) {
                    changes.push_back(Change::Drain(id));
                }
            }
        }
        own.has_spoken = true;
    }
}

impl<T, A, B> Merged<T, A, B>
where
    T: Send,
    A: Discover<T>,
    B: Discover<T>,
{
    /// The next answer of a source that has not ended; they take turns where both have one. `None`: both ended.
    async fn answer(&mut self) -> Option<Answer<T>> {
        if self.a.has_ended && self.b.has_ended {
            return None;
        }
        self.is_second_turn = !self.is_second_turn;
        Some(if self.is_second_turn {
            match first_of(&mut self.b, &mut self.a).await {
                First::Of(answer) => Answer::B(answer),
                First::Other(answer) => Answer::A(answer),
            }
        } else {
            match first_of(&mut self.a, &mut self.b).await {
                First::Of(answer) => Answer::A(answer),
                First::Other(answer) => Answer::B(answer),
            }
        })
    }
}

/// Which of two came first.
enum First<V> {
    Of(V),
    Other(V),
}

/// Waits for the one source, and for the other if the one has nothing ready. One of them has not ended.
async fn first_of<T, X, Y>(one: &mut Side<X>, other: &mut Side<Y>) -> First<Option<Result<Change<T>, DiscoverError>>>
where
    X: Discover<T>,
    Y: Discover<T>,
{
    if one.has_ended {
        return First::Other(other.source.next_change().await);
    }
    let mut from_one = pin!(one.source.next_change());
    if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(from_one.as_mut().poll(cx))).await {
        return First::Of(answer);
    }
    if other.has_ended {
        return First::Of(from_one.await);
    }
    let mut from_other = pin!(other.source.next_change());
    poll_fn(|cx| match from_one.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(First::Of(answer)),
        Poll::Pending => from_other.as_mut().poll(cx).map(First::Other),
    })
    .await
}

impl<T, A, B> Discover<T> for Merged<T, A, B>
where
    T: Send,
    A: Discover<T>,
    B: Discover<T>,
{
    async fn next_change(&mut self) -> Option<Result<Change<T>, DiscoverError>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Some(Ok(change));
            }
            match self.answer().await? {
                Answer::A(None) => self.a.has_ended = true,
                Answer::B(None) => self.b.has_ended = true,
                Answer::A(Some(Ok(change))) => Self::take(&mut self.a, &self.b, change, &mut self.changes),
                Answer::B(Some(Ok(change))) => Self::take(&mut self.b, &self.a, change, &mut self.changes),
                Answer::A(Some(Err(error))) | Answer::B(Some(Err(error))) => return Some(Err(error)),
            }
        }
    }

    fn empty_answer(&self) -> EmptyAnswer {
        match (self.a.source.empty_answer(), self.b.source.empty_answer()) {
            (EmptyAnswer::Apply, EmptyAnswer::Apply) => EmptyAnswer::Apply,
            _ => EmptyAnswer::Keep,
        }
    }
}

impl<T, A: fmt::Debug, B: fmt::Debug> fmt::Debug for Merged<T, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged").field("a", &self.a).field("b", &self.b).finish_non_exhaustive()
    }
}
