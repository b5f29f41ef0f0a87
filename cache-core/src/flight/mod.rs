//! Single flight: one load of one key in progress, and everybody who waits for it, threads and tasks alike.
//!
//! A flight owns no thread, no timer and no runtime: whoever waits does the work. It is led in one of two ways.
//!
//! - **By a thread.** The thread that missed runs the loader itself and holds a [`Leader`]; the others wait. The guard
//!   ends the flight however the leader goes, so a loader that panics hangs nobody.
//! - **By a future.** The load belongs to nobody in particular: it lies in the flight, and whichever waiter is polled
//!   when there is progress to make polls it. A waiter that is dropped, or is never polled again, is not missed.
//!   (This is the idea of a shared future; what is added here is that threads help, that the wake-ups are few, that
//!   a panic is an outcome, and that a load which waits for itself is told so.)
//!
//! # States
//! One mutex guards the state; it is held for a few instructions, and never while code of the caller runs: neither
//! the load, nor a waker, nor `settle`, nor the clone or drop of a value.
//!
//! | state | meaning | event | becomes |
//! |---|---|---|---|
//! | Led(t) | thread `t` runs the loader | [`Leader::finish`], or the leader is dropped | Over |
//! | Resting(load, due) | nobody polls the load; `due` says that it asked to be polled | the load's waker is called | Resting(load, due), and wakes |
//! | | | a waiter comes by, `due` | Polling(t) |
//! | | | a waiter comes by, not `due` | itself, one waiter more |
//! | | | the last waiter leaves | Over: abandoned, the load is dropped |
//! | | | another waiter leaves | itself; if `due`, wakes again |
//! | Polling(t, due) | a waiter on thread `t` polls the load | the load's waker is called | Polling(t, due) |
//! | | | the load is pending | Resting(load, due); if `due`, wakes |
//! | | | the load is ready or has panicked | Over |
//! | Over | the outcome is there; nobody is seated any more | | |
//!
//! "Wakes" means: one waiting thread, if there is one, for a thread inside [`Flight::wait`] is sure to come by; else
//! every waiting task, because a task that was woken may never be polled again and there would be nobody to notice.
//! Several calls of the load's waker between two polls wake once.
//!
//! # Invariants
//! - **I1** While Resting and `due`, no task sleeps unless a waiting thread has been woken. No wake-up is lost, for
//!   `due` is read under the same lock under which a waiter takes its seat.
//! - **I2** The outcome is set exactly on entering Over, under the lock, and never changes.
//! - **I3** `settle` is called once: before Over, except that an abandoned load is settled just after.
//! - **I4** A future-led flight that is not Over has at least one waiter: its first is seated from birth.

mod clock;
mod future;
mod leader;
mod seats;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(test)]
mod staged;
#[cfg(all(test, not(shuttle)))]
mod tests;
mod thread;
mod waiter;

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Waker;

use self::seats::Seats;
use crate::sync::thread::{Thread, ThreadId};
use crate::sync::{Arc, Mutex};

pub(crate) use self::future::Joined;
pub(crate) use self::leader::Leader;

/// What a load came to; `Ok(None)` says that there is no such thing.
pub(crate) type Outcome<V> = Result<Option<V>, Failure>;

/// The load of a future-led flight.
pub(crate) type Load<V> = Pin<Box<dyn Future<Output = Outcome<V>> + Send>>;

/// Why a load brought nothing. Errors are type-erased, because loaders of different call sites may differ in theirs.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The loader's own error, the same for every waiter.
    Error(Arc<dyn Any + Send + Sync>),
    /// The loader panicked. The leader of a thread-led flight sees the panic itself.
    Panicked,
    /// Nobody finishes the load: its leader let go of it, or the last waiter left. Whoever still wants the value
    /// starts anew.
    Abandoned,
    /// The load waits for itself, by way of another flight.
    Recursive,
}

/// Why a wait ended before the flight did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    /// The timeout passed; the flight goes on for the others.
    TimedOut,
    /// The caller is inside this very load, and would wait for itself for ever.
    Recursive,
}

/// One load of one key in progress. See the module's documentation.
pub(crate) struct Flight<V> {
    outcome: OnceLock<Outcome<V>>,
    state: Mutex<State<V>>,
    /// What the load is polled with, if a future leads. It refers to this flight weakly: a load may keep the waker.
    waker: Option<Waker>,
}

struct State<V> {
    phase: Phase<V>,
    /// A seat is empty (`None`) from the moment its task is woken until it is polled.
    tasks: Seats<Option<Waker>>,
    threads: Seats<Thread>,
}

enum Phase<V> {
    Led(ThreadId),
    Resting { load: Load<V>, due: bool },
    Polling { by: ThreadId, due: bool },
    Over,
}

