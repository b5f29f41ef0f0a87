//! What callers do wrong: typed errors, or effects that are written down.

use std::time::Duration;

use tenfold_mq::{
    Config, HeaderError, MAX_KEY_BYTES, Message, MessageError, MessageId, OpenError, Queue, Receipt, ReceiveError,
    Refusal, SettleError, Storage,
};

use crate::support::{Bench, SECOND, drain, is_empty, next, small};

#[test]
fn an_oversized_message_comes_back() {
    Bench::both(small(), |_, queue| {
        let max = 16 << 10;
        let error = queue.producer().send(vec![0; max + 1]).unwrap_err();
        assert_eq!(error.refusal(), &Refusal::TooLarge { size: max + 1, max });
        assert_eq!(error.into_unsent().body().len(), max + 1);
        queue.producer().send(vec![0; max]).unwrap();
        // A key counts, too.
        assert!(queue.producer().send(Message::new(vec![0; max]).with_key("k")).is_err());
    });
}

#[test]
fn a_batch_larger_than_a_segment_comes_back() {
    let queue = Bench::new(small()).open();
    let error = queue.producer().send_batch((0..10).map(|_| vec![0; 16 << 10])).unwrap_err();
    assert!(matches!(error.refusal(), Refusal::TooLarge { size, .. } if *size > 10 * (16 << 10)), "{error:?}");
    assert_eq!(error.unsent().len(), 10);
    assert!(is_empty(&queue.consumer()));
}

#[test]
fn an_empty_batch_is_nothing() {
    Bench::both(small(), |_, queue| {
        assert_eq!(queue.producer().send_batch([""; 0]).unwrap(), []);
        queue.producer().submit_batch([""; 0]).unwrap().wait().unwrap();
        assert!(queue.consumer().try_receive_batch(0).unwrap().is_empty());
        assert!(is_empty(&queue.consumer()));
    });
}

#[test]
fn invalid_messages_come_back_and_say_why() {
    Bench::both(small(), |_, queue| {
        let cases = [
            (Message::new("").with_priority(8), MessageError::Priority(8)),
            (Message::new("").with_key(""), MessageError::Key(0)),
            (Message::new("").with_key(vec![0; MAX_KEY_BYTES + 1]), MessageError::Key(MAX_KEY_BYTES + 1)),
            (Message::new("").with_header("a", "b\r\nc"), MessageError::Header(HeaderError::Value)),
        ];
        for (message, expected) in cases {
            let error = queue.producer().send(message.clone()).unwrap_err();
            assert_eq!(error.into_parts(), (Refusal::Invalid(expected), message.clone()));
            let error = queue.producer().send_batch([Message::new("fine"), message]).unwrap_err();
            assert_eq!((error.refusal(), error.unsent().len()), (&Refusal::Invalid(expected), 2));
        }
        assert!(is_empty(&queue.consumer()));
    });
}

#[test]
fn receipts_that_nobody_got_are_stale() {
    Bench::both(small(), |_, queue| {
        queue.producer().send_batch(["a", "b"]).unwrap();
        let real = next(&queue.consumer()).into_receipt();
        let parts: Vec<String> = real.to_string().split('-').map(str::to_owned).collect();
        let forged = |at: usize, value: &str| -> Receipt {
            let mut parts = parts.clone();
            parts[at] = value.to_owned();
            parts.join("-").parse().unwrap()
        };
        assert_eq!(queue.ack(forged(0, "1")), Err(SettleError::OtherQueue));
        assert_eq!(queue.ack(forged(1, "7")), Err(SettleError::NoGroup));
        assert_eq!(queue.ack(forged(1, &u32::MAX.to_string())), Err(SettleError::NoGroup));
        for receipt in [
            forged(2, "1"),
            forged(2, "999"),
            forged(2, &u64::MAX.to_string()),
            forged(3, "0"),
            forged(3, "2"),
            forged(3, &u32::MAX.to_string()),
        ] {
            assert_eq!(queue.ack(receipt), Err(SettleError::Stale), "{receipt}");
            assert_eq!(queue.nack(receipt, SECOND), Err(SettleError::Stale));
            assert_eq!(queue.extend(receipt, SECOND), Err(SettleError::Stale));
        }
        assert_eq!(queue.requeue(MessageId::new(u64::MAX)), Ok(false));
        queue.ack(real).unwrap();
        assert_eq!(drain(&queue.consumer()), ["b"]);
    });
}

#[test]
fn a_closed_queue_says_so_everywhere() {
    Bench::both(small(), |_, queue| {
        queue.producer().send_batch(["a", "b"]).unwrap();
        let held = next(&queue.consumer());
        let other = next(&queue.consumer());
        queue.close().unwrap();
        queue.close().unwrap();
        assert_eq!(held.ack(), Err(SettleError::Closed));
        drop(other);
        assert!(matches!(queue.consumer().receive(), Err(ReceiveError::Closed)));
        assert!(matches!(queue.producer().submit("c").unwrap_err().refusal(), Refusal::Closed));
        assert!(queue.flush().is_err() && queue.tick().is_err() && queue.drain(SECOND).is_err());
        assert!(queue.group("g").is_err() && queue.purge().is_err() && queue.pause().is_err());
    });
}

