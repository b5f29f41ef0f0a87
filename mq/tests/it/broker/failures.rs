//! What only a server can do to its clients: go away.

#[cfg(feature = "nats")]
mod nats {
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;
    use std::time::Duration;

    use tenfold_mq::{
        Broker, Config, Durability, Message, MessageId, Nats, NatsConfig, NatsError, ReceiveError, Refusal,
    };

    use super::super::bench::{
        Backend, Bench, GROUP, LONG, SHORT, assert_quiet, bodies, receive_all, receive_one, small,
    };
    use super::super::runtime;

    fn with_server<F: Future<Output = ()>>(check: impl FnOnce(Bench) -> F) {
        if let Some(bench) = Bench::new(Backend::Nats) {
            runtime().block_on(check(bench));
        }
    }

    #[test]
    fn what_was_confirmed_outlives_a_server_that_is_killed() {
        with_server(killed_during_sends);
    }

    /// Sends numbered messages until told to stop; which of them were confirmed, as which ids.
    async fn send_until(
        broker: Arc<dyn Broker>,
        sender: u32,
        has_ids: bool,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) -> HashMap<String, MessageId> {
        let mut confirmed = HashMap::new();
        let mut number = 0;
        while !*stop.borrow_and_update() {
            let body = format!("{sender}-{number}");
            number += 1;
            let message = Message::new(body.clone());
            let message = if has_ids { message.with_deduplication_id(body.clone()) } else { message };
            match broker.send(message).await {
                Ok(id) => {
                    confirmed.insert(body, id);
                }
                Err(error) => assert!(matches!(error.refusal(), Refusal::Failed(_)), "{error:?}"),
            }
        }
        confirmed
    }

    async fn killed_during_sends(mut bench: Bench) {
        let mut config = bench.server.as_ref().unwrap().config("q", Config { send_timeout: LONG, ..small() });
        config.request_timeout = Duration::from_millis(500);
        let broker: Arc<dyn Broker> = Arc::new(Nats::connect(config).await.unwrap());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        // Half of the senders name their messages, and so may send them again.
        let senders: Vec<_> = (0..8)
            .map(|sender| tokio::spawn(send_until(broker.clone(), sender, sender % 2 == 0, stopped.clone())))
            .collect();
        for _ in 0..3 {
            tokio::time::sleep(SHORT).await;
            let server = bench.server.as_mut().unwrap();
            server.kill();
            server.restart();
        }
        tokio::time::sleep(SHORT).await;
        stop.send(true).unwrap();
        let mut confirmed = HashMap::new();
        for sender in senders {
            confirmed.extend(sender.await.unwrap());
        }
        assert!(confirmed.len() > 100, "only {}", confirmed.len());
        let mut delivered: HashMap<String, HashSet<MessageId>> = HashMap::new();
        loop {
            let some = broker.receive(GROUP, 100, SHORT).await.unwrap();
            if some.is_empty() {
                break;
            }
            for received in some {
                let body = bodies(std::slice::from_ref(&received)).remove(0);
                delivered.entry(body).or_default().insert(received.id());
                broker.ack(received.receipt()).await.unwrap();
            }
        }
        for (body, id) in &confirmed {
            let ids = delivered.get(body).unwrap_or_else(|| panic!("{body} was confirmed and is lost"));
            assert!(ids.contains(id), "{body} came as {ids:?}, not {id}");
        }
        let doubled = delivered.iter().filter(|(body, ids)| {
            let sender: u32 = body.split('-').next().unwrap().parse().unwrap();
            sender % 2 == 0 && ids.len() > 1
        });
        assert_eq!(doubled.count(), 0, "a message with an id is queued once");
    }

    #[test]
    fn a_receiver_goes_on_when_the_server_returns() {
        with_server(|mut bench| async move {
            let broker = bench.open("q", Config { lease: SHORT * 2, ..small() }).await;
            broker.send(Message::new("before")).await.unwrap();
            let before = receive_one(&*broker).await;
            let waiting = tokio::spawn({
                let broker = broker.clone();
                async move { broker.receive(GROUP, 1, LONG).await }
            });
            tokio::time::sleep(Duration::from_millis(100)).await;
            let server = bench.server.as_mut().unwrap();
            server.kill();
            server.restart();
            // The lease ended, or the server forgot it: the message that was not acked comes again.
            let again = waiting.await.unwrap().unwrap();
            assert_eq!(again[0].id(), before.id());
            broker.ack_durable(again[0].receipt()).await.unwrap();
            broker.send(Message::new("after")).await.unwrap();
            let after = receive_one(&*broker).await;
            assert_eq!(bodies(&[after]), ["after"]);
        });
    }

