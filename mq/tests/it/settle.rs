//! Leases, acks and what else becomes of a delivery; fencing.

use std::time::Duration;

use tenfold_mq::{Backoff, Config, DeadReason, Receipt, SettleError};

use crate::support::{Bench, SECOND, drain, is_empty, next, small, text};

#[test]
fn a_lease_that_runs_out_gives_the_message_to_the_next_and_fences_the_first() {
    Bench::both(small(), |bench, queue| {
        queue.producer().send("a").unwrap();
        let first = next(&queue.consumer());
        assert!(is_empty(&queue.consumer()));
        bench.clock.advance(bench.config.lease + SECOND);
        let second = next(&queue.consumer());
        assert_eq!((second.id(), second.attempt()), (first.id(), 2));
        assert_eq!(first.ack(), Err(SettleError::Stale));
        second.ack().unwrap();
        assert_eq!(queue.stats().messages, 0);
    });
}

#[test]
fn a_late_ack_counts_while_nobody_else_has_the_message() {
    Bench::both(small(), |bench, queue| {
        queue.producer().send("a").unwrap();
        let first = next(&queue.consumer());
        bench.clock.advance(bench.config.lease + SECOND);
        // Nobody looked at the clock meanwhile.
        assert_eq!(first.ack(), Ok(()));
        assert!(is_empty(&queue.consumer()));
    });
}

#[test]
fn a_lease_can_be_extended_and_shortened() {
    Bench::both(small(), |bench, queue| {
        let lease = bench.config.lease;
        queue.producer().send("a").unwrap();
        let held = next(&queue.consumer());
        for _ in 0..5 {
            bench.clock.advance(lease / 2);
            held.extend(lease).unwrap();
            assert!(is_empty(&queue.consumer()));
        }
        held.extend(SECOND).unwrap();
        bench.clock.advance(SECOND * 2);
        let other = next(&queue.consumer());
        assert_eq!(held.extend(lease), Err(SettleError::Stale));
        other.ack().unwrap();
    });
}

#[test]
fn a_nack_delays_the_next_delivery() {
    Bench::both(small(), |bench, queue| {
        let consumer = queue.consumer();
        queue.producer().send("a").unwrap();
        next(&consumer).nack(SECOND * 5).unwrap();
        assert!(is_empty(&consumer));
        assert_eq!(queue.default_group().stats().unwrap().delayed, 1);
        bench.clock.advance(SECOND * 4);
        assert!(is_empty(&consumer));
        bench.clock.advance(SECOND * 2);
        assert_eq!(next(&consumer).attempt(), 2);
    });
}

#[test]
fn retries_wait_longer_each_time() {
    let backoff = Backoff { first: SECOND, max: SECOND * 3 };
    Bench::both(Config { backoff, ..small() }, |bench, queue| {
        let consumer = queue.consumer();
        queue.producer().send("a").unwrap();
        for wait in [1, 2, 3] {
            next(&consumer).retry().unwrap();
            bench.clock.advance(SECOND * wait - Duration::from_millis(1));
            assert!(is_empty(&consumer), "{wait}");
            bench.clock.advance(Duration::from_millis(1));
        }
        next(&consumer).ack().unwrap();
    });
}

#[test]
fn a_delivery_that_is_dropped_is_given_back_at_once_and_counted() {
    Bench::both(small(), |_, queue| {
        queue.producer().send("a").unwrap();
        drop(next(&queue.consumer()));
        let again = next(&queue.consumer());
        assert_eq!(again.attempt(), 2);
        drop(queue.consumer().try_receive_batch(5).unwrap());
        again.ack().unwrap();
    });
}

#[test]
fn a_panic_gives_the_message_back() {
    Bench::both(small(), |_, queue| {
        queue.producer().send("a").unwrap();
        let consumer = queue.consumer();
        let worker = std::thread::spawn(move || {
            let _held = next(&consumer);
            panic!("as the test wants");
        });
        assert!(worker.join().is_err());
        assert_eq!(next(&queue.consumer()).attempt(), 2);
    });
}

#[test]
fn acks_twice_are_stale() {
    Bench::both(small(), |_, queue| {
        queue.producer().send_batch(["a", "b"]).unwrap();
        let receipt = next(&queue.consumer()).into_receipt();
        assert_eq!(queue.ack(receipt), Ok(()));
        assert_eq!(queue.ack(receipt), Err(SettleError::Stale));
        assert_eq!(queue.nack(receipt, SECOND), Err(SettleError::Stale));
        assert_eq!(queue.extend(receipt, SECOND), Err(SettleError::Stale));
        assert_eq!(queue.dead_letter(receipt, "x"), Err(SettleError::Stale));
        assert!(matches!(queue.ack_durable(receipt), Err(SettleError::Stale)));
        assert_eq!(drain(&queue.consumer()), ["b"]);
    });
}

