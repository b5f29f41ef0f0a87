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

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// Runs `check` with eight fixed seeds and a fresh one. A failure prints its seed; `TENFOLD_SEED` replays one,
/// `TENFOLD_ROUNDS` asks for more fresh ones.
pub(crate) fn for_each_seed(check: impl Fn(u64)) {
    if let Some(seed) = number_from_env("TENFOLD_SEED") {
        return run(seed, &check);
    }
    (0..8).for_each(|seed| run(seed, &check));
    let fresh =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let mut fresh = Random::new(fresh);
    for _ in 0..number_from_env("TENFOLD_ROUNDS").unwrap_or(1) {
        run(fresh.next(), &check);
    }
}

fn run(seed: u64, check: impl Fn(u64)) {
    let report = SeedReport(seed);
    check(seed);
    drop(report);
}

fn number_from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Prints its seed if it is dropped by a panic.
struct SeedReport(u64);

impl Drop for SeedReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with this seed; TENFOLD_SEED={} replays it", self.0);
        }
    }
}
