//! The whole queue under shuttle, which picks the thread that runs next at every lock and atomic: senders, receivers
//! that ack, nack, keep a delivery too long or drop it, a driver, a close or a power cut at any moment, on a disk that
//! keeps of what was not synced what it likes. What every user saw is held against a model while they run, and against
//! what is found when the queue is opened again. A call that is lost is a deadlock, which shuttle reports.
//!
//! Run with `RUSTFLAGS="--cfg shuttle" cargo test -p tenfold-mq --lib shuttle`. A failure prints its seed:
//! `TENFOLD_SEED` replays it, `TENFOLD_ROUNDS` asks for so many fresh seeds.
//!
//! Time is the model's: it passes when somebody sleeps for a while, see [`crate::sync::thread`].

mod model;
mod users;

use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{FailurePersistence, Runner};

use self::model::Model;
use self::users::Users;
use crate::log::block_on;
use crate::sync::thread;
use crate::{Clock, Config, Durability, FaultyDisk, Queue, ReceiveError, Start};

/// Seeds that every run goes through; each is another workload.
const SEEDS: u64 = 60;
/// Schedules of each workload: at random, and with few changes of priority at bad places (PCT).
const RANDOM_SCHEDULES: usize = 6;
const PCT_SCHEDULES: usize = 6;
const PCT_DEPTH: usize = 4;

pub(self) const LEASE: Duration = Duration::from_secs(30);
/// The second one begins with the oldest message, too: messages fan out.
pub(self) const GROUPS: [&str; 2] = ["default", "other"];

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(self) struct Random(pub(self) u64);

impl Random {
    pub(self) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(n)) >> 64) as u64
    }
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(self) enum End {
    /// Closed when every message is acked.
    Drained,
    /// Closed after so many acks, in the middle of everything.
    Closed(usize),
    /// The power goes at this change of the disk, counted from when the queue was opened.
    PowerCut(u64),
}

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(self) struct Plan {
    pub(self) seed: u64,
    pub(self) senders: u8,
    pub(self) messages: u8,
    pub(self) groups: usize,
    /// Of each group.
    pub(self) consumers: u64,
    pub(self) durability: Durability,
    /// Whether a driver looks at the clock.
    pub(self) is_driven: bool,
    pub(self) end: End,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let end = match random.below(4) {
            0 => End::Drained,
            1 => End::Closed(random.below(4) as usize),
            _ => End::PowerCut(random.below(24)),
        };
        let durability = match random.below(4) {
            // A power cut without syncs may lose anything.
            _ if matches!(end, End::PowerCut(_)) => Durability::Always,
            0 => Durability::Os,
            1 => Durability::Interval(Duration::from_millis(50)),
            _ => Durability::Always,
        };
        Self {
            seed,
            senders: 1 + random.below(3) as u8,
            messages: 1 + random.below(4) as u8,
            groups: 1 + random.below(3) as usize / 2,
            consumers: 1 + random.below(2),
            durability,
            is_driven: random.below(2) == 0,
            end,
        }
    }

    pub(self) fn total(&self) -> usize {
        usize::from(self.senders) * usize::from(self.messages)
    }

    fn config(&self) -> Config {
        Config {
            durability: self.durability,
            lease: LEASE,
            max_attempts: 10_000,
            segment_bytes: 64 << 10,
            max_message_bytes: 16 << 10,
            memory_bytes: 4 << 20,
            ..Config::default()
        }
    }
}

/// The model's time.
struct Slept;

impl Clock for Slept {
    fn elapsed(&self) -> Duration {
        thread::slept()
    }

    fn wall(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + Duration::from_secs(1_577_836_800) + thread::slept()
    }
}

fn open(plan: &Plan, disk: &FaultyDisk) -> Queue {
    Queue::builder().config(plan.config()).clock(Slept).open_storage(disk.clone()).unwrap()
}

/// One session of the workload, and what is left of it.
fn run(plan: Plan) {
    let disk = FaultyDisk::new(plan.seed);
    let model = Model::new(plan);
    let users = Users::new(plan, open(&plan, &disk), &disk, model);
    let model = users.work();
    // After a clean end everything is on the disk, whatever the durability.
    disk.crash();
    check_what_is_left(&plan, &disk, model);
}

