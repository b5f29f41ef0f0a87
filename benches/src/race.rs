//! The race of `throughput`: all caches take turns in one process, round after round, so that whatever the machine does
//! meanwhile (clock frequency, neighbours) falls on all of them alike.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::cache::{Batches, Built, Tally};
use crate::catalogue::{Candidate, Origin, Purpose, Sharing};
use crate::clock::Stopwatch;
use crate::report::median;
use crate::workload::{Sequence, Workload};

/// Operations between two looks at the clock: long against reading it, short against a window.
const BATCH: usize = 4096;

/// The part of the entries that all caches must hold before `hits` is a fair race, in percent.
const MIN_RESIDENT_PERCENT: usize = 75;

/// One race: a workload at a number of threads.
#[derive(Clone, Debug)]
pub struct Race {
    /// What the threads do.
    pub workload: Workload,
    /// How many there are, at least 1. With more than one, only caches that threads may share take part.
    pub threads: usize,
    /// The size, at least 1: keys for `hits`, capacity otherwise.
    pub entries: usize,
    /// How often each cache has its turn, at least 1.
    pub rounds: usize,
    /// How long a turn is timed. A quarter of it goes before, to bring the cache back into the processor's.
    pub window: Duration,
    /// Chooses the keys.
    pub seed: u64,
}

/// How a cache did.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The cache.
    pub candidate: Candidate,
    /// Operations a second of all threads together, the median of the rounds.
    pub ops_per_s: f64,
    /// That figure over the fastest peer's of the same sharing, if one took part.
    pub ratio_to_best_peer: Option<f64>,
}

/// Why a race has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RaceError {
    /// A cache gave values that belong to other keys.
    #[error("{cache} gave {count} wrong values")]
    WrongValues {
        /// The cache.
        cache: &'static str,
        /// How many.
        count: u64,
    },
    /// A cache did not find keys that it held.
    #[error("{cache} missed {count} resident keys")]
    Missed {
        /// The cache.
        cache: &'static str,
        /// How many.
        count: u64,
    },
    /// The caches hold too few keys in common.
    #[error("all caches together hold only {kept} of {entries} keys; take more entries or fewer caches")]
    TooFewResident {
        /// Keys that every cache holds.
        kept: usize,
        /// Keys inserted.
        entries: usize,
    },
}

struct Contender {
    candidate: Candidate,
    built: Built,
    sequences: Vec<Sequence>,
    rates: Vec<f64>,
}

impl Race {
    /// Holds the race.
    ///
    /// # Errors
    ///
    /// [`RaceError`] if a cache answers wrongly, or if there is no fair set of keys for `hits`.
    pub fn run(&self, candidates: &[Candidate]) -> Result<Vec<Standing>, RaceError> {
        let mut contenders = self.line_up(candidates)?;
        for _ in 0..self.rounds {
            for contender in &mut contenders {
                let turn = self.turn(contender);
                self.judge(contender.candidate.name, turn.tally)?;
                contender.rates.push(turn.ops_per_s);
            }
        }
        Ok(standings(&contenders))
    }

    /// Builds the caches that can take part and brings them into their first state.
    fn line_up(&self, candidates: &[Candidate]) -> Result<Vec<Contender>, RaceError> {
        let capacity = self.workload.capacity(self.entries);
        let able = |candidate: &&Candidate| self.threads == 1 || candidate.sharing == Sharing::Shared;
        let mut contenders: Vec<Contender> = candidates
            .iter()
            .filter(able)
            .map(|&candidate| {
                let built = (candidate.build)(capacity, Purpose::Speed);
                Contender { candidate, built, sequences: Vec::new(), rates: Vec::new() }
            })
            .collect();

        let mut keys = self.workload.initial_keys(self.entries, self.seed);
        for contender in &mut contenders {
            contender.built.drive(|cache| {
                cache.fill(&keys);
                cache.entry_count()
            });
        }
        if self.workload == Workload::Hits {
            keys = self.common_keys(&mut contenders, keys)?;
        }
        let sequences = self.workload.sequences(self.entries, &keys, self.threads, self.seed);
        for contender in &mut contenders {
            contender.sequences.clone_from(&sequences);
        }
        Ok(contenders)
    }

