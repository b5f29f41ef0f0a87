//! Sending and receiving in every form.

use std::time::Duration;

use tenfold_mq::{Config, Message, Refusal, Sampled, TraceParent};

use crate::support::{Bench, block_on, drain, is_empty, next, small, text};

#[test]
fn messages_come_in_the_order_of_sending_with_increasing_ids() {
    Bench::both(small(), |_, queue| {
        let ids = ["a", "b", "c"].map(|body| queue.producer().send(body).unwrap());
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
        assert_eq!(drain(&queue.consumer()), ["a", "b", "c"]);
        assert!(is_empty(&queue.consumer()));
    });
}

#[test]
fn everything_a_message_has_arrives() {
    Bench::both(small(), |_, queue| {
        let parent = TraceParent::new(7, 9, Sampled::Yes).unwrap();
        let message = Message::new(vec![0, 255, b'\n'])
            .with_key("k")
            .with_priority(3)
            .with_deduplication_id("d")
            .with_header("content-type", "image/png")
            .with_trace_parent(parent);
        let id = queue.producer().send(message.clone()).unwrap();
        let delivery = queue.consumer().receive().unwrap();
        assert_eq!((delivery.id(), delivery.attempt()), (id, 1));
        assert_eq!(delivery.message(), &message);
        assert_eq!(delivery.message().trace_parent(), Some(parent));
        delivery.ack().unwrap();
    });
}

#[test]
fn a_body_may_be_empty() {
    Bench::both(small(), |_, queue| {
        queue.producer().send("").unwrap();
        let delivery = next(&queue.consumer());
        assert!(delivery.body().is_empty());
        delivery.ack_durable().unwrap().wait().unwrap();
        assert_eq!(queue.stats().messages, 0);
    });
}

#[test]
fn nothing_is_delivered_before_it_is_confirmed() {
    let queue = Bench::new(small()).open();
    let ticket = queue.producer().submit("a").unwrap();
    assert!(!ticket.is_confirmed() && is_empty(&queue.consumer()));
    assert_eq!(ticket.wait(), Ok(ticket.id()));
    assert!(ticket.is_confirmed());
    assert_eq!(drain(&queue.consumer()), ["a"]);
}

#[test]
fn who_waits_for_a_message_writes_what_nobody_else_does() {
    let queue = Bench::new(small()).open();
    let ticket = queue.producer().submit("a").unwrap();
    assert_eq!(text(&queue.consumer().receive().unwrap()), "a");
    assert!(ticket.is_confirmed());
}

#[test]
fn a_window_is_confirmed_by_its_last_ticket() {
    let queue = Bench::new(small()).open();
    let tickets: Vec<_> = (0..1000).map(|n| queue.producer().submit(n.to_string()).unwrap()).collect();
    tickets.last().unwrap().wait().unwrap();
    assert!(tickets.iter().all(tenfold_mq::Ticket::is_confirmed));
    assert_eq!(drain(&queue.consumer()).len(), 1000);
}

#[test]
fn tickets_and_sends_are_futures() {
    Bench::both(small(), |_, queue| {
        let producer = queue.producer();
        block_on(async {
            let ticket = producer.submit_async("a").await.unwrap();
            let id = producer.send_async("b").await.unwrap();
            assert_eq!(ticket.clone().await, Ok(ticket.id()));
            assert!(ticket.id() < id);
            let consumer = queue.consumer();
            let first = consumer.receive_async().await.unwrap();
            assert_eq!(text(&first), "a");
            first.ack_durable().unwrap().await.unwrap();
            assert_eq!(consumer.receive_batch_async(10).await.unwrap().len(), 1);
        });
    });
}

#[test]
fn batches_are_sent_received_and_acked_together() {
    Bench::both(small(), |_, queue| {
        let ids = queue.producer().send_batch((0..100).map(|n| n.to_string())).unwrap();
        assert_eq!(ids.len(), 100);
        let ticket = queue.producer().submit_batch(["x", "y"]).unwrap();
        ticket.wait().unwrap();
        let consumer = queue.consumer();
        let batch = consumer.receive_batch(60).unwrap();
        assert_eq!(batch.iter().map(|received| received.id()).collect::<Vec<_>>(), ids[..60]);
        assert_eq!(batch.ack(), Ok(60));
        let rest = consumer.receive_batch(100).unwrap();
        assert_eq!(rest.len(), 42);
        for (n, delivery) in rest.into_iter().enumerate() {
            assert_eq!(delivery.attempt(), 1);
            if n == 40 {
                break;
            }
            delivery.ack().unwrap();
        }
        // The one in hand and the one not taken out of the batch were given back.
        assert_eq!(queue.default_group().stats().unwrap().ready, 2);
        let again = consumer.receive_batch(100).unwrap();
        assert!(again.iter().all(|received| received.attempt() == 2) && again.len() == 2);
        again.ack_durable().unwrap().wait().unwrap();
        assert_eq!(queue.stats().messages, 0);
    });
}

