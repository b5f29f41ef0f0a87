//! What a queue is given to do, and what came of it.

use std::time::Duration;

use bytes::Bytes;

use super::latencies::Latencies;
use crate::clock::Stopwatch;
use crate::rng::Rng;

/// Messages for each call in the scenario `batch`.
pub const BATCH: usize = 100;

/// Messages that a window holds unconfirmed.
pub const WINDOW: usize = 1024;

/// How many different bodies there are. They are made once, so that making them is not what is measured.
const BODIES: usize = 1024;

/// How many threads or tasks do how much.
#[derive(Clone, Debug)]
pub struct Load {
    /// Threads or tasks, at least 1.
    pub producers: usize,
    /// How long it is timed.
    pub window: Duration,
    /// How long it runs before that.
    pub warm_up: Duration,
    /// One call of so many is timed. Reading the clock costs as much as a fast send.
    pub timed_one_of: usize,
    /// Over all producers; the lap ends early at so many, so that fast queues do not fill the disk.
    pub max_messages: u64,
    /// What is sent.
    pub bodies: Bodies,
}

/// Bodies that can be told apart and recognised: each has its number in front and noise behind.
///
/// They live as long as the process, so that two threads that hand one on do not fight over its count of references: that
/// would be most of what a fast queue takes.
#[derive(Clone, Debug)]
pub struct Bodies {
    bodies: Vec<Bytes>,
}

impl Bodies {
    /// All of one size, at least 8 bytes.
    #[must_use]
    pub fn of(size: usize) -> Self {
        let mut rng = Rng::new(size as u64);
        let body = |number: usize| {
            let noise = std::iter::repeat_with(|| rng.next_u64() as u8).take(size.saturating_sub(8));
            let body: Vec<u8> = (number as u64).to_le_bytes().into_iter().chain(noise).collect();
            Bytes::from_static(body.leak())
        };
        Self { bodies: (0..BODIES).map(body).collect() }
    }

    /// Their size.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bodies[0].len()
    }

    /// The body of the n-th message.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u64) -> &Bytes {
        &self.bodies[number as usize % BODIES]
    }

    /// Whether this is one of them, whole.
    #[inline]
    #[must_use]
    pub fn has(&self, body: &[u8]) -> bool {
        let Some(front) = body.first_chunk::<8>() else { return false };
        let known = self.bodies.get(u64::from_le_bytes(*front) as usize);
        known.is_some_and(|known| known == body)
    }
}

/// What a lap, or one producer's part of it, came to.
#[derive(Clone, Debug, Default)]
pub struct Lap {
    /// Messages a second while it was timed.
    pub per_second: f64,
    /// All messages, also those of the warm-up.
    pub messages: u64,
    /// Of the calls that were timed.
    pub latencies: Latencies,
    /// Messages that came back wrong, of those that came back.
    pub wrong: u64,
}

impl Lap {
    /// Adds what another producer did in the same time.
    pub fn add(&mut self, other: &Self) {
        self.per_second += other.per_second;
        self.messages += other.messages;
        self.wrong += other.wrong;
        self.latencies.merge(&other.latencies);
    }

    /// The sum of all.
    ///
    /// # Errors
    ///
    /// The first error among them.
    pub fn sum<E>(laps: impl IntoIterator<Item = Result<Self, E>>) -> Result<Self, E> {
        laps.into_iter().try_fold(Self::default(), |mut sum, lap| {
            sum.add(&lap?);
            Ok(sum)
        })
    }
}

impl Load {
    /// Runs one producer: `step` is called over and over with the number of the next message, and says how many it did, 0 if
    /// there is nothing left to do.
    ///
    /// # Errors
    ///
    /// What `step` gave.
    pub fn run<E>(&self, mut step: impl FnMut(u64) -> Result<usize, E>) -> Result<Lap, E> {
        let mut lap = Lap::default();
        let most = self.max_messages / self.producers as u64;
        let mut early = Lap::default();
        self.run_until(self.warm_up, most / 5, &mut early, &mut step)?;
        lap.messages = early.messages;
        self.run_until(self.window, most, &mut lap, &mut step)?;
        Ok(lap)
    }

    fn run_until<E>(
        &self,
        span: Duration,
        most: u64,
        lap: &mut Lap,
        step: &mut impl FnMut(u64) -> Result<usize, E>,
    ) -> Result<(), E> {
        let stopwatch = Stopwatch::start();
        let before = lap.messages;
        let mut now = Duration::ZERO;
        let mut is_done = false;
        while !is_done && now < span && lap.messages < most {
            let started = if self.timed_one_of == 1 { now } else { stopwatch.elapsed() };
            let done = step(lap.messages)?;
            now = stopwatch.elapsed();
            lap.messages += done as u64;
            is_done = done == 0;
            if done > 0 {
                lap.latencies.record(now - started);
            }
            for _ in 1..self.timed_one_of {
                let done = step(lap.messages)?;
                lap.messages += done as u64;
                is_done |= done == 0;
            }
        }
        let elapsed = stopwatch.elapsed().as_secs_f64();
        lap.per_second = if elapsed > 0.0 { (lap.messages - before) as f64 / elapsed } else { 0.0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_recognised_whole() {
        let bodies = Bodies::of(100);
        assert_eq!((bodies.size(), bodies.get(0).len(), bodies.get(5_000).len()), (100, 100, 100));
        assert_ne!(bodies.get(1), bodies.get(2));
        assert!(bodies.has(bodies.get(77)));
        assert!(!bodies.has(&bodies.get(77)[..99]));
        assert!(!bodies.has(&[]));
        let mut flipped = bodies.get(77).to_vec();
        flipped[60] ^= 1;
        assert!(!bodies.has(&flipped));
        flipped[60] ^= 1;
        flipped[7] = 9;
        assert!(!bodies.has(&flipped), "a number that there is not");
    }

    #[test]
    fn a_lap_ends_where_there_is_nothing_left_or_enough() {
        let load = |max_messages| Load {
            producers: 2,
            window: Duration::from_secs(3600),
            warm_up: Duration::ZERO,
            timed_one_of: 3,
            max_messages,
            bodies: Bodies::of(8),
        };
        let lap = load(1_000).run(|_| Ok::<_, ()>(5)).unwrap();
        assert!((500..=515).contains(&lap.messages), "{}", lap.messages);
        let lap = load(1_000).run(|number| Ok::<_, ()>(usize::from(number < 7))).unwrap();
        assert_eq!((lap.messages, lap.latencies.count()), (7, 3));
        assert_eq!(load(1_000).run(|_| Err("no")).unwrap_err(), "no");
    }
}
