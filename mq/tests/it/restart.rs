//! What a restart finds, and what the disk gets back.

use tenfold_mq::{
    Clock, Config, Fault, FaultyDisk, Message, OpenError, Queue, QueueError, Receipt, ReceiveError, SettleError,
};

use crate::support::{Bench, SECOND, drain, is_empty, next, small, text};

/// More than a segment's worth, in two batches.
fn send_many(queue: &Queue, round: u8) {
    for _ in 0..2 {
        queue.producer().send_batch((0..50).map(|_| vec![round; 1000])).unwrap();
    }
}

/// Drops the queue as a crash of the process would, with all that was not written.
fn crash(queue: Queue) {
    drop(queue);
}

#[test]
fn confirmed_messages_and_durable_acks_survive_a_crash() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send_batch((0..10).map(|n| n.to_string())).unwrap();
    for _ in 0..3 {
        next(&queue.consumer()).ack_durable().unwrap().wait().unwrap();
    }
    let _unconfirmed = queue.producer().submit("unconfirmed").unwrap();
    let held = next(&queue.consumer()).into_receipt();
    drop(_unconfirmed);
    crash(queue);
    let queue = bench.open();
    assert_eq!(queue.ack(held), Err(SettleError::Stale), "leases end with the process");
    let bodies = drain(&queue.consumer());
    assert_eq!(bodies, ["3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn an_ack_is_written_with_the_next_message() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send_batch(["a", "b"]).unwrap();
    next(&queue.consumer()).ack().unwrap();
    queue.producer().send("c").unwrap();
    next(&queue.consumer()).ack().unwrap();
    crash(queue);
    // The ack of b went with nothing.
    assert_eq!(drain(&bench.open().consumer()), ["b", "c"]);
}

#[test]
fn attempts_are_counted_over_restarts() {
    let bench = Bench::new(Config { max_attempts: 3, ..small() });
    let mut receipts: Vec<Receipt> = Vec::new();
    for attempt in 1..=3 {
        let queue = bench.open();
        if attempt == 1 {
            queue.producer().send("poison").unwrap();
        }
        let delivery = next(&queue.consumer());
        assert_eq!(delivery.attempt(), attempt);
        assert!(receipts.iter().all(|receipt| queue.ack(*receipt) == Err(SettleError::Stale)));
        receipts.push(delivery.into_receipt());
        queue.flush().unwrap();
        crash(queue);
    }
    let queue = bench.open();
    assert!(is_empty(&queue.consumer()), "it was delivered three times");
    assert_eq!(queue.dead_letters(10).unwrap().len(), 1);
}

#[test]
fn dead_letters_ids_and_identity_survive() {
    let bench = Bench::new(small());
    let queue = bench.open();
    let message = || Message::new("a").with_deduplication_id("once");
    let id = queue.producer().send(message()).unwrap();
    next(&queue.consumer()).dead_letter("why not").unwrap();
    queue.producer().send("b").unwrap();
    let receipt = next(&queue.consumer()).into_receipt();
    queue.close().unwrap();
    crash(queue);
    let queue = bench.open();
    assert_eq!(queue.ack(receipt), Err(SettleError::Stale), "of this queue, though late");
    assert_eq!(queue.dead_letters(9).unwrap()[0].reason.to_string(), "rejected: why not");
    assert_eq!(queue.producer().send(message()).unwrap(), id);
    assert!(queue.requeue(id).unwrap());
    crash(queue);
    let queue = bench.open();
    assert_eq!(drain(&queue.consumer()), ["a", "b"]);
    queue.flush().unwrap();
    crash(queue);
    bench.clock.advance(bench.config.deduplication_window + SECOND);
    assert_ne!(bench.open().producer().send(message()).unwrap(), id);
}

#[test]
fn a_queue_that_was_drained_gives_its_disk_back_and_starts_clean() {
    let bench = Bench::new(small());
    let queue = bench.open();
    for round in 0..20 {
        send_many(&queue, round);
        queue.consumer().receive_batch(100).unwrap().ack().unwrap();
        queue.tick().unwrap();
    }
    let stats = queue.stats();
    assert_eq!(stats.messages, 0);
    assert!(stats.segments <= 3, "{stats:?}");
    assert!(stats.disk_bytes <= 8 * u64::from(bench.config.segment_bytes), "{stats:?}");
    queue.close().unwrap();
    drop(queue);
    let queue = bench.open();
    assert!(is_empty(&queue.consumer()));
    let id = queue.producer().send("next").unwrap();
    assert_eq!(id.get(), 2000, "numbers are not used twice");
    assert_eq!(drain(&queue.consumer()), ["next"]);
}

#[test]
fn a_checkpoint_may_name_what_has_gone_since() {
    let bench = Bench::new(small());
    let queue = bench.open();
    let send = |count: usize| _ = queue.producer().send_batch((0..count).map(|_| vec![0; 1000])).unwrap();
    // Of three segments the second goes, with a checkpoint in the third; then the first, with one further on.
    send(50);
    let first = queue.consumer().receive_batch(50).unwrap();
    (0..3).for_each(|_| send(30));
    queue.consumer().receive_batch(90).unwrap().ack().unwrap();
    queue.tick().unwrap();
    send(30);
    (0..2).for_each(|_| send(40));
    first.ack().unwrap();
    queue.tick().unwrap();
    crash(queue);
    assert_eq!(drain(&bench.open().consumer()).len(), 110);
}

#[test]
fn one_message_that_nobody_takes_holds_no_segment() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send(Message::new("stuck").with_delay(SECOND * 3600)).unwrap();
    for round in 0..20 {
        send_many(&queue, round);
        queue.consumer().receive_batch(100).unwrap().ack().unwrap();
        queue.tick().unwrap();
    }
    assert!(queue.stats().segments <= 3, "{:?}", queue.stats());
    crash(queue);
    let queue = bench.open();
    bench.clock.advance(SECOND * 3600);
    let consumer = queue.consumer();
    let mut bodies = Vec::new();
    while let Some(delivery) = consumer.try_receive().unwrap() {
        bodies.push(text(&delivery));
        delivery.ack().unwrap();
    }
    assert!(bodies.contains(&"stuck".to_owned()), "{} others", bodies.len());
}