#[test]
fn a_batch_that_is_refused_comes_back_whole() {
    let config = Config { send_timeout: Duration::ZERO, max_messages: 4, ..small() };
    Bench::both(config, |_, queue| {
        queue.producer().send("before").unwrap();
        let bodies = ["a", "b", "c", "d"];
        let error = queue.producer().send_batch(bodies).unwrap_err();
        assert_eq!(error.refusal(), &Refusal::Full);
        assert_eq!(error.into_unsent(), bodies.map(Message::from));
        queue.producer().send_batch(["a", "b"]).unwrap();
        assert_eq!(drain(&queue.consumer()), ["before", "a", "b"]);
    });
}

#[test]
fn an_id_seen_before_is_not_queued_again_within_its_window() {
    Bench::both(small(), |bench, queue| {
        let producer = queue.producer();
        let message = || Message::new("a").with_deduplication_id("order-7");
        let first = producer.send(message()).unwrap();
        assert_eq!(producer.send(message()).unwrap(), first);
        let ticket = producer.submit(message()).unwrap();
        assert!(ticket.is_duplicate() && ticket.id() == first);
        assert_eq!(drain(&queue.consumer()), ["a"]);
        assert_eq!(producer.send(message()).unwrap(), first, "also after it was acked");
        let batch = producer.send_batch([message(), Message::new("b"), message()]).unwrap();
        assert_eq!((batch[0], batch[2]), (first, first));
        assert_eq!(queue.stats().duplicates, 5);
        bench.clock.advance(bench.config.deduplication_window + Duration::from_millis(2));
        assert_ne!(producer.send(message()).unwrap(), first);
        assert_eq!(drain(&queue.consumer()), ["b", "a"]);
    });
}

#[test]
fn a_batch_may_hold_an_id_twice() {
    Bench::both(small(), |_, queue| {
        let message = || Message::new("a").with_deduplication_id("d");
        let ids = queue.producer().send_batch([message(), message()]).unwrap();
        assert_eq!(ids[0], ids[1]);
        assert_eq!(drain(&queue.consumer()), ["a"]);
    });
}

#[test]
fn what_was_taken_ahead_goes_back_uncounted_with_its_consumer() {
    Bench::both(Config { prefetch: 10, ..small() }, |_, queue| {
        queue.producer().send_batch(["a", "b", "c"]).unwrap();
        let consumer = queue.consumer();
        next(&consumer).ack().unwrap();
        assert!(is_empty(&queue.consumer()), "the first has taken all");
        drop(consumer);
        let delivery = next(&queue.consumer());
        assert_eq!((text(&delivery).as_str(), delivery.attempt()), ("b", 1));
    });
}

#[test]
fn what_was_taken_ahead_is_not_handed_out_once_its_lease_is_over() {
    Bench::both(Config { prefetch: 10, ..small() }, |bench, queue| {
        queue.producer().send_batch(["a", "b"]).unwrap();
        let slow = queue.consumer();
        let first = next(&slow);
        bench.clock.advance(bench.config.lease * 2);
        let other = queue.consumer();
        let taken = next(&other);
        assert_eq!(taken.attempt(), 2);
        assert!(is_empty(&slow));
        assert!(first.ack().is_err());
        taken.ack().unwrap();
        next(&other).ack().unwrap();
        assert_eq!(queue.stats().messages, 0);
    });
}

#[test]
fn peeking_takes_nothing() {
    Bench::both(small(), |_, queue| {
        queue.producer().send_batch(["a", "b", "c"]).unwrap();
        let peeked = queue.peek(2).unwrap();
        assert_eq!(peeked.iter().map(|received| received.body().as_ref()).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(drain(&queue.consumer()), ["a", "b", "c"]);
        assert_eq!(queue.peek(2).unwrap(), []);
    });
}

#[test]
fn a_paused_queue_delivers_nothing_and_a_purged_one_has_nothing() {
    Bench::both(small(), |_, queue| {
        let consumer = queue.consumer();
        queue.producer().send_batch(["a", "b"]).unwrap();
        let held = next(&consumer);
        queue.pause().unwrap();
        assert!(is_empty(&consumer) && queue.default_group().stats().unwrap().is_paused);
        held.ack().unwrap();
        queue.resume().unwrap();
        let held = next(&consumer);
        queue.producer().send("c").unwrap();
        assert_eq!(queue.purge(), Ok(2));
        assert!(is_empty(&consumer));
        assert!(held.ack().is_err(), "it went with the others");
        queue.producer().send("d").unwrap();
        assert_eq!(drain(&consumer), ["d"]);
        assert_eq!(queue.stats().messages, 0);
    });
}
