//! Who waits for a commit, and who makes it: threads and tasks without a thread of the log's own.
//!
//! One commit is in progress at a time (several at once were measured and lose: their batches only get smaller). Whoever
//! waits while none is in progress *leads* it, for everybody who has appended by then; who comes later waits, and is in
//! the next. When a commit ends its leader wakes those it covered, each by itself, and one of the others to lead the
//! next. A shared condition variable would wake everybody for each commit, which halves the rate at 64 threads.
//!
//! A task that could lead first lets the others run: it wakes itself and leads when it is polled again, so the last of
//! a burst of tasks leads for all of it. No timer is involved.
//!
//! # States
//! | leading | candidate | meaning |
//! |---|---|---|
//! | yes | none | somebody is inside a commit and will pass the lead on |
//! | no | a task | the task has been woken and leads when it is polled, unless a thread comes by first |
//! | no | none | nobody waits, or a thread that was woken is on its way |
//!
//! # Invariants
//! - **I1** While somebody waits, somebody leads, or a candidate or a thread has been woken to lead.
//! - **I2** A candidate is seated; when its seat is given up, the candidacy goes to another waiter.

use std::task::{Poll, Waker};

use super::position::Lsn;
use crate::sync::thread::Thread;
use crate::sync::{Mutex, thread};

/// How often a leader lets others run without seeing one come. More waits for threads that have something else to do.
const MAX_IDLE_YIELDS: u32 = 3;

/// A task's place among those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    index: u32,
    generation: u32,
}

#[derive(Debug, Default)]
struct State {
    leading: bool,
    candidate: Option<u32>,
    threads: Vec<(Lsn, Thread)>,
    tasks: Vec<Slot>,
    free: Vec<u32>,
    seated: usize,
    /// Threads that the last commit covered, and that may be back soon.
    expected: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    waiter: Option<(Lsn, Waker)>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    state: Mutex<State>,
}

/// What a thread that waits has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// What it waits for may have happened: look again.
    Look,
    /// Make a commit, then call [`Waiters::finish`].
    Lead,
    /// Sleep until woken.
    Sleep,
}

impl Waiters {
    /// Lets threads come that the last commit woke, so that they are in the next one, all of them.
    pub(crate) fn gather(&self) {
        let mut last = 0;
        let mut idle = 0;
        loop {
            let (there, expected) = {
                let state = self.state.lock();
                (state.threads.len() + 1, state.expected)
            };
            if there >= expected || idle >= MAX_IDLE_YIELDS {
                return;
            }
            idle = if there > last { 0 } else { idle + 1 };
            last = there;
            thread::yield_now();
        }
    }

    /// Takes the lead if nobody has it.
    pub(crate) fn try_lead(&self) -> bool {
        let mut state = self.state.lock();
        let free = !state.leading;
        if free {
            state.leading = true;
            state.candidate = None;
        }
        free
    }

    /// Returns when nobody is inside a commit; everybody who waits is to look again.
    pub(crate) fn wait_out(&self) {
        while !self.try_lead() {
            thread::yield_now();
        }
        self.finish(Lsn(u64::MAX));
    }

    /// A thread comes by that waits for `lsn`; `done` says whether that has happened.
    pub(crate) fn thread_turn(&self, lsn: Lsn, seated: &mut bool, done: impl FnOnce() -> bool) -> Turn {
        let mut state = self.state.lock();
        if done() {
            return Turn::Look;
        }
        if !state.leading {
            state.leading = true;
            state.candidate = None;
            return Turn::Lead;
        }
        if !*seated {
            *seated = true;
            state.threads.push((lsn, thread::current()));
        }
        Turn::Sleep
    }