#[test]
fn a_moved_message_stays_done_with() {
    let bench = Bench::new(Config { max_attempts: 1000, ..small() });
    let queue = bench.open();
    let other = queue.group("other").unwrap();
    queue.producer().send("seen by one").unwrap();
    next(&queue.consumer()).ack_durable().unwrap().wait().unwrap();
    for round in 0..20 {
        send_many(&queue, round);
        queue.consumer().receive_batch(100).unwrap().ack_durable().unwrap().wait().unwrap();
        let taken = other.consumer().receive_batch(200).unwrap();
        for delivery in taken {
            if text(&delivery) != "seen by one" {
                delivery.ack().unwrap();
            }
        }
        queue.flush().unwrap();
        queue.tick().unwrap();
    }
    assert!(queue.stats().segments <= 4, "{:?}", queue.stats());
    drop(other);
    crash(queue);
    let queue = bench.open();
    assert!(is_empty(&queue.consumer()));
    let bodies = drain(&queue.group("other").unwrap().consumer());
    assert_eq!(bodies, ["seen by one"]);
}

#[test]
fn a_checkpoint_larger_than_a_segment_is_put_together_again() {
    let config = Config { max_attempts: 1000, ..small() };
    let bench = Bench::new(config);
    let queue = bench.open();
    // Many messages in many states of their own: each has to be named.
    let count = 30_000;
    for chunk in 0..count / 100 {
        queue.producer().send_batch((0..100).map(|n| format!("{}", chunk * 100 + n))).unwrap();
    }
    let consumer = queue.consumer();
    for n in 0..count {
        let delivery = consumer.try_receive().unwrap().unwrap();
        delivery.nack(SECOND * (3600 + n % 7)).unwrap();
    }
    for round in 0..20 {
        send_many(&queue, round);
        queue.consumer().receive_batch(100).unwrap().ack().unwrap();
        queue.tick().unwrap();
    }
    queue.flush().unwrap();
    drop(consumer);
    crash(queue);
    let queue = bench.open();
    assert!(is_empty(&queue.consumer()));
    assert_eq!(queue.default_group().stats().unwrap().delayed, u64::from(count));
    bench.clock.advance(SECOND * 4000);
    assert_eq!(next(&queue.consumer()).attempt(), 2);
    let mut seen = 0;
    while queue.consumer().try_receive().unwrap().map(|delivery| delivery.ack().unwrap()).is_some() {
        seen += 1;
    }
    assert_eq!(seen, count);
}

#[test]
fn the_directory_is_held_by_one_queue() {
    let bench = Bench::new(small());
    let queue = bench.open();
    let open = || Queue::builder().open_storage(bench.disk.clone());
    assert!(matches!(open(), Err(OpenError::InUse)));
    let producer = queue.producer();
    crash(queue);
    assert!(matches!(open(), Err(OpenError::InUse)), "a producer is left");
    drop(producer);
    let again = open().unwrap();
    let producer = again.producer();
    again.close().unwrap();
    open().expect("a closed queue gives the directory back, whatever handles are left");
    drop(producer);
}

