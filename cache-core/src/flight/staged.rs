//! Loads and wakers that tests move by hand.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use super::{Flight, Load, Outcome};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, Mutex};

/// The test's end of a staged load.
#[derive(Clone, Default)]
pub(super) struct Stage(Arc<Inner>);

#[derive(Default)]
struct Inner {
    script: Mutex<Script>,
    polls: AtomicUsize,
    drops: AtomicUsize,
}

#[derive(Default)]
struct Script {
    waker: Option<Waker>,
    outcome: Option<Outcome<u64>>,
    panics: bool,
}

impl Stage {
    pub(super) fn load(&self) -> Load<u64> {
        Box::pin(Staged(Arc::clone(&self.0)))
    }

    /// Calls the waker that the load was last polled with, and leaves it there.
    pub(super) fn wake(&self) {
        let waker = self.0.script.lock().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Makes the load ready at its next poll, and wakes it once, as a channel would.
    pub(super) fn open(&self, outcome: Outcome<u64>) {
        self.set(|script| script.outcome = Some(outcome));
    }

    /// Makes the load panic at its next poll, and wakes it.
    pub(super) fn sabotage(&self) {
        self.set(|script| script.panics = true);
    }

    fn set(&self, change: impl FnOnce(&mut Script)) {
        let mut script = self.0.script.lock();
        change(&mut script);
        let waker = script.waker.take();
        drop(script);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[cfg(not(shuttle))]
    pub(super) fn polls(&self) -> usize {
        self.0.polls.load(Ordering::SeqCst)
    }

    pub(super) fn drops(&self) -> usize {
        self.0.drops.load(Ordering::SeqCst)
    }
}

struct Staged(Arc<Inner>);

impl Future for Staged {
    type Output = Outcome<u64>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<u64>> {
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        let mut script = self.0.script.lock();
        if script.panics {
            drop(script);
            // Unlike `panic!`, quietly: it is expected.
            std::panic::resume_unwind(Box::new("staged"));
        }
        if let Some(outcome) = script.outcome.take() {
            return Poll::Ready(outcome);
        }
        script.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// A load that asks so many times, at once, to be polled again, and then brings 9.
pub(super) struct Impatient(pub(super) usize);

impl Future for Impatient {
    type Output = Outcome<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<u64>> {
        if self.0 == 0 {
            return Poll::Ready(Ok(Some(9)));
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// One type for all waiters, so that they fit in one list.
pub(super) type Settle = Box<dyn FnOnce(&Flight<u64>, &Outcome<u64>) + Send>;

/// Counts what `settle` is told, and checks when.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Vec<Outcome<u64>>>>);

impl Ledger {
    pub(super) fn settle(&self) -> Settle {
        let ledger = self.clone();
        Box::new(move |flight: &Flight<u64>, outcome: &Outcome<u64>| {
            let abandoned = matches!(outcome, Err(super::Failure::Abandoned));
            assert!(abandoned || !flight.is_finished(), "I3: settled before it is published");
            ledger.0.lock().push(outcome.clone());
        })
    }

    pub(super) fn entries(&self) -> Vec<Outcome<u64>> {
        self.0.lock().clone()
    }
}

/// A waker that counts.
#[derive(Default)]
pub(super) struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    /// How often it rang since it was last asked.
    #[cfg(not(shuttle))]
    pub(super) fn rung(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

pub(super) fn poll<F: Future + Unpin>(future: &mut F, bell: &Arc<Bell>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(bell));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// Runs a future on the calling thread, which parks in between.
pub(super) fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}