    #[test]
    fn a_message_that_is_buried_leaves_the_stream() {
        with_server(|bench| async move {
            let broker = bench.open("q", Config { lease: SHORT, max_attempts: 1, ..small() }).await;
            for _ in 0..3 {
                broker.send(Message::new("dead")).await.unwrap();
                receive_one(&*broker).await;
            }
            while broker.dead_letters(GROUP, 10).await.unwrap().len() < 3 {
                assert_quiet(&*broker, GROUP, SHORT).await;
            }
            assert_eq!(broker.stats().await.unwrap().messages, 0);
        });
    }

    #[test]
    fn a_delay_and_an_advisory_outlive_a_restart() {
        with_server(|mut bench| async move {
            let broker = bench.open("q", Config { lease: SHORT, max_attempts: 1, ..small() }).await;
            let dead = broker.send(Message::new("dead")).await.unwrap();
            receive_one(&*broker).await;
            broker.send(Message::new("later").with_delay(SHORT * 4)).await.unwrap();
            // The lease ends and the advisory is stored.
            assert_quiet(&*broker, GROUP, SHORT * 2).await;
            let server = bench.server.as_mut().unwrap();
            server.kill();
            server.restart();
            let later = receive_one(&*broker).await;
            assert_eq!((bodies(std::slice::from_ref(&later)), later.attempt()), (vec!["later".to_owned()], 1));
            let letters = broker.dead_letters(GROUP, 10).await.unwrap();
            assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [dead]);
        });
    }

    #[test]
    fn what_the_server_cannot_do_is_refused_at_the_door() {
        with_server(|bench| async move {
            let server = bench.server.as_ref().unwrap();
            let good = server.config("q", small());
            let with = |change: fn(&mut NatsConfig)| {
                let mut config = good.clone();
                change(&mut config);
                async move { Nats::connect(config).await }
            };
            let always = with(|config| config.queue.durability = Durability::Always).await;
            match always {
                Err(NatsError::Unsupported(_)) => assert!(!server.can_sync),
                other => assert!(other.is_ok() && server.can_sync, "{other:?}"),
            }
            assert!(matches!(with(|config| config.replicas = 3).await, Err(NatsError::Refused { .. })));
            assert!(matches!(with(|config| config.servers = "::".to_owned()).await, Err(NatsError::Address)));
            let nowhere = with(|config| config.servers = "127.0.0.1:1".to_owned()).await;
            assert!(matches!(nowhere, Err(NatsError::Connection(_))), "{nowhere:?}");

            let none = NatsConfig { priorities: 1, key_lanes: 0, name: "plain".to_owned(), ..good.clone() };
            let plain = Nats::connect(none).await.unwrap();
            for message in [Message::new("").with_priority(1), Message::new("").with_key("k")] {
                let refused = plain.send(message).await.unwrap_err();
                assert!(matches!(refused.refusal(), Refusal::Unsupported(_)), "{refused:?}");
            }
            let refused = plain.send(Message::new("").with_header("Nats-Rollup", "all")).await.unwrap_err();
            assert!(matches!(refused.refusal(), Refusal::Unsupported(_)), "{refused:?}");
        });
    }

    #[test]
    fn a_group_that_somebody_else_removed_is_missed() {
        with_server(|bench| async move {
            let (one, other) = (bench.open("q", small()).await, bench.open("q", small()).await);
            one.create_group("mail").await.unwrap();
            assert_quiet(&*one, "mail", Duration::ZERO).await;
            other.remove_group("mail").await.unwrap();
            assert_eq!(one.receive("mail", 1, LONG).await, Err(ReceiveError::NoGroup));
            // It is another one when it is made again.
            other.create_group("mail").await.unwrap();
            other.send(Message::new("m")).await.unwrap();
            assert_eq!(bodies(&receive_all(&*one, "mail", 1).await), ["m"]);
        });
    }

    #[test]
    fn a_sender_may_wait_for_ever() {
        with_server(|bench| async move {
            let broker = bench.open("q", Config { send_timeout: Duration::MAX, max_messages: 1, ..small() }).await;
            broker.send(Message::new("first")).await.unwrap();
            let waiting = tokio::spawn({
                let broker = broker.clone();
                async move { broker.send(Message::new("second")).await }
            });
            let received = receive_one(&*broker).await;
            broker.ack_durable(received.receipt()).await.unwrap();
            waiting.await.unwrap().unwrap();
        });
    }

    #[test]
    fn settings_may_change_from_one_connection_to_the_next() {
        with_server(|bench| async move {
            let first = bench.open("q", small()).await;
            first.send(Message::new("m")).await.unwrap();
            let second = bench.open("q", Config { lease: SHORT, max_messages: 1, max_attempts: 9, ..small() }).await;
            let received = receive_one(&*second).await;
            assert_eq!(received.attempt(), 1);
            assert_eq!(receive_one(&*second).await.attempt(), 2);
        });
    }
}