#[test]
fn settings_may_change_from_one_opening_to_the_next() {
    let mut bench = Bench::new(small());
    let queue = bench.open();
    queue.group("one").unwrap();
    queue.producer().send(vec![7; 10_000]).unwrap();
    next(&queue.consumer()).nack(std::time::Duration::ZERO).unwrap();
    queue.close().unwrap();
    drop(queue);
    bench.config = Config { max_groups: 1, max_message_bytes: 100, max_attempts: 1, max_messages: 1, ..small() };
    let queue = bench.open();
    assert_eq!(queue.groups().len(), 2);
    // By now it was delivered often enough, and it may be larger than those that are sent now.
    assert!(is_empty(&queue.consumer()));
    let letter = queue.dead_letters(10).unwrap().remove(0);
    assert_eq!((letter.message.body().len(), letter.attempts), (10_000, 1));
    assert!(queue.producer().try_send("a").unwrap_err().is_full());
}

#[test]
fn a_receipt_from_before_a_crash_is_of_no_later_delivery() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send("a").unwrap();
    // That it was delivered is written with the next message, and there is none.
    let before = next(&queue.consumer()).into_receipt();
    crash(queue);
    let queue = bench.open();
    let held = next(&queue.consumer());
    assert_ne!(held.receipt(), before);
    assert_eq!(queue.ack(before), Err(SettleError::Stale), "another worker has it now");
    assert_eq!(queue.extend(before, SECOND), Err(SettleError::Stale));
    held.ack().unwrap();
}

#[test]
fn a_close_that_fails_gives_the_directory_back() {
    let disk = FaultyDisk::new(1);
    let open = || Queue::builder().config(small()).open_storage(disk.clone());
    let queue = open().unwrap();
    queue.producer().send("a").unwrap();
    let ticket = queue.producer().submit("b").unwrap();
    disk.fail_change(disk.changes(), Fault::Error(std::io::ErrorKind::Other));
    assert!(matches!(queue.close(), Err(QueueError::Failed(_))));
    assert!(matches!(queue.consumer().try_receive(), Err(ReceiveError::Closed)));
    // Handles are left.
    assert_eq!(drain(&open().unwrap().consumer())[0], "a");
    drop(ticket);
}

#[test]
fn ids_are_remembered_over_restarts_for_their_window_by_the_clock_that_is() {
    for (jump, is_known) in [(0, true), (60, true), (119, true), (121, false)] {
        let bench = Bench::new(small());
        let queue = bench.open();
        let message = || Message::new("a").with_deduplication_id("once");
        let id = queue.producer().send(message()).unwrap();
        crash(queue);
        bench.clock.advance(SECOND * jump);
        let queue = bench.open();
        assert_eq!(queue.producer().send(message()).unwrap() == id, is_known, "after {jump} s");
    }
    // A wall clock that was set back meanwhile makes the window longer, never shorter.
    let bench = Bench::new(small());
    let queue = bench.open();
    let message = || Message::new("a").with_deduplication_id("once");
    let id = queue.producer().send(message()).unwrap();
    crash(queue);
    bench.clock.set_wall(bench.clock.wall() - SECOND * 1000);
    let queue = bench.open();
    bench.clock.advance(SECOND * 1100);
    assert_eq!(queue.producer().send(message()).unwrap(), id);
    bench.clock.advance(SECOND * 21);
    assert_ne!(queue.producer().send(message()).unwrap(), id);
}

#[test]
fn what_is_done_to_dead_letters_is_durable_when_it_returns() {
    let disk = FaultyDisk::new(7);
    let open = |disk: &FaultyDisk| Queue::builder().config(small()).open_storage(disk.clone()).unwrap();
    let queue = open(&disk);
    let ids = queue.producer().send_batch(["requeued", "discarded", "kept"]).unwrap();
    for _ in 0..3 {
        next(&queue.consumer()).dead_letter("why not").unwrap();
    }
    queue.flush().unwrap();
    assert_eq!(queue.requeue(ids[0]), Ok(true));
    assert_eq!(queue.default_group().discard(ids[1]), Ok(true));
    for seed in 0..8 {
        let after = open(&disk.crashed(seed));
        assert_eq!(drain(&after.consumer()), ["requeued"], "seed {seed}");
        assert_eq!(after.dead_letters(9).unwrap().iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[2]]);
    }
}

#[test]
fn the_segment_before_the_last_one_may_go_first() {
    let bench = Bench::new(small());
    let queue = bench.open();
    let send = |count: usize| _ = queue.producer().send_batch((0..count).map(|_| vec![0; 1000])).unwrap();
    send(50);
    let first = queue.consumer().receive_batch(50).unwrap();
    send(50);
    queue.consumer().receive_batch(50).unwrap().ack_durable().unwrap().wait().unwrap();
    send(20);
    let before = queue.stats().segments;
    queue.tick().unwrap();
    let stats = queue.stats();
    assert_eq!((before, stats.segments, stats.messages), (3, 2, 70));
    drop(first);
    crash(queue);
    assert_eq!(drain(&bench.open().consumer()).len(), 70);
}
