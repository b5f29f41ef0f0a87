//! Who waits, and waking exactly as many as there is something for.
//!
//! Waking everybody costs a context switch for each and a fight for one message; so waiters stand in a line, and whoever
//! brings something wakes as many of the first as it brought. A waiter that was woken and does not want it any more (its
//! time ran out, its future was dropped) passes the call on to the next, or a message would lie there and everybody
//! sleep.
//!
//! Threads and tasks stand in one line: both are a thing that can be woken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, Thread};

/// A thread that parks or a task that waits.
#[derive(Debug)]
enum Sleeper {
    Thread(Thread),
    Task(Waker),
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// When it is to be called in any case, on the queue's timeline.
    pub(crate) until: Option<u64>,
    /// A sender: room for so many messages, of so many bytes.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// One who waits. It stands in at most one line.
#[derive(Debug)]
pub(crate) struct Waiter {
    wish: Wish,
    /// Set if that is why it was called: there is nothing for it, and nothing to pass on.
    is_overdue: AtomicBool,
    /// Set once it was taken out of the line by a call.
    is_called: AtomicBool,
    sleeper: Mutex<Sleeper>,
}

impl Waiter {
    /// The thread that calls this.
    pub(crate) fn thread() -> Arc<Self> {
        Self::thread_for(Wish::default())
    }

    pub(crate) fn thread_for(wish: Wish) -> Arc<Self> {
        Self::new(Sleeper::Thread(thread::current()), wish)
    }

    /// A task, which has no clock of its own: it is called at `until` by whoever has one.
    pub(crate) fn task(waker: &Waker, wish: Wish) -> Arc<Self> {
        Self::new(Sleeper::Task(waker.clone()), wish)
    }

    fn new(sleeper: Sleeper, wish: Wish) -> Arc<Self> {
        let (is_overdue, is_called) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { wish, is_overdue, is_called, sleeper: Mutex::new(sleeper) })
    }

    /// A task may be polled with another waker each time.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut sleeper = self.sleeper.lock();
        match &mut *sleeper {
            Sleeper::Task(known) => known.clone_from(waker),
            Sleeper::Thread(_) => *sleeper = Sleeper::Task(waker.clone()),
        }
    }

    pub(crate) fn is_called(&self) -> bool {
        self.is_called.load(Ordering::Acquire)
    }

    /// Blocks the thread until it is called or this much time has passed; perhaps earlier.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        if self.is_called() {
            return;
        }
        match timeout {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
    }

    fn call(&self) {
        self.is_called.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes it where it is, to look again.
    pub(crate) fn wake(&self) {
        match &*self.sleeper.lock() {
            Sleeper::Thread(thread) => thread.unpark(),
            Sleeper::Task(waker) => waker.wake_by_ref(),
        }
    }
}

/// Those who wait for the same thing, the longest first. Lives under the lock that guards the thing.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiters: VecDeque<Arc<Waiter>>,
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn join(&mut self, waiter: Arc<Waiter>) {
        self.waiters.push_back(waiter);
    }

    /// The first in it.
    pub(crate) fn first(&self) -> Option<&Arc<Waiter>> {
        self.waiters.front()
    }

    /// The first thread in it.
    pub(crate) fn first_thread(&self) -> Option<&Arc<Waiter>> {
        self.waiters.iter().find(|waiter| matches!(*waiter.sleeper.lock(), Sleeper::Thread(_)))
    }

    /// Takes over all of another line.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.waiters.append(&mut other.waiters);
    }

    /// Takes the first `count` out, to be called once the lock is released.
    #[inline]
    pub(crate) fn call(&mut self, count: usize, calls: &mut Calls) {
        if !self.waiters.is_empty() {
            let count = count.min(self.waiters.len());
            calls.called().extend(self.waiters.drain(..count));
        }
    }

    /// Takes the first out whose wish can be granted.
    pub(crate) fn call_first(&mut self, can_be: impl Fn(&Wish) -> bool, calls: &mut Calls) {
        if let Some(index) = self.waiters.iter().position(|waiter| can_be(&waiter.wish)) {
            calls.called().extend(self.waiters.remove(index));
        }
    }

    /// Takes out those whose time is over; when that of the next one will be.
    pub(crate) fn call_overdue(&mut self, now: u64, calls: &mut Calls) -> Option<u64> {
        let mut next = None;
        self.waiters.retain(|waiter| {
            let Some(until) = waiter.wish.until else { return true };
            if until <= now {
                waiter.is_overdue.store(true, Ordering::Relaxed);
                calls.called().push(Arc::clone(waiter));
                return false;
            }
            next = Some(next.map_or(until, |next: u64| next.min(until)));
            true
        });
        next
    }

    /// Goes away having been served; whether it was called does not matter.
    pub(crate) fn remove(&mut self, waiter: &Arc<Waiter>) {
        if let Some(index) = self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            self.waiters.remove(index);
        }
    }

    /// Goes away without having been served. If it was called meanwhile, the next one is.
    pub(crate) fn leave(&mut self, waiter: &Arc<Waiter>, calls: &mut Calls) {
        match self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            Some(index) => {
                self.waiters.remove(index);
            }
            None if waiter.is_overdue.load(Ordering::Relaxed) => {}
            None => self.call(1, calls),
        }
    }
}

/// Waiters that were taken out of their lines, and one that is only to look again; dropping it calls them, which is to be
/// done without a lock.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Mostly there is nobody, which is to cost nothing.
    some: Option<Box<Called>>,
}

#[derive(Debug, Default)]
struct Called {
    called: Vec<Arc<Waiter>>,
    nudged: Option<Arc<Waiter>>,
}

impl Calls {
    /// Wakes a waiter that stays where it is.
    pub(crate) fn nudge(&mut self, waiter: &Arc<Waiter>) {
        self.some.get_or_insert_default().nudged = Some(Arc::clone(waiter));
    }

    fn called(&mut self) -> &mut Vec<Arc<Waiter>> {
        &mut self.some.get_or_insert_default().called
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.called.iter().for_each(|waiter| waiter.call());
        if let Some(waiter) = &self.nudged {
            waiter.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_called_as_asked_for_in_order() {
        let mut line = Line::default();
        let waiters = [(); 3].map(|()| Waiter::thread());
        waiters.iter().for_each(|waiter| line.join(Arc::clone(waiter)));
        line.call(2, &mut Calls::default());
        assert_eq!(waiters.each_ref().map(|waiter| waiter.is_called()), [true, true, false]);
        line.call(2, &mut Calls::default());
        assert!(waiters[2].is_called() && line.is_empty());
    }

    #[test]
    fn who_leaves_uncalled_takes_nobodys_call_and_who_leaves_called_passes_it_on() {
        let mut line = Line::default();
        let waiters = [(); 3].map(|()| Waiter::thread());
        waiters.iter().for_each(|waiter| line.join(Arc::clone(waiter)));
        line.leave(&waiters[0], &mut Calls::default());
        assert!(waiters.iter().all(|waiter| !waiter.is_called()));
        line.call(1, &mut Calls::default());
        assert!(waiters[1].is_called() && !waiters[2].is_called());
        line.leave(&waiters[1], &mut Calls::default());
        assert!(waiters[2].is_called());
    }

    #[test]
    fn a_call_that_comes_before_the_park_is_not_lost() {
        let waiter = Waiter::thread();
        waiter.call();
        waiter.park(None);
    }
}
