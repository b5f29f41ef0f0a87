//! Bounds and bad input.

use std::time::Duration;

use tenfold_mq::{Config, Message, QueueError, ReceiveError, Refusal, SettleError};

use super::bench::{Bench, GROUP, LONG, SHORT, assert_quiet, receive_all, receive_one, small};

pub(super) async fn a_full_queue_hands_the_message_back(bench: Bench) {
    let config = Config { max_messages: 3, send_timeout: Duration::from_millis(100), ..small() };
    let broker = bench.open("q", config).await;
    for number in 0..3 {
        broker.send(Message::new(format!("m{number}"))).await.unwrap();
    }
    let refused = broker.send_batch(vec![Message::new("one too many")]).await.unwrap_err();
    assert_eq!(*refused.refusal(), Refusal::Full);
    assert_eq!(refused.into_unsent()[0].body().as_ref(), b"one too many");
    let received = receive_all(&*broker, GROUP, 3).await;
    broker.ack_durable(received[0].receipt()).await.unwrap();
    broker.send(Message::new("room")).await.unwrap();
}

pub(super) async fn bad_messages_are_refused_by_type(bench: Bench) {
    let broker = bench.open("q", small()).await;
    let max = broker.capabilities().max_message_bytes;
    broker.send(Message::new(vec![0; max])).await.unwrap();
    let size = max + 1;
    let refused = broker.send(Message::new(vec![0; size])).await.unwrap_err();
    assert_eq!(*refused.refusal(), Refusal::TooLarge { size, max });
    assert_eq!(refused.unsent().body().len(), size);
    let refused = broker.send(Message::new("").with_priority(8)).await.unwrap_err();
    assert!(matches!(refused.refusal(), Refusal::Invalid(_)), "{refused:?}");
    let batch = vec![Message::new("good"), Message::new("").with_header("a b", "")];
    let refused = broker.send_batch(batch).await.unwrap_err();
    assert!(matches!(refused.refusal(), Refusal::Invalid(_)), "{refused:?}");
    assert_eq!(refused.unsent().len(), 2);
    assert_eq!(receive_all(&*broker, GROUP, 1).await[0].body().len(), max);
    // Nothing of the batch was sent.
    assert_quiet(&*broker, GROUP, Duration::ZERO).await;
}

pub(super) async fn receipts_are_good_once_and_in_their_queue(bench: Bench) {
    let (broker, other) = (bench.open("q", small()).await, bench.open("other", small()).await);
    broker.send(Message::new("m")).await.unwrap();
    let receipt = receive_one(&*broker).await.receipt();
    assert_eq!(other.ack(receipt).await, Err(SettleError::OtherQueue));
    let receipt = receipt.to_string().parse().unwrap();
    broker.ack(receipt).await.unwrap();
    assert_eq!(broker.ack(receipt).await, Err(SettleError::Stale));
    assert_eq!(broker.dead_letter(receipt, "twice").await, Err(SettleError::Stale));
    assert_eq!(broker.dead_letters(GROUP, 10).await.unwrap(), []);
}

pub(super) async fn a_purge_empties_it_and_counts_say_so(bench: Bench) {
    let broker = bench.open("q", small()).await;
    for number in 0..5 {
        broker.send(Message::new(format!("m{number}"))).await.unwrap();
    }
    broker.send(Message::new("later").with_delay(LONG)).await.unwrap();
    let leased = receive_all(&*broker, GROUP, 2).await;
    let stats = broker.stats().await.unwrap();
    let group = &stats.groups[0];
    assert_eq!((stats.messages, group.name.as_str()), (6, GROUP));
    assert_eq!((group.ready, group.leased, group.delayed, group.dead), (3, 2, 1, 0));
    broker.dead_letter(leased[0].receipt(), "bad").await.unwrap();
    assert_eq!(broker.stats().await.unwrap().groups[0].dead, 1);
    assert_eq!(broker.purge().await.unwrap(), 5);
    assert_quiet(&*broker, GROUP, Duration::ZERO).await;
    let stats = broker.stats().await.unwrap();
    let group = &stats.groups[0];
    assert_eq!((group.ready, group.leased, group.delayed, group.dead), (0, 0, 0, 1));
    assert_eq!(broker.dead_letters(GROUP, 10).await.unwrap().len(), 1);
    broker.send(Message::new("after")).await.unwrap();
    assert_eq!(receive_one(&*broker).await.body().as_ref(), b"after");
}

pub(super) async fn a_closed_queue_says_so(bench: Bench) {
    let broker = bench.open("q", small()).await;
    broker.send(Message::new("m")).await.unwrap();
    let receipt = receive_one(&*broker).await.receipt();
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.receive(GROUP, 1, LONG).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    broker.close().await.unwrap();
    let woken = tokio::time::timeout(SHORT * 10, waiting).await.unwrap().unwrap();
    assert_eq!(woken, Err(ReceiveError::Closed));
    let refused = broker.send(Message::new("late")).await.unwrap_err();
    assert_eq!((refused.refusal(), refused.unsent().body().as_ref()), (&Refusal::Closed, &b"late"[..]));
    assert_eq!(broker.receive(GROUP, 1, LONG).await, Err(ReceiveError::Closed));
    assert_eq!(broker.ack(receipt).await, Err(SettleError::Closed));
    assert!(matches!(broker.purge().await, Err(QueueError::Closed)));
}

/// On a runtime of one thread, whoever blocks it keeps those from running that make room.
pub(super) async fn a_batch_that_waits_for_room_keeps_no_thread(bench: Bench) {
    let broker = bench.open("q", Config { max_messages: 1, send_timeout: SHORT * 5, ..small() }).await;
    broker.send(Message::new("first")).await.unwrap();
    let alone = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sending = tokio::spawn({
                let broker = broker.clone();
                async move { broker.send_batch(vec![Message::new("second")]).await.map(|ids| ids.len()) }
            });
            tokio::task::yield_now().await;
            let received = receive_one(&*broker).await;
            broker.ack_durable(received.receipt()).await.unwrap();
            sending.await.unwrap()
        })
    });
    let sent = tokio::task::spawn_blocking(|| alone.join().unwrap()).await.unwrap();
    assert_eq!(sent.ok(), Some(1));
}
