//! What becomes of deliveries, and who gets them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tenfold_mq::{Config, DeadReason, GroupError, Message, ReceiveError, SettleError};

use super::bench::{Bench, GROUP, LONG, SHORT, assert_quiet, bodies, receive_all, receive_one, small};

pub(super) async fn a_nacked_message_comes_again(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let id = broker.send(Message::new("m")).await.unwrap();
    let first = receive_one(&*broker).await;
    broker.nack(first.receipt(), Duration::ZERO).await.unwrap();
    let second = receive_one(&*broker).await;
    assert_eq!((second.id(), second.attempt()), (id, 2));
    assert!(second.receipt().delivery() > first.receipt().delivery());
    let began = Instant::now();
    broker.nack(second.receipt(), SHORT).await.unwrap();
    let third = receive_one(&*broker).await;
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    assert_eq!(third.attempt(), 3);
    broker.ack(third.receipt()).await.unwrap();
}

pub(super) async fn a_lease_that_ends_delivers_again_and_refuses_the_late_ack(bench: Bench) {
    let broker = bench.open("q", Config { lease: SHORT, ..small() }).await;
    broker.send(Message::new("m")).await.unwrap();
    let first = receive_one(&*broker).await;
    let second = receive_one(&*broker).await;
    assert_eq!((second.id(), second.attempt()), (first.id(), 2));
    assert_eq!(broker.ack(first.receipt()).await, Err(SettleError::Stale));
    assert_eq!(broker.nack(first.receipt(), Duration::ZERO).await, Err(SettleError::Stale));
    assert_eq!(broker.ack_durable(first.receipt()).await, Err(SettleError::Stale));
    broker.ack(second.receipt()).await.unwrap();
    assert_quiet(&*broker, GROUP, SHORT * 2).await;
}

pub(super) async fn an_extended_lease_lasts(bench: Bench) {
    let lease = SHORT * 5;
    let broker = bench.open("q", Config { lease, ..small() }).await;
    broker.send(Message::new("m")).await.unwrap();
    let received = receive_one(&*broker).await;
    for _ in 0..4 {
        assert_quiet(&*broker, GROUP, lease / 3).await;
        broker.extend(received.receipt(), lease).await.unwrap();
    }
    broker.ack(received.receipt()).await.unwrap();
    assert_eq!(broker.extend(received.receipt(), SHORT).await, Err(SettleError::Stale));
}

pub(super) async fn a_message_that_is_nacked_too_often_is_a_dead_letter(bench: Bench) {
    let broker = bench.open("q", Config { max_attempts: 2, ..small() }).await;
    let id = broker.send(Message::new("poison").with_header("x", "1").with_header("x", "2")).await.unwrap();
    for attempt in 1..=2 {
        let received = receive_one(&*broker).await;
        assert_eq!(received.attempt(), attempt);
        broker.nack(received.receipt(), Duration::ZERO).await.unwrap();
    }
    // At once, not only when somebody receives.
    let dead = broker.dead_letters(GROUP, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].id, &dead[0].reason, dead[0].attempts), (1, id, &DeadReason::Attempts, 2));
    assert_quiet(&*broker, GROUP, Duration::ZERO).await;
    assert_eq!(dead[0].message.body().as_ref(), b"poison");
    assert_eq!(dead[0].message.headers().iter().collect::<Vec<_>>(), [("x", "1"), ("x", "2")]);
}

pub(super) async fn a_message_whose_consumers_die_is_a_dead_letter(bench: Bench) {
    let broker = bench.open("q", Config { max_attempts: 2, lease: SHORT, ..small() }).await;
    let id = broker.send(Message::new("deadly")).await.unwrap();
    let first = receive_one(&*broker).await;
    let second = receive_one(&*broker).await;
    assert_eq!((first.attempt(), second.attempt()), (1, 2));
    broker.send(Message::new("harmless")).await.unwrap();
    let other = receive_one(&*broker).await;
    assert_eq!(bodies(std::slice::from_ref(&other)), ["harmless"]);
    broker.ack(other.receipt()).await.unwrap();
    let began = Instant::now();
    let dead = loop {
        assert_quiet(&*broker, GROUP, SHORT).await;
        let dead = broker.dead_letters(GROUP, 10).await.unwrap();
        if !dead.is_empty() {
            break dead;
        }
        assert!(began.elapsed() < LONG);
    };
    assert_eq!((dead.len(), dead[0].id, &dead[0].reason, dead[0].attempts), (1, id, &DeadReason::Attempts, 2));
    assert_eq!(dead[0].message.body().as_ref(), b"deadly");
    assert_eq!(broker.ack(second.receipt()).await, Err(SettleError::Stale));
    assert!(broker.requeue(GROUP, id).await.unwrap());
    let again = receive_one(&*broker).await;
    assert_eq!((again.id(), again.attempt()), (id, 1));
    broker.ack_durable(again.receipt()).await.unwrap();
}

