//! Delays, deadlines and clocks that jump.

use std::time::Duration;

use tenfold_mq::{Clock, Config, DeadReason, Message};

use crate::support::{Bench, SECOND, drain, is_empty, next, small};

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_delayed_message_comes_when_it_is_due_and_not_before() {
    Bench::both(small(), |bench, queue| {
        let consumer = queue.consumer();
        let producer = queue.producer();
        producer.send(Message::new("late").with_delay(SECOND * 60)).unwrap();
        producer.send(Message::new("soon").with_delay(SECOND)).unwrap();
        producer.send("now").unwrap();
        assert_eq!(drain(&consumer), ["now"]);
        bench.clock.advance(SECOND - MILLI);
        assert!(is_empty(&consumer));
        bench.clock.advance(MILLI);
        assert_eq!(drain(&consumer), ["soon"]);
        bench.clock.advance(SECOND * 60);
        assert_eq!(drain(&consumer), ["late"]);
    });
}

#[test]
fn a_message_can_be_scheduled_for_a_time_of_day() {
    Bench::both(small(), |bench, queue| {
        let consumer = queue.consumer();
        let at = bench.clock.wall() + SECOND * 3600;
        queue.producer().send(Message::new("a").with_deliver_at(at)).unwrap();
        queue.producer().send(Message::new("past").with_deliver_at(bench.clock.wall() - SECOND)).unwrap();
        assert_eq!(drain(&consumer), ["past"]);
        bench.clock.advance(SECOND * 3599);
        assert!(is_empty(&consumer));
        bench.clock.advance(SECOND);
        assert_eq!(drain(&consumer), ["a"]);
    });
}

#[test]
fn what_expires_is_dead_and_says_so() {
    Bench::both(small(), |bench, queue| {
        let producer = queue.producer();
        producer.send(Message::new("a").with_time_to_live(SECOND)).unwrap();
        producer.send(Message::new("b").with_deadline(bench.clock.wall() + SECOND * 2)).unwrap();
        producer.send(Message::new("c").with_time_to_live(SECOND * 3).with_delay(SECOND * 9)).unwrap();
        producer.send(Message::new("d")).unwrap();
        bench.clock.advance(SECOND * 2);
        assert_eq!(drain(&queue.consumer()), ["d"]);
        bench.clock.advance(SECOND * 10);
        assert!(is_empty(&queue.consumer()));
        let dead = queue.dead_letters(10).unwrap();
        assert!(dead.iter().all(|letter| letter.reason == DeadReason::Expired && letter.attempts == 0), "{dead:?}");
        assert_eq!(dead.len(), 3);
    });
}

#[test]
fn what_was_delivered_in_time_may_be_acked_after_its_deadline() {
    Bench::both(small(), |bench, queue| {
        queue.producer().send(Message::new("a").with_time_to_live(SECOND)).unwrap();
        let held = next(&queue.consumer());
        bench.clock.advance(SECOND * 5);
        assert!(is_empty(&queue.consumer()));
        held.ack().unwrap();
        assert_eq!(queue.dead_letters(10).unwrap().len(), 0);
    });
}

#[test]
fn delays_and_deadlines_survive_a_restart() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send(Message::new("sent").with_delay(SECOND * 10)).unwrap();
    queue.producer().send("given back").unwrap();
    queue.producer().send(Message::new("short").with_time_to_live(SECOND * 2)).unwrap();
    next(&queue.consumer()).nack(SECOND * 5).unwrap();
    queue.close().unwrap();
    drop(queue);
    bench.clock.advance(SECOND * 3);
    let queue = bench.open();
    let consumer = queue.consumer();
    assert!(is_empty(&consumer));
    assert_eq!(queue.dead_letters(10).unwrap()[0].message.body().as_ref(), b"short");
    bench.clock.advance(SECOND * 2);
    let again = next(&consumer);
    assert_eq!((again.body().as_ref(), again.attempt()), (b"given back".as_slice(), 2));
    again.ack().unwrap();
    bench.clock.advance(SECOND * 5);
    assert_eq!(drain(&consumer), ["sent"]);
}

#[test]
fn a_wall_clock_that_jumps_moves_no_lease_and_no_delay() {
    for jump in [-100_000_i64, 100_000] {
        Bench::both(small(), |bench, queue| {
            let consumer = queue.consumer();
            queue.producer().send("leased").unwrap();
            let held = next(&consumer);
            queue.producer().send(Message::new("delayed").with_delay(SECOND * 10)).unwrap();
            let seconds = Duration::from_secs(jump.unsigned_abs());
            let wall = bench.clock.wall();
            bench.clock.set_wall(if jump < 0 { wall - seconds } else { wall + seconds });
            assert!(is_empty(&consumer));
            bench.clock.advance(SECOND * 9);
            assert!(is_empty(&consumer));
            bench.clock.advance(SECOND);
            assert_eq!(drain(&consumer), ["delayed"]);
            // A time of day is meant by the new clock.
            queue.producer().send(Message::new("at").with_deliver_at(bench.clock.wall() + SECOND * 5)).unwrap();
            bench.clock.advance(SECOND * 5 - MILLI);
            assert!(is_empty(&consumer));
            bench.clock.advance(MILLI);
            assert_eq!(drain(&consumer), ["at"]);
            held.ack().unwrap();
        });
    }
}

#[test]
fn a_wall_clock_set_back_while_closed_makes_delays_longer_and_loses_nothing() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send(Message::new("delayed").with_delay(SECOND * 10)).unwrap();
    queue.producer().send("ready").unwrap();
    queue.close().unwrap();
    drop(queue);
    bench.clock.set_wall(bench.clock.wall() - SECOND * 100);
    let queue = bench.open();
    assert_eq!(drain(&queue.consumer()), ["ready"]);
    bench.clock.advance(SECOND * 109);
    assert!(is_empty(&queue.consumer()));
    bench.clock.advance(SECOND);
    assert_eq!(drain(&queue.consumer()), ["delayed"]);
}

#[test]
fn an_absurd_delay_or_lease_is_far_away_and_no_more() {
    Bench::both(Config { max_attempts: 9, ..small() }, |bench, queue| {
        queue.producer().send(Message::new("never").with_delay(Duration::MAX)).unwrap();
        queue.producer().send(Message::new("long").with_time_to_live(Duration::MAX)).unwrap();
        let held = next(&queue.consumer());
        held.extend(Duration::MAX).unwrap();
        bench.clock.advance(SECOND * 1_000_000);
        assert!(is_empty(&queue.consumer()));
        held.nack(Duration::MAX).unwrap();
        assert_eq!(queue.default_group().stats().unwrap().delayed, 2);
    });
}

#[test]
fn a_wall_clock_set_forward_while_closed_makes_delays_shorter_and_expires_what_lives_by_it() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send(Message::new("delayed").with_delay(SECOND * 1000)).unwrap();
    queue.producer().send("given back").unwrap();
    next(&queue.consumer()).nack(SECOND * 1000).unwrap();
    queue.producer().send(Message::new("short").with_time_to_live(SECOND * 500)).unwrap();
    queue.close().unwrap();
    drop(queue);
    bench.clock.set_wall(bench.clock.wall() + SECOND * 999);
    let queue = bench.open();
    assert!(is_empty(&queue.consumer()));
    assert_eq!(queue.dead_letters(9).unwrap()[0].message.body().as_ref(), b"short");
    bench.clock.advance(SECOND);
    let mut bodies = drain(&queue.consumer());
    bodies.sort();
    assert_eq!(bodies, ["delayed", "given back"]);
    queue.check_invariants();
}