#[test]
fn a_receipt_is_plain_data_and_of_one_queue() {
    Bench::both(small(), |_, queue| {
        queue.producer().send("a").unwrap();
        let printed = next(&queue.consumer()).into_receipt().to_string();
        let other = Bench::new(small()).in_memory();
        other.producer().send("a").unwrap();
        let _held = next(&other.consumer());
        let receipt: Receipt = printed.parse().unwrap();
        assert_eq!(other.ack(receipt), Err(SettleError::OtherQueue));
        assert_eq!(queue.ack_durable(receipt).unwrap().wait(), Ok(receipt.id()));
        assert_eq!(queue.stats().messages, 0);
    });
}

#[test]
fn a_message_that_is_never_acked_ends_among_the_dead_letters() {
    Bench::both(Config { max_attempts: 3, ..small() }, |_, queue| {
        let id = queue.producer().send("poison").unwrap();
        let consumer = queue.consumer();
        for attempt in 1..=3 {
            assert_eq!(next(&consumer).attempt(), attempt);
        }
        assert!(is_empty(&consumer));
        let letters = queue.dead_letters(10).unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].id, letters[0].attempts, &letters[0].reason), (id, 3, &DeadReason::Attempts));
        assert_eq!(letters[0].message.body().as_ref(), b"poison");
        assert_eq!(queue.requeue(id), Ok(true));
        assert_eq!(queue.requeue(id), Ok(false));
        let again = next(&consumer);
        assert_eq!((text(&again).as_str(), again.attempt()), ("poison", 1));
        again.ack().unwrap();
        assert_eq!(queue.stats().messages, 0);
    });
}

#[test]
fn leases_that_run_out_count_as_attempts() {
    Bench::both(Config { max_attempts: 2, ..small() }, |bench, queue| {
        queue.producer().send("a").unwrap();
        for _ in 0..2 {
            next(&queue.consumer()).into_receipt();
            bench.clock.advance(bench.config.lease * 2);
        }
        assert!(is_empty(&queue.consumer()));
        assert_eq!(queue.dead_letters(10).unwrap()[0].attempts, 2);
        assert_eq!(queue.default_group().stats().unwrap().dead, 1);
    });
}

#[test]
fn a_consumer_gives_a_message_up_with_a_reason() {
    Bench::both(small(), |_, queue| {
        let id = queue.producer().send("a").unwrap();
        queue.producer().send("b").unwrap();
        next(&queue.consumer()).dead_letter("no such customer").unwrap();
        let letters = queue.dead_letters(10).unwrap();
        assert_eq!(letters[0].reason, DeadReason::Rejected("no such customer".into()));
        assert_eq!(drain(&queue.consumer()), ["b"]);
        assert_eq!(queue.default_group().discard(id), Ok(true));
        assert_eq!(queue.default_group().discard(id), Ok(false));
        assert_eq!((queue.dead_letters(10).unwrap().len(), queue.stats().messages), (0, 0));
    });
}

#[test]
fn dead_letters_are_bounded() {
    Bench::both(Config { max_dead_letters: 2, ..small() }, |_, queue| {
        for body in ["a", "b", "c"] {
            queue.producer().send(body).unwrap();
            next(&queue.consumer()).dead_letter(&"ä".repeat(5000)).unwrap();
        }
        let letters = queue.dead_letters(10).unwrap();
        assert_eq!(letters.iter().map(|dead| dead.message.body().as_ref()).collect::<Vec<_>>(), [b"b", b"c"]);
        let DeadReason::Rejected(reason) = &letters[0].reason else { panic!("{:?}", letters[0]) };
        assert!(reason.len() <= 1024 && reason.starts_with("ää"));
    });
}

#[test]
fn acks_may_come_in_any_order() {
    Bench::both(small(), |_, queue| {
        queue.producer().send_batch((0..1000).map(|n| n.to_string())).unwrap();
        let mut held: Vec<_> = queue.consumer().try_receive_batch(1000).unwrap().into_iter().map(Some).collect();
        for step in [7, 3, 1] {
            for at in (0..held.len()).rev().step_by(step) {
                if let Some(delivery) = held[at].take() {
                    delivery.ack().unwrap();
                }
            }
        }
        assert_eq!(queue.stats().messages, 0);
    });
}