pub(super) async fn a_rejected_message_is_requeued_for_its_group(bench: Bench) {
    let broker = bench.open("q", small()).await;
    broker.create_group("mail.v2").await.unwrap();
    let id = broker.send(Message::new("m")).await.unwrap();
    for group in [GROUP, "mail.v2"] {
        let received = receive_all(&*broker, group, 1).await.remove(0);
        if group == GROUP {
            broker.ack(received.receipt()).await.unwrap();
        } else {
            broker.dead_letter(received.receipt(), "no such\naddress").await.unwrap();
        }
    }
    assert_eq!(broker.dead_letters(GROUP, 10).await.unwrap(), []);
    let dead = broker.dead_letters("mail.v2", 10).await.unwrap();
    assert_eq!(dead[0].reason, DeadReason::Rejected("no such\naddress".to_owned()));
    assert_eq!(broker.requeue(GROUP, id).await, Ok(false));
    assert_eq!(broker.requeue("mail.v2", id).await, Ok(true));
    assert_eq!(broker.requeue("mail.v2", id).await, Ok(false));
    let again = receive_all(&*broker, "mail.v2", 1).await.remove(0);
    assert_eq!((again.id(), again.attempt(), again.body().as_ref()), (id, 1, &b"m"[..]));
    broker.ack(again.receipt()).await.unwrap();
    assert_quiet(&*broker, GROUP, Duration::from_millis(50)).await;
    assert_eq!(broker.dead_letters("mail.v2", 10).await.unwrap(), []);
}

pub(super) async fn groups_get_everything_and_consumers_share(bench: Bench) {
    let broker = bench.open("q", small()).await;
    broker.create_group("audit").await.unwrap();
    let messages: Vec<_> = (0..200).map(|number| Message::new(format!("m{number}"))).collect();
    broker.send_batch(messages).await.unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let some = broker.receive(GROUP, 7, SHORT).await.unwrap();
                    if some.is_empty() {
                        return mine;
                    }
                    for received in some {
                        broker.ack(received.receipt()).await.unwrap();
                        mine.push(received.id());
                    }
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (200, 200));
    let audited = receive_all(&*broker, "audit", 200).await;
    assert_eq!(bodies(&audited), (0..200).map(|number| format!("m{number}")).collect::<Vec<_>>());
}

pub(super) async fn a_group_can_be_made_and_removed(bench: Bench) {
    let broker = bench.open("q", Config { max_groups: 2, ..small() }).await;
    let error = broker.receive("mail", 1, Duration::ZERO).await.unwrap_err();
    assert_eq!((error.to_string(), error), ("there is no such group".to_owned(), ReceiveError::NoGroup));
    broker.send(Message::new("early")).await.unwrap();
    broker.create_group("mail").await.unwrap();
    broker.create_group("mail").await.unwrap();
    assert_eq!(broker.groups().await.unwrap(), [GROUP, "mail"]);
    assert_eq!(broker.create_group("third").await, Err(GroupError::TooMany { max: 2 }));
    assert_eq!(broker.create_group("a b").await, Err(GroupError::Name));
    // It was still there, because the default group was not done with it.
    assert_eq!(bodies(&receive_all(&*broker, "mail", 1).await), ["early"]);
    broker.remove_group("mail").await.unwrap();
    assert_eq!(broker.remove_group("mail").await, Err(GroupError::Unknown));
    assert_eq!(broker.receive("mail", 1, Duration::ZERO).await, Err(ReceiveError::NoGroup));
    assert_eq!(broker.dead_letters("mail", 1).await, Err(GroupError::Unknown));
    assert_eq!(broker.groups().await.unwrap(), [GROUP]);
}

pub(super) async fn a_receiver_that_waits_is_woken(bench: Bench) {
    let broker = bench.open("q", small()).await;
    for max in [1, 10] {
        let waiting = tokio::spawn({
            let broker = broker.clone();
            async move { broker.receive(GROUP, max, LONG).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        broker.send(Message::new("m")).await.unwrap();
        let received = waiting.await.unwrap();
        assert!(began.elapsed() < LONG / 4, "{:?}", began.elapsed());
        assert_eq!(received.len(), 1);
        broker.ack(received[0].receipt()).await.unwrap();
    }
}

pub(super) async fn a_receive_that_is_dropped_loses_nothing(bench: Bench) {
    let broker = bench.open("q", small()).await;
    for round in 0..5 {
        let dropped = tokio::time::timeout(Duration::from_millis(20), broker.receive(GROUP, 1, LONG)).await;
        assert!(dropped.is_err());
        broker.send(Message::new(format!("m{round}"))).await.unwrap();
        let received = receive_one(&*broker).await;
        assert_eq!((bodies(std::slice::from_ref(&received)), received.attempt()), (vec![format!("m{round}")], 1));
        broker.ack(received.receipt()).await.unwrap();
    }
}

pub(super) async fn a_durable_ack_outlives_the_connection(bench: Bench) {
    if !bench.outlives() {
        return;
    }
    let config = Config { lease: SHORT, ..small() };
    let broker = bench.open("q", config.clone()).await;
    for body in ["acked", "not acked"] {
        broker.send(Message::new(body)).await.unwrap();
    }
    let received = receive_all(&*broker, GROUP, 2).await;
    broker.ack_durable(received[0].receipt()).await.unwrap();
    broker.close().await.unwrap();
    drop(broker);
    let broker = bench.open("q", config).await;
    let again = receive_one(&*broker).await;
    assert_eq!((bodies(std::slice::from_ref(&again)), again.attempt()), (vec!["not acked".to_owned()], 2));
    // A receipt of the time before is of no use.
    assert!(broker.ack(received[1].receipt()).await.is_err());
    broker.ack_durable(again.receipt()).await.unwrap();
    assert_quiet(&*broker, GROUP, Duration::ZERO).await;
}
