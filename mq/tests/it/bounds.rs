//! Room: messages, bytes, memory and disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tenfold_mq::{Config, FaultyDisk, GroupError, Message, Queue, QueueError, Refusal, SettleError};

use crate::support::{Bench, drain, is_empty, next, small};

fn refusing(config: Config) -> Config {
    Config { send_timeout: Duration::ZERO, ..config }
}

#[test]
fn a_queue_full_of_messages_hands_the_next_one_back() {
    Bench::both(refusing(Config { max_messages: 2, ..small() }), |_, queue| {
        let producer = queue.producer();
        producer.send_batch(["a", "b"]).unwrap();
        let message = Message::new("c").with_key("k");
        for error in [
            producer.try_send(message.clone()).unwrap_err(),
            producer.send(message.clone()).unwrap_err(),
            producer.try_submit(message.clone()).unwrap_err(),
            producer.submit(message.clone()).unwrap_err(),
        ] {
            assert!(error.is_full());
            assert_eq!(error.into_parts(), (Refusal::Full, message.clone()));
        }
        assert_eq!(queue.stats().refused, 4);
        let held = next(&queue.consumer());
        assert!(producer.try_send("c").is_err(), "on lease is not done with");
        held.ack().unwrap();
        producer.try_send("c").unwrap();
        assert_eq!(drain(&queue.consumer()), ["b", "c"]);
    });
}

#[test]
fn a_queue_full_of_bytes_hands_the_next_one_back() {
    Bench::both(refusing(Config { max_bytes: 10_000, ..small() }), |_, queue| {
        let producer = queue.producer();
        let mut count = 0;
        while producer.try_send(vec![0; 1000]).is_ok() {
            count += 1;
        }
        // The log needs a few bytes for each.
        assert!((9..=10).contains(&count), "{count}");
        queue.purge().unwrap();
        producer.try_send(vec![0; 1000]).unwrap();
    });
}

#[test]
fn dead_letters_take_room_until_they_are_gone() {
    Bench::both(refusing(Config { max_messages: 1, ..small() }), |_, queue| {
        let producer = queue.producer();
        let id = producer.try_send("a").unwrap();
        next(&queue.consumer()).dead_letter("no").unwrap();
        assert!(producer.try_send("b").is_err());
        queue.default_group().discard(id).unwrap();
        producer.try_send("b").unwrap();
        next(&queue.consumer()).dead_letter("no").unwrap();
        assert_eq!(queue.default_group().purge_dead_letters(), Ok(1));
        producer.try_send("c").unwrap();
    });
}

#[test]
fn a_message_that_is_refused_is_not_remembered_as_sent() {
    Bench::both(refusing(Config { max_messages: 1, ..small() }), |_, queue| {
        let message = || Message::new("a").with_deduplication_id("once");
        queue.producer().send("first").unwrap();
        queue.producer().try_send(message()).unwrap_err();
        assert_eq!(drain(&queue.consumer()), ["first"]);
        queue.producer().try_send(message()).unwrap();
        assert_eq!(drain(&queue.consumer()), ["a"]);
    });
}

#[test]
fn bodies_beyond_the_memory_budget_are_read_back_from_the_log() {
    let bench = Bench::new(Config { segment_bytes: 1 << 20, memory_bytes: 4 << 20, ..small() });
    let queue = bench.open();
    let body = |n: u32| {
        let mut body = n.to_le_bytes().to_vec();
        body.resize(1000, n as u8);
        body
    };
    for chunk in 0..200 {
        queue.producer().send_batch((chunk * 100..(chunk + 1) * 100).map(body)).unwrap();
    }
    let stats = queue.stats();
    assert!(stats.message_bytes > 20_000_000 && stats.body_bytes <= 6 << 20, "{stats:?}");
    let consumer = queue.consumer();
    for n in 0..20_000 {
        let delivery = next(&consumer);
        assert_eq!(delivery.body(), &body(n));
        delivery.ack().unwrap();
    }
    assert!(is_empty(&consumer));
}

