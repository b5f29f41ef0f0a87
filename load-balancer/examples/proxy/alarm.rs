//! A timer that costs nothing while nothing is late.
//!
//! Each request has a deadline, and nearly no request reaches it. Setting and clearing a timer each time is two walks
//! into the runtime's wheel. This one is set once and then left alone: it goes off at some *earlier* deadline, finds
//! that a later one is in force by now, and sets itself again. A busy connection pays one wake-up per time-out
//! instead of two wheel operations per request.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

use crate::clock;

/// A deadline that may be moved for free to a later point.
///
/// It belongs to one task: the waker of the poll that set the timer is the one that is woken.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once the deadline has passed; else the task is woken then, and perhaps before.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        match &self.sleep {
            Some(sleep) if !sleep.is_elapsed() && sleep.deadline().into_std() <= deadline => Poll::Pending,
            _ => self.set(cx, deadline),
        }
    }

    #[cold]
    fn set(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline <= clock::now() {
            return Poll::Ready(());
        }
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(deadline.into());
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(deadline.into()))),
        };
        // Without regard to the task's budget: a poll that is put off would set no timer, and nobody would ask again.
        pin!(tokio::task::coop::unconstrained(sleep.as_mut())).poll(cx)
    }
}