    /// The keys that every contender holds. A sharded cache may have evicted a few from a shard that had more than its share.
    fn common_keys(&self, contenders: &mut [Contender], mut keys: Vec<u64>) -> Result<Vec<u64>, RaceError> {
        for contender in contenders {
            let held = contender.built.drive(|cache| cache.resident(&keys));
            let mut held = held.into_iter();
            keys.retain(|_| held.next().unwrap_or(false));
        }
        if keys.len() * 100 < self.entries * MIN_RESIDENT_PERCENT {
            return Err(RaceError::TooFewResident { kept: keys.len(), entries: self.entries });
        }
        Ok(keys)
    }

    fn turn(&self, contender: &mut Contender) -> Turn {
        match &mut contender.built {
            Built::Local(cache) => self.lap(cache.as_mut(), &mut contender.sequences[0], None),
            Built::Shared(shared) => {
                let barrier = Barrier::new(self.threads);
                let (shared, barrier) = (&**shared, &barrier);
                thread::scope(|scope| {
                    let laps: Vec<_> = contender
                        .sequences
                        .iter_mut()
                        .map(|sequence| {
                            scope.spawn(move || self.lap(shared.handle().as_mut(), sequence, Some(barrier)))
                        })
                        .collect();
                    laps.into_iter().fold(Turn::default(), |mut sum, lap| {
                        let lap = lap.join().expect("a lap panics only if the cache under test does");
                        sum.ops_per_s += lap.ops_per_s;
                        sum.tally.add(lap.tally);
                        sum
                    })
                })
            }
        }
    }

    /// One thread's part of a turn: warm up, wait for the other threads, then the timed window.
    fn lap(&self, cache: &mut dyn Batches, sequence: &mut Sequence, barrier: Option<&Barrier>) -> Turn {
        let mut tally = Tally::default();
        self.run_for(self.window / 4, cache, sequence, &mut tally);
        if let Some(barrier) = barrier {
            barrier.wait();
        }
        let ops_per_s = self.run_for(self.window, cache, sequence, &mut tally);
        Turn { ops_per_s, tally }
    }

    /// Runs batches until `span` is over and gives the operations a second.
    fn run_for(&self, span: Duration, cache: &mut dyn Batches, sequence: &mut Sequence, tally: &mut Tally) -> f64 {
        let stopwatch = Stopwatch::start();
        let mut operations = 0_usize;
        loop {
            let keys = sequence.advance(BATCH);
            operations += keys.len();
            tally.add(self.workload.run(cache, keys));
            let elapsed = stopwatch.elapsed();
            if elapsed >= span {
                return operations as f64 / elapsed.as_secs_f64();
            }
        }
    }

    fn judge(&self, cache: &'static str, tally: Tally) -> Result<(), RaceError> {
        if tally.wrong > 0 {
            return Err(RaceError::WrongValues { cache, count: tally.wrong });
        }
        if self.workload == Workload::Hits && tally.hits < tally.gets {
            return Err(RaceError::Missed { cache, count: tally.gets - tally.hits });
        }
        Ok(())
    }
}

/// What a turn, or one thread's part of it, came to.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    ops_per_s: f64,
    tally: Tally,
}

