//! Threads and tasks that wait, and who wakes them.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tenfold_mq::{
    Config, Durability, Fault, FaultyDisk, File, ManualClock, Memory, Queue, QueueError, ReceiveError, Refusal,
    Storage, StorageLock,
};

use crate::support::{Bench, SECOND, Wakes, block_on, drain, is_empty, next, poll_once, small, text};

#[test]
fn a_blocked_receiver_gets_what_is_sent() {
    Bench::both(small(), |_, queue| {
        let consumers: Vec<_> = (0..4)
            .map(|_| {
                let consumer = queue.consumer();
                thread::spawn(move || (0..100).map(|_| consumer.receive().unwrap().ack().unwrap()).count())
            })
            .collect();
        for n in 0..400 {
            queue.producer().send(n.to_string()).unwrap();
        }
        assert_eq!(consumers.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 400);
        assert_eq!(queue.stats().messages, 0);
    });
}

#[test]
fn receivers_that_wait_are_told_of_the_close() {
    Bench::both(small(), |_, queue| {
        let consumer = queue.consumer();
        let receiver = thread::spawn(move || consumer.receive().map(|_| ()));
        let driver = queue.driver();
        let driving = thread::spawn(move || driver.run());
        queue.close().unwrap();
        assert_eq!(receiver.join().unwrap(), Err(ReceiveError::Closed));
        assert_eq!(driving.join().unwrap(), Ok(()));
        assert!(matches!(queue.producer().send("a").unwrap_err().refusal(), Refusal::Closed));
        assert!(matches!(queue.consumer().try_receive(), Err(ReceiveError::Closed)));
    });
}

#[test]
fn all_who_wait_are_told_that_the_log_failed() {
    let disk = FaultyDisk::new(1);
    let config = Config { max_messages: 2, ..small() };
    let queue = Queue::builder().config(config).clock(ManualClock::new()).open_storage(disk.clone()).unwrap();
    queue.producer().send_batch(["a", "b"]).unwrap();
    // Nothing to receive, no room to send, and something to be written.
    let _held = queue.consumer().receive_batch(2).unwrap();
    let wakes = [(); 2].map(|()| Arc::new(Wakes::default()));
    let (consumer, producer) = (queue.consumer(), queue.producer());
    let mut receiving = pin!(consumer.receive_async());
    let mut sending = pin!(producer.send_async("c"));
    assert!(poll_once(receiving.as_mut(), &wakes[0]).is_pending());
    assert!(poll_once(sending.as_mut(), &wakes[1]).is_pending());
    thread::scope(|scope| {
        let receiver = scope.spawn(|| queue.consumer().receive().map(|_| ()));
        let sender = scope.spawn(|| queue.producer().send("d"));
        while queue.default_group().stats().unwrap().waiting < 2 {
            thread::yield_now();
        }
        disk.fail_change(disk.changes(), Fault::Error(std::io::ErrorKind::Other));
        assert!(matches!(queue.flush(), Err(QueueError::Failed(_))));
        assert!(matches!(receiver.join().unwrap(), Err(ReceiveError::Failed(_))));
        assert!(matches!(sender.join().unwrap().unwrap_err().refusal(), Refusal::Failed(_)));
    });
    assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 1]);
    assert!(matches!(poll_once(receiving, &wakes[0]), Poll::Ready(Err(ReceiveError::Failed(_)))));
    let Poll::Ready(Err(error)) = poll_once(sending, &wakes[1]) else { panic!("it was woken") };
    assert!(matches!(error.refusal(), Refusal::Failed(_)));
    assert!(matches!(queue.consumer().try_receive(), Err(ReceiveError::Failed(_))));
    assert!(matches!(queue.driver().run(), Err(QueueError::Failed(_))));
}

