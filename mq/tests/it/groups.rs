//! Fan-out: groups, their positions, replay.

use std::time::Duration;

use tenfold_mq::{Clock, Config, DEFAULT_GROUP, GroupError, Message, ReceiveError, Retention, SettleError, Start};

use crate::support::{Bench, SECOND, drain, is_empty, next, small};

#[test]
fn every_group_gets_every_message() {
    Bench::both(small(), |_, queue| {
        let billing = queue.group("billing").unwrap();
        queue.producer().send_batch(["a", "b"]).unwrap();
        assert_eq!(drain(&queue.consumer()), ["a", "b"]);
        assert_eq!(queue.stats().messages, 2, "billing has not seen them");
        assert_eq!(drain(&billing.consumer()), ["a", "b"]);
        assert_eq!(queue.stats().messages, 0);
        assert_eq!(queue.groups(), [DEFAULT_GROUP, "billing"]);
    });
}

#[test]
fn a_group_begins_where_it_is_told() {
    Bench::both(small(), |_, queue| {
        let ids = queue.producer().send_batch(["a", "b", "c"]).unwrap();
        let latest = queue.group_from("latest", Start::Latest).unwrap().consumer();
        let at = queue.group_from("at", Start::At(ids[1])).unwrap().consumer();
        let earliest = queue.group("earliest").unwrap().consumer();
        queue.producer().send("d").unwrap();
        assert_eq!(drain(&latest), ["d"]);
        assert_eq!(drain(&at), ["b", "c", "d"]);
        assert_eq!(drain(&earliest), ["a", "b", "c", "d"]);
        assert_eq!(drain(&queue.group_from("at", Start::Latest).unwrap().consumer()), [""; 0], "it exists");
    });
}

#[test]
fn groups_are_bounded_and_their_names_checked() {
    Bench::both(Config { max_groups: 2, ..small() }, |_, queue| {
        queue.group("one").unwrap();
        assert_eq!(queue.group("two").unwrap_err(), GroupError::TooMany { max: 2 });
        let error = queue.group("no/way").unwrap_err();
        assert_eq!(error, GroupError::Name);
        assert_eq!(error.to_string(), "the name of a group is 1 to 255 letters, digits, `.`, `_` and `-`");
        queue.remove_group("one").unwrap();
        assert_eq!(queue.remove_group("one"), Err(GroupError::Unknown));
        queue.group("two").unwrap();
    });
}

#[test]
fn a_removed_group_holds_nothing_back_and_its_handles_say_so() {
    Bench::both(small(), |_, queue| {
        let group = queue.group("gone").unwrap();
        let consumer = group.consumer();
        queue.producer().send_batch(["a", "b"]).unwrap();
        let held = next(&consumer);
        assert_eq!(drain(&queue.consumer()), ["a", "b"]);
        queue.remove_group("gone").unwrap();
        assert_eq!(queue.stats().messages, 0);
        assert!(matches!(consumer.try_receive(), Err(ReceiveError::NoGroup)));
        assert!(matches!(held.ack(), Err(SettleError::NoGroup)));
        assert_eq!(group.purge(), Err(GroupError::Unknown));
        // Another group in its place has nothing to do with it.
        let other = queue.group_from("gone", Start::Latest).unwrap();
        assert!(matches!(consumer.try_receive(), Err(ReceiveError::NoGroup)));
        assert!(is_empty(&other.consumer()));
    });
}

#[test]
fn what_is_sent_while_there_is_no_group_waits_for_the_first() {
    Bench::both(small(), |_, queue| {
        queue.remove_group(DEFAULT_GROUP).unwrap();
        queue.producer().send("a").unwrap();
        assert_eq!(queue.stats().messages, 1);
        assert!(matches!(queue.consumer().try_receive(), Err(ReceiveError::NoGroup)));
        queue.group(DEFAULT_GROUP).unwrap();
        queue.producer().send("b").unwrap();
        assert_eq!(drain(&queue.consumer()), ["a", "b"]);
    });
}

#[test]
fn what_is_retained_can_be_replayed_from_a_message_or_a_time() {
    let retention = Retention { age: SECOND * 3600, bytes: 1 << 20 };
    Bench::both(Config { retention, ..small() }, |bench, queue| {
        let consumer = queue.consumer();
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(queue.producer().send(n.to_string()).unwrap());
            bench.clock.advance(SECOND * 10);
        }
        assert_eq!(drain(&consumer).len(), 5);
        assert!(is_empty(&consumer));
        let group = queue.default_group();
        group.seek(Start::At(ids[3])).unwrap();
        assert_eq!(drain(&consumer), ["3", "4"]);
        group.seek(Start::Since(bench.clock.wall() - SECOND * 35)).unwrap();
        let since = drain(&consumer);
        assert!(since.ends_with(&["2".into(), "3".into(), "4".into()]) && since.len() <= 4, "{since:?}");
        group.seek(Start::Earliest).unwrap();
        assert_eq!(drain(&consumer).len(), 5);
        group.seek(Start::Earliest).unwrap();
        group.seek(Start::Latest).unwrap();
        assert!(is_empty(&consumer));
        assert_eq!(drain(&queue.group("late").unwrap().consumer()).len(), 5);
    });
}