/// Opens the queue again, takes all there is, and opens it once more to find nothing.
fn check_what_is_left(plan: &Plan, disk: &FaultyDisk, mut model: Model) {
    let queue = open(plan, disk);
    queue.shared().hub.core.lock().state.check_invariants();
    let stats = queue.stats();
    let mut left = 0;
    for (group, name) in GROUPS.iter().enumerate().take(plan.groups) {
        let handle = queue.group(name).unwrap();
        let counts = handle.stats().unwrap();
        let consumer = handle.consumer();
        let mut found = Vec::new();
        // Delays that are left come due.
        for _ in 0..4 {
            thread::park_timeout(Duration::from_secs(10));
            while let Some(delivery) = consumer.try_receive().unwrap() {
                found.push((model::number(&delivery), delivery.id()));
                delivery.ack_durable().unwrap().wait().unwrap();
            }
        }
        let waiting = counts.ready + counts.delayed + counts.held;
        assert_eq!((waiting, counts.leased, counts.dead), (found.len() as u64, 0, 0), "{name}: {counts:?}");
        left = left.max(found.len() as u64);
        model.found(group, &found);
    }
    assert!(stats.messages >= left && stats.messages <= plan.total() as u64, "{stats:?}");
    if plan.groups == 1 {
        assert_eq!(stats.messages, left);
    }
    assert_eq!(queue.stats().messages, 0);
    queue.close().unwrap();
    drop(queue);
    assert_eq!(open(plan, disk).stats().messages, 0);
}

/// Prints its seed if it is dropped by a panic.
struct SeedReport(Plan);

impl Drop for SeedReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {:?}; TENFOLD_SEED={} replays it", self.0, self.0.seed);
        }
    }
}

fn check(seed: u64) {
    let plan = Plan::new(seed);
    let report = SeedReport(plan);
    let mut config = shuttle::Config::new();
    config.stack_size = 256 << 10;
    // The seed is shorter.
    config.failure_persistence = FailurePersistence::None;
    let scenario = move || {
        thread::start_time();
        run(plan);
    };
    Runner::new(RandomScheduler::new_from_seed(seed, RANDOM_SCHEDULES), config.clone()).run(scenario);
    Runner::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, PCT_SCHEDULES), config).run(scenario);
    drop(report);
}

fn number_from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

#[test]
fn shuttle_the_whole_queue() {
    if let Some(seed) = number_from_env("TENFOLD_SEED") {
        return check(seed);
    }
    (0..SEEDS).for_each(check);
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut fresh = Random(RandomState::new().build_hasher().finish());
    for _ in 0..number_from_env("TENFOLD_ROUNDS").unwrap_or(4) {
        check(fresh.below(u64::MAX));
    }
}

fn check_small(scenario: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(scenario.clone(), 200);
    shuttle::check_pct(scenario, 200, 3);
}

fn new_queue() -> Queue {
    thread::start_time();
    open(&Plan::new(0), &FaultyDisk::new(0))
}

/// The only one who could write what nobody waits for sleeps already, with nothing due; and whoever waits for it is not
/// the one who receives it.
#[test]
fn shuttle_a_consumer_that_waits_is_called() {
    let scenario = |as_task: bool, is_let_go: bool| {
        move || {
            let queue = new_queue();
            let consumer = queue.consumer();
            let receiving = thread::spawn(move || {
                let received = if as_task { block_on(consumer.receive_async()) } else { consumer.receive() };
                received.unwrap().ack().unwrap();
            });
            let ticket = queue.producer().submit("a message").unwrap();
            if !is_let_go {
                ticket.wait().unwrap();
            }
            drop(ticket);
            receiving.join().unwrap();
        }
    };
    for as_task in [false, true] {
        check_small(scenario(as_task, false));
        check_small(scenario(as_task, true));
    }
}

/// One of two groups' consumers looks at the clock for both.
#[test]
fn shuttle_what_comes_due_in_another_group_is_received() {
    check_small(|| {
        let queue = new_queue();
        let other = queue.group_from(GROUPS[1], Start::Earliest).unwrap();
        queue.producer().send("a message").unwrap();
        let (consumer, closed) = (queue.consumer(), queue.clone());
        let one = thread::spawn(move || {
            while consumer.receive().unwrap().ack().is_err() {}
            assert!(matches!(consumer.receive(), Err(ReceiveError::Closed)));
        });
        let consumer = other.consumer();
        let two = thread::spawn(move || {
            // The lease may be over by now, and then it comes back without a delay.
            let _ = consumer.receive().unwrap().nack(Duration::from_secs(1));
            while consumer.receive().unwrap().ack().is_err() {}
            closed.close().unwrap();
        });
        let threads = [one, two];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The same seed is the same run: nothing but shuttle chooses.
#[test]
fn shuttle_a_seed_replays() {
    let trace = |seed| {
        let steps = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&steps);
        let mut config = shuttle::Config::new();
        config.stack_size = 256 << 10;
        Runner::new(RandomScheduler::new_from_seed(seed, 1), config).run(move || {
            thread::start_time();
            run(Plan::new(seed));
            count.store(shuttle::current::context_switches(), std::sync::atomic::Ordering::Relaxed);
        });
        steps.load(std::sync::atomic::Ordering::Relaxed)
    };
    for seed in 0..8 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}