#[test]
fn who_waits_for_confirmation_or_the_end_is_told_that_the_log_failed() {
    let disk = FaultyDisk::new(1);
    let queue = Queue::builder().config(small()).clock(ManualClock::new()).open_storage(disk.clone()).unwrap();
    queue.producer().send("a").unwrap();
    let _held = next(&queue.consumer());
    let wakes = Arc::new(Wakes::default());
    let mut waiting = pin!(queue.producer().submit("b").unwrap());
    assert!(poll_once(waiting.as_mut(), &wakes).is_pending());
    disk.fail_change(disk.changes(), Fault::Error(std::io::ErrorKind::Other));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| waiting.wait().map(|_| ()));
        let drainer = scope.spawn(|| queue.drain(SECOND));
        waiter.join().unwrap().unwrap_err();
        assert!(matches!(drainer.join().unwrap(), Err(QueueError::Failed(_))));
    });
    assert!(matches!(poll_once(waiting.as_mut(), &wakes), Poll::Ready(Err(_))));
}

#[test]
fn a_confirmed_message_is_handed_out_after_the_log_failed() {
    let disk = FaultyDisk::new(1);
    let queue = Queue::builder().config(small()).open_storage(disk.clone()).unwrap();
    queue.producer().send("a").unwrap();
    disk.fail_change(disk.changes(), Fault::Error(std::io::ErrorKind::Other));
    assert!(matches!(queue.producer().send("b").unwrap_err().refusal(), Refusal::Failed(_)));
    assert_eq!(text(&next(&queue.consumer())), "a");
}

#[test]
fn a_timeout_ends_the_wait() {
    let queue = Queue::in_memory(small()).unwrap();
    assert!(queue.consumer().receive_timeout(Duration::from_millis(5)).unwrap().is_none());
    assert!(queue.consumer().receive_batch_timeout(5, Duration::from_millis(5)).unwrap().is_empty());
    queue.producer().send("a").unwrap();
    assert!(queue.consumer().receive_timeout(Duration::from_millis(5)).unwrap().is_some());
}

#[test]
fn a_blocked_receiver_wakes_up_for_what_comes_due() {
    let queue = Queue::in_memory(small()).unwrap();
    queue.producer().send("a").unwrap();
    next(&queue.consumer()).nack(Duration::from_millis(20)).unwrap();
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let consumer = queue.consumer();
            thread::spawn(move || consumer.receive().map(|delivery| text(&delivery)))
        })
        .collect();
    let driver = queue.driver();
    let driving = thread::spawn(move || driver.run());
    // Dropped deliveries go on to the next receiver, so all three get it in turn.
    for consumer in consumers {
        assert_eq!(consumer.join().unwrap().unwrap(), "a");
    }
    queue.close().unwrap();
    driving.join().unwrap().unwrap();
}

#[test]
fn a_message_wakes_one_task_and_a_dropped_task_passes_its_wake_up_on() {
    Bench::both(small(), |_, queue| {
        let consumer = queue.consumer();
        let wakes = [(); 3].map(|()| Arc::new(Wakes::default()));
        let mut first = Box::pin(consumer.receive_async());
        let mut second = pin!(consumer.receive_async());
        let mut third = pin!(consumer.receive_async());
        assert!(poll_once(first.as_mut(), &wakes[0]).is_pending());
        assert!(poll_once(second.as_mut(), &wakes[1]).is_pending());
        assert!(poll_once(third.as_mut(), &wakes[2]).is_pending());
        queue.producer().send("a").unwrap();
        assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 0, 0]);
        drop(first);
        assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 1, 0]);
        let Poll::Ready(Ok(delivery)) = poll_once(second.as_mut(), &wakes[1]) else { panic!("it was woken") };
        assert_eq!((text(&delivery).as_str(), delivery.attempt()), ("a", 1));
        assert!(poll_once(third.as_mut(), &wakes[2]).is_pending());
        delivery.nack(Duration::ZERO).unwrap();
        assert_eq!(wakes[2].count(), 1);
        let Poll::Ready(Ok(delivery)) = poll_once(third.as_mut(), &wakes[2]) else { panic!("it was woken") };
        delivery.ack().unwrap();
    });
}

