//! What is sent, and what of it arrives.

use std::time::{Duration, Instant, SystemTime};

use tenfold_mq::{Config, DeadReason, KeyOrder, Life, Message, Refusal, TraceParent};

use super::bench::{Bench, GROUP, LONG, SHORT, assert_quiet, bodies, receive_all, receive_one, small};

pub(super) async fn what_is_sent_is_received_in_order_and_acked_once(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(broker.send(Message::new(format!("m{number}"))).await.unwrap());
    }
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    let mut received = receive_all(&*broker, GROUP, 5).await;
    received.push(receive_one(&*broker).await);
    received.extend(receive_all(&*broker, GROUP, 14).await);
    assert_eq!(bodies(&received), (0..20).map(|number| format!("m{number}")).collect::<Vec<_>>());
    assert_eq!(received.iter().map(|received| received.id()).collect::<Vec<_>>(), ids);
    for received in &received {
        assert_eq!(received.attempt(), 1);
        broker.ack(received.receipt()).await.unwrap();
    }
    assert_quiet(&*broker, GROUP, Duration::ZERO).await;
    broker.send(Message::new("")).await.unwrap();
    assert_eq!(receive_one(&*broker).await.body().len(), 0);
}

pub(super) async fn a_batch_keeps_its_order(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let messages: Vec<_> = (0..500).map(|number| Message::new(format!("m{number}"))).collect();
    let ids = broker.send_batch(messages).await.unwrap();
    assert!(ids.len() == 500 && ids.is_sorted());
    let received = receive_all(&*broker, GROUP, 500).await;
    assert_eq!(bodies(&received), (0..500).map(|number| format!("m{number}")).collect::<Vec<_>>());
    assert_eq!(broker.send_batch(Vec::new()).await.unwrap(), []);
}

pub(super) async fn everything_of_a_message_arrives(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let trace: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let deadline = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let message = Message::new(vec![0, 255, b'\r', b'\n'])
        .with_deduplication_id(vec![0, b' ', 255])
        .with_deadline(deadline)
        .with_header("Content-Type", "image/jpeg; q=ä")
        .with_header("x", "1")
        .with_header("x", "2")
        .with_header("empty", "")
        .with_trace_parent(trace);
    broker.send(message.clone()).await.unwrap();
    let received = receive_one(&*broker).await;
    let got = received.message();
    assert_eq!((got.body(), got.deduplication_id()), (message.body(), message.deduplication_id()));
    assert_eq!(got.trace_parent(), Some(trace));
    let Life::Until(until) = got.life() else { panic!("{got:?}") };
    // Times are kept by the millisecond.
    assert!(until.duration_since(deadline).unwrap_or_else(|error| error.duration()) <= Duration::from_millis(1));
    let sorted = |message: &Message| {
        let headers = message.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut headers: Vec<_> = headers.collect();
        if !broker.capabilities().keeps_header_order {
            // Stable: those of one name keep their order.
            headers.sort_by(|a, b| a.0.cmp(&b.0));
        }
        headers
    };
    assert_eq!(sorted(got), sorted(&message));
}

pub(super) async fn a_second_message_of_an_id_is_not_queued(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let first = broker.send(Message::new("first").with_deduplication_id("a")).await.unwrap();
    let other = broker.send(Message::new("other").with_deduplication_id("b")).await.unwrap();
    let second = broker.send(Message::new("second").with_deduplication_id("a")).await.unwrap();
    assert_eq!(first, second);
    assert_ne!(first, other);
    let received = receive_all(&*broker, GROUP, 2).await;
    assert_eq!(bodies(&received), ["first", "other"]);
    for received in received {
        broker.ack(received.receipt()).await.unwrap();
    }
    // It is remembered over the ack.
    assert_eq!(broker.send(Message::new("third").with_deduplication_id("a")).await.unwrap(), first);
    assert_quiet(&*broker, GROUP, Duration::ZERO).await;
}

pub(super) async fn a_delayed_message_comes_when_its_time_has_come(bench: Bench) {
    let broker = bench.open("q", Config { max_attempts: 1, ..small() }).await;
    let began = Instant::now();
    let id = broker.send(Message::new("later").with_delay(SHORT).with_deduplication_id("x")).await.unwrap();
    broker.send(Message::new("now").with_deliver_at(SystemTime::UNIX_EPOCH)).await.unwrap();
    assert_eq!(broker.send(Message::new("again").with_delay(SHORT).with_deduplication_id("x")).await.unwrap(), id);
    let first = receive_one(&*broker).await;
    assert_eq!(bodies(&[first]), ["now"]);
    let later = receive_one(&*broker).await;
    assert!(began.elapsed() >= SHORT && began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    // The waiting was no attempt.
    assert_eq!((bodies(std::slice::from_ref(&later)), later.attempt()), (vec!["later".to_owned()], 1));
    assert_eq!(later.id(), id);
    broker.ack(later.receipt()).await.unwrap();
    assert_quiet(&*broker, GROUP, SHORT).await;
}

pub(super) async fn an_expired_message_is_a_dead_letter(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let id = broker.send(Message::new("stale").with_time_to_live(Duration::from_millis(1))).await.unwrap();
    broker.send(Message::new("fresh").with_time_to_live(LONG)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(bodies(&receive_all(&*broker, GROUP, 1).await), ["fresh"]);
    let dead = broker.dead_letters(GROUP, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].id, &dead[0].reason, dead[0].attempts), (1, id, &DeadReason::Expired, 0));
    assert_eq!(dead[0].message.body().as_ref(), b"stale");
}

pub(super) async fn a_higher_priority_comes_first_or_is_refused(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let levels = broker.capabilities().priorities;
    if levels <= tenfold_mq::MAX_PRIORITY {
        let refused = broker.send(Message::new("x").with_priority(levels)).await.unwrap_err();
        assert!(matches!(refused.refusal(), Refusal::Unsupported(_)), "{refused:?}");
    }
    assert!(levels >= 3, "the bench asks for three");
    for (body, priority) in [("a0", 0), ("a2", 2), ("a1", 1), ("b2", 2), ("b0", 0)] {
        broker.send(Message::new(body).with_priority(priority)).await.unwrap();
    }
    let mut received = Vec::new();
    for _ in 0..5 {
        received.push(receive_one(&*broker).await);
    }
    assert_eq!(bodies(&received), ["a2", "b2", "a1", "a0", "b0"]);
    assert_eq!(received[0].message().priority(), 2);
}

pub(super) async fn a_key_keeps_its_order_or_is_refused(bench: Bench) {
    let broker = bench.open("q", small()).await;
    assert_ne!(broker.capabilities().keys, KeyOrder::Unsupported, "the bench asks for keys");
    for (body, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
        broker.send(Message::new(body).with_key(key)).await.unwrap();
    }
    let first = receive_all(&*broker, GROUP, 2).await;
    let mut both = bodies(&first);
    both.sort();
    assert_eq!(both, ["a1", "b1"]);
    assert_quiet(&*broker, GROUP, Duration::from_millis(50)).await;
    let a1 = first.iter().find(|received| received.message().key().unwrap() == "a").unwrap();
    broker.nack(a1.receipt(), Duration::ZERO).await.unwrap();
    for expected in ["a1", "a2", "a3"] {
        let next = receive_one(&*broker).await;
        assert_eq!(bodies(std::slice::from_ref(&next)), [expected]);
        broker.ack(next.receipt()).await.unwrap();
    }
}
