//! Priorities, keys, competing consumers.

use tenfold_mq::{Config, Delivery, MAX_PRIORITY, Message};

use crate::support::{Bench, SECOND, drain, is_empty, next, small, text};

#[test]
fn higher_priorities_come_first_and_equal_ones_in_order() {
    Bench::both(small(), |_, queue| {
        for (body, priority) in [("a0", 0), ("b7", 7), ("c3", 3), ("d0", 0), ("e7", 7)] {
            queue.producer().send(Message::new(body).with_priority(priority)).unwrap();
        }
        assert_eq!(drain(&queue.consumer()), ["b7", "e7", "c3", "a0", "d0"]);
    });
}

#[test]
fn low_priorities_do_not_starve() {
    Bench::both(Config { ageing: 4, ..small() }, |_, queue| {
        queue.producer().send("low").unwrap();
        let consumer = queue.consumer();
        let mut served = 0;
        for _ in 0..50 {
            queue.producer().send(Message::new("high").with_priority(7)).unwrap();
            let delivery = next(&consumer);
            served += usize::from(text(&delivery) == "low");
            delivery.ack().unwrap();
        }
        assert_eq!(served, 1);
    });
}

#[test]
fn one_message_of_a_key_is_out_at_a_time_and_others_do_not_wait() {
    Bench::both(small(), |_, queue| {
        for (body, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
            queue.producer().send(Message::new(body).with_key(key)).unwrap();
        }
        queue.producer().send("free").unwrap();
        let consumer = queue.consumer();
        let held: Vec<_> = std::iter::from_fn(|| consumer.try_receive().unwrap()).collect();
        assert_eq!(held.iter().map(text).collect::<Vec<_>>(), ["a1", "b1", "free"]);
        held.into_iter().for_each(|delivery| delivery.ack().unwrap());
        assert_eq!(drain(&consumer), ["a2", "a3"]);
    });
}

#[test]
fn the_order_of_a_key_survives_redelivery() {
    Bench::both(small(), |bench, queue| {
        for body in ["1", "2", "3"] {
            queue.producer().send(Message::new(body).with_key("k")).unwrap();
        }
        let consumer = queue.consumer();
        next(&consumer).nack(SECOND * 5).unwrap();
        assert!(is_empty(&consumer), "2 waits for 1");
        bench.clock.advance(SECOND * 5);
        let first = next(&consumer);
        assert_eq!(text(&first), "1");
        bench.clock.advance(bench.config.lease * 2);
        let first_again = next(&consumer);
        assert_eq!((text(&first_again).as_str(), first_again.attempt()), ("1", 3));
        first_again.dead_letter("done with it").unwrap();
        assert_eq!(drain(&consumer), ["2", "3"]);
    });
}

#[test]
fn a_key_keeps_its_order_over_a_restart() {
    let bench = Bench::new(small());
    let queue = bench.open();
    for body in ["1", "2", "3"] {
        queue.producer().send(Message::new(body).with_key("k")).unwrap();
    }
    let _held = next(&queue.consumer()).into_receipt();
    queue.close().unwrap();
    drop(queue);
    let queue = bench.open();
    let first = next(&queue.consumer());
    assert_eq!((text(&first).as_str(), first.attempt()), ("1", 2));
    assert!(is_empty(&queue.consumer()));
    first.ack().unwrap();
    assert_eq!(drain(&queue.consumer()), ["2", "3"]);
}

#[test]
fn consumers_of_a_group_share_its_messages() {
    Bench::both(small(), |_, queue| {
        queue.producer().send_batch((0..30).map(|n| format!("{n:02}"))).unwrap();
        let consumers = [(); 3].map(|()| queue.consumer());
        let mut seen: Vec<_> = (0..10).flat_map(|_| consumers.each_ref().map(next)).collect::<Vec<Delivery>>();
        assert!(consumers.iter().all(is_empty));
        seen.sort_by_key(|delivery| delivery.id());
        seen.dedup_by_key(|delivery| delivery.id());
        assert_eq!(seen.len(), 30);
    });
}

#[test]
fn more_keys_than_configured_wait_and_are_not_lost() {
    Bench::both(Config { max_keys: 2, ..small() }, |_, queue| {
        for n in 0..10 {
            queue.producer().send(Message::new(n.to_string()).with_key(n.to_string())).unwrap();
        }
        let consumer = queue.consumer();
        let held = [next(&consumer), next(&consumer)];
        assert!(is_empty(&consumer), "a third key is not taken in");
        held.into_iter().for_each(|delivery| delivery.ack().unwrap());
        assert_eq!(drain(&consumer).len(), 8);
    });
}

#[test]
fn consumers_that_never_ack_cost_no_more_than_configured() {
    Bench::both(Config { max_leased: 5, ..small() }, |bench, queue| {
        queue.producer().send_batch((0..10).map(|n| n.to_string())).unwrap();
        let consumer = queue.consumer();
        let held: Vec<_> = std::iter::from_fn(|| consumer.try_receive().unwrap()).collect();
        assert_eq!(held.len(), 5);
        bench.clock.advance(bench.config.lease * 2);
        // Their leases are over, and the others' turn has come, too.
        assert_eq!(drain(&consumer).len(), 10);
        held.into_iter().for_each(|delivery| assert!(delivery.ack().is_err()));
    });
}

#[test]
fn no_priority_waits_for_longer_than_the_bound_says() {
    let ageing = 16;
    Bench::both(Config { ageing, max_messages: 10_000, ..small() }, |_, queue| {
        let levels = u32::from(MAX_PRIORITY) + 1;
        for round in 0..500 {
            for priority in 0..=MAX_PRIORITY {
                queue.producer().send(Message::new(format!("{round}")).with_priority(priority)).unwrap();
            }
        }
        let (consumer, mut waited) = (queue.consumer(), [0; 8]);
        for _ in 0..400 {
            let delivery = next(&consumer);
            let priority = usize::from(delivery.message().priority());
            delivery.ack().unwrap();
            waited.iter_mut().for_each(|waited| *waited += 1);
            waited[priority] = 0;
            assert!(waited.iter().all(|waited| *waited < ageing + levels), "{waited:?}");
        }
    });
}