#[test]
fn settings_out_of_range_are_refused_before_anything_is_touched() {
    let path = std::env::temp_dir().join(format!("tenfold-mq-untouched-{}", std::process::id()));
    let config = Config { lease: Duration::ZERO, ..Config::default() };
    assert!(matches!(Queue::open(&path, config.clone()), Err(OpenError::Config(_))));
    assert!(!path.exists());
    assert_eq!(Queue::in_memory(config).unwrap_err().field(), "lease");
    assert!(matches!(Queue::verify(&path), Err(OpenError::NotFound)));
    assert!(!path.exists());
}

#[test]
fn a_newer_format_and_a_damaged_log_are_refused_and_left_alone() {
    let bench = Bench::new(small());
    let queue = bench.open();
    queue.producer().send_batch((0..100).map(|n| format!("message {n}"))).unwrap();
    queue.close().unwrap();
    drop(queue);
    let name = bench.disk.list().unwrap().into_iter().find(|name| bench.disk.open(name).unwrap().len().unwrap() > 8192);
    let file = bench.disk.open(&name.unwrap()).unwrap();
    let mut before = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut before).unwrap();
    let place = before.windows(10).position(|window| window == b"message 50").unwrap();
    file.write_at(place as u64, &[std::io::IoSlice::new(b"M")]).unwrap();
    let open = || Queue::builder().config(small()).open_storage(bench.disk.clone());
    assert!(matches!(open(), Err(OpenError::Damaged(_))));
    let Err(OpenError::Damaged(damage)) = Queue::verify_storage(&bench.disk) else { panic!("damaged") };
    assert!(damage.offset <= place as u64);
    let mut after = vec![0; before.len()];
    file.read_at(0, &mut after).unwrap();
    after[place] = b'm';
    assert!(before == after, "nothing else was changed");
    file.write_at(place as u64, &[std::io::IoSlice::new(b"m")]).unwrap();
    assert!(Queue::verify_storage(&bench.disk).unwrap().records >= 100);
    assert_eq!(drain(&open().unwrap().consumer()).len(), 100);
}

#[test]
fn a_message_whose_bytes_went_bad_while_open_is_named_and_the_others_come() {
    let bench = Bench::new(Config { segment_bytes: 1 << 20, memory_bytes: 4 << 20, ..small() });
    let queue = bench.open();
    for n in 0..12_000 {
        drop(queue.producer().submit(format!("{n:01000}")).unwrap());
    }
    queue.flush().unwrap();
    queue.tick().unwrap();
    // The first messages are on disk only by now.
    let mut found = None;
    for name in bench.disk.list().unwrap() {
        let file = bench.disk.open(&name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        let body = format!("{:01000}", 7);
        if let Some(place) = bytes.windows(1000).position(|window| window == body.as_bytes()) {
            file.write_at(place as u64, &[std::io::IoSlice::new(b"X")]).unwrap();
            found = Some(place);
        }
    }
    assert!(found.is_some());
    let consumer = queue.consumer();
    let (mut delivered, mut damaged) = (0, 0);
    loop {
        match consumer.try_receive() {
            Ok(Some(delivery)) => {
                delivery.ack().unwrap();
                delivered += 1;
            }
            Ok(None) => break,
            Err(ReceiveError::Damaged { .. }) => damaged += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // A checksum covers what was written at once, so its neighbours in that write are named, too.
    assert!(damaged >= 1 && delivered + damaged == 12_000, "{damaged} damaged, {delivered} delivered");
    assert_eq!(queue.dead_letters(20_000).unwrap().len(), damaged);
}

#[test]
fn what_was_taken_ahead_is_not_handed_out_by_a_closed_queue() {
    Bench::both(Config { prefetch: 10, ..small() }, |_, queue| {
        queue.producer().send_batch(["a", "b"]).unwrap();
        let consumer = queue.consumer();
        next(&consumer).ack().unwrap();
        queue.close().unwrap();
        assert!(matches!(consumer.try_receive(), Err(ReceiveError::Closed)));
        assert!(matches!(consumer.try_receive_batch(5), Err(ReceiveError::Closed)));
    });
}

#[test]
fn where_there_is_no_queue_nothing_is_made_if_there_must_be_one() {
    let path = std::env::temp_dir().join(format!("tenfold-mq-empty-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    assert!(matches!(Queue::builder().must_exist().open(&path), Err(OpenError::NotFound)));
    assert!(matches!(Queue::verify(&path), Err(OpenError::NotFound)));
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    std::fs::remove_dir_all(&path).unwrap();
}
