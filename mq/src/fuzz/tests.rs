//! The fuzz targets' functions, fed for a while: with nothing but random bytes, and with what a real log or queue wrote,
//! changed here and there, which gets much further in.
//!
//! Fixed seeds and fresh ones; `TENFOLD_SEED` replays one, `TENFOLD_ROUNDS` asks for more fresh ones.

use super::*;
use crate::log::{fuzz_log, fuzz_records};
use crate::storage::{Storage, read_full};
use crate::{Message, Start};

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// A place and a length within so many bytes.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len);
        from..from + 1 + self.below((len - from).min(64))
    }
}

/// Changes an input in one to four ways; `other` is one to take pieces of.
fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    /// Where numbers end, and lengths go wrong.
    const ODD: [u8; 8] = [0, 1, 0x0f, 0x7f, 0x80, 0xf0, 0xf1, 0xff];
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let range = random.range(bytes.len());
        match random.below(8) {
            0 | 1 => bytes[range.start] ^= 1 << random.below(8),
            2 => bytes[range.start] = ODD[random.below(ODD.len())],
            3 => bytes[range].fill(ODD[random.below(ODD.len())]),
            4 => _ = bytes.drain(range),
            5 => {
                let piece = bytes[range].to_vec();
                let at = random.below(bytes.len());
                bytes.splice(at..at, piece);
            }
            6 if !other.is_empty() => {
                let piece = other[random.range(other.len())].to_vec();
                bytes.splice(range, piece);
            }
            _ => bytes.truncate(random.below(bytes.len()).max(range.start)),
        }
    }
    bytes
}

/// Runs `check` with fixed seeds and fresh ones; a failure prints its seed. Returns how many said yes, and of how many.
fn for_each_seed(fixed: u64, check: impl Fn(&mut Random) -> bool) -> (usize, usize) {
    struct Report(u64);
    impl Drop for Report {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with this seed; TENFOLD_SEED={} replays it", self.0);
            }
        }
    }
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let mut fresh = Random(crate::hash::random());
    let seeds: Vec<u64> = match number("TENFOLD_SEED") {
        Some(seed) => vec![seed],
        None => (0..fixed).chain((0..number("TENFOLD_ROUNDS").unwrap_or(20)).map(|_| fresh.next())).collect(),
    };
    let yes = seeds.iter().filter(|seed| {
        let report = Report(**seed);
        let yes = check(&mut Random(**seed));
        drop(report);
        yes
    });
    (yes.count(), seeds.len())
}

/// The groups of a segment that a log wrote in three sessions, with the byte in front that says they are that.
fn real_groups() -> Vec<u8> {
    let storage = Memory::new();
    for session in 0..3_u8 {
        let config = LogConfig { segment_bytes: 16 << 10, ..LogConfig::default() };
        let opened = Log::open(Arc::new(storage.clone()), config, Box::new(|_| {}), &mut |_, _, _, _| true);
        let log = opened.unwrap().0;
        for number in 0..6 {
            log.append(Room::Ordinary, &mut |batch| {
                batch.put(1, &[&[session; 5]]);
                batch.put(2, &[&vec![number; usize::from(number) * 40]]);
            })
            .unwrap();
            if number % 2 == 1 {
                log.commit().unwrap();
            }
        }
        log.close().unwrap();
    }
    let mut bytes = vec![0; 8 << 10];
    read_full(&*storage.open("00000001.log").unwrap(), 512, &mut bytes).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(used);
    bytes.insert(0, 0);
    bytes
}

/// The records of a queue that did a little of everything, as [`fuzz_queue`] reads them.
fn real_records(seed: u64) -> Vec<u8> {
    let storage = Memory::new();
    let clock = ManualClock::new();
    let config = small();
    for session in 0..2 {
        let builder = Queue::builder().config(config.clone()).clock(clock.clone());
        let queue = builder.open_storage(storage.clone()).unwrap();
        let groups = [queue.default_group(), queue.group_from("other", Start::Earliest).unwrap()];
        let mut random = Random(seed + session);
        for number in 0..12_u32 {
            let mut message = Message::new(number.to_string());
            if random.below(2) == 0 {
                message = message.with_key(random.below(3).to_string()).with_priority(random.below(8) as u8);
            } else {
                message = message.with_delay(Duration::from_secs(random.below(3) as u64));
                message = message.with_deduplication_id(random.below(9).to_string());
                message = message.with_header("name", "value");
            }
            queue.producer().send(message).unwrap();
            clock.advance(Duration::from_millis(400));
            if let Some(delivery) = groups[random.below(2)].consumer().try_receive().unwrap() {
                match random.below(4) {
                    0 => delivery.nack(Duration::from_secs(1)).unwrap(),
                    1 => delivery.dead_letter("a reason").unwrap(),
                    _ => delivery.ack().unwrap(),
                }
            }
        }
        queue.tick().unwrap();
        queue.close().unwrap();
    }
    let mut bytes = Vec::new();
    Log::open(Arc::new(storage), LogConfig::default(), Box::new(|_| {}), &mut |_, _, kind, body| {
        bytes.push(kind);
        bytes.extend_from_slice(&(body.len() as u16).to_le_bytes());
        bytes.extend_from_slice(body);
        true
    })
    .unwrap();
    bytes
}

#[test]
fn fuzz_a_changed_log() {
    let real = real_groups();
    assert!(fuzz_log(&real), "what a log wrote is one");
    let (opened, of) = for_each_seed(400, |random| {
        let input = mutate(random, &real, &real);
        fuzz_records(&input);
        fuzz_records(&input[random.below(input.len().max(1))..]);
        fuzz_log(&input)
    });
    assert!(of == 1 || opened > 20 && of - opened > 20, "{opened} of {of} opened");
}

#[test]
fn fuzz_a_changed_queue() {
    let real = [1, 2, 3].map(real_records);
    assert!(real.iter().all(|real| fuzz_queue(real)), "what a queue wrote is one");
    let (opened, of) = for_each_seed(400, |random| {
        let (one, other) = (random.below(3), random.below(3));
        fuzz_queue(&mutate(random, &real[one], &real[other]))
    });
    assert!(of == 1 || opened > 20 && of - opened > 20, "{opened} of {of} opened");
}

#[test]
fn fuzz_any_bytes() {
    for_each_seed(400, |random| {
        let len = random.below(300);
        let mut input = random.bytes(len);
        // Mostly small numbers, as lengths and kinds are.
        for byte in &mut input {
            if random.below(4) > 0 {
                *byte %= 24;
            }
        }
        fuzz_records(&input);
        fuzz_texts(&input);
        fuzz_log(&input) | fuzz_queue(&input)
    });
}

#[test]
fn fuzz_a_changed_text() {
    let texts = ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(), {
        let queue = Queue::in_memory(Config::default()).unwrap();
        queue.producer().send("one").unwrap();
        queue.consumer().try_receive().unwrap().unwrap().receipt().to_string()
    }];
    for_each_seed(400, |random| {
        let (one, other) = (random.below(2), random.below(2));
        fuzz_texts(&mutate(random, texts[one].as_bytes(), texts[other].as_bytes()));
        true
    });
}
