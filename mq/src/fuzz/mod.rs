//! What the fuzz targets of the queue call, and ordinary tests that call the same with random bytes and with changed logs
//! and records of real queues, so that the targets are run wherever the tests are.
//!
//! Nothing that a log holds may make a queue panic: it opens or is refused, and what opens works.

#![cfg_attr(not(fuzzing), allow(unreachable_pub, reason = "the fuzz targets alone see it"))]

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::log::{AppendError, Confirm, Log, LogConfig, Room};
use crate::{Config, ManualClock, Memory, OpenError, Queue, Receipt, TraceParent};

const SEGMENT_BYTES: u32 = 64 << 10;

/// Bytes as the records of a log, each a kind, a length and a body, well framed and with the right checksums: a queue
/// opens on them or refuses them, and one that opens delivers what it has, takes more, and opens again. Whether it opened.
pub fn fuzz_queue(bytes: &[u8]) -> bool {
    let storage = Memory::new();
    if !write_log(&storage, bytes) {
        return false;
    }
    let clock = ManualClock::new();
    let config = Config { max_attempts: 3, ..small() };
    let open = || Queue::builder().config(config.clone()).clock(clock.clone()).open_storage(storage.clone());
    let queue = match open() {
        Ok(queue) => queue,
        Err(OpenError::Record { .. } | OpenError::Damaged(_)) => return false,
        Err(error) => panic!("memory does not fail: {error:?}"),
    };
    check_invariants(&queue);
    let is_closed = work(&queue, &clock);
    drop(queue);
    let Ok(queue) = open() else { panic!("what opened opens again") };
    check_invariants(&queue);
    assert!(!is_closed || queue.stats().groups.iter().all(|group| group.leased == 0), "no lease outlives the queue");
    true
}

fn small() -> Config {
    Config { segment_bytes: SEGMENT_BYTES, max_message_bytes: SEGMENT_BYTES / 4, ..Config::default() }
}

/// Any text where a receipt or a trace context should be: what is read is written as what is read again.
pub fn fuzz_texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(receipt) = text.parse::<Receipt>() {
        assert_eq!(receipt.to_string().parse(), Ok(receipt));
    }
    if let Ok(parent) = text.parse::<TraceParent>() {
        assert_eq!(parent.to_string().parse(), Ok(parent));
    }
}

/// Writes what the bytes say into a log; `false` if it does not fit into one.
fn write_log(storage: &Memory, mut bytes: &[u8]) -> bool {
    let config = LogConfig { segment_bytes: SEGMENT_BYTES, confirm: Confirm::Written, ..LogConfig::default() };
    let storage = Arc::new(storage.clone());
    let Ok((log, _)) = Log::open(storage, config, Box::new(|_| {}), &mut |_, _, _, _| true) else { return false };
    while let [kind, low, high, rest @ ..] = bytes {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, rest) = rest.split_at(len);
        bytes = rest;
        // The log's own kinds are another target's.
        let kind = kind % 5;
        loop {
            match log.append(Room::Ordinary, &mut |batch| _ = batch.put(kind, &[body])) {
                Ok(_) => break,
                Err(AppendError::Busy) if log.make_room(Room::Ordinary).is_ok() => {}
                Err(_) => return false,
            }
        }
    }
    log.close().is_ok()
}

/// The invariants are recounted where the tests are.
#[cfg_attr(not(test), allow(unused_variables))]
fn check_invariants(queue: &Queue) {
    #[cfg(test)]
    queue.shared().hub.core.lock().state.check_invariants();
}

/// Uses everything that depends on what was found; whether the queue could be closed.
fn work(queue: &Queue, clock: &ManualClock) -> bool {
    const MOST: usize = 200;
    for name in queue.groups() {
        let Ok(group) = queue.group(&name) else { continue };
        let _ = (group.stats(), group.peek(MOST), group.dead_letters(MOST));
        let consumer = group.consumer();
        for number in 0..MOST {
            let Ok(Some(delivery)) = consumer.try_receive() else { break };
            let _ = match number % 4 {
                0 => delivery.nack(Duration::from_millis(1)),
                1 => delivery.dead_letter("no use"),
                2 => delivery.extend(Duration::from_secs(9)),
                _ => delivery.ack(),
            };
        }
        clock.advance(Duration::from_secs(40));
        for letter in group.dead_letters(1).unwrap_or_default() {
            let _ = group.requeue(letter.id);
        }
    }
    let _ = queue.producer().send("more");
    let _ = queue.tick();
    check_invariants(queue);
    let _ = queue.stats();
    queue.close().is_ok()
}