#[test]
fn a_task_may_be_polled_for_nothing() {
    Bench::both(small(), |_, queue| {
        let consumer = queue.consumer();
        let wakes = Arc::new(Wakes::default());
        let mut waiting = pin!(consumer.receive_async());
        for _ in 0..3 {
            assert!(poll_once(waiting.as_mut(), &wakes).is_pending());
        }
        assert_eq!(queue.default_group().stats().unwrap().waiting, 1);
        queue.producer().send("a").unwrap();
        assert!(poll_once(waiting.as_mut(), &wakes).is_ready());
        assert_eq!(queue.default_group().stats().unwrap().waiting, 0);
    });
}

#[test]
fn a_tick_wakes_tasks_for_what_came_due() {
    Bench::both(small(), |bench, queue| {
        queue.producer().send("a").unwrap();
        let consumer = queue.consumer();
        next(&consumer).nack(SECOND).unwrap();
        let wakes = Arc::new(Wakes::default());
        let mut waiting = pin!(consumer.receive_async());
        assert!(poll_once(waiting.as_mut(), &wakes).is_pending());
        assert!(queue.tick().unwrap() <= SECOND);
        assert_eq!(wakes.count(), 0);
        bench.clock.advance(SECOND);
        queue.tick().unwrap();
        assert_eq!(wakes.count(), 1);
        assert!(poll_once(waiting.as_mut(), &wakes).is_ready());
    });
}

#[test]
fn an_ack_lets_the_next_of_the_key_wake_somebody() {
    Bench::both(small(), |_, queue| {
        for body in ["1", "2"] {
            queue.producer().send(tenfold_mq::Message::new(body).with_key("k")).unwrap();
        }
        let consumer = queue.consumer();
        let held = next(&consumer);
        let wakes = Arc::new(Wakes::default());
        let mut waiting = pin!(consumer.receive_async());
        assert!(poll_once(waiting.as_mut(), &wakes).is_pending());
        held.ack().unwrap();
        assert_eq!(wakes.count(), 1);
        assert!(poll_once(waiting.as_mut(), &wakes).is_ready());
    });
}

#[test]
fn a_sender_waits_for_room_and_is_woken_by_an_ack() {
    Bench::both(Config { max_messages: 1, ..small() }, |_, queue| {
        queue.producer().send("a").unwrap();
        let producer = queue.producer();
        let sender = thread::spawn(move || producer.send("b").map(|_| ()));
        let consumer = queue.consumer();
        next(&consumer).ack().unwrap();
        assert_eq!(sender.join().unwrap(), Ok(()));
        let wakes = Arc::new(Wakes::default());
        let producer = queue.producer();
        let mut sending = pin!(producer.submit_async("c"));
        assert!(poll_once(sending.as_mut(), &wakes).is_pending());
        assert_eq!(drain(&consumer), ["b"]);
        assert_eq!(wakes.count(), 1);
        assert!(poll_once(sending.as_mut(), &wakes).is_ready());
        queue.flush().unwrap();
        assert_eq!(drain(&consumer), ["c"]);
    });
}

#[test]
fn a_drain_waits_for_the_last_ack_and_then_the_queue_is_closed() {
    Bench::both(small(), |_, queue| {
        queue.producer().send_batch(["a", "b"]).unwrap();
        let consumer = queue.consumer();
        let draining = {
            let queue = queue.clone();
            thread::spawn(move || queue.drain(SECOND * 60))
        };
        let worker = thread::spawn(move || {
            let mut count = 0;
            while let Ok(delivery) = consumer.receive() {
                delivery.ack().unwrap();
                count += 1;
            }
            count
        });
        assert_eq!(draining.join().unwrap(), Ok(true));
        assert_eq!(worker.join().unwrap(), 2);
        assert!(matches!(queue.producer().send("c").unwrap_err().refusal(), Refusal::Closed));
    });
}

#[test]
fn a_drain_that_takes_too_long_says_so() {
    let queue = Queue::in_memory(small()).unwrap();
    queue.producer().send("a").unwrap();
    assert_eq!(queue.drain(Duration::from_millis(5)), Ok(false));
    assert!(matches!(queue.producer().send("b").unwrap_err().refusal(), Refusal::Closed));
    assert!(!is_empty(&queue.consumer()));
}