#[test]
fn memory_without_a_log_is_given_back() {
    let bench = Bench::new(small());
    let queue = bench.in_memory();
    let stuck = {
        queue.producer().send("stuck").unwrap();
        next(&queue.consumer())
    };
    for _ in 0..2_000 {
        queue.producer().send_batch((0..100).map(|_| "x")).unwrap();
        queue.consumer().receive_batch(100).unwrap().ack().unwrap();
    }
    let stats = queue.stats();
    assert_eq!((stats.messages, stats.body_bytes), (1, 5));
    assert!(stats.index_bytes < 4 << 20, "{stats:?}");
    assert_eq!(stuck.body().as_ref(), b"stuck");
    drop(stuck);
    assert_eq!(drain(&queue.consumer()), ["stuck"]);
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_opens_for_draining() {
    let bench = Bench::new(refusing(Config { max_disk_bytes: 10 * (64 << 10), ..small() }));
    let queue = bench.open();
    let mut sent = 0;
    let error = loop {
        match queue.producer().send(vec![0; 1000]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.refusal(), error.unsent().body().len()), (&Refusal::DiskFull, 1000));
    assert!(error.is_full() && sent > 200, "{sent}");
    drop(queue);
    let queue = bench.open();
    assert_eq!(queue.stats().messages, sent);
    assert!(queue.producer().send(vec![0; 1000]).is_err());
    let consumer = queue.consumer();
    let mut drained = 0;
    while let Some(delivery) = consumer.try_receive().unwrap() {
        delivery.ack_durable().unwrap().wait().unwrap();
        drained += 1;
    }
    assert_eq!(drained, sent);
    queue.tick().unwrap();
    for _ in 0..100 {
        queue.producer().send(vec![0; 1000]).unwrap();
    }
    drop(consumer);
    drop(queue);
    let queue = bench.open();
    assert_eq!(drain(&queue.consumer()).len(), 100);
}

#[test]
fn a_long_life_in_little_room() {
    // Ten times what fits, with stragglers, on a disk that is nearly full all the time.
    let bench = Bench::new(refusing(Config { max_disk_bytes: 16 * (64 << 10), ..small() }));
    let queue = bench.open();
    let consumer = queue.consumer();
    let mut held = Vec::new();
    for n in 0..5_000_u32 {
        if let Err(error) = queue.producer().send(vec![n as u8; 1000]) {
            panic!("{n}: {error:?} {:?}", queue.stats());
        }
        let delivery = next(&consumer);
        if n % 100 == 0 { held.push(delivery) } else { delivery.ack().unwrap() }
    }
    held.into_iter().for_each(|delivery| delivery.ack().unwrap());
    queue.tick().unwrap();
    assert!(queue.stats().segments <= 4, "{:?}", queue.stats());
}

#[test]
fn a_batch_that_fits_alone_is_not_refused_for_what_would_go_along() {
    let batch = |last: usize| [16 << 10, 16 << 10, 16 << 10, last].map(|size| vec![0; size]);
    let fits = |last: &usize| Bench::new(small()).open().producer().send_batch(batch(*last)).is_ok();
    let sizes: Vec<usize> = (0..=16 << 10).collect();
    let too_many = sizes.partition_point(fits);
    assert!((1..sizes.len()).contains(&too_many), "a segment is full before the message is");
    let queue = Bench::new(small()).open();
    queue.producer().send("a").unwrap();
    let held = next(&queue.consumer());
    // That it was delivered is not in the log yet.
    queue.producer().send_batch(batch(too_many - 1)).unwrap();
    assert_eq!(queue.stats().messages, 5);
    drop(held);
}

/// Counts itself as long as it is there.
struct Counted(Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        b"counted"
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn bodies_without_a_log_go_however_they_are_acked() {
    let queue = Bench::new(small()).in_memory();
    let there = Arc::new(AtomicUsize::new(0));
    let consumer = queue.consumer();
    for n in 0..20_000 {
        there.fetch_add(1, Ordering::Relaxed);
        queue.producer().send(Bytes::from_owner(Counted(Arc::clone(&there)))).unwrap();
        if n % 2 == 0 {
            next(&consumer).ack_durable().unwrap().wait().unwrap();
        } else {
            consumer.receive_batch(1).unwrap().ack_durable().unwrap().wait().unwrap();
        }
    }
    let there = there.load(Ordering::Relaxed);
    assert!(there < 4_000, "{there} bodies of 20,000 are still there");
}

#[test]
fn a_disk_that_was_full_and_has_room_again_takes_messages_again() {
    let disk = FaultyDisk::new(3);
    let queue = Queue::builder().config(refusing(small())).open_storage(disk.clone()).unwrap();
    disk.set_capacity(512 << 10);
    let mut sent = 0;
    let error = loop {
        match queue.producer().send(vec![0; 1000]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.refusal(), &Refusal::DiskFull);
    assert!(queue.producer().send("small").is_err() || sent > 0);
    // Somebody else gave room back; nothing was received meanwhile.
    disk.set_capacity(u64::MAX);
    for _ in 0..100 {
        queue.producer().send(vec![0; 1000]).unwrap();
        sent += 1;
    }
    drop(queue);
    disk.crash();
    let queue = Queue::builder().config(small()).open_storage(disk).unwrap();
    assert!(queue.stats().messages >= sent, "{:?} of {sent}", queue.stats());
}

#[test]
fn what_never_fits_is_refused_at_once_and_not_as_if_it_could_later() {
    // It would wait for ever.
    let config = Config { max_bytes: 10_000, max_messages: 3, send_timeout: Duration::MAX, ..small() };
    Bench::both(config, |_, queue| {
        let producer = queue.producer();
        let error = producer.try_send(vec![0; 11_000]).unwrap_err();
        assert_eq!(error.refusal(), &Refusal::TooLarge { size: 11_000, max: 10_000 });
        let error = producer.send_batch([vec![0; 6_000], vec![0; 6_000]]).unwrap_err();
        assert_eq!(error.refusal(), &Refusal::TooLarge { size: 12_000, max: 10_000 });
        let error = producer.send_batch(["a"; 4]).unwrap_err();
        assert_eq!((error.refusal(), error.unsent().len()), (&Refusal::TooMany { count: 4, max: 3 }, 4));
        producer.send_batch(["a"; 3]).unwrap();
    });
}

#[test]
fn acks_that_find_no_room_say_so() {
    let disk = FaultyDisk::new(3);
    let config = refusing(Config { max_attempts: 60_000, ..small() });
    let queue = Queue::builder().config(config).open_storage(disk.clone()).unwrap();
    disk.set_capacity(512 << 10);
    while queue.producer().send(vec![0; 1000]).is_ok() {}
    // What only says that something was delivered takes the reserve, too.
    let consumer = queue.consumer();
    while queue.flush().is_ok() {
        consumer.try_receive_batch(64).unwrap().nack(Duration::ZERO);
    }
    assert_eq!(queue.flush(), Err(QueueError::DiskFull));
    assert_eq!(next(&consumer).ack_durable().map(|_| ()), Err(SettleError::DiskFull));
    assert_eq!(queue.group("other").map(|_| ()), Err(GroupError::DiskFull));
    disk.set_capacity(u64::MAX);
    next(&consumer).ack_durable().unwrap().wait().unwrap();
}