/// What somebody who comes by has to do.
enum Turn<V> {
    /// Take the outcome.
    Over,
    /// Not wait: it would be for oneself.
    Recursive,
    /// Poll the load, which is now the caller's.
    Poll(Load<V>),
    /// Take a seat.
    Wait,
}

/// Wake-ups that are decided under the lock and delivered after it.
enum Wakes {
    None,
    Thread(Thread),
    Tasks(Vec<Waker>),
}

impl<V> Flight<V> {
    /// Whether the outcome is there, an abandonment included. A finished flight never changes again.
    pub(crate) fn is_finished(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Recounts the seats and asserts the invariants that can be seen from outside the lock.
    #[cfg(test)]
    fn check_invariants(&self) {
        let mut state = self.state.lock();
        state.tasks.check_invariants();
        state.threads.check_invariants();
        let seated = state.tasks.len() + state.threads.len();
        assert_eq!(matches!(state.phase, Phase::Over), self.is_finished(), "I2");
        match state.phase {
            Phase::Resting { due, .. } => {
                assert!(seated > 0, "I4: a load at rest has a waiter");
                let asleep = state.tasks.iter_mut().filter(|seat| seat.is_some()).count();
                assert!(!due || asleep == 0 || !state.threads.is_empty(), "I1: due, and a task sleeps");
            }
            Phase::Polling { .. } => assert!(seated > 0, "I4: who polls is seated"),
            Phase::Led(_) => {}
            Phase::Over => assert_eq!(seated, 0, "nobody sits when it is over"),
        }
    }

    fn new(phase: Phase<V>, waker: Option<Waker>) -> Self {
        let state = State { phase, tasks: Seats::new(), threads: Seats::new() };
        Self { outcome: OnceLock::new(), state: Mutex::new(state), waker }
    }

    /// Settles, then publishes whatever `settle` does. `Err` carries the panic of `settle`.
    fn conclude<S>(&self, outcome: Outcome<V>, settle: S) -> std::thread::Result<()>
    where
        S: FnOnce(&Flight<V>, &Outcome<V>),
    {
        let settled = catch_unwind(AssertUnwindSafe(|| settle(self, &outcome)));
        self.publish(outcome);
        settled
    }

    /// Makes the outcome known and wakes everybody. Does nothing if there is an outcome already.
    fn publish(&self, outcome: Outcome<V>) {
        let mut state = self.state.lock();
        if let Err(late) = self.outcome.set(outcome) {
            drop(state);
            drop(late);
            return;
        }
        let phase = std::mem::replace(&mut state.phase, Phase::Over);
        let tasks = std::mem::replace(&mut state.tasks, Seats::new());
        let threads = std::mem::replace(&mut state.threads, Seats::new());
        drop(state);
        threads.into_values().for_each(|thread| thread.unpark());
        tasks.into_values().flatten().for_each(wake);
        drop(phase);
    }

    /// The load asked to be polled.
    fn load_is_due(&self) {
        let mut state = self.state.lock();
        let wakes = match &mut state.phase {
            Phase::Resting { due, .. } if !*due => {
                *due = true;
                state.wakes()
            }
            Phase::Polling { due, .. } => {
                *due = true;
                Wakes::None
            }
            _ => Wakes::None,
        };
        drop(state);
        wakes.deliver();
    }
}

impl<V> State<V> {
    /// Decides what the thread `me` has to do, and hands it the load if that is to be polled.
    fn turn(&mut self, me: ThreadId) -> Turn<V> {
        match std::mem::replace(&mut self.phase, Phase::Polling { by: me, due: false }) {
            Phase::Resting { load, due: true } => return Turn::Poll(load),
            other => self.phase = other,
        }
        match &self.phase {
            Phase::Over => Turn::Over,
            Phase::Led(leader) if *leader == me => Turn::Recursive,
            Phase::Polling { by, .. } if *by == me => Turn::Recursive,
            _ => Turn::Wait,
        }
    }

    /// Puts the load back, still pending, for whoever comes by next. Says whether it is due already.
    fn rest(&mut self, load: Load<V>) -> bool {
        let due = matches!(self.phase, Phase::Polling { due: true, .. });
        self.phase = Phase::Resting { load, due };
        due
    }

    /// Whom to wake so that somebody polls the load.
    fn wakes(&mut self) -> Wakes {
        if !self.threads.is_empty() {
            if let Some(thread) = self.threads.iter_mut().next() {
                return Wakes::Thread(thread.clone());
            }
        }
        Wakes::Tasks(self.tasks.iter_mut().filter_map(Option::take).collect())
    }
}

impl Wakes {
    fn deliver(self) {
        match self {
            Self::None => {}
            Self::Thread(thread) => thread.unpark(),
            Self::Tasks(wakers) => wakers.into_iter().for_each(wake),
        }
    }
}

/// Wakes a task. A waker that panics must not keep the others asleep; the panic hook has reported it.
fn wake(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}
