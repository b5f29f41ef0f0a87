//! The tries of one request that are in flight.

use std::task::Poll;

use bytes::Bytes;
use tenfold_load_balancer::Attempt;

use crate::attempt::{Arrival, Fault, Try};
use crate::clock;
use crate::link::Upload;

/// Tries in flight: nearly always one, which needs no memory of its own.
#[derive(Default)]
pub(crate) struct Tries {
    first: Option<(Attempt, Try)>,
    others: Vec<(Attempt, Try)>,
}

type Ended = (Attempt, Result<Arrival, (Fault, Try)>);

impl Tries {
    #[inline]
    pub(crate) fn push(&mut self, attempt: Attempt, new: Try) {
        if self.first.is_none() && self.others.is_empty() {
            self.first = Some((attempt, new));
        } else {
            self.others.push((attempt, new));
        }
    }

    /// Tells health that a try takes longer than most.
    #[cold]
    pub(crate) fn overdue(&self, attempt: Attempt) {
        if let Some(late) = self.find(attempt) {
            late.pick.overdue(clock::now());
        }
    }

    pub(crate) fn find(&self, attempt: Attempt) -> Option<&Try> {
        let mut all = self.first.iter().chain(&self.others);
        all.find(|(own, _)| *own == attempt).map(|(_, this)| this)
    }

    #[cold]
    pub(crate) fn take(&mut self, attempt: Attempt) -> Option<Try> {
        if self.first.as_ref().is_some_and(|(own, _)| *own == attempt) {
            return self.first.take().map(|(_, this)| this);
        }
        let index = self.others.iter().position(|(own, _)| *own == attempt)?;
        Some(self.others.swap_remove(index).1)
    }

    /// Polls each; takes out the first that has ended.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        mut poll: impl FnMut(&mut Try) -> Poll<Result<Option<Bytes>, Fault>>,
    ) -> Option<Ended> {
        let mut ended = |(attempt, this): &mut (Attempt, Try)| match poll(this) {
            Poll::Ready(result) => Some((*attempt, result)),
            Poll::Pending => None,
        };
        let (attempt, result) =
            self.first.as_mut().and_then(&mut ended).or_else(|| self.others.iter_mut().find_map(ended))?;
        let this = match self.first.take_if(|(own, _)| *own == attempt) {
            Some((_, this)) => this,
            None => self.take(attempt)?,
        };
        Some((
            attempt,
            match result {
                Ok(whole) => Ok(this.arrive(whole)?),
                Err(fault) => Err((fault, this)),
            },
        ))
    }

    /// The request for a hedge, if it has no body.
    #[cold]
    pub(crate) fn copy_of_request(&self) -> Option<Upload> {
        let mut all = self.first.iter().chain(&self.others);
        all.find_map(|(_, this)| this.upload.copy())
    }

    /// The try of a request with a body: there is never more than one at a time.
    pub(crate) fn sending(&self) -> Option<&Try> {
        self.first.as_ref().map(|(_, this)| this)
    }

    /// Whether the client owes a part of the request.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.sending().is_some_and(|this| this.upload.waiting_since().is_some())
    }

    pub(crate) fn is_sending_body(&self) -> bool {
        self.sending().is_some_and(|this| !this.upload.is_done())
    }

    pub(crate) fn take_sending(&mut self) -> Option<(Attempt, Try)> {
        self.first.take()
    }

    pub(crate) fn release(&mut self) {
        if let Some((_, this)) = &mut self.first {
            this.upload.release();
        }
    }

    /// The backend is not late as long as the client is.
    pub(crate) fn restart(&mut self) {
        if let Some((_, this)) = &mut self.first {
            this.pick.restart(clock::now());
        }
    }
}

/// Those that nobody waits for any more: another was faster, or the client has left.
impl Drop for Tries {
    #[inline]
    fn drop(&mut self) {
        let left = self.first.take().into_iter().chain(self.others.drain(..));
        left.for_each(|(_, this)| this.cancel());
    }
}