#[test]
fn retention_ends_by_age_and_by_size() {
    let retention = Retention { age: SECOND * 100, bytes: 5_000 };
    Bench::both(Config { retention, ..small() }, |bench, queue| {
        let consumer = queue.consumer();
        for _ in 0..100 {
            queue.producer().send(vec![b'x'; 100]).unwrap();
        }
        assert_eq!(drain(&consumer).len(), 100);
        queue.tick().unwrap();
        queue.default_group().seek(Start::Earliest).unwrap();
        let kept = drain(&consumer).len();
        assert!((20..=50).contains(&kept), "{kept} of 100 were kept");
        bench.clock.advance(SECOND * 200);
        queue.tick().unwrap();
        queue.producer().send("new").unwrap();
        queue.default_group().seek(Start::Earliest).unwrap();
        assert_eq!(drain(&consumer), ["new"]);
    });
}

#[test]
fn a_seek_voids_leases() {
    Bench::both(small(), |_, queue| {
        let other = queue.group("other").unwrap();
        queue.producer().send_batch(["a", "b"]).unwrap();
        let consumer = queue.consumer();
        let held = next(&consumer);
        next(&consumer).ack().unwrap();
        queue.default_group().seek(Start::Earliest).unwrap();
        assert_eq!(held.ack(), Err(SettleError::Stale));
        // Both are still there, for the other group has not seen them.
        assert_eq!(drain(&consumer), ["a", "b"]);
        assert_eq!(drain(&other.consumer()), ["a", "b"]);
    });
}

#[test]
fn groups_and_their_positions_survive_a_restart() {
    let retention = Retention { age: SECOND * 3600, bytes: 1 << 20 };
    let bench = Bench::new(Config { retention, ..small() });
    let queue = bench.open();
    let (paused, done) = (queue.group("paused").unwrap(), queue.group("done").unwrap());
    queue.group("removed").unwrap();
    queue.remove_group("removed").unwrap();
    queue.producer().send_batch(["a", "b", "c"]).unwrap();
    paused.pause().unwrap();
    drain(&done.consumer());
    next(&queue.consumer()).ack().unwrap();
    queue.close().unwrap();
    drop((queue, paused, done));
    let queue = bench.open();
    assert_eq!(queue.groups(), [DEFAULT_GROUP, "paused", "done"]);
    let paused = queue.group("paused").unwrap();
    assert!(is_empty(&paused.consumer()));
    paused.resume().unwrap();
    assert_eq!(drain(&paused.consumer()), ["a", "b", "c"]);
    assert!(is_empty(&queue.group("done").unwrap().consumer()));
    assert_eq!(drain(&queue.consumer()), ["b", "c"]);
    queue.default_group().seek(Start::Earliest).unwrap();
    assert_eq!(drain(&queue.consumer()), ["a", "b", "c"]);
}

#[test]
fn a_slow_group_keeps_keys_and_priorities_of_its_own() {
    Bench::both(small(), |bench, queue| {
        let slow = queue.group("slow").unwrap();
        for (body, priority) in [("1", 0), ("2", 7)] {
            queue.producer().send(Message::new(body).with_key("k").with_priority(priority)).unwrap();
        }
        let held = next(&slow.consumer());
        assert_eq!(drain(&queue.consumer()).len(), 2);
        assert!(is_empty(&slow.consumer()));
        bench.clock.advance(bench.config.lease + Duration::from_secs(1));
        assert!(!is_empty(&slow.consumer()));
        assert!(held.ack().is_err());
    });
}

#[test]
fn a_group_that_begins_at_a_time_gets_what_was_sent_since_however_far_it_was_moved() {
    let bench = Bench::new(small());
    let queue = bench.open();
    let began = bench.clock.wall();
    queue.producer().send(Message::new("stuck").with_delay(SECOND * 3600)).unwrap();
    bench.clock.advance(SECOND * 10);
    for _ in 0..20 {
        (0..2).for_each(|_| _ = queue.producer().send_batch((0..50).map(|_| vec![b'x'; 1000])).unwrap());
        bench.clock.advance(SECOND * 10);
        queue.consumer().receive_batch(100).unwrap().ack_durable().unwrap().wait().unwrap();
        queue.tick().unwrap();
    }
    // Its first record has gone with its segment; the one it has now lies behind those of later messages.
    assert!(queue.stats().segments <= 3, "{:?}", queue.stats());
    drop(queue);
    let queue = bench.open();
    let late = queue.group_from("late", Start::Since(began)).unwrap();
    bench.clock.advance(SECOND * 3600);
    assert!(drain(&late.consumer()).contains(&"stuck".to_owned()));
}

#[test]
fn a_slow_group_keeps_what_it_has_not_seen_whatever_the_retention() {
    let retention = Retention { age: SECOND * 10, bytes: 5_000 };
    Bench::both(Config { retention, ..small() }, |bench, queue| {
        let slow = queue.group("slow").unwrap();
        for _ in 0..100 {
            queue.producer().send(vec![b'x'; 1000]).unwrap();
        }
        assert_eq!(drain(&queue.consumer()).len(), 100);
        bench.clock.advance(SECOND * 1000);
        queue.tick().unwrap();
        let stats = queue.stats();
        assert_eq!((stats.messages, stats.retained), (100, 0), "what is waited for is not kept for replay");
        let consumer = slow.consumer();
        for _ in 0..50 {
            next(&consumer).ack().unwrap();
        }
        bench.clock.advance(SECOND);
        queue.tick().unwrap();
        // They are as old as they may be kept.
        assert_eq!((queue.stats().messages, queue.stats().retained), (50, 0), "{:?}", queue.stats());
        assert_eq!(drain(&consumer).len(), 50);
        bench.clock.advance(SECOND);
        queue.tick().unwrap();
        assert_eq!((queue.stats().messages, queue.stats().retained), (0, 0));
        queue.check_invariants();
    });
}