    /// A task comes by that waits for `lsn`. Pending means that it is seated and will be woken.
    pub(crate) fn task_turn(
        &self,
        lsn: Lsn,
        seat: &mut Option<Seat>,
        waker: &Waker,
        done: impl FnOnce() -> bool,
    ) -> Poll<Turn> {
        let mut old = None;
        let mut state = self.state.lock();
        if done() {
            return Poll::Ready(Turn::Look);
        }
        let mine = seat.filter(|seat| state.is_seated(*seat));
        if !state.leading && mine.is_some_and(|seat| state.candidate == Some(seat.index)) {
            state.leading = true;
            state.candidate = None;
            return Poll::Ready(Turn::Lead);
        }
        let index = match mine {
            Some(seat) => {
                if let Some((_, seated)) = &mut state.tasks[seat.index as usize].waiter {
                    if !seated.will_wake(waker) {
                        old = Some(std::mem::replace(seated, waker.clone()));
                    }
                }
                seat.index
            }
            None => {
                let taken = state.sit(lsn, waker.clone());
                *seat = Some(taken);
                taken.index
            }
        };
        let yields = !state.leading && state.candidate.is_none();
        if yields {
            state.candidate = Some(index);
        }
        drop(state);
        // A waker's drop may drop a task, which may wait here, too: never under the lock.
        drop(old);
        if yields {
            waker.wake_by_ref();
        }
        Poll::Pending
    }

    /// A task waits no more.
    pub(crate) fn leave(&self, seat: Seat) {
        let mut state = self.state.lock();
        if !state.is_seated(seat) {
            return;
        }
        let gone = state.stand(seat.index);
        let next = (state.candidate == Some(seat.index)).then(|| state.next_leader()).flatten();
        drop(state);
        drop(gone);
        wake(next);
    }

    /// The commit is over and everything up to `done` is settled: wakes whom it covered, and passes the lead on.
    pub(crate) fn finish(&self, done: Lsn) {
        let me = thread::current().id();
        let mut threads = Vec::new();
        let mut tasks = Vec::new();
        let mut state = self.state.lock();
        state.leading = false;
        state.threads.retain(|(lsn, thread)| {
            let covered = *lsn <= done;
            if covered && thread.id() != me {
                threads.push(thread.clone());
            }
            !covered
        });
        state.expected = threads.len() + 1;
        if state.seated > 0 {
            state.take_covered(done, &mut tasks);
        }
        let next = state.next_leader();
        drop(state);
        tasks.into_iter().for_each(Waker::wake);
        wake(next);
        threads.iter().for_each(Thread::unpark);
    }
}

impl Waiters {
    /// Nobody has anything to wait for any more: wakes everybody.
    pub(crate) fn wake_all(&self) {
        let mut tasks = Vec::new();
        let mut state = self.state.lock();
        let threads = std::mem::take(&mut state.threads);
        state.take_covered(Lsn(u64::MAX), &mut tasks);
        state.candidate = None;
        drop(state);
        tasks.into_iter().for_each(Waker::wake);
        threads.iter().for_each(|(_, thread)| thread.unpark());
    }
}

enum Next {
    Thread(Thread),
    Task(Waker),
}

fn wake(next: Option<Next>) {
    match next {
        Some(Next::Thread(thread)) => thread.unpark(),
        Some(Next::Task(waker)) => waker.wake(),
        None => {}
    }
}

impl State {
    fn is_seated(&self, seat: Seat) -> bool {
        self.tasks.get(seat.index as usize).is_some_and(|slot| slot.generation == seat.generation)
    }

    fn sit(&mut self, lsn: Lsn, waker: Waker) -> Seat {
        self.seated += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(Slot { generation: 0, waiter: None });
            (self.tasks.len() - 1) as u32
        });
        let slot = &mut self.tasks[index as usize];
        slot.waiter = Some((lsn, waker));
        Seat { index, generation: slot.generation }
    }

    fn stand(&mut self, index: u32) -> Option<Waker> {
        let slot = &mut self.tasks[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.seated -= 1;
        slot.waiter.take().map(|(_, waker)| waker)
    }

    fn take_covered(&mut self, done: Lsn, tasks: &mut Vec<Waker>) {
        tasks.reserve(self.seated);
        for index in 0..self.tasks.len() {
            if self.tasks[index].waiter.as_ref().is_some_and(|(lsn, _)| *lsn <= done) {
                tasks.extend(self.stand(index as u32));
            }
        }
    }

    /// Chooses who leads next: a thread before a task, since a thread that is woken surely comes by.
    fn next_leader(&mut self) -> Option<Next> {
        self.candidate = None;
        if let Some((_, thread)) = self.threads.first() {
            return Some(Next::Thread(thread.clone()));
        }
        if self.seated == 0 {
            return None;
        }
        let index = self.tasks.iter().position(|slot| slot.waiter.is_some())?;
        self.candidate = Some(index as u32);
        self.tasks[index].waiter.as_ref().map(|(_, waker)| Next::Task(waker.clone()))
    }
}