fn standings(contenders: &[Contender]) -> Vec<Standing> {
    let rates: Vec<(Candidate, f64)> =
        contenders.iter().filter_map(|contender| Some((contender.candidate, median(&contender.rates)?))).collect();
    // Like with like: what threads may share pays for locks that a cache for one thread does without.
    let best_peer = |sharing| {
        let peers = rates.iter().filter(|(peer, _)| peer.origin == Origin::Peer && peer.sharing == sharing);
        peers.map(|&(_, rate)| rate).max_by(f64::total_cmp)
    };
    let standing = |&(candidate, ops_per_s): &(Candidate, f64)| Standing {
        candidate,
        ops_per_s,
        ratio_to_best_peer: best_peer(candidate.sharing).map(|best| ops_per_s / best),
    };
    rates.iter().map(standing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{SharedCache, value_of};

    fn race(workload: Workload, threads: usize) -> Race {
        Race { workload, threads, entries: 1_000, rounds: 1, window: Duration::from_millis(2), seed: 1 }
    }

    /// Answers every look-up with the value of `key / 2`: wrong for all keys but 0.
    struct Liar;

    impl SharedCache for Liar {
        fn get(&self, key: u64) -> Option<u64> {
            Some(value_of(key / 2))
        }

        fn insert(&self, _: u64, _: u64) {}

        fn held(&self) -> usize {
            0
        }
    }

    /// Holds nothing.
    struct Forgetful;

    impl SharedCache for Forgetful {
        fn get(&self, _: u64) -> Option<u64> {
            None
        }

        fn insert(&self, _: u64, _: u64) {}

        fn held(&self) -> usize {
            0
        }
    }

    const LIAR: Candidate = Candidate::shared("liar", Origin::Peer, |_, _| Built::shared(Liar));
    const FORGETFUL: Candidate = Candidate::shared("forgetful", Origin::Peer, |_, _| Built::shared(Forgetful));

    #[test]
    fn a_wrong_value_ends_the_race() {
        for workload in Workload::ALL {
            let error = race(workload, 2).run(&[LIAR]).unwrap_err();
            assert!(matches!(error, RaceError::WrongValues { cache: "liar", count: 1.. }), "{error:?}");
        }
    }

    #[test]
    fn hits_needs_resident_keys() {
        let error = race(Workload::Hits, 1).run(&[FORGETFUL]).unwrap_err();
        assert!(matches!(error, RaceError::TooFewResident { kept: 0, entries: 1_000 }), "{error:?}");
        assert_eq!(race(Workload::Scan, 1).run(&[FORGETFUL]).unwrap().len(), 1);
    }

    #[test]
    fn a_miss_of_a_resident_key_is_an_error() {
        let tally = Tally { gets: 10, hits: 9, wrong: 0 };
        let error = race(Workload::Hits, 1).judge("some", tally).unwrap_err();
        assert!(matches!(error, RaceError::Missed { cache: "some", count: 1 }), "{error:?}");
        assert!(race(Workload::Even, 1).judge("some", tally).is_ok());
    }

    #[test]
    fn ratios_are_to_the_best_peer() {
        let contender = |origin, sharing, rates: &[f64]| Contender {
            candidate: Candidate { name: "some", origin, sharing, build: |_, _| Built::shared(Forgetful) },
            built: Built::shared(Forgetful),
            sequences: Vec::new(),
            rates: rates.to_vec(),
        };
        let ours = || contender(Origin::Ours, Sharing::Shared, &[30.0, 10.0, 20.0]);
        let slow = contender(Origin::Peer, Sharing::Shared, &[5.0, 5.0, 90.0]);
        let best = contender(Origin::Peer, Sharing::Shared, &[8.0, 8.0, 8.0]);
        let local = contender(Origin::Peer, Sharing::Local, &[40.0]);
        let ratios =
            |list: &[Contender]| standings(list).iter().map(|standing| standing.ratio_to_best_peer).collect::<Vec<_>>();
        assert_eq!(ratios(&[ours()]), [None]);
        let expected = [Some(2.5), Some(0.625), Some(1.0), Some(1.0)];
        assert_eq!(ratios(&[ours(), slow, best, local]), expected);
    }

    #[test]
    fn threads_leave_out_what_cannot_be_shared() {
        let names = |threads| {
            let standings = race(Workload::Even, threads).run(&crate::reference::CANDIDATES[..1]).unwrap();
            standings.len()
        };
        assert_eq!((names(1), names(2)), (1, 0));
    }
}