#[test]
fn tasks_share_commits_however_many_they_are() {
    let queue = Bench::new(small()).open();
    let producer = queue.producer();
    let mut tasks: Vec<_> = (0..100).map(|n| Box::pin(producer.send_async(n.to_string()))).collect();
    block_on(std::future::poll_fn(|context| {
        tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
        if tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }));
    assert_eq!(drain(&queue.consumer()).len(), 100);
    let _ = ManualClock::new();
}

#[test]
fn a_driver_outlives_what_only_one_call_met() {
    let disk = FaultyDisk::new(1);
    let queue = Queue::builder().config(small()).open_storage(disk.clone()).unwrap();
    // The next segment is to be made ahead by now.
    queue.producer().send_batch((0..4).map(|_| vec![0; 10_000])).unwrap();
    let driver = queue.driver();
    let fault = disk.changes();
    disk.fail_change(fault, Fault::Error(std::io::ErrorKind::Other));
    let driving = thread::spawn(move || driver.run());
    while disk.changes() <= fault && !driving.is_finished() {
        thread::yield_now();
    }
    assert!(disk.changes() > fault, "nothing was to be done");
    queue.producer().send("goes on").unwrap();
    queue.close().unwrap();
    assert_eq!(driving.join().unwrap(), Ok(()));
}

#[test]
fn a_receiver_that_waits_syncs_when_the_interval_is_over() {
    let disk = FaultyDisk::new(1);
    let durability = Durability::Interval(Duration::from_millis(20));
    let queue = Queue::builder().config(Config { durability, ..small() }).open_storage(disk.clone()).unwrap();
    queue.pause().unwrap();
    let consumer = queue.consumer();
    let receiver = thread::spawn(move || consumer.receive().is_err());
    while queue.default_group().stats().unwrap().waiting == 0 {
        thread::yield_now();
    }
    queue.producer().send("confirmed").unwrap();
    // Nobody does anything any more but wait. A crash that keeps nothing but what was synced is among these.
    let is_safe = |seed| Queue::builder().open_storage(disk.crashed(seed)).unwrap().stats().messages == 1;
    let began = std::time::Instant::now();
    while !(0..8).all(is_safe) {
        assert!(began.elapsed() < SECOND * 20, "it is not on disk");
        thread::sleep(Duration::from_millis(5));
    }
    queue.close().unwrap();
    assert!(receiver.join().unwrap());
}

/// A disk on which making a file takes until it is allowed.
#[derive(Clone, Debug, Default)]
struct Slow {
    disk: Memory,
    /// While held by the test, nobody gets on.
    gate: Arc<Mutex<()>>,
    inside: Arc<AtomicUsize>,
}

impl Storage for Slow {
    fn lock(&self) -> std::io::Result<StorageLock> {
        self.disk.lock()
    }

    fn open(&self, name: &str) -> std::io::Result<Box<dyn File>> {
        self.disk.open(name)
    }

    fn create(&self, name: &str) -> std::io::Result<Box<dyn File>> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        let created = self.disk.create(name);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        created
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.disk.list()
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        self.disk.sync_dir()
    }
}

#[test]
fn a_close_waits_for_whoever_is_at_the_files() {
    let disk = Slow::default();
    let queue = Queue::builder().config(small()).open_storage(disk.clone()).unwrap();
    queue.producer().send_batch((0..4).map(|_| vec![0; 10_000])).unwrap();
    thread::scope(|scope| {
        let gate = disk.gate.lock().unwrap();
        let ticking = scope.spawn(|| queue.tick());
        while disk.inside.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let closing = scope.spawn(|| queue.close());
        // It cannot end while the other is inside, however long this takes.
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(100) {
            assert!(!closing.is_finished(), "another queue could have the files, and this one writes to them");
            thread::yield_now();
        }
        drop(gate);
        closing.join().unwrap().unwrap();
        assert_eq!(disk.inside.load(Ordering::SeqCst), 0);
        let _ = ticking.join().unwrap();
    });
}
