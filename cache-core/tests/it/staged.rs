//! Tasks, loads and threads that tests move by hand.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks on the thread that says so, those that were woken first.
#[derive(Clone, Default)]
pub(crate) struct Executor {
    ready: Arc<Mutex<VecDeque<Arc<Task>>>>,
}

pub(crate) struct Task {
    work: Mutex<Option<Work>>,
    ready: Arc<Mutex<VecDeque<Arc<Task>>>>,
}

impl Executor {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
        let task = Arc::new(Task { work: Mutex::new(Some(Box::pin(work))), ready: Arc::clone(&self.ready) });
        self.ready.lock().unwrap().push_back(Arc::clone(&task));
        task
    }

    /// Polls what is awake until nothing is; returns the number of polls.
    pub(crate) fn run(&self) -> usize {
        let mut polls = 0;
        while let Some(task) = self.next() {
            polls += 1;
            assert!(polls < 1_000_000, "tasks wake each other for ever");
            task.poll();
        }
        polls
    }

    fn next(&self) -> Option<Arc<Task>> {
        self.ready.lock().unwrap().pop_front()
    }
}

impl Task {
    fn poll(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let Some(mut work) = self.work.lock().unwrap().take() else { return };
        if work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *self.work.lock().unwrap() = Some(work);
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.work.lock().unwrap().is_none()
    }

    /// Drops what the task was doing.
    pub(crate) fn cancel(&self) {
        let work = self.work.lock().unwrap().take();
        drop(work);
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let ready = Arc::clone(&self.ready);
        ready.lock().unwrap().push_back(self);
    }
}

/// Polls a future once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls a future that must be ready.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match poll_once(&mut Box::pin(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is pending"),
    }
}

/// The test's end of a future that is ready once the test says so.
pub(crate) struct Gate<T>(Arc<Inner<T>>);

struct Inner<T> {
    state: Mutex<(Option<T>, Option<Waker>)>,
    polls: AtomicUsize,
    drops: AtomicUsize,
}

impl<T> Clone for Gate<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Gate<T> {
    pub(crate) fn new() -> Self {
        let (polls, drops) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Inner { state: Mutex::new((None, None)), polls, drops }))
    }

    /// A future that waits for `open`.
    pub(crate) fn pass(&self) -> Passing<T> {
        Passing(Arc::clone(&self.0))
    }

    /// Lets one future pass, and wakes it if it was polled.
    pub(crate) fn open(&self, value: T) {
        let waker = {
            let mut state = self.0.state.lock().unwrap();
            state.0 = Some(value);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn polls(&self) -> usize {
        self.0.polls.load(Ordering::SeqCst)
    }

    /// How many futures of this gate are gone.
    pub(crate) fn drops(&self) -> usize {
        self.0.drops.load(Ordering::SeqCst)
    }
}

pub(crate) struct Passing<T>(Arc<Inner<T>>);

impl<T> Future for Passing<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        let mut state = self.0.state.lock().unwrap();
        match state.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Passing<T> {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs `f` on a thread of its own and panics if that does not end: a deadlock fails instead of hanging.
pub(crate) fn must_end<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let value = f();
        let _ = done.send(());
        value
    });
    let patience = Duration::from_secs(if cfg!(miri) { 600 } else { 60 });
    if result.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("this does not end: a deadlock");
    }
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// What the panic of a test's own making says.
pub(crate) const INTENDED: &str = "intended by the test";

/// Calls `f`, which must panic with [`INTENDED`].
pub(crate) fn must_panic<T>(f: impl FnOnce() -> T) {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).err().expect("there is a panic");
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    assert!(text.is_some_and(|text| text.contains(INTENDED)), "another panic than the intended one");
}
