//! What the tests share: a queue that is opened again on the same disk, and tasks without a runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tenfold_mq::{Config, Consumer, Delivery, ManualClock, Memory, Queue};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Small enough that tests reach the bounds.
pub(crate) fn small() -> Config {
    Config { segment_bytes: 64 << 10, max_message_bytes: 16 << 10, memory_bytes: 4 << 20, ..Config::default() }
}

/// A queue whose disk and clock outlive it.
pub(crate) struct Bench {
    pub(crate) disk: Memory,
    pub(crate) clock: ManualClock,
    pub(crate) config: Config,
}

impl Bench {
    pub(crate) fn new(config: Config) -> Self {
        Self { disk: Memory::new(), clock: ManualClock::new(), config }
    }

    pub(crate) fn open(&self) -> Queue {
        let builder = Queue::builder().config(self.config.clone()).clock(self.clock.clone());
        builder.open_storage(self.disk.clone()).unwrap()
    }

    pub(crate) fn in_memory(&self) -> Queue {
        Queue::builder().config(self.config.clone()).clock(self.clock.clone()).in_memory().unwrap()
    }

    /// Runs the check on a queue with a log and on one without.
    pub(crate) fn both(config: Config, check: impl Fn(&Bench, Queue)) {
        let bench = Self::new(config.clone());
        check(&bench, bench.open());
        let bench = Self::new(config);
        check(&bench, bench.in_memory());
    }
}

/// What there is to be received now, as text; acks it.
pub(crate) fn drain(consumer: &Consumer) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(delivery) = consumer.try_receive().unwrap() {
        bodies.push(text(&delivery));
        delivery.ack().unwrap();
    }
    bodies
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body().to_vec()).unwrap()
}

pub(crate) fn next(consumer: &Consumer) -> Delivery {
    consumer.try_receive().unwrap().expect("there is a message")
}

pub(crate) fn is_empty(consumer: &Consumer) -> bool {
    consumer.try_receive().unwrap().is_none()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts how often a task is woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once; the waker counts.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(wakes));
    future.poll(&mut Context::from_waker(&waker))
}
