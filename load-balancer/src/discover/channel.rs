//! A bounded channel of changes: for hosts that know of changes by themselves, as from an admin request or a control
//! plane of their own.
//!
//! Resting on std alone, so it serves threads and tasks of any runtime.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::{Discover, DiscoverError, EmptyAnswer};
use crate::Change;

#[cfg(test)]
mod tests;

/// A channel that holds up to `capacity` changes (at least one) that were not taken yet.
///
/// A [`Change::Replace`] says everything, so it takes the place of the changes that wait before it: it always finds
/// room, and a slow receiver does not work through what no longer matters.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::{Backend, Change, channel};
///
/// let (sender, source) = channel(16);
/// sender.try_send(Change::Insert(Backend::new("10.0.0.7:80".parse()?)))?;
/// # let _ = source;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn channel<T>(capacity: usize) -> (ChangeSender<T>, ChangeReceiver<T>) {
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        state: Mutex::new(State {
            queue: VecDeque::new(),
            sender_count: 1,
            is_received: true,
            receiver: None,
            waiting: Vec::new(),
            next_ticket: 0,
        }),
    });
    (ChangeSender { shared: Arc::clone(&shared) }, ChangeReceiver { shared })
}

struct Shared<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    queue: VecDeque<Change<T>>,
    sender_count: usize,
    /// Whether the receiver still exists.
    is_received: bool,
    receiver: Option<Waker>,
    /// The futures of `send` that wait for room, by their ticket.
    waiting: Vec<(u64, Waker)>,
    next_ticket: u64,
}

/// What a change that was accepted leaves to be done outside the lock: to wake the receiver, to drop changes.
type Accepted<T> = (Option<Waker>, VecDeque<Change<T>>);

impl<T> Shared<T> {
    fn accept(&self, state: &mut State<T>, change: Change<T>) -> Result<Accepted<T>, TrySendError<T>> {
        if !state.is_received {
            return Err(TrySendError::Closed(change));
        }
        let superseded =
            if matches!(change, Change::Replace(_)) { mem::take(&mut state.queue) } else { VecDeque::new() };
        if state.queue.len() >= self.capacity {
            return Err(TrySendError::Full(change));
        }
        state.queue.push_back(change);
        Ok((state.receiver.take(), superseded))
    }
}

/// The end that a host sends changes into. Clones send into the same channel.
pub struct ChangeSender<T = ()> {
    shared: Arc<Shared<T>>,
}

impl<T> ChangeSender<T> {
    /// Sends a change if there is room.
    ///
    /// # Errors
    /// The change comes back: [`TrySendError::Full`] if there is no room now, [`TrySendError::Closed`] if the receiver
    /// is gone.
    pub fn try_send(&self, change: Change<T>) -> Result<(), TrySendError<T>> {
        let accepted = self.shared.accept(&mut self.shared.state.lock(), change);
        accepted.map(finish)
    }

    /// Waits for room and sends a change. Changes of one sender that are awaited in turn arrive in their order.
    ///
    /// # Cancel safety
    /// Dropping the future before it is ready drops the change, unsent.
    ///
    /// # Errors
    /// [`SendError`] gives the change back if the receiver is gone.
    pub fn send(&self, change: Change<T>) -> Sending<'_, T> {
        Sending { shared: &self.shared, change: Some(change), ticket: None }
    }
}

fn finish<T>((receiver, superseded): Accepted<T>) {
    drop(superseded);
    if let Some(receiver) = receiver {
        receiver.wake();
    }
}

impl<T> Clone for ChangeSender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().sender_count += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for ChangeSender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.sender_count -= 1;
        let receiver = if state.sender_count == 0 { state.receiver.take() } else { None };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

/// The future of [`ChangeSender::send`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sending<'a, T> {
    shared: &'a Shared<T>,
    change: Option<Change<T>>,
    ticket: Option<u64>,
}

/// The change is moved out, never pinned.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let change = this.change.take().expect("a future is not polled after it was ready");
        let mut state = this.shared.state.lock();
        let accepted = this.shared.accept(&mut state, change);
        match accepted {
            Ok(accepted) => {
                drop(state);
                finish(accepted);
                Poll::Ready(Ok(()))
            }
            Err(TrySendError::Closed(change)) => Poll::Ready(Err(SendError(change))),
            Err(TrySendError::Full(change)) => {
                this.change = Some(change);
                let ticket = *this.ticket.get_or_insert_with(|| {
                    state.next_ticket += 1;
                    state.next_ticket
                });
                let waker = cx.waker().clone();
                let replaced = match state.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket) {
                    Some((_, old)) => Some(mem::replace(old, waker)),
                    None => {
                        state.waiting.push((ticket, waker));
                        None
                    }
                };
                drop(state);
                drop(replaced);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.shared.state.lock();
        let place = state.waiting.iter().position(|(waiting, _)| *waiting == ticket);
        let waker = place.map(|place| state.waiting.swap_remove(place));
        drop(state);
        drop(waker);
    }
}

/// The end that [`Drive`](super::Drive) takes changes from. It ends when all senders are gone and nothing waits.
pub struct ChangeReceiver<T = ()> {
    shared: Arc<Shared<T>>,
}

impl<T> ChangeReceiver<T> {
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Change<T>>> {
        let mut state = self.shared.state.lock();
        if let Some(change) = state.queue.pop_front() {
            // All of them: one that was dropped or is slow must not keep the others from the room there is.
            let waiting = mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(|(_, waker)| waker.wake());
            return Poll::Ready(Some(change));
        }
        if state.sender_count == 0 {
            return Poll::Ready(None);
        }
        let replaced = state.receiver.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T: Send> Discover<T> for ChangeReceiver<T> {
    async fn next_change(&mut self) -> Option<Result<Change<T>, DiscoverError>> {
        poll_fn(|cx| self.poll_next(cx)).await.map(Ok)
    }

    fn empty_answer(&self) -> EmptyAnswer {
        EmptyAnswer::Apply
    }
}

impl<T> Drop for ChangeReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.is_received = false;
        let (queue, waiting) = (mem::take(&mut state.queue), mem::take(&mut state.waiting));
        drop(state);
        drop(queue);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// A change that was not sent, and why.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<T = ()> {
    /// As many changes wait as the channel holds.
    #[error("the channel of changes is full")]
    Full(Change<T>),
    /// The receiver is gone.
    #[error("the channel of changes is closed")]
    Closed(Change<T>),
}

impl<T> TrySendError<T> {
    /// The change.
    #[must_use]
    pub fn into_change(self) -> Change<T> {
        match self {
            Self::Full(change) | Self::Closed(change) => change,
        }
    }
}

/// A change that was not sent because the receiver is gone.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the channel of changes is closed")]
pub struct SendError<T = ()>(pub Change<T>);

// What is in the change says nothing about the error, and need not be printable.
impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for ChangeSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeSender").field("waiting", &self.shared.state.lock().queue.len()).finish()
    }
}

impl<T> fmt::Debug for ChangeReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeReceiver").field("waiting", &self.shared.state.lock().queue.len()).finish()
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("is_waiting", &self.ticket.is_some()).finish()
    }
}
