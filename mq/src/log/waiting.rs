//! Waiting for a commit: by a thread, by a task, and making one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Log;
use super::config::Confirm;
use super::error::Poisoned;
use super::position::Lsn;
use super::wait::{Seat, Turn};
use crate::sync::thread;

/// How often a thread lets others run that are writing what it waits for.
const MAX_YIELDS: u32 = if cfg!(shuttle) { 1 } else { 64 };

impl Log {
    /// Waits until everything up to `lsn` is confirmed; makes the commit if nobody else is at it.
    ///
    /// # Errors
    /// If the log is or becomes poisoned before that.
    pub(crate) fn wait(&self, lsn: Lsn) -> Result<(), Poisoned> {
        let is_synced = self.0.config.confirm == Confirm::Synced;
        if !is_synced && self.wait_for_write(lsn) {
            return self.outcome(lsn);
        }
        let mut seated = false;
        while !self.is_settled(lsn) {
            match self.0.waiters.thread_turn(lsn, &mut seated, || self.is_settled(lsn)) {
                Turn::Look => {}
                Turn::Lead => {
                    if is_synced {
                        self.0.waiters.gather();
                    }
                    self.lead();
                }
                Turn::Sleep => thread::park(),
            }
        }
        self.outcome(lsn)
    }

    /// A write without a sync takes a microsecond, to sleep and to be woken takes ten: the thread writes itself if nobody
    /// is at it, and else lets others run for a while. `false` if that was not enough.
    fn wait_for_write(&self, lsn: Lsn) -> bool {
        for _ in 0..MAX_YIELDS {
            if self.is_settled(lsn) {
                return true;
            }
            if self.0.waiters.try_lead() {
                self.lead();
            } else {
                thread::yield_now();
            }
        }
        self.is_settled(lsn)
    }

    /// Commits everything appended so far.
    ///
    /// # Errors
    /// If the log is or becomes poisoned.
    pub(crate) fn commit(&self) -> Result<(), Poisoned> {
        self.wait(self.appended())
    }

    /// Commits, if somebody waits for it or not, unless a commit is in progress: for who drives the log.
    pub(crate) fn try_commit(&self) -> Result<(), Poisoned> {
        if self.0.waiters.try_lead() {
            self.lead();
        }
        self.check()
    }

    /// A future that is ready when everything up to `lsn` is confirmed.
    pub(crate) fn confirmation(&self, lsn: Lsn) -> Confirmation {
        Confirmation { log: self.clone(), lsn, seat: None }
    }

    /// Whether there is nothing to wait for: confirmed, or never to be.
    fn is_settled(&self, lsn: Lsn) -> bool {
        self.confirmed() >= lsn || self.0.poison.get().is_some()
    }

    fn outcome(&self, lsn: Lsn) -> Result<(), Poisoned> {
        if self.confirmed() >= lsn { Ok(()) } else { self.check() }
    }

    fn lead(&self) {
        /// Passes the lead on however the commit ends; an observer may panic.
        struct Leading<'a>(&'a Log, Lsn);
        impl Drop for Leading<'_> {
            fn drop(&mut self) {
                self.0.0.waiters.finish(self.1.max(self.0.confirmed()));
            }
        }
        let mut leading = Leading(self, Lsn(0));
        leading.1 = self.commit_as_leader();
    }
}

/// Ready when a place of the log is confirmed; see [`Log::confirmation`].
///
/// Being polled, it may make the commit itself, which blocks the thread for one write and sync. Once polled it must be
/// polled again when it is woken, or be dropped: it may have been chosen to make the next commit.
///
/// # Cancel safety
/// Dropping it withdraws nothing: the append is in the log.
#[derive(Debug)]
pub(crate) struct Confirmation {
    log: Log,
    lsn: Lsn,
    seat: Option<Seat>,
}

impl Future for Confirmation {
    type Output = Result<(), Poisoned>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if this.log.is_settled(this.lsn) {
                this.leave();
                return Poll::Ready(this.log.outcome(this.lsn));
            }
            let (log, lsn) = (&this.log, this.lsn);
            match log.0.waiters.task_turn(lsn, &mut this.seat, cx.waker(), || log.is_settled(lsn)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Turn::Lead) => log.lead(),
                Poll::Ready(_) => {}
            }
        }
    }
}

impl Confirmation {
    fn leave(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.log.0.waiters.leave(seat);
        }
    }
}

impl Drop for Confirmation {
    fn drop(&mut self) {
        self.leave();
    }
}
